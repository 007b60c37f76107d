"""The best known compound with the same substitution, and that of the same elements."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.paper.known import best_substituted, same_elements
from kiago_ray.predictors.base import Predictors
from kiago_ray.screening import KnownMaterials


class Share:
    """T_c: 100 K times the share of an element."""

    def __init__(self, symbol: str) -> None:
        self.supported = torch.arange(N_ELEMENTS) < INDEX["Pu"]
        self.at = INDEX[symbol]

    def __call__(self, fractions: Tensor, /) -> Tensor:
        return 100 * fractions[:, self.at]


KNOWN = KnownMaterials.from_formulas(
    ["LaFeAsO", "SmFeAsO", "Sm0.5Ho0.5FeAsO", "PuFeAsO", "SmCoAsO", "LaH10", "LaH4"],
    [5.0, 55.0, 50.0, 99.0, 1.0, 250.0, 10.0],
    pressure_gpa=[float("nan")] * 5 + [170.0, float("nan")],
)


def test_best_of_those_rightly_substituted() -> None:
    predictors = Predictors(tc=Share("Ho"), ef=Share("O"))
    found = best_substituted(KNOWN, predictors)
    assert set(found) == {"LaFeAsO"}
    assert found["LaFeAsO"]["formula"] == "Sm0.5Ho0.5FeAsO"
    assert found["LaFeAsO"]["tc_k"] == pytest.approx(12.5)
    assert found["LaFeAsO"]["tc_measured_k"] == 50
    assert best_substituted(None, predictors) == {}


def test_same_elements() -> None:
    found = same_elements(KNOWN, ["LaH6", "YH6"])
    assert found == {"LaH6": {"formula": "LaH10", "tc_k": 250.0, "pressure_gpa": 170.0}}
    assert same_elements(KNOWN, ["SmCoAsO"])["SmCoAsO"]["pressure_gpa"] is None
