""""""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiago_ray.screening.candidates import collect
from kiago_ray.screening.known import KnownMaterials
from kiago_ray.screening.screens import REQUIRED, SCREENS, apply_screens, load_screen_recall
from kiago_ray.search.result import SearchResult
from kiago_ray.search.sections import ScreenName, ScreensSpec
from kiago_ray.search.spec import SearchSpec
from kiago_ray.storage.table import columns

MakeResult = Callable[[list[tuple[str | None, float, float]]], SearchResult]
PAPER = ("neutral", "pauling", "ef_negative", "few_elements")
ROWS: list[tuple[str | None, float, float]] = [
    ("LaNiAsO", 4.0, -2.0),
    ("NaCl2", 50.0, -1.0),  # no states of Na and Cl add up to 0
    ("MgCoNi3", 8.0, -0.1),  # metals alone are accepted unseen
    ("LaNiAsO", 4.0, -2.0),
    ("NaCl", 0.0, 0.0),  # 0 eV/atom is not below 0
    (None, 0.0, 0.0),
    ("LiNaKRbCsFClBrIO", 1.0, -1.0),  # ten elements
]


def passing(table: Any, name: str = "passed") -> list[bool | None]:
    found: list[bool | None] = table[name].to_pylist()
    return found


def asked(*names: str, **given: Any) -> SearchSpec:
    return SearchSpec(screens={"names": names}, **given)


def judged(result: SearchResult, *names: str, **given: Any) -> Any:
    """The rows with the verdicts of a search that asks for these screens."""
    spec = asked(*names, **given)
    return apply_screens(collect(result, spec), spec.screens)


def test_the_papers_screens_one_by_one(make_result: MakeResult) -> None:
    table = judged(make_result(ROWS), *PAPER)
    yes = {name: np.flatnonzero(table[name].fill_null(False)).tolist() for name in (*PAPER, "passed")}
    assert yes["neutral"][:4] == [0, 2, 3, 4]
    assert yes["pauling"][:4] == [0, 2, 3, 4]
    assert yes["ef_negative"] == [0, 1, 2, 3, 6]
    assert yes["few_elements"] == [0, 1, 2, 3, 4]
    assert yes["passed"] == [0, 2, 3]


def test_every_screen_a_specification_can_name_exists_and_is_a_column() -> None:
    assert set(get_args(ScreenName)) == set(SCREENS) <= set(columns())
    assert ScreensSpec().names == ("balanced", "plausible", "few_elements")
    assert columns()["few_elements"].description == "Screen: at most screens.max_elements elements."


def test_descriptions_name_the_parameter() -> None:
    limits = ScreensSpec(max_elements=8, max_e_hull_ev_per_atom=0.05)
    assert "8" in SCREENS["few_elements"].description(limits)
    assert "0.05" in SCREENS["near_hull"].description(limits)


def test_few_elements_has_a_maximum(make_result: MakeResult) -> None:
    rows = collect(make_result(ROWS), SearchSpec())
    few = SCREENS["few_elements"].verdict(rows, ScreensSpec(max_elements=3))
    assert few.to_pylist() == [False, True, True, False, True, None, False]


def test_mixed_valence_is_judged_where_asked_for(make_result: MakeResult) -> None:
    rows = [
        ("Na3BaCu2F8", 90.0, -1.0),
        ("NaCl", 0.0, -1.0),
        ("NaF2", 0.0, -1.0),
        ("Nb3Sn", 18.0, -1.0),
        (None, 0.0, 0.0),
    ]
    result = make_result(rows)
    plain = judged(result, *PAPER)
    assert "neutral_mixed" not in plain.column_names
    mixed = judged(result, "neutral_mixed", charge={"mixed_valence": True})
    assert passing(mixed, "pauling") == [False, True, False, True, None]
    assert passing(mixed) == [True, True, False, True, False]
    with pytest.raises(ValueError, match="'neutral_mixed' needs neutral_mixed, which wasn't worked out"):
        apply_screens(plain, ScreensSpec(), ("neutral_mixed",))


def test_balanced_takes_likely_states_and_metals(make_result: MakeResult) -> None:
    formulas = ("La1.85Sr0.15CuO4", "Nb3Sn", "NaF2", "BaCuO4", "SrPtAs", None)
    rows, screen = (
        collect(make_result([(formula, 10.0, -1.0) for formula in formulas]), SearchSpec()),
        SCREENS["balanced"],
    )
    assert screen.verdict(rows).to_pylist() == [True, True, False, False, True, None]
    # SrPtAs holds Pt+1, at 1.07 nats an atom; BaCuO4 balances by O-1 alone.
    strict, loose = (ScreensSpec(max_charge_nats=most) for most in (1, 10))
    assert screen.verdict(rows, strict).to_pylist() == [True, True, False, False, False, None]
    assert screen.verdict(rows, loose).to_pylist() == [True, True, False, False, True, None]
    assert "at most 10 nats" in screen.description(loose)


def test_hydrides_are_judged_where_asked_for(make_result: MakeResult) -> None:
    rows = [
        ("LaH10", 200.0, -0.1),  # neutral only if hydrogen takes two states at once
        ("LaH15", 200.0, -0.1),  # 16 atoms
        ("La2H", 10.0, -0.1),  # a third of it is hydrogen
        ("LaYBaH9", 10.0, -0.1),  # four elements
        ("H2", 10.0, -0.1),
        ("HeH", 10.0, -0.1),  # no states are known for helium
        ("La2YH2", 10.0, -0.1),  # 40 % of it
        (None, 0.0, 0.0),
    ]
    plain = judged(make_result(rows))
    with pytest.raises(ValueError, match="'neutral_atoms' needs neutral_atoms"):
        apply_screens(plain, ScreensSpec(), ("neutral_atoms",))
    assert "hydride" not in plain.column_names
    table = judged(make_result(rows), "neutral_atoms", "hydride")
    assert passing(table, "hydride") == [True, False, False, False, False, True, True, None]
    assert passing(table, "neutral_atoms")[:2] == [True, True]
    assert passing(table, "neutral_atoms")[4:] == [True, False, False, None]
    assert passing(table, "neutral")[0] is False
    assert passing(table) == [True] + [False] * 7


def test_a_screen_that_does_not_exist_is_named(make_result: MakeResult) -> None:
    with pytest.raises(ValueError, match="no screen 'netural'; choose from neutral, pauling"):
        apply_screens(collect(make_result(ROWS), SearchSpec()), ScreensSpec(), ("netural",))


def test_passed_is_all_required_screens_in_any_order(make_result: MakeResult) -> None:
    rows = collect(make_result(ROWS), SearchSpec())

    @given(st.permutations(PAPER), st.integers(0, len(PAPER)))
    def check(names: list[str], count: int) -> None:
        expected = rows["formula"].is_valid().to_numpy()
        for name in names[:count]:
            expected = expected & SCREENS[name].verdict(rows).fill_null(False).to_numpy()
        assert passing(apply_screens(rows, ScreensSpec(), names[:count])) == expected.tolist()

    check()


def test_no_screen_lets_a_row_without_a_formula_pass(make_result: MakeResult) -> None:
    known = KnownMaterials.from_formulas(["MgB2"], [39.0])
    rows = collect(make_result([(None, 9.0, -1.0)]), SearchSpec(), known=known)
    table = apply_screens(rows, ScreensSpec(), ())
    assert not any(table[name][0].as_py() for name in SCREENS if name in table.column_names)
    assert passing(table) == [False]


def test_near_hull_needs_phases_and_fails_what_is_not_known(make_result: MakeResult) -> None:
    rows = collect(make_result(ROWS), SearchSpec())
    limits = ScreensSpec(max_e_hull_ev_per_atom=0.1, names=("near_hull",))
    assert "near_hull" not in apply_screens(rows, ScreensSpec(), PAPER).column_names
    with pytest.raises(ValueError, match="'near_hull' needs e_hull_ev_per_atom"):
        apply_screens(rows, limits)
    above = [0.0, 0.1, 0.11, None, 0.05, None, None]
    table = apply_screens(rows.append_column("e_hull_ev_per_atom", [above]), limits)
    assert passing(table, "near_hull") == [True, True, False, None, True, None, None]
    assert passing(table) == [True, True, False, False, True, False, False]


def test_plausible_asks_for_a_probability(make_result: MakeResult) -> None:
    result = make_result(
        [("LaNiAsO", 8.0, -2.0), ("NaCl2", 90.0, -1.0), (None, 0.0, 0.0), ("MgB2", 39.0, -0.1)]
    )
    limits = ScreensSpec(min_existence=0.2, names=("plausible",))
    unknown = collect(result, SearchSpec())
    assert "plausible" not in apply_screens(unknown, limits, ()).column_names
    with pytest.raises(ValueError, match=r"'plausible' needs existence"):
        apply_screens(unknown, limits)
    rows = collect(result, SearchSpec(), opinions=lambda rows: {"existence": np.array([0.9, 0.01, 0.2])})
    assert passing(apply_screens(rows, limits)) == [True, False, False, True]
    assert "0.2" in SCREENS["plausible"].description(limits)
    empty = collect(
        make_result([(None, 0.0, 0.0)]), SearchSpec(), opinions=lambda rows: {"existence": np.zeros(0)}
    )
    assert passing(apply_screens(empty, limits)) == [False]


def test_every_figure_is_of_a_screen_and_a_share() -> None:
    measured = load_screen_recall()
    assert set(measured["screens"]) <= {*SCREENS, REQUIRED}
    assert {"neutral", "pauling", "ef_negative", "few_elements", "balanced", REQUIRED} <= set(
        measured["screens"]
    )
    for passing in measured["screens"].values():
        assert set(passing) == {"recall", "recall_above_30_k", "swaps"}
        assert all(0 <= share <= 1 for share in passing.values())
    assert measured["superconductors"] == measured["swaps"] >= 1000


def test_what_default_requires_lets_the_known_pass() -> None:
    default = load_screen_recall()["screens"][REQUIRED]
    assert default["recall"] >= 0.9
    assert default["recall_above_30_k"] >= 0.95
