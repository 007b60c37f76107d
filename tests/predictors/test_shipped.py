"""The shipped weights are those that their cards describe, and do what the cards say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.data.sources import load_supercon
from kiago_ray.predictors.base import check_contract
from kiago_ray.predictors.weights import load_card, load_predictors, shipped_weights
from kiago_ray.training.tables import score

LITERATURE = Path(__file__).parents[1] / "data" / "literature_tc.tsv"


@pytest.mark.parametrize(("name", "kind"), [("ensemble", "tc_ensemble"), ("resnet18", "tc")])
def test_a_score_of_the_card_is_recomputed_from_the_weights(name: str, kind: str) -> None:
    """On 40 compositions, T_c from the literature, that were kept out of every fit."""
    table, _ = load_supercon(LITERATURE)
    predictor = load_predictors().named(name)
    with torch.no_grad():
        predicted = (
            predictor(torch.from_numpy(parse_fractions(table["formula"])).float()).relu().double().numpy()
        )
    scores = score(predicted, table["tc_k"].to_numpy(), high=50)
    assert scores == pytest.approx(load_card(kind)["literature"], abs=0.02)


def test_the_ensemble_holds_what_its_card_says_it_should() -> None:
    card = load_card("tc_ensemble")
    splits, resnet = card["splits"], load_card("tc")["splits"]
    for split in ("random", "system"):
        assert splits[split]["ensemble"]["r2"] > resnet[split]["resnet18"]["r2"]
        assert splits[split]["extrapolation"]["auc_against_random"] >= 0.95
        assert splits[split]["extrapolation"]["held_out_flagged"] <= {"random": 0.06, "system": 0.1}[split]
        assert splits[split]["spread"]["within_1_sigma"] == pytest.approx(0.683, abs=0.07)
    assert splits["system"]["ensemble"]["r2"] > splits["system"]["extra_trees"]["r2"]
    assert card["members"] >= 5


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


def test_the_package_stays_small() -> None:
    assert (shipped_weights() / "ef_ensemble.safetensors").stat().st_size < 15e6
    package = shipped_weights().parents[1]
    assert sum(file.stat().st_size for file in package.rglob("*") if file.is_file()) < 60e6


def test_the_shipped_predictors_keep_the_contract() -> None:
    predictors = load_predictors()
    assert predictors.tc is predictors.named("ensemble")
    for predictor in (*predictors.others.values(), *predictors.energies.values()):
        check_contract(predictor, tolerance=1e-3)


@pytest.mark.parametrize("name", ["ensemble", "resnet18"])
def test_a_candidate_at_zero_kelvin_has_a_slope(name: str) -> None:
    predictor = load_predictors().named(name)
    generator = np.random.default_rng(0)
    ions = generator.dirichlet(np.ones(3), size=200)
    x = torch.zeros(200, 118)
    x[:, [10, 16, 18]] = torch.from_numpy(ions).float()  # Na, Cl, K
    x.requires_grad_()
    values = predictor(x)
    (slope,) = torch.autograd.grad(values.sum(), x)
    below = values <= 0
    assert bool(below.any())
    assert bool((slope[below].abs().max(1).values > 0).all())
