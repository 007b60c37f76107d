"""Formulas given from outside are scored as they stand, and judged exactly where their amounts aren't whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.chemistry.formula import parse_amounts
from kiago_ray.predictors.base import Predictors
from kiago_ray.screening import apply_screens, available_screens, collect
from kiago_ray.search.external_formulas import given_result
from kiago_ray.search.result import RowStatus


class Linear:
    """weight · x, of all elements but plutonium and beyond."""

    def __init__(self, symbol: str, weight: float) -> None:
        self.supported = torch.arange(N_ELEMENTS) < INDEX["Pu"]
        self.weights = torch.zeros(N_ELEMENTS)
        self.weights[INDEX[symbol]] = weight

    def __call__(self, fractions: Tensor, /) -> Tensor:
        return fractions @ self.weights


PREDICTORS = Predictors(tc=Linear("Cu", 100.0), ef=Linear("O", -2.0))


def test_scores_and_statuses() -> None:
    formulas = ("CuO", "Cu0.5O0.5", "PuO2", "Cu3O")
    amounts = np.stack([*map(parse_amounts, formulas), np.zeros(N_ELEMENTS)])
    result = given_result(amounts, PREDICTORS)
    ok, unknown, none = RowStatus.OK, RowStatus.UNKNOWN_ELEMENT, RowStatus.NO_INTEGER_FORMULA
    assert result.status.tolist() == [ok, ok, unknown, ok, none]
    assert result.tc_k[[0, 1, 3]] == pytest.approx([50, 50, 75])
    assert result.ef_ev_per_atom[[0, 3]] == pytest.approx([-1, -0.5])
    assert np.isnan(result.tc_k[[2, 4]]).all()
    texts = result.formulas()
    assert texts[0] == "CuO"
    assert texts[1] == "Cu0.5O0.5"
    assert texts[2] == texts[4] == ""


def test_a_negative_prediction_is_no_tc() -> None:
    result = given_result(parse_amounts("CuO")[None], Predictors(tc=Linear("Cu", -1.0), ef=Linear("O", 1.0)))
    assert result.tc_k.tolist() == [0]


@pytest.mark.parametrize(
    "amounts", [np.ones((2, 3)), np.full((1, N_ELEMENTS), -1.0), np.full((1, N_ELEMENTS), np.nan)]
)
def test_what_are_no_amounts(amounts: np.ndarray) -> None:
    with pytest.raises(ValueError, match="amounts"):
        given_result(amounts, PREDICTORS)


def test_fractional_amounts_are_judged_exactly() -> None:
    """SMACT would cut 0.5 off to 0 and 1.99 to 1."""
    formulas = {
        "Fe0.5O0.5": True,  # Fe+2 O-2
        "Ca0.99O0.99": True,
        "Ca1.99O0.99": False,
        "La1.5Sr0.5CuO3.75": True,  # 4.5 + 1 + 2 = 7.5
        "La1.5Sr0.5CuO3.74": False,
    }
    result = given_result(np.stack([parse_amounts(each) for each in formulas]), PREDICTORS)
    candidates = collect(result)
    assert candidates.neutrality.neutral.tolist() == list(formulas.values())


def test_fractional_hydrides_are_judged_by_atoms() -> None:
    # 25 La and 249 H, each with a valence of its own; 25 Na+1 can't be balanced by 9 H-1.
    amounts = np.stack([parse_amounts(each) for each in ("LaH9.96", "Na0.5H0.5", "NaH0.36")])
    candidates = collect(given_result(amounts, PREDICTORS), by_atoms=True)
    screens = available_screens()
    verdicts = apply_screens(candidates, screens, ("neutral_atoms",))
    assert verdicts.by_screen["neutral_atoms"].tolist() == [True, True, False]
    assert not verdicts.by_screen["hydride"].any()  # a fraction has no number of atoms
