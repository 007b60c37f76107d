from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kiago_ray.chemistry.elements import ELEMNET_INDEX, INDEX, N_ELEMENTS, SYMBOLS
from kiago_ray.search.problem import Problem, resolve
from kiago_ray.search.sections import SpecError
from kiago_ray.search.spec import load_preset

SUPPORTED = np.isin(np.arange(N_ELEMENTS), ELEMNET_INDEX)


def problem(**values: Any) -> Problem:
    return resolve(load_preset("open", {"base": "LaFeAsO", **values}), SUPPORTED)


def allowed(found: Problem) -> set[str]:
    return {SYMBOLS[z] for z in np.flatnonzero(found.allowed)}


def test_without_constraints_everything_supported_is_allowed() -> None:
    found = problem()
    assert np.array_equal(found.allowed, SUPPORTED)
    assert not found.const.any()
    assert (found.limit, found.totals, found.atoms) == (7, tuple(range(1, 26)), 4)


def test_allow_and_forbid() -> None:
    assert allowed(problem(elements={"allow": ["La", "O", "Po"]})) == {"La", "O"}
    assert allowed(problem(elements={"allow": ["La", "O"], "forbid": ["O"]})) == {"La"}


def test_an_exactly_fixed_element_is_not_optimised_but_a_floor_is() -> None:
    exact = problem(fixed={"O": 0.25})
    assert not exact.allowed[INDEX["O"]]
    assert exact.const[INDEX["O"]] == 0.25
    assert exact.limit == 6
    assert exact.totals == tuple(range(4, 26, 4))
    floor = problem(fixed={"O": 0.25}, fixed_may_grow=True, limit_counts_fixed=False)
    assert floor.allowed[INDEX["O"]]
    assert floor.limit == 7
    assert floor.totals == tuple(range(1, 26))


def test_an_oxidation_state_is_a_mask() -> None:
    three = allowed(problem(oxidation_state=3, oxidation_set="smact14"))
    assert {"La", "Ga", "Al", "Y"} <= three
    assert not {"O", "Ba", "Na"} & three


def test_substitution_fixes_the_rest_of_the_base() -> None:
    spec = load_preset("substitution", {"base": "CeFeAsF0.2O0.8", "substitute": {"Ce": 4}})
    found = resolve(spec, SUPPORTED)
    assert found.const[INDEX["Ce"]] == 0
    assert found.const[[INDEX[s] for s in ("Fe", "As", "F", "O")]] == pytest.approx([0.25, 0.25, 0.05, 0.2])
    assert {"Ce", "Zr", "Hf", "Th"} <= allowed(found)
    assert not {"Fe", "As", "F", "O", "La"} & allowed(found)
    assert found.atoms == pytest.approx(4)


def test_several_sites_give_way_to_atoms_of_the_same_charge() -> None:
    sites = {"Ti": 4, "O": {"state": -2, "atoms": 1}}  # the paper's example: 2 Ti4+ and 1 O2- carry +6
    spec = load_preset("substitution", {"base": "Ti2O4", "substitute": sites, "substitute_by": 3})
    found = resolve(spec, SUPPORTED)
    assert found.atoms == 5  # X2O3
    assert found.const[INDEX["O"]] == pytest.approx(3 / 5)
    assert found.const.sum() == pytest.approx(3 / 5)
    assert {"La", "Al"} <= allowed(found)
    assert "O" not in allowed(found)
    both = {"base": "Bi2CaSr2Cu2O8", "substitute": {"Ca": 2, "Sr": 2}}
    assert resolve(load_preset("substitution", both), SUPPORTED).const.sum() == pytest.approx(12 / 15)


def test_what_is_preserved_may_take_part_of_the_site_where_asked_for() -> None:
    values = {"base": "RuSr2GdCu2O8", "substitute": {"Sr": 2}}
    assert "Cu" not in allowed(resolve(load_preset("substitution", values), SUPPORTED))
    grown = resolve(load_preset("substitution", {**values, "fixed_may_grow": True}), SUPPORTED)
    assert "Cu" in allowed(grown)
    assert grown.const[INDEX["Cu"]] == pytest.approx(2 / 14)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"base": None}, "base: this search starts from a base material; give a formula such as 'LaNiAsO'"),
        ({"fixed": {"Po": 0.5}}, "fixed: the predictors don't know Po; fix elements that they support"),
        (
            {"elements": {"allow": ["Po", "He"]}},
            "elements: the mask leaves no element to optimise; allow more",
        ),
        (
            {"oxidation_state": -4, "elements": {"allow": ["La"]}},
            "elements: the mask leaves no element to optimise (with oxidation state -4 in icsd24)",
        ),
        ({"oxidation_state": 9}, "oxidation_state: no element has the state +9 in icsd24"),
        ({"fixed": {"La": 0.5}, "elements": {"allow": ["La"]}}, "elements: the mask leaves no element"),
        (
            {"substitute": {"La": 3}, "max_elements": 3},
            "max_elements: 3 is used up by 3 fixed element(s); allow at least 4",
        ),
        ({"fixed": {"H": 0.4}, "max_elements": 1}, "max_elements: 1 is used up by 1 fixed element(s)"),
        (
            {"base": "LaFeAsO0.913", "substitute": {"La": 3}},
            "n_unit: no number of atoms from 1 to 25 makes the fixed amounts (O 0.233325, Fe 0.255558, As 0.255558)",
        ),
        (
            {"fixed": {"H": 0.37}},
            "n_unit: no number of atoms from 1 to 25 makes the fixed amounts (H 0.37) whole atoms; change fixed or",
        ),
    ],
)
def test_what_the_predictors_cant_do_is_refused_in_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        problem(**values)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
