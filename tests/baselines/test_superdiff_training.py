"""SuperDiff's training: what it is shown, a killed run's same bits; the card's figures; the shipped model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kiago_ray.baselines import superdiff
from kiago_ray.baselines.superdiff import (
    NetworkSettings,
    SuperDiff,
    formulas,
    load_superdiff,
    noise_scheduler,
    padded,
    sample,
)
from kiago_ray.baselines.superdiff_training import (
    MAX_ATOMS,
    SETTINGS,
    amounts_of,
    denoising_losses,
    element_shares,
    likeness,
    noisy_epoch,
    sample_quality,
    split,
    train_superdiff,
)
from kiago_ray.data.files import sha256
from kiago_ray.data.sources import load_supercon
from kiago_ray.errors import InputError
from kiago_ray.predictors.weights import WeightsError
from kiago_ray.training.fit import RunOptions

SMALL = NetworkSettings(width=8, depth=1)
QUICK = replace(SETTINGS, epochs=3, batch_rows=64)


class Stop(Exception):
    """Stands for a kill between two epochs."""


@pytest.fixture(scope="module")
def cuprates() -> list[str]:
    """400 made doping series, whose oxygen and copper go together."""
    generator = np.random.default_rng(0)
    x, y = generator.uniform(0.05, 0.5, 400).round(3), generator.integers(1, 4, 400)
    formulas = [f"La{2 - a:.3f}Sr{a:.3f}Cu{n}O{2 * n + 2}" for a, n in zip(x, y, strict=True)]
    return sorted(set(formulas))


def run(data: list[str], out: Path, stop_after: int | None = None, **changes: Any) -> dict[str, Any]:
    def on_step(text: str) -> None:
        if f"epoch {stop_after}/" in text:
            raise Stop

    settings = replace(QUICK, **changes)
    options = RunOptions(out=out, on_step=on_step)
    return train_superdiff(data, SMALL, settings, options, samples=4, sampling_steps=10)


@pytest.fixture(scope="module")
def trained(cuprates: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("straight")
    run(cuprates, out)
    return out


def test_amounts_are_those_written_and_the_largest_stay_out() -> None:
    parts = split(["YBa2Cu3O6.95", "Nb75Al25", "MgB2"])
    np.testing.assert_allclose(sorted(np.concatenate(parts).sum(axis=1)), [3, 12.95])
    assert amounts_of(["H3S"])[0, [0, 15]].tolist() == [3, 1]
    assert MAX_ATOMS < 100


def test_an_epoch_shows_each_composition_once_at_steps_that_are_equally_many(cuprates: list[str]) -> None:
    clean = padded(amounts_of(cuprates)).repeat(6, 1)[:2000]
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


def test_a_killed_run_ends_with_the_same_bits(cuprates: list[str], trained: Path, tmp_path: Path) -> None:
    for stop in (1, 2):
        with pytest.raises(Stop):
            run(cuprates, tmp_path, stop_after=stop)
    run(cuprates, tmp_path)
    assert sha256(tmp_path / "superdiff.safetensors") == sha256(trained / "superdiff.safetensors")
    with pytest.raises(InputError, match="other settings"):
        run(cuprates, tmp_path, seed=1)


def test_it_learns(cuprates: list[str], tmp_path: Path) -> None:
    """Training starts from v = 0."""
    loss = run(cuprates, tmp_path, epochs=30)["held_out_loss"]
    _, test = split(cuprates)
    targets = noisy_epoch(padded(test), torch.Generator().manual_seed(0)).targets[:, :118]
    assert loss["v"] < 0.5 * float(targets.square().mean())
    assert loss["noise"] < loss["v"]


def test_the_independent_loss_is_that_of_the_best_linear_guess(cuprates: list[str], trained: Path) -> None:
    """Against the guess itself, made on the noisy rows."""
    train, _ = split(cuprates)
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


def test_held_out_rows_and_the_card(cuprates: list[str], trained: Path) -> None:
    train, test = split(cuprates)
    assert len(train) + len(test) == len(cuprates)
    assert not {row.tobytes() for row in train} & {row.tobytes() for row in test}
    card = json.loads((trained / "superdiff.json").read_text())
    assert (card["train_rows"], card["too_large_rows"]) == (len(train), 0)
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


def test_too_little_data_is_told(cuprates: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="use more data"):
        run(cuprates[:30], tmp_path)


def test_numbers_of_elements_are_counted() -> None:
    amounts = amounts_of(["Nb", "MgB2", "YBa2Cu3O7", "La1.85Sr0.15CuO4", "LaO0.97F0.03FeAs"])
    # F's 0.03 atoms count as none, so LaO0.97F0.03FeAs has four.
    assert element_shares(amounts).tolist() == pytest.approx([0.2, 0.2, 0, 0.6, 0, 0, 0, 0, 0, 0])
    assert element_shares(np.ones((3, 118)))[-1] == 1


def test_distances_are_to_the_nearest_training_composition() -> None:
    train = amounts_of(["MgB2", "Nb3Sn"])
    found = likeness(amounts_of(["Mg2B4", "Mg0.9Al0.1B2", "NbN"]), train)
    # As fractions: 0; 2 · 0.1/3; 1.0 (Nb 0.5 of 0.75, N 0.5, Sn 0.25).
    assert found["near_a_training_composition"] == pytest.approx(2 / 3, abs=1e-4)
    assert found["median_distance"] == pytest.approx(0.2 / 3, abs=1e-4)
    assert found["median_atoms"] == 3


def test_figures_of_an_untrained_model_are_consistent(untrained: SuperDiff) -> None:
    train, test = amounts_of(["MgB2", "Nb3Sn", "NbN"]), amounts_of(["MgB2"])
    figures = sample_quality(untrained, train, test, count=3, seed=0, steps=10, device="cpu")
    assert sum(figures["status"].values()) == figures["rows"] == 3
    assert 0 <= figures["unique"] <= figures["readable"] <= 1
    assert figures["held_out"]["median_distance"] == 0


LITERATURE = Path(__file__).parents[1] / "data" / "literature_tc.tsv"


def test_the_card_matches_the_weights() -> None:
    weights = Path(superdiff.__file__).parent / "weights" / "superdiff.safetensors"
    card = load_superdiff().card
    assert card["sha256"] == sha256(weights)
    assert weights.stat().st_size < 2.5e6
    assert card["weights_count"] <= 1.2e6


def test_it_knows_compositions_that_it_never_saw() -> None:
    """40 of the literature, kept out of the fit: better than without knowing which elements go together."""
    table, _ = load_supercon(LITERATURE)
    amounts = np.concatenate(split(table["formula"].tolist()))
    model = load_superdiff()
    loss = denoising_losses(model.network, amounts, amounts, seed=0)
    card = model.card["held_out_loss"]
    assert loss["v"] < loss["independent_elements"]
    assert loss["v"] == pytest.approx(card["v"], rel=0.5)
    assert card["v"] < 0.5 * card["independent_elements"]


def test_samples_look_like_compositions() -> None:
    samples = sample(load_superdiff(), 8, base=amounts_of(["LaNiAsO"])[0], seed=0, steps=100)
    assert samples.counts()["ok"] == 8
    assert len(formulas(samples)) == 8
    elements = (samples.amounts > 0).sum(axis=1)
    assert 1 <= np.median(elements) <= 10
