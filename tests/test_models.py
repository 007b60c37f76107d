"""The models in hand: whose opinions they give, what a folder lacks is the package's, what can't run is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.data import NONE
from kiago_ray.models import Models, load_models
from kiago_ray.predictors.ensemble import CalibratedEnsemble
from kiago_ray.predictors.oracle import load_oracle
from kiago_ray.predictors.weights import WeightsError, load_predictors, shipped_weights, weights_hashes
from kiago_ray.search import SpecError, load_preset
from kiago_ray.training.tables import random_compositions

FORMULAS = ["YBa2Cu3O7", "MgB2", "LaNiAsO"]


@pytest.fixture(scope="module")
def models() -> Models:
    return load_models(known="landmarks")


def copied(folder: Path, *kinds: str) -> Path:
    for kind in kinds:
        for file in shipped_weights().glob(f"{kind}.*"):
            shutil.copy(file, folder)
    return folder


def test_opinions_are_what_ensemble_and_oracle_say(models: Models) -> None:
    x = parse_fractions(FORMULAS)
    ensemble = models.predictors.named("ensemble")
    assert isinstance(ensemble, CalibratedEnsemble)
    _, std, _, extrapolation = ensemble.estimates(x)
    mean, spread = load_oracle().predict(x)
    found = models.opinions_on()(x)
    for name, theirs in (
        ("tc_std_k", std),
        ("tc_oracle_k", mean),
        ("tc_oracle_std_k", spread),
        ("extrapolation", extrapolation),
    ):
        assert np.array_equal(found[name], theirs)
    assert "tc_oracle_k" not in replace(models, oracle=None).opinions_on()(x)


def test_known_superconductors_lie_within_and_random_compositions_beyond(models: Models) -> None:
    opinions = models.opinions_on()
    assert (opinions(parse_fractions(FORMULAS))["extrapolation"] < 1).all()
    assert (opinions(random_compositions(200, seed=9))["extrapolation"] > 1).mean() > 0.8


def test_a_folder_may_hold_one_network_of_t_c_alone(tmp_path: Path, models: Models) -> None:
    own = load_models(copied(tmp_path, "tc", "ef"), known=NONE)
    assert set(own.predictors.others) == {"resnet18"}
    assert own.predictors.tc is own.predictors.named("ensemble") is own.predictors.named("resnet18")
    assert set(own.hashes) == {"tc", "ef", "ef_ensemble", "tc_oracle", "plausibility"}
    assert own.hashes == weights_hashes(tmp_path)
    assert own.hashes["tc"] == weights_hashes()["tc"]
    assert set(models.hashes) == {"tc", "tc_ensemble", "ef", "ef_ensemble", "tc_oracle", "plausibility"}
    assert own.version != models.version
    opinions = own.opinions_on()(parse_fractions(FORMULAS))
    assert not {"tc_std_k", "extrapolation"} & set(opinions)
    assert (opinions["tc_oracle_k"] > 0).all()


def test_a_folder_without_t_c_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"tc_ensemble\.json"):
        load_predictors(copied(tmp_path, "ef"))


def test_the_identity_names_weights_and_tables(models: Models) -> None:
    assert set(models.identity) == {"weights", "known", "phases"}
    assert len(models.identity["known"]) == 64
    bare = load_models(known=NONE, tried="shipped")
    assert bare.identity["known"] is None
    assert set(bare.identity) == {"weights", "known", "tried", "phases"}
    assert set(replace(bare, hull=None).identity) == {"weights", "known", "tried"}


def test_a_search_is_checked_with_the_models_at_hand(models: Models) -> None:
    models.check(load_preset("default", {"base": "LaFeAsO"}))
    near = load_preset("default", {"base": "LaFeAsO", "screens.names": ["near_hull"]})
    with pytest.raises(SpecError, match="near_hull needs competing phases"):
        replace(models, hull=None).check(near)
    load_models(known=NONE).check(near)
    with pytest.raises(SpecError, match="the predictors don't know Og"):
        models.check(load_preset("open", {"base": "OgO"}))
    with pytest.raises(SpecError, match="has to be given which elements replace one another"):
        replace(models, prospects=None).check(load_preset("default", {"base": "LaFeAsO"}))
