"""Fitting learns, resumes to the same bits after a stop, refuses foreign or damaged checkpoints; scores by hand."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kiago_ray.errors import InputError
from kiago_ray.training.fit import (
    FitSettings,
    RunOptions,
    fit,
    one_cycle,
)
from kiago_ray.training.tables import Epoch, score, tree_labels

SETTINGS = FitSettings(
    epochs=6,
    batch_rows=32,
    learning_rate=1e-2,
    weight_decay=0.01,
    average_decay=0.9,
    warmup_share=0.2,
    seed=7,
)


class Stop(Exception):
    """Stands for a kill between two epochs."""


def make() -> nn.Module:
    blocks = nn.Sequential(nn.Linear(118, 16), nn.BatchNorm1d(16), nn.ReLU())
    return nn.Sequential(OrderedDict(blocks=blocks, head=nn.Linear(16, 1), flat=nn.Flatten(0)))


def sample(generator: torch.Generator) -> Epoch:
    x = torch.rand(256, 118, generator=generator)
    return Epoch(x, x[:, 0] - 2 * x[:, 5])


def forward(network: nn.Module, x: Tensor) -> Tensor:
    return network(x).float()


def run(
    out: Path,
    settings: FitSettings = SETTINGS,
    stop_after: int | None = None,
    shift: float = 0.0,
    recipe: Mapping[str, Any] = MappingProxyType({}),
) -> nn.Module:
    def shifted(generator: torch.Generator) -> Epoch:
        epoch = sample(generator)
        return replace(epoch, targets=epoch.targets + shift)

    def on_step(text: str) -> None:
        if text.startswith(f"made-random: epoch {stop_after}/"):
            raise Stop

    options = RunOptions(out=out, on_step=on_step)
    return fit(make, forward, shifted, settings, options, "made-random", recipe)[0]


@pytest.mark.parametrize("blocks_learning_rate", [None, 1e-2])
def test_a_killed_run_ends_with_the_same_bits(tmp_path: Path, blocks_learning_rate: float | None) -> None:
    settings = replace(SETTINGS, blocks_learning_rate=blocks_learning_rate)
    straight = run(tmp_path / "a", settings)
    for stop in (2, 3):
        with pytest.raises(Stop):
            run(tmp_path / "b", settings, stop_after=stop)
    resumed = run(tmp_path / "b", settings)
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.mark.parametrize("blocks_learning_rate", [None, 1e-2])
def test_it_learns(tmp_path: Path, blocks_learning_rate: float | None) -> None:
    network = run(tmp_path / "c", replace(SETTINGS, epochs=60, blocks_learning_rate=blocks_learning_rate))
    x = torch.rand(500, 118, generator=torch.Generator().manual_seed(99))
    error = (network(x) - (x[:, 0] - 2 * x[:, 5])).abs().mean()
    assert float(error) < 0.15  # a constant scores 0.55
    assert not network.training


def test_other_settings_or_a_damaged_file_are_refused(tmp_path: Path) -> None:
    run(tmp_path)
    changes: list[dict[str, Any]] = [
        {"settings": replace(SETTINGS, seed=8)},
        {"shift": 1.0},
        {"recipe": {"waves": 2}},
    ]
    for change in changes:
        with pytest.raises(InputError, match="other settings or data"):
            run(tmp_path, **change)
    checkpoint = tmp_path / "checkpoints" / "made-random.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    with pytest.raises(InputError, match="damaged"):
        run(tmp_path)


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [one_cycle(step, 100, SETTINGS.warmup_share) for step in range(101)]
    assert max(rates) == pytest.approx(1)
    assert rates.index(max(rates)) == 20
    assert rates[0] == pytest.approx(0.04)
    assert rates[100] == pytest.approx(0, abs=1e-6)


def test_scores_by_hand() -> None:
    scores = score(np.array([10.0, 20, 60, 100]), np.array([12.0, 20, 50, 110]), high=50)
    assert scores["mae"] == pytest.approx(5.5)
    assert scores["bias"] == pytest.approx(-0.5)
    assert scores["bias_high"] == pytest.approx(-10)
    true = np.array([12.0, 20, 50, 110])
    assert scores["r2"] == pytest.approx(1 - 204 / ((true - 48) ** 2).sum(), abs=1e-4)


def test_no_high_row_means_no_high_bias() -> None:
    assert score(np.array([1.0, 2]), np.array([1.0, 3]), high=50)["bias_high"] is None


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        score(np.array([1.0]), np.array([1.0]))


def test_the_comparison_trees_know_their_training_rows() -> None:
    generator = np.random.default_rng(0)
    rows = generator.dirichlet(np.ones(118) * 0.05, size=60)
    values = generator.random(60) * 90
    np.testing.assert_allclose(tree_labels(rows, values, rows, seed=0, trees=100), values, atol=1e-8)
