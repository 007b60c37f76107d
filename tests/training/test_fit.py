"""Fitting learns, resumes to the same bits after a stop, and refuses foreign or damaged checkpoints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kiago_ray.errors import InputError
from kiago_ray.training.fit import Epoch, EpochReport, FitSettings, fit, one_cycle

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
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(118, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1), nn.Flatten(0))


def sample(generator: torch.Generator) -> Epoch:
    x = torch.rand(256, 118, generator=generator)
    return Epoch(x, x[:, 0] - 2 * x[:, 5])


def forward(network: nn.Module, x: Tensor) -> Tensor:
    return network(x).float()


def run(checkpoint: Path, settings: FitSettings = SETTINGS, stop_after: int | None = None) -> nn.Module:
    def on_epoch(report: EpochReport) -> None:
        if report.epoch == stop_after:
            raise Stop

    network, _ = fit(
        make(), forward, sample, settings, checkpoint=checkpoint, data_id="made", on_epoch=on_epoch
    )
    return network


def test_a_killed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    straight = run(tmp_path / "a.safetensors")
    for stop in (2, 3):
        with pytest.raises(Stop):
            run(tmp_path / "b.safetensors", stop_after=stop)
    resumed = run(tmp_path / "b.safetensors")
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_it_learns(tmp_path: Path) -> None:
    network = run(tmp_path / "c.safetensors", replace(SETTINGS, epochs=60))
    x = torch.rand(500, 118, generator=torch.Generator().manual_seed(99))
    error = (network(x) - (x[:, 0] - 2 * x[:, 5])).abs().mean()
    assert float(error) < 0.15  # a constant scores 0.55
    assert not network.training


def test_other_settings_or_a_damaged_file_are_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "d.safetensors"
    run(checkpoint)
    with pytest.raises(InputError, match="other settings"):
        run(checkpoint, replace(SETTINGS, seed=8))
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    with pytest.raises(InputError, match="damaged"):
        run(checkpoint)


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [one_cycle(step, 100, SETTINGS) for step in range(101)]
    assert max(rates) == pytest.approx(1e-2)
    assert rates.index(max(rates)) == 20
    assert rates[0] == pytest.approx(4e-4)
    assert rates[100] == pytest.approx(0, abs=1e-8)
