"""Training: what the network is shown, held-out rows kept out, a killed run's same bits, what is saved comes back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from kiago_ray.baselines.superdiff import NetworkSettings, load_superdiff, noise_scheduler
from kiago_ray.baselines.superdiff_training import (
    MAX_ATOMS,
    SETTINGS,
    Compositions,
    amounts_of,
    denoising_losses,
    noisy_epoch,
    padded,
    train_superdiff,
)
from kiago_ray.data.files import sha256
from kiago_ray.errors import InputError
from kiago_ray.predictors.weights import WeightsError
from kiago_ray.training.fit import EpochReport, RunOptions

SMALL = NetworkSettings(width=8, depth=1)
QUICK = replace(SETTINGS, epochs=3, batch_rows=64)


class Stop(Exception):
    """Stands for a kill between two epochs."""


@pytest.fixture(scope="module")
def cuprates() -> Compositions:
    """400 made doping series, whose oxygen and copper go together."""
    generator = np.random.default_rng(0)
    x, y = generator.uniform(0.05, 0.5, 400).round(3), generator.integers(1, 4, 400)
    formulas = [f"La{2 - a:.3f}Sr{a:.3f}Cu{n}O{2 * n + 2}" for a, n in zip(x, y, strict=True)]
    return Compositions.of(pd.DataFrame({"formula": sorted(set(formulas))}))


def run(data: Compositions, out: Path, stop_after: int | None = None, **changes: Any) -> dict[str, Any]:
    def on_epoch(_: str, report: EpochReport) -> None:
        if report.epoch == stop_after:
            raise Stop

    settings = replace(QUICK, **changes)
    options = RunOptions(out=out, on_epoch=on_epoch)
    return train_superdiff(data, SMALL, settings, options, samples=4, sampling_steps=10)


@pytest.fixture(scope="module")
def trained(cuprates: Compositions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("straight")
    run(cuprates, out)
    return out


def test_amounts_are_those_written_and_the_largest_stay_out() -> None:
    data = Compositions.of(pd.DataFrame({"formula": ["YBa2Cu3O6.95", "Nb75Al25", "MgB2"]}))
    assert data.formulas == ["YBa2Cu3O6.95", "MgB2"]
    assert data.too_large == 1
    np.testing.assert_allclose(data.amounts.sum(axis=1), [12.95, 3])
    assert amounts_of(["H3S"])[0, [0, 15]].tolist() == [3, 1]
    assert MAX_ATOMS < 100


def test_an_epoch_shows_each_composition_once_at_steps_that_are_equally_many(cuprates: Compositions) -> None:
    clean = padded(cuprates.amounts).repeat(6, 1)[:2000]
    epoch = noisy_epoch(clean, torch.Generator().manual_seed(0))
    steps = epoch.fractions[:, 120].long()
    assert torch.bincount(steps).tolist() == [2] * 1000
    level = noise_scheduler().alphas_cumprod[steps][:, None]
    # x and v rotate (x₀, ε): √ᾱ·x − √(1 − ᾱ)·v is x₀ again.
    back = level.sqrt() * epoch.fractions[:, :120] - (1 - level).sqrt() * epoch.targets
    torch.testing.assert_close(back, clean, rtol=1e-4, atol=1e-4)
    noise = (1 - level).sqrt() * epoch.fractions[:, :120] + level.sqrt() * epoch.targets
    assert float(noise.mean()) == pytest.approx(0, abs=0.01)
    assert float(noise.std()) == pytest.approx(1, abs=0.01)


def test_a_killed_run_ends_with_the_same_bits(cuprates: Compositions, trained: Path, tmp_path: Path) -> None:
    for stop in (1, 2):
        with pytest.raises(Stop):
            run(cuprates, tmp_path, stop_after=stop)
    run(cuprates, tmp_path)
    assert sha256(tmp_path / "superdiff.safetensors") == sha256(trained / "superdiff.safetensors")
    with pytest.raises(InputError, match="other settings"):
        run(cuprates, tmp_path, seed=1)


def test_it_learns(cuprates: Compositions, tmp_path: Path) -> None:
    """Training starts from v = 0."""
    loss = run(cuprates, tmp_path, epochs=30)["held_out_loss"]
    _, test = cuprates.split()
    targets = noisy_epoch(padded(test), torch.Generator().manual_seed(0)).targets[:, :118]
    assert loss["v"] < 0.5 * float(targets.square().mean())
    assert loss["noise"] < loss["v"]


def test_the_independent_loss_is_that_of_the_best_linear_guess(cuprates: Compositions, trained: Path) -> None:
    """Against the guess itself, made on the noisy rows."""
    train, _ = cuprates.split()
    clean = padded(train).double()
    mean, variance = clean.mean(0), clean.var(0)
    squares = []
    for seed in range(20):
        epoch = noisy_epoch(padded(train), torch.Generator().manual_seed(seed))
        level = noise_scheduler().alphas_cumprod[epoch.fractions[:, 120].long()][:, None].double()
        x = epoch.fractions[:, :120].double()
        gain = level.sqrt() * variance / (level * variance + 1 - level)
        guess = (level.sqrt() * x - (mean + gain * (x - level.sqrt() * mean))) / (1 - level).sqrt()
        squares.append((guess - epoch.targets)[:, :118].square().mean())
    network = load_superdiff(trained).network
    loss = denoising_losses(network, train, train[:50], 0)
    assert loss["independent_elements"] == pytest.approx(float(torch.stack(squares).mean()), rel=0.05)


def test_held_out_rows_and_the_card(cuprates: Compositions, trained: Path) -> None:
    train, test = cuprates.split()
    assert len(train) + len(test) == len(cuprates.formulas)
    assert not {row.tobytes() for row in train} & {row.tobytes() for row in test}
    card = json.loads((trained / "superdiff.json").read_text())
    assert card["train_rows"] == len(train)
    assert card["held_out_loss"]["rows"] == len(test)
    assert card["samples"]["rows"] == sum(card["samples"]["status"].values()) == 4
    assert card["network_settings"] == {"width": 8, "depth": 1}


def test_what_is_saved_comes_back_and_anything_else_is_refused(trained: Path, tmp_path: Path) -> None:
    model = load_superdiff(trained)
    assert not model.network.training
    assert not any(p.requires_grad for p in model.network.parameters())
    assert model.card["sha256"] == sha256(trained / "superdiff.safetensors")
    with pytest.raises(WeightsError, match="no model card"):
        load_superdiff(tmp_path)
    card = json.loads((trained / "superdiff.json").read_text())
    (tmp_path / "superdiff.json").write_text(json.dumps(card))
    with pytest.raises(WeightsError, match="no weights"):
        load_superdiff(tmp_path)
    content = (trained / "superdiff.safetensors").read_bytes()
    (tmp_path / "superdiff.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(WeightsError, match="SHA-256"):
        load_superdiff(tmp_path)
    (tmp_path / "superdiff.safetensors").write_bytes(content)
    for settings in (
        {"width": 16, "depth": 1},
        {"width": 10**9, "depth": 1},
        {"width": "x", "depth": 1},
        None,
    ):
        (tmp_path / "superdiff.json").write_text(json.dumps(card | {"network_settings": settings}))
        with pytest.raises(WeightsError, match="not the network that its card describes"):
            load_superdiff(tmp_path)


def test_too_little_data_is_told(cuprates: Compositions, tmp_path: Path) -> None:
    few = replace(cuprates, formulas=cuprates.formulas[:30], amounts=cuprates.amounts[:30])
    with pytest.raises(InputError, match="use more data"):
        run(few, tmp_path)
