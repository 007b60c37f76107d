"""The shipped weights are those that their cards describe, and do what the cards say."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from kiago_ray.datasets import fractions, load_supercon
from kiago_ray.predictors import check_contract, load_card, load_predictors
from kiago_ray.predictors.evaluation import score
from kiago_ray.predictors.weights import shipped_weights

LITERATURE = Path(__file__).parents[1] / "data" / "literature_tc.tsv"


def test_a_score_of_the_card_is_recomputed_from_the_weights() -> None:
    """On 40 compositions, T_c from the literature, that were kept out of every fit."""
    table, _ = load_supercon(LITERATURE)
    predictors = load_predictors()
    with torch.no_grad():
        predicted = predictors.tc(torch.from_numpy(fractions(table)).float()).relu().double().numpy()
    scores = asdict(score(predicted, table["tc_k"].to_numpy(), high=50))
    assert scores == pytest.approx(load_card("tc")["literature"], abs=0.02)


def test_the_cards_hold_the_scores_that_were_aimed_at() -> None:
    tc, ef = load_card("tc")["splits"], load_card("ef")["splits"]
    assert tc["random"]["resnet18"]["r2"] >= 0.88
    assert tc["random"]["resnet18"]["mae"] <= 4.8
    assert tc["system"]["resnet18"]["r2"] >= 0.80
    assert ef["random"]["elemnet"]["mae"] <= 0.075
    for split in (*tc.values(), *ef.values()):
        assert {"nearest_neighbour", "extra_trees", "train_rows", "seconds"} <= set(split)


def test_half_precision_costs_less_than_the_error() -> None:
    for kind, network in (("tc", "resnet18"), ("ef", "elemnet")):
        card = load_card(kind)
        change = card["half_precision_storage"]["mean_absolute_change"]
        assert 0 < change < 0.05 * card["splits"]["random"][network]["mae"]


def test_everything_shipped_stays_below_40_mb() -> None:
    assert sum(file.stat().st_size for file in shipped_weights().iterdir()) < 40e6


def test_the_shipped_predictors_keep_the_contract() -> None:
    predictors = load_predictors()
    check_contract(predictors.tc, tolerance=1e-3)
    check_contract(predictors.ef, tolerance=1e-3)


def test_a_candidate_at_zero_kelvin_has_a_slope() -> None:
    predictors = load_predictors()
    generator = np.random.default_rng(0)
    ions = generator.dirichlet(np.ones(3), size=200)
    x = torch.zeros(200, 118)
    x[:, [10, 16, 18]] = torch.from_numpy(ions).float()  # Na, Cl, K
    x.requires_grad_()
    values = predictors.tc(x)
    (slope,) = torch.autograd.grad(values.sum(), x)
    below = values <= 0
    assert bool(below.any())
    assert bool((slope[below].abs().max(1).values > 0).all())
