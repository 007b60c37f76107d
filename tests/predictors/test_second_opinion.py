"""The second opinion is the ensemble's and the oracle's; what a folder lacks is told or is the package's."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.predictors import load_predictors
from kiago_ray.predictors.climbed.inference import LoweredEnsemble
from kiago_ray.predictors.oracle.opinions import SecondOpinion, load_second_opinion, weights_hashes
from kiago_ray.predictors.oracle.trees import load_oracle
from kiago_ray.predictors.weights import WeightsError, shipped_weights
from kiago_ray.training.ensemble import random_compositions

FORMULAS = ["YBa2Cu3O7", "MgB2", "LaNiAsO"]


def copied(folder: Path, *kinds: str) -> Path:
    for kind in kinds:
        for file in shipped_weights().glob(f"{kind}.*"):
            shutil.copy(file, folder)
    return folder


def test_it_says_what_ensemble_and_oracle_say() -> None:
    predictors = load_predictors()
    x = parse_fractions(FORMULAS)
    opinions = load_second_opinion(predictors).of(x)
    ensemble = predictors.named("ensemble")
    assert isinstance(ensemble, LoweredEnsemble)
    _, std, extrapolation = ensemble.beliefs(x)
    mean, spread = load_oracle().predict(x)
    for mine, theirs in zip(vars(opinions).values(), (std, mean, spread, extrapolation), strict=True):
        assert np.array_equal(mine, theirs)


def test_known_superconductors_lie_within_and_random_compositions_beyond() -> None:
    second = load_second_opinion(load_predictors())
    assert (second.of(parse_fractions(FORMULAS)).extrapolation < 1).all()
    assert (second.of(random_compositions(200, seed=9)).extrapolation > 1).mean() > 0.8


def test_without_an_ensemble_only_the_oracle_speaks() -> None:
    opinions = SecondOpinion(None, load_oracle()).of(parse_fractions(FORMULAS))
    assert np.isnan(opinions.tc_std_k).all()
    assert np.isnan(opinions.extrapolation).all()
    assert (opinions.tc_oracle_k > 0).all()


def test_a_folder_may_hold_one_network_of_t_c_alone(tmp_path: Path) -> None:
    predictors = load_predictors(copied(tmp_path, "tc", "ef"))
    assert set(predictors.others) == {"resnet18"}
    assert predictors.tc is predictors.named("ensemble") is predictors.named("resnet18")
    assert load_second_opinion(predictors, tmp_path).ensemble is None
    assert set(weights_hashes(tmp_path)) == {"tc", "ef", "tc_oracle", "plausibility"}
    assert set(weights_hashes()) == {"tc", "tc_ensemble", "ef", "tc_oracle", "plausibility"}
    assert weights_hashes(tmp_path)["tc"] == weights_hashes()["tc"]


def test_a_folder_without_t_c_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"tc_ensemble\.json"):
        load_predictors(copied(tmp_path, "ef"))
