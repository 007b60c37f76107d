""""""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.chemistry.formula import fractions, parse
from kiago_ray.predictors.base import Predictors
from kiago_ray.search.family import VACANCY, Substitutions
from kiago_ray.search.family_formulas import RowSites, amounts_of, formula_of, nearest_atoms, neighbours
from kiago_ray.search.result import SearchResult
from kiago_ray.search.run import run_search
from kiago_ray.search.spec import load_preset

Frequencies = Mapping[str, np.ndarray]


@pytest.fixture
def search(predictors: Predictors, frequencies: Frequencies, substitutions: Substitutions) -> Any:
    """`search(base, **values)` → 40 rows of a family search."""

    def run(base: str, **values: Any) -> SearchResult:
        given = {"base": base, "plausibility_weight": 0, "candidates": 40, "steps": (10, 10), **values}
        return run_search(load_preset("default", given), predictors, frequencies, substitutions=substitutions)

    return run


@pytest.mark.parametrize(
    ("base", "values"),
    [
        ("LaFeAsO", {}),
        ("LaFeAsO", {"family": {"max_foreign": 1, "whole_swaps": 0}}),
        ("La1.85Sr0.15CuO4", {"family": {"grid": 10}}),
        ("LaFeAsO0.9F0.1", {"revive": "start"}),
        ("BaFe2As2", {"family": {"grid": 1}, "revive": "none"}),
        ("YBa2Cu3O6.95", {"integer_norm": "l2"}),
    ],
)
def test_every_row_is_a_doping_of_its_base(base: str, values: dict[str, Any], search: Any) -> None:
    result = search(base, **values)
    family = {"max_foreign": 2, "grid": 20, **values.get("family", {})}
    own = parse(base)
    total = sum(own.values())
    for row, text in enumerate(result.formulas()):
        amounts = parse(text)
        assert len(set(amounts) - set(own)) <= family["max_foreign"]
        assert sum(amounts.values()) == pytest.approx(total, abs=1.3)  # at most an atom of vacancies
        assert result.amounts[row] == pytest.approx(
            [amounts.get(s, 0.0) for s in np.array(list(INDEX))], abs=1e-9
        )
        x = torch.as_tensor(fractions(amounts), dtype=torch.float32)[None]
        assert x.sum() == pytest.approx(1, abs=1e-6)
        for symbol, amount in amounts.items():
            if symbol not in own and result.source[row] == "family":
                assert amount * family["grid"] == pytest.approx(round(amount * family["grid"]), abs=1e-6)
    whole = (result.amounts == np.rint(result.amounts)).all(axis=1)
    assert np.array_equal(result.counts, np.where(whole[:, None], result.amounts, 0))
    if family["grid"] == 1:
        assert whole.all()


def test_formulas_keep_the_order_of_the_base(search: Any) -> None:
    texts = search("LaFeAsO").formulas()
    assert "SmFeAsO" in texts
    assert any(text.startswith(("La0.5Sm0.5FeAsO", "La0.75Sm0.25FeAsO")) for text in texts)
    assert all(text[:2] in ("La", "Sm", "Nd", "Sr", "Ba", "Th", "Ce") for text in texts)


def test_kept_sites_dopants_and_range_are_obeyed(search: Any) -> None:
    values = {"keep": ["Fe", "As"]}
    for text in search("LaFeAsO", family=values).formulas():
        amounts = parse(text)
        assert (amounts["Fe"], amounts["As"]) == (1, 1)
    values = {"dope": {"La": ["Sr", "Ba"]}, "range": [0.1, 0.3]}
    for text in search("La2CuO4", family=values).formulas():
        amounts = parse(text)
        assert set(amounts) <= {"La", "Sr", "Ba", "Cu", "O"}
        assert (amounts["Cu"], amounts["O"]) == (1, 4)
        foreign = amounts.get("Sr", 0) + amounts.get("Ba", 0)
        assert foreign == 0 or 0.2 - 1e-9 <= foreign <= 0.6 + 1e-9


def test_a_forbidden_element_of_the_base_is_in_no_row(search: Any) -> None:
    result = search("LaFeAsO", elements={"forbid": ["As", "Sm"]})
    assert (result.amounts[:, [INDEX["As"], INDEX["Sm"]]] == 0).all()
    assert (result.amounts.sum(axis=1) > 3.6).all()


def test_amounts_may_stay_as_they_came_or_go_to_the_nearest(search: Any) -> None:
    free = search("LaFeAsO", projection={"kind": "none"})
    assert free.distance.max() < 1e-3
    assert any(round(amount, 2) != amount for text in free.formulas() for amount in parse(text).values())
    nearest, best = (search("LaFeAsO", projection={"kind": kind}) for kind in ("nearest", "best"))
    assert np.array_equal(nearest.x_final, best.x_final)
    assert (nearest.distance <= best.distance + 1e-9).all()
    assert best.tc_k.mean() >= nearest.tc_k.mean()


def test_elements_that_may_not_occur_do_not(search: Any) -> None:
    allow = ["La", "Fe", "As", "O", "F", "Nd", "P"]
    result = search("LaFeAsO", elements={"allow": allow})
    others = np.ones(N_ELEMENTS, dtype=np.bool_)
    others[[INDEX[symbol] for symbol in allow]] = False
    assert (result.amounts[:, others] == 0).all()


WIDTH = 2


def sites(*slots: list[str], amount: tuple[float, ...], **values: Any) -> RowSites:
    """Sites of four slots: two for own elements, "" for none, "Va" for a vacancy."""
    names = np.array([[*each, *[""] * (4 - len(each))] for each in slots])
    element = np.vectorize(lambda name: INDEX.get(name, VACANCY))(names)
    on_grid = (names != "") & (np.arange(4) > 0)
    most = np.where(names == "Va", 0.3, 1.0)
    zeros = np.zeros(len(slots))
    made = {"low": zeros, "high": zeros + 1, "grid": 20, **values}
    return RowSites(element, on_grid, amount=np.array(amount), most=most, width=WIDTH, **made)


OXIDE = sites(["La", "Sr", "Sm", "Nd"], ["Cu"], ["O", "", "F", "Va"], amount=(2, 1, 4))


def rounded(atoms: list[list[float]], found: RowSites = OXIDE) -> str:
    return formula_of(nearest_atoms(np.array(atoms), found), found.element)


@pytest.mark.parametrize(
    ("atoms", "formula"),
    [
        ([[1.84, 0.16, 0, 0], [1, 0, 0, 0], [4, 0, 0, 0]], "La1.85Sr0.15CuO4"),
        ([[1.84, 0.145, 0.015, 0], [1, 0, 0, 0], [4, 0, 0, 0]], "La1.85Sr0.15CuO4"),  # a trace vanishes
        ([[0.3, 0.15, 1.55, 0], [1, 0, 0, 0], [4, 0, 0, 0]], "Sm1.55La0.3Sr0.15CuO4"),  # the larger first
        ([[0.01, 0, 1.99, 0], [1, 0, 0, 0], [3.88, 0, 0.12, 0]], "Sm2CuO3.9F0.1"),
        ([[2, 0, 0, 0], [1, 0, 0, 0], [3.92, 0, 0, 0.08]], "La2CuO3.9"),
        ([[2, 0, 0, 0], [1, 0, 0, 0], [4, 0, 0, 0]], "La2CuO4"),
    ],
)
def test_amounts_go_to_the_grid_and_formulas_are_written_as_chemists_do(
    atoms: list[list[float]], formula: str
) -> None:
    assert rounded(atoms) == formula


def test_whole_numbers_are_a_grid_too() -> None:
    whole = sites(["Ba"], ["Fe", "", "Co"], ["As"], amount=(1, 2, 2), grid=1)
    assert rounded([[1, 0, 0, 0], [1.3, 0, 0.7, 0], [2, 0, 0, 0]], whole) == "BaFeCoAs2"
    assert rounded([[1, 0, 0, 0], [1.6, 0, 0.4, 0], [2, 0, 0, 0]], whole) == "BaFe2As2"


def test_a_site_whose_amount_is_off_the_grid_is_still_filled_wholly() -> None:
    odd = sites(["O", "", "F"], ["Cu"], amount=(3.93, 1))
    assert rounded([[0.0, 0, 3.93, 0], [1, 0, 0, 0]], odd) == "F3.93Cu"
    assert rounded([[3.8, 0, 0.13, 0], [1, 0, 0, 0]], odd) == "O3.78F0.15Cu"


def test_an_element_on_two_sites_is_written_once() -> None:
    found = sites(["La", "", "Ba"], ["Ba", "", "La"], ["Cu"], amount=(1, 2, 3))
    assert rounded([[0.8, 0, 0.2, 0], [1.9, 0, 0.1, 0], [3, 0, 0, 0]], found) == "La0.9Ba2.1Cu3"


@settings(max_examples=60, deadline=None)
@given(
    shares=st.lists(st.floats(0, 1), min_size=8, max_size=8),
    high=st.sampled_from([0.3, 0.5, 1.0]),
    low=st.sampled_from([0.0, 0.1]),
    grid=st.sampled_from([3, 10, 20, 100]),
)
def test_sites_keep_their_amounts_on_every_grid(
    shares: list[float], high: float, low: float, grid: int
) -> None:
    limits = {"low": np.array([low, 0.0]), "high": np.array([high, high])}
    found = sites(["La", "Sr", "Sm", "Nd"], ["O", "", "F", "Va"], amount=(2, 4), grid=grid, **limits)
    raw = np.array(shares).reshape(2, 4) * (found.element != VACANCY) + 1e-3
    raw[1, 3] = min(raw[1, 3], 0.2)
    atoms = raw / raw.sum(axis=1, keepdims=True) * found.amount[:, None]
    nearest = nearest_atoms(atoms, found)
    for each in neighbours(nearest, atoms, found, keep=16, max_distance=0.3):
        assert each.sum(axis=1) == pytest.approx(found.amount)
        assert (each >= 0).all()
        free = each[:, WIDTH:].sum(axis=1)
        assert (free <= found.high * found.amount + 1e-6).all()
        steps = each[found.on_grid] * grid
        assert steps == pytest.approx(np.rint(steps), abs=1e-6)
        assert ((each > 0) <= (nearest > 0)).all()


def test_neighbours_differ_by_up_to_two_steps_and_the_nearest_come_first() -> None:
    atoms = np.array([[1.86, 0, 0.14, 0], [1, 0, 0, 0], [4, 0, 0, 0]])
    nearest = nearest_atoms(atoms, OXIDE)
    found = [formula_of(each, OXIDE.element) for each in neighbours(nearest, atoms, OXIDE, 16, 0.1)]
    assert found == [
        "La1.85Sm0.15CuO4",
        "La1.9Sm0.1CuO4",
        "La1.8Sm0.2CuO4",
        "La1.95Sm0.05CuO4",
        "La1.75Sm0.25CuO4",
    ]
    assert len(neighbours(nearest, atoms, OXIDE, 3, 0.1)) == 3
    assert len(neighbours(nearest, atoms, OXIDE, 16, 0.0)) == 1


def test_no_amount_carries_the_noise_of_floats() -> None:
    amounts = amounts_of(np.array([[0.1 + 0.2, 0, 1.7, 0], [1, 0, 0, 0], [4, 0, 0, 0]]), OXIDE.element)
    assert amounts[INDEX["La"]] == 0.3
