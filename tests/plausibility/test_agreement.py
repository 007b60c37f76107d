"""What relatives agree on: counted by hand, with the new element in its place, with a slope."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.plausibility.agreement import TYPICAL, UNKNOWN, Agreement, typical
from kiago_ray.plausibility.features import PlausibilityFeatures
from kiago_ray.plausibility.shipped import Prospects

from .conftest import MakeLiterature

# Y stands for La in two systems, so that its odds there are above 0.
KNOWN = ["LaNi2B2C", "YNi2B2C", "LaPt2B2C", "YPt2B2C", "LaRu2B2C", "La3RuB2C"]


def agreement(features: PlausibilityFeatures, *formulas: str) -> list[float]:
    rows = torch.tensor(parse_fractions(formulas), dtype=torch.float32)
    return [float(value) for value in features(rows)[1].exp()]


def test_the_share_of_relatives_that_are_composed_alike(make_literature: MakeLiterature) -> None:
    # YRu2B2C comes from LaRu2B2C and La3RuB2C, one system of two compositions, and from the other two with yttrium,
    # where Ru replaces nothing known. So half of what supports it agrees, less what "unknown" weighs.
    features = PlausibilityFeatures(make_literature(KNOWN))
    alike, other = agreement(features, "YRu2B2C", "Y3RuB2C")
    assert alike > other
    assert 0.5 <= alike < 1
    far = agreement(features, "YRu20B2C")[0]
    assert far < 0.1


def test_without_relatives_it_is_unknown(make_literature: MakeLiterature) -> None:
    features = PlausibilityFeatures(make_literature(KNOWN))
    assert agreement(features, "NaCl") == [pytest.approx(UNKNOWN)]


def test_of_what_is_added_only_the_whole_counts(make_literature: MakeLiterature) -> None:
    # La0.5Y0.5Ni2B2C is LaNi2B2C where yttrium shares lanthanum's site, in whatever amount.
    features = PlausibilityFeatures(make_literature([*KNOWN, "LaCo2B2C"]))
    for formula in ("La0.9Y0.1Co2B2C", "La0.5Y0.5Co2B2C"):
        assert agreement(features, formula)[0] > 0.7
    assert agreement(features, "La0.9Y2Co2B2C")[0] < 0.4


def test_typical_compositions_stand_for_those_near_them() -> None:
    rows = np.array([[0.5, 0.5], [0.52, 0.48], [0.53, 0.47], [0.9, 0.1]])
    found, counts = typical(rows)
    assert counts.tolist() == [3, 1]
    np.testing.assert_array_equal(found, rows[[0, 3]])
    many = np.stack([np.linspace(0, 1, 40), 1 - np.linspace(0, 1, 40)], axis=1)
    assert len(typical(many)[0]) == TYPICAL


def test_neodymium_takes_the_amounts_of_yttrium(prospects: Prospects) -> None:
    features = prospects.plausibility.features
    right, wrong = agreement(features, "NdBa2Cu3O7", "Nd3BaCuO7")
    assert right > 0.5
    assert right > 5 * wrong


def test_the_slope_is_that_of_finite_differences(prospects: Prospects) -> None:
    features = prospects.plausibility.features.double()
    row = torch.tensor(parse_fractions(["Nd1.2Ba1.8Cu2.7O7"]), dtype=torch.float64, requires_grad=True)
    features(row)[1].sum().backward()
    assert row.grad is not None
    for z in (55, 28, 7):
        step = torch.zeros_like(row)
        step[0, z] = 1e-6
        with torch.no_grad():
            slope = (features(row + step)[1] - features(row - step)[1]) / 2e-6
        assert float(row.grad[0, z]) == pytest.approx(float(slope[0]), rel=1e-4, abs=1e-6)
    prospects.plausibility.features.float()


def test_nothing_known_gives_nothing(make_literature: MakeLiterature) -> None:
    known = make_literature(["LaFeAsO"])
    empty = known.only(known.tc_k < 0)
    assert Agreement(empty).shares.shape == (0, TYPICAL)
