"""One formula in full: slopes against finite differences, charges that add up, neighbours by brute force."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from kiago_ray.api import score_amounts
from kiago_ray.chemistry.elements import INDEX, SYMBOLS
from kiago_ray.chemistry.formula import FormulaError, fractions, parse
from kiago_ray.models import Models
from kiago_ray.service.backend import service_models
from kiago_ray.service.explain import explain
from kiago_ray.service.settings import ServiceSettings


def tc_of(models: Models, x: np.ndarray) -> float:
    """In double precision, so that small differences mean something."""
    tc = models.predictors.tc
    return float(tc.double()(torch.tensor(x[None], dtype=torch.float64))[0])  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def doubled() -> Models:
    """Models of their own, which these tests turn to double precision."""
    return service_models(ServiceSettings(known="landmarks"))


@pytest.mark.parametrize("formula", ["MgB2", "LaNiAsO", "YBa2Cu3O7"])
def test_slopes_are_those_of_finite_differences(formula: str, models: Models, doubled: Models) -> None:
    found = {each["symbol"]: each for each in explain(formula, models)["gradient"]}
    x = fractions(parse(formula))
    step = 1e-5
    for symbol in parse(formula):
        e = np.zeros_like(x)
        e[INDEX[symbol]] = 1.0
        up, down = ((1 - d) * x + d * e for d in (step, -step))
        slope = (tc_of(doubled, up) - tc_of(doubled, down)) / (2 * step) / 100
        assert found[symbol]["dtc_k_per_percent"] == pytest.approx(slope, rel=0.02, abs=0.02)


def test_slopes_along_the_formula_itself_are_none(models: Models) -> None:
    """(1 − δ)x + δx is x: the slopes of its elements, weighted by their fractions, add up to 0."""
    found = explain("LaNiAsO", models)
    slopes = {each["symbol"]: each["dtc_k_per_percent"] for each in found["gradient"]}
    total = sum(each["fraction"] * slopes[each["symbol"]] for each in found["elements"])
    assert total == pytest.approx(0, abs=1e-3)


def test_what_five_percent_do_is_what_the_model_predicts(models: Models) -> None:
    found = {each["symbol"]: each["tc_with_5_percent_k"] for each in explain("MgB2", models)["gradient"]}
    x = 0.95 * fractions(parse("MgB2"))
    x[INDEX["Al"]] += 0.05
    value = score_amounts(x[None], models).table["tc_k"][0].as_py()
    assert found["Al"] == pytest.approx(value, abs=1e-3)
    assert set(found) == set(SYMBOLS) - set(models.foreign)
    assert "Og" not in found


def test_neighbours_are_the_nearest_of_all(models: Models) -> None:
    found = explain("MgB2", models)["neighbours"]
    distances = np.abs(models.known.fractions - fractions(parse("MgB2"))).sum(axis=1)
    assert [each["distance"] for each in found] == pytest.approx(np.sort(distances)[:5], abs=1e-6)
    assert (found[0]["formula"], found[0]["tc_k"], found[0]["distance"]) == ("MgB2", 39.0, 0.0)


@pytest.mark.parametrize("formula", ["YBa2Cu3O7", "MgB2", "La1.85Sr0.15CuO4", "LaNiAsO"])
def test_the_oxidation_states_add_up_to_nothing(formula: str, models: Models) -> None:
    charge = explain(formula, models)["charge"]
    amounts = parse(formula)
    total, seen = 0.0, set()
    for word in charge["oxidation_states"].split():
        symbol, state, atoms = re.fullmatch(r"([A-Z][a-z]?)([+-]\d+)(?:\*([\d.]+))?", word).groups()  # type: ignore[union-attr]
        total += int(state) * (amounts[symbol] if atoms is None else float(atoms))
        seen.add(symbol)
    assert seen == set(amounts)
    assert total == pytest.approx(0, abs=1e-9)
    assert charge["balanced"]


def test_what_charges_can_say_is_said(models: Models) -> None:
    doped = explain("La1.85Sr0.15CuO4", models)["charge"]
    assert (doped["neutral"], doped["balanced"]) == (False, True)
    assert (doped["mean_valences"], doped["undoped"]) == ("Cu+2.15", False)
    assert doped["holes_per_cu"] == pytest.approx(0.15)
    assert "two oxidation states" in doped["remark"]
    parent = explain("La2CuO4", models)["charge"]
    assert parent["undoped"]
    assert "undoped as written" in parent["remark"]
    alloy = explain("Nb3Ge", models)["charge"]
    assert alloy["alloy"]
    assert "metals alone" in alloy["remark"]
    hydride = explain("H3S", models)["charge"]
    assert (hydride["neutral"], hydride["charge_kind"]) == (True, "metallic")
    assert "needn't balance" in hydride["remark"]
    assert "No likely" in explain("Ba3Cu5O2", models)["charge"]["remark"]
    odd = explain("La1.00012345Ni1O3", models)["charge"]
    assert odd["neutral"] is False  # SMACT judges whole numbers alone
    assert odd["balanced"]


def test_what_is_measured_is_known_and_what_is_far_is_flagged(models: Models) -> None:
    known, far = explain("MgB2", models), explain("FeBaRuS9Tl7", models)
    assert known["known"] == "MgB2"
    assert known["made"].startswith("COD ")
    assert not known["extrapolated"]
    assert far["known"] is far["made"] is None
    assert (far["extrapolated"], far["trusted_tc_k"]) == (True, 0.0)
    assert any(
        "extrapolation score" in each["sentence"] for each in far["reasons"] if each["side"] == "against"
    )


def test_what_cannot_be_read_is_refused(models: Models) -> None:
    with pytest.raises(FormulaError, match="unknown element"):
        explain("Xx2", models)
    with pytest.raises(FormulaError, match="don't know Og"):
        explain("OgO", models)
