"""The shipped model is the one that its card describes, and does what the card says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kiago_ray.baselines.superdiff import formulas, load_superdiff, sample, shipped_folder
from kiago_ray.baselines.superdiff_training import Compositions, amounts_of, denoising_losses
from kiago_ray.data.files import sha256
from kiago_ray.data.supercon import load_supercon

LITERATURE = Path(__file__).parents[1] / "data" / "literature_tc.tsv"


def test_the_card_matches_the_weights() -> None:
    weights = shipped_folder() / "superdiff.safetensors"
    card = load_superdiff().card
    assert card["sha256"] == sha256(weights)
    assert weights.stat().st_size < 2.5e6
    assert card["weights_count"] <= 1.2e6


def test_it_knows_compositions_that_it_never_saw() -> None:
    """40 of the literature, kept out of the fit: better than without knowing which elements go together."""
    table, _ = load_supercon(LITERATURE)
    amounts = Compositions.of(table).amounts
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
