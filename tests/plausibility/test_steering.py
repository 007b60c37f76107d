"""What a search is given of plausibility, by its specification."""

from __future__ import annotations

import pytest

from kiago_ray.plausibility.shipped import Prospects
from kiago_ray.plausibility.steering import around, informed
from kiago_ray.predictors import Predictors, load_predictors
from kiago_ray.search import load_preset


@pytest.fixture(scope="module")
def predictors() -> Predictors:
    return load_predictors()


def test_only_a_family_search_is_told_of_substitutions(prospects: Prospects) -> None:
    family, other = (load_preset(name, {"base": "MgB2"}) for name in ("default", "open"))
    assert around(family, prospects) is not None
    assert around(family, None) is None
    assert around(other, prospects) is None


def test_a_loss_without_plausibility_leaves_the_predictors(
    prospects: Prospects, predictors: Predictors
) -> None:
    spec = load_preset("open", {"base": "MgB2"})
    assert informed(spec, predictors, prospects, None) is predictors
    family = load_preset("default", {"base": "MgB2"})
    assert informed(family, predictors, None, None) is predictors


def test_a_family_steers_by_the_elements_that_it_reaches(
    prospects: Prospects, predictors: Predictors
) -> None:
    spec = load_preset("default", {"base": "MgB2"})
    steered = informed(spec, predictors, prospects, around(spec, prospects))
    assert steered.plausibility is not None
    assert steered.tc is predictors.tc
    features = steered.plausibility.features  # type: ignore[attr-defined]
    assert len(features.relatives.systems) < len(prospects.plausibility.features.relatives.systems)


def test_an_open_search_steers_by_all_of_it(prospects: Prospects, predictors: Predictors) -> None:
    spec = load_preset("open", {"base": "MgB2", "plausibility_weight": 2.0})
    assert informed(spec, predictors, prospects, None).plausibility is prospects.plausibility
