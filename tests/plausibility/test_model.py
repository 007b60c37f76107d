"""Plausibility as a function: its slope, its parts, and the one for a few elements."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from kiago_ray.chemistry.elements import INDEX
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.plausibility.features import TRACE
from kiago_ray.plausibility.model import MOST_DEVIATIONS, Logistic
from kiago_ray.plausibility.prospects import Prospects
from kiago_ray.predictors import check_contract

FORMULAS = ("LaFeAsO0.9F0.1", "La1.85Sr0.15CuO4", "MgB2", "CsV3Sb5")


def test_a_logistic_regression_worked_by_hand() -> None:
    model = Logistic(np.array([1.0, 0.0]), np.array([2.0, 1.0]), np.array([0.5, -1.0]), 0.25)
    features = torch.tensor([[3.0, 2.0], [1.0, 100.0]])
    odds = np.array([0.5 - 2 + 0.25, -MOST_DEVIATIONS + 0.25])
    np.testing.assert_allclose(model.log_probability(features), -np.log1p(np.exp(-odds)), rtol=1e-6)


def test_the_parts_multiply(prospects: Prospects) -> None:
    log_p, log_exists = prospects.plausibility.log_probabilities(parse_fractions(FORMULAS))
    assert (log_p < log_exists).all()
    assert (log_exists < 0).all()
    x = torch.tensor(parse_fractions(FORMULAS), dtype=torch.float32)
    np.testing.assert_allclose(prospects.plausibility(x), log_p, atol=1e-4)
    np.testing.assert_array_equal(prospects.plausibility.log_probability(parse_fractions(FORMULAS)), log_p)


def test_it_is_a_predictor_that_a_search_can_follow(prospects: Prospects) -> None:
    check_contract(prospects.plausibility)


def test_of_nothing_there_is_nothing(prospects: Prospects) -> None:
    assert [each.shape for each in prospects.plausibility.log_probabilities(np.zeros((0, 118)))] == [
        (0,),
        (0,),
    ]


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("coming", [None, "Ni"])
def test_the_slope_is_that_of_finite_differences(
    prospects: Prospects, formula: str, coming: str | None
) -> None:
    """Along a direction in which the sum stays 1; also where an element comes in and counts in part. A little beside
    the formula: there is a kink at what is known.
    """
    model = copy.deepcopy(prospects.plausibility).double()
    x = torch.tensor(parse_fractions([formula]), dtype=torch.float64)
    x *= 1 + 0.01 * torch.sin(torch.arange(118, dtype=torch.float64))
    x /= x.sum()
    if coming is not None:
        x *= 1 - 0.4 * TRACE
        x[0, INDEX[coming]] = 0.4 * TRACE
    direction = torch.zeros_like(x)
    held = x[0].nonzero()[:, 0]
    direction[0, held] = torch.linspace(-1, 1, len(held), dtype=torch.float64)
    step = 1e-7
    x.requires_grad_()
    (slope,) = torch.autograd.grad(model(x).sum(), x)
    with torch.no_grad():
        ahead, behind = model(x + step * direction), model(x - step * direction)
    found, expected = float((slope * direction).sum()), float((ahead - behind)[0] / (2 * step))
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_near_is_the_same_but_for_what_lies_far_outside(prospects: Prospects) -> None:
    formulas = ("LaFeAsO", "LaFeAsO0.9F0.1", "LaFe0.9Co0.1AsO", "CeFeAsO", "LaFeSbO")
    elements = [INDEX[symbol] for symbol in ("La", "Fe", "As", "O", "F", "Co", "Ce", "Sb", "P")]
    near = prospects.plausibility.near(elements)
    x = torch.tensor(parse_fractions(formulas), dtype=torch.float32)
    whole, part = prospects.plausibility(x), near(x)
    np.testing.assert_allclose(part, whole, atol=0.05)  # nats
    assert part.argsort().tolist() == whole.argsort().tolist()
    names = ["larger"]
    alike = [at for at, name in enumerate(near.features.names) if name not in names]
    few, all_of_them = near.features(x)[0], prospects.plausibility.features(x)[0]
    torch.testing.assert_close(few[:, alike], all_of_them[:, alike])
