""""""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiago_ray.screening.candidates import collect
from kiago_ray.screening.known import KnownMaterials
from kiago_ray.screening.screens import (
    REQUIRED,
    apply_screens,
    available_screens,
    check_phases,
    load_screen_recall,
)
from kiago_ray.search.result import SearchResult
from kiago_ray.search.sections import ScreensSpec, SpecError
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


def test_the_papers_screens_one_by_one(make_result: MakeResult) -> None:
    verdicts = apply_screens(collect(make_result(ROWS)), available_screens(), PAPER)
    yes = {name: np.flatnonzero(verdict).tolist() for name, verdict in verdicts.by_screen.items()}
    assert yes["neutral"][:4] == [0, 2, 3, 4]
    assert yes["pauling"][:4] == [0, 2, 3, 4]
    assert yes["ef_negative"] == [0, 1, 2, 3, 6]
    assert yes["few_elements"] == [0, 1, 2, 3, 4]
    assert np.flatnonzero(verdicts.passed).tolist() == [0, 2, 3]


def test_every_screen_a_specification_can_name_exists_and_is_a_column() -> None:
    annotation = ScreensSpec.model_fields["names"].annotation
    names = get_args(get_args(annotation)[0])
    assert set(names) <= set(available_screens()) <= set(columns())
    assert ScreensSpec().names == ("balanced", "plausible", "few_elements")


def test_descriptions_name_the_parameter() -> None:
    screens = available_screens(ScreensSpec(max_elements=8, max_e_hull_ev_per_atom=0.05))
    assert "8" in screens["few_elements"].description
    assert "0.05" in screens["near_hull"].description


def test_few_elements_has_a_maximum(make_result: MakeResult) -> None:
    candidates = collect(make_result(ROWS))
    few = available_screens(ScreensSpec(max_elements=3))["few_elements"]
    assert few.verdict(candidates).tolist() == [False, True, True, False, True, False, False]


def test_mixed_valence_is_judged_where_asked_for(make_result: MakeResult) -> None:
    rows = [
        ("Na3BaCu2F8", 90.0, -1.0),
        ("NaCl", 0.0, -1.0),
        ("NaF2", 0.0, -1.0),
        ("Nb3Sn", 18.0, -1.0),
        (None, 0.0, 0.0),
    ]
    result = make_result(rows)
    screens = available_screens()
    plain, mixed = collect(result), collect(result, mixed_valence=True)
    assert "neutral_mixed" not in apply_screens(plain, screens, PAPER).by_screen
    verdicts = apply_screens(mixed, screens, ("neutral_mixed",))
    assert verdicts.by_screen["pauling"].tolist() == [False, True, False, True, False]
    assert verdicts.passed.tolist() == [True, True, False, True, False]
    with pytest.raises(ValueError, match=r"'neutral_mixed' needs mixed valences; set charge\.mixed_valence"):
        apply_screens(plain, screens, ("neutral_mixed",))
    with pytest.raises(ValueError, match="'neutral_mixed' needs mixed valences"):
        screens["neutral_mixed"].verdict(plain)


def test_balanced_takes_likely_states_and_metals(make_result: MakeResult) -> None:
    formulas = ("La1.85Sr0.15CuO4", "Nb3Sn", "NaF2", "BaCuO4", "SrPtAs", None)
    candidates = collect(make_result([(formula, 10.0, -1.0) for formula in formulas]))
    verdict = available_screens()["balanced"].verdict(candidates)
    assert verdict.tolist() == [True, True, False, False, True, False]
    # SrPtAs holds Pt+1, at 1.07 nats an atom; BaCuO4 balances by O-1 alone.
    strict, loose = (available_screens(ScreensSpec(max_charge_nats=most))["balanced"] for most in (1, 10))
    assert strict.verdict(candidates).tolist() == [True, True, False, False, False, False]
    assert loose.verdict(candidates).tolist() == [True, True, False, False, True, False]
    assert "at most 10 nats" in loose.description


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
    result, screens = make_result(rows), available_screens()
    with pytest.raises(ValueError, match="'neutral_atoms' needs valences by atom"):
        apply_screens(collect(result), screens, ("neutral_atoms",))
    assert "hydride" not in apply_screens(collect(result), screens, ()).by_screen
    verdicts = apply_screens(collect(result, by_atoms=True), screens, ("neutral_atoms", "hydride"))
    assert verdicts.by_screen["hydride"].tolist() == [True, False, False, False, False, True, True, False]
    assert verdicts.by_screen["neutral_atoms"].tolist()[:2] == [True, True]
    assert verdicts.by_screen["neutral_atoms"].tolist()[4:] == [True, False, False, False]
    assert verdicts.by_screen["neutral"].tolist()[0] is False
    assert verdicts.passed.tolist() == [True] + [False] * 7


def test_a_screen_that_does_not_exist_is_named(make_result: MakeResult) -> None:
    with pytest.raises(ValueError, match="no screen 'netural'; choose from neutral, pauling"):
        apply_screens(collect(make_result(ROWS)), available_screens(), ("netural",))


def test_passed_is_all_required_screens_in_any_order(make_result: MakeResult) -> None:
    candidates = collect(make_result(ROWS))
    screens = available_screens()

    @given(st.permutations(PAPER), st.integers(0, len(PAPER)))
    def check(names: list[str], count: int) -> None:
        verdicts = apply_screens(candidates, screens, names[:count])
        expected = candidates.ok.copy()
        for name in names[:count]:
            expected &= screens[name].verdict(candidates)
        assert verdicts.passed.tolist() == expected.tolist()

    check()


def test_no_screen_lets_a_row_without_a_formula_pass(make_result: MakeResult) -> None:
    known = KnownMaterials.from_formulas(["MgB2"], [39.0])
    candidates = collect(make_result([(None, 9.0, -1.0)]), known=known)
    verdicts = apply_screens(candidates, available_screens(), ())
    assert not any(verdict[0] for verdict in verdicts.by_screen.values())
    assert not verdicts.passed[0]


def test_near_hull_needs_phases_and_fails_what_is_not_known(make_result: MakeResult) -> None:
    candidates = collect(make_result(ROWS))
    assert "near_hull" not in apply_screens(candidates, available_screens(), PAPER).by_screen
    with pytest.raises(ValueError, match="'near_hull' needs competing phases"):
        apply_screens(candidates, available_screens(), ("near_hull",))
    with pytest.raises(ValueError, match="'near_hull' needs competing phases"):
        available_screens()["near_hull"].verdict(candidates)
    above = np.array([0.0, 0.1, 0.11, np.nan, 0.05, 0.0, np.nan])
    known = replace(candidates, e_hull_ev_per_atom=above)
    screens = available_screens(ScreensSpec(max_e_hull_ev_per_atom=0.1))
    assert screens["near_hull"].verdict(known).tolist() == [True, True, False, False, True, False, False]
    assert "0.1 eV/atom" in screens["near_hull"].description


def test_where_no_phases_are_given_near_hull_is_refused_before_any_work() -> None:
    check_phases(("neutral",), given=False)
    check_phases(("near_hull",), given=True)
    with pytest.raises(SpecError, match=r"^screens\.names: near_hull needs competing phases"):
        check_phases(("neutral", "near_hull"), given=False)


def test_plausible_asks_for_a_probability(make_result: MakeResult) -> None:
    result = make_result(
        [("LaNiAsO", 8.0, -2.0), ("NaCl2", 90.0, -1.0), (None, 0.0, 0.0), ("MgB2", 39.0, -0.1)]
    )
    screens = available_screens(ScreensSpec(min_existence=0.2))
    assert "plausible" not in apply_screens(collect(result), screens, ()).by_screen
    with pytest.raises(ValueError, match=r"plausible.* needs the rows' plausibility"):
        apply_screens(collect(result), screens, ("plausible",))
    judged = collect(result, log_existence=np.log([0.9, 0.01, 0.9, 0.2]))
    assert apply_screens(judged, screens, ("plausible",)).passed.tolist() == [True, False, False, True]
    assert "0.2" in screens["plausible"].description
    nothing = collect(make_result([(None, 0.0, 0.0)]), log_existence=np.array([np.nan]))
    assert apply_screens(nothing, screens, ("plausible",)).passed.tolist() == [False]


def test_every_figure_is_of_a_screen_and_a_share() -> None:
    measured = load_screen_recall()
    assert set(measured.screens) <= {*available_screens(), REQUIRED}
    assert {"neutral", "pauling", "ef_negative", "few_elements", "balanced", REQUIRED} <= set(
        measured.screens
    )
    for passing in measured.screens.values():
        assert all(share is None or 0 <= share <= 1 for share in vars(passing).values())
    assert measured.superconductors == measured.swaps >= 1000


def test_what_default_requires_lets_the_known_pass() -> None:
    default = load_screen_recall().screens[REQUIRED]
    assert default.recall is not None
    assert default.recall_above_30_k is not None
    assert default.recall >= 0.9
    assert default.recall_above_30_k >= 0.95
