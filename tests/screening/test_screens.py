""""""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from kiago_ray.screening.candidates import collect, ranked
from kiago_ray.screening.known import BaseMaterial, KnownMaterials
from kiago_ray.screening.screens import (
    REQUIRED,
    SCREENS,
    Summary,
    TopMean,
    apply_screens,
    load_screen_recall,
    summarise,
    top_mean,
)
from kiago_ray.search.result import SearchResult
from kiago_ray.search.sections import RankBy, ScreenName, ScreensSpec
from kiago_ray.search.spec import SearchSpec
from kiago_ray.storage.table import candidates_table, columns

from ..conftest import known_of

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
    known = known_of(["MgB2"], [39.0])
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


def test_structure_stable_fails_no_row_without_a_structure(make_result: MakeResult) -> None:
    rows = collect(make_result(ROWS), SearchSpec())
    limits = ScreensSpec(max_e_hull_ev_per_atom=0.1, names=("structure_stable",))
    before = apply_screens(rows, limits)
    assert before["structure_stable"].null_count == len(rows)
    assert passing(before) == rows["formula"].is_valid().to_pylist()
    made = rows.append_column("e_hull_chgnet_ev_per_atom", [[0.0, 0.1, 0.11, None, 0.05, None, None]])
    made = made.append_column("prototype_survived", [[True, True, True, None, False, None, None]])
    after = apply_screens(made, limits)
    assert passing(after, "structure_stable") == [True, True, False, None, False, None, None]
    failed = [verdict is False for verdict in passing(after, "structure_stable")]
    assert passing(after) == [was and not fails for was, fails in zip(passing(before), failed, strict=True)]


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


BOTH: tuple[RankBy, ...] = ("trusted", "tc")
SPEC = SearchSpec(screens={"names": PAPER})
BASE = BaseMaterial("LaNiAsO", tc_predicted_k=5.0, ef_predicted_ev_per_atom=-2.1, tc_measured_k=2.7)


def counted(
    result: SearchResult,
    base: BaseMaterial | None = BASE,
    ranking: ScreensSpec | None = None,
    known: KnownMaterials | None = None,
    opinions: Any = None,
    **options: Any,
) -> Summary:
    """The summary of rows that PAPER's screens judge."""
    rows = collect(result, SPEC, base=base, known=known, opinions=opinions)
    ranking = ranking or ScreensSpec(rank_by="trusted")
    return summarise(
        ranked(candidates_table(apply_screens(rows, SPEC.screens)), ranking),
        rows=len(rows),
        statuses=result.status_counts(),
        required=PAPER,
        base=base,
        ranked_by=ranking.rank_by,
        **options,
    )


def summary_of(result: SearchResult, base: BaseMaterial | None = BASE) -> Summary:
    return counted(result, base, top=(1, 2, 10))


def read(summary: Summary) -> Summary:
    """What is read of its JSON."""
    return TypeAdapter(Summary).validate_json(json.dumps(summary.to_dict(), allow_nan=False))


def test_worked_by_hand(make_result: MakeResult) -> None:
    # Eight rows, five formulas: LaNiAsO, LaFeAsO and MgCoNi3 pass; NaCl2 is not neutral; NaCl has E_f ≥ 0.
    rows: list[tuple[str | None, float, float]] = [
        ("LaNiAsO", 8.0, -2.0),
        ("NaCl2", 90.0, -1.0),
        ("La2Ni2As2O2", 8.0, -2.0),
        ("LaFeAsO", 26.0, -2.0),
        ("NaCl", 70.0, 0.5),
        (None, 0.0, 0.0),
        ("MgCoNi3", 11.0, -0.1),
        ("LaFeAsO", 26.0, -2.0),
    ]
    summary = summary_of(make_result(rows))
    assert (summary.rows, summary.unique, summary.passed) == (8, 5, 3)
    counts = {"neutral": 4, "pauling": 4, "ef_negative": 4, "few_elements": 5, "balanced": 4}
    assert dict(summary.screens) == counts
    assert summary.unique_fraction == 5 / 8
    assert summary.screen_fractions == {
        "neutral": 4 / 5,
        "pauling": 4 / 5,
        "ef_negative": 4 / 5,
        "few_elements": 1.0,
        "balanced": 4 / 5,
    }
    assert summary.passed_fraction == 3 / 5
    assert summary.known is None  # nothing to compare with
    assert summary.passed_above_base == 3  # the base is predicted at 5 K
    assert summary.statuses["ok"] == 7
    assert summary.statuses["no_integer_formula"] == 1
    assert summary.top == (
        TopMean(k=1, used=1, mean_tc_k=26.0, delta_tc_k=21.0, chemical_systems=1),
        TopMean(k=2, used=2, mean_tc_k=18.5, delta_tc_k=13.5, chemical_systems=2),
        TopMean(k=10, used=3, mean_tc_k=15.0, delta_tc_k=10.0, chemical_systems=3),
    )


def test_what_is_known_is_counted_and_comes_after_what_is_new(make_result: MakeResult) -> None:
    result = make_result([("LaFeAsO", 26.0, -2.0), ("LaNiAsO", 8.0, -2.0), ("NaCl2", 90.0, -1.0)])
    known = known_of(["LaFeAsO", "NaCl2", "MgB2"], [26.0, 0.0, 39.0])
    summary = counted(result, known=known, top=(1, 2))
    assert (summary.unique, summary.passed, summary.known) == (3, 2, 2)
    assert [(each.mean_tc_k, each.known) for each in summary.top] == [(8.0, 0), (17.0, 1)]
    assert read(summary) == summary


def test_nothing_passed(make_result: MakeResult) -> None:
    summary = summary_of(make_result([("NaCl2", 90.0, -1.0)]))
    assert summary.passed == 0
    assert summary.top[0] == TopMean(k=1, used=0, mean_tc_k=None, delta_tc_k=None)


def test_no_row_has_a_formula(make_result: MakeResult) -> None:
    summary = summary_of(make_result([(None, 0.0, 0.0)]))
    assert summary.unique_fraction == 0
    assert summary.passed_fraction is None
    assert set(summary.screen_fractions.values()) == {None}


def test_a_search_without_a_base_has_no_difference(make_result: MakeResult) -> None:
    summary = summary_of(make_result([("LaNiAsO", 8.0, -2.0)]), base=None)
    assert summary.top[0] == TopMean(k=1, used=1, mean_tc_k=8.0, delta_tc_k=None, chemical_systems=1)
    assert summary.to_dict()["base"] is None


def test_to_dict_is_json_and_complete(make_result: MakeResult) -> None:
    summary = summary_of(make_result([("LaNiAsO", 8.0, -2.0), (None, 0.0, 0.0)]))
    again = json.loads(json.dumps(summary.to_dict(), allow_nan=False))
    assert read(summary) == summary
    assert again == summary.to_dict()
    assert again["base"] == {
        "formula": "LaNiAsO",
        "tc_predicted_k": 5.0,
        "ef_predicted_ev_per_atom": -2.1,
        "tc_measured_k": 2.7,
        "tc_oracle_k": None,
        "measured_pressure_gpa": None,
    }
    assert again["passed_fraction"] == 1.0
    assert again["top"][2] == asdict(TopMean(10, 1, 8.0, 3.0, chemical_systems=1))


def test_the_best_are_those_that_can_be_trusted(make_result: MakeResult) -> None:
    result = make_result([("LaNiAsO", 90.0, -2.0), ("LaFeAsO", 26.0, -2.0), (None, 0.0, 0.0)])
    said = {"tc_std_k": [9.0, 2.0], "tc_oracle_k": [10.0, 25.0], "extrapolation": [0.5, 0.6]}
    opinions = {name: np.array(values) for name, values in said.items()}
    base = replace(BASE, tc_oracle_k=4.0)
    by_trust, by_tc = (
        counted(result, base, ScreensSpec(rank_by=by), opinions=lambda rows: opinions, top=(1, 2)).top
        for by in BOTH
    )
    assert (by_trust[0].mean_tc_k, by_trust[0].gap_k, by_trust[0].mean_trusted_tc_k) == (26.0, 1.0, 23.0)
    assert (by_tc[0].mean_tc_k, by_tc[0].gap_k, by_tc[0].delta_tc_oracle_k) == (90.0, 80.0, 6.0)
    assert by_trust[1].gap_k == by_tc[1].gap_k == 40.5


def test_fractions_are_counted_as_in_the_published_summary() -> None:
    # LaPt2B2C: 4,096 rows, 0.991 of them unique, 868 formulas that pass, "all 0.214".
    published = Summary(4096, {}, round(0.991 * 4096), {}, (), 868, (), None)
    assert published.unique_fraction == pytest.approx(0.991, abs=5e-4)
    assert published.passed_fraction == pytest.approx(0.214, abs=5e-4)


def test_gains_what_is_left_out_and_the_sources_of_the_first_rows(make_result: MakeResult) -> None:
    rows = [("LaFeAsO", 26.0, -2.0), ("LaNiAsO", 8.0, -2.0), ("LaCoAsO", 9.0, -2.0), ("LaNiPO", 30.0, -2.0)]
    result = replace(make_result([*rows]), source=np.array(["family", "swap", "swap", "made"], dtype=object))
    known = known_of(["LaFeAsO", "LaNiAsO0.9F0.1"], [26.0, 8.5])
    summary = counted(result, known=known, ranking=ScreensSpec(rank_by="improvement", improvement_tc_share=0))
    # LaFeAsO is known; LaNiAsO is predicted below LaNiAsO0.9F0.1; nothing known is near the other two.
    assert (summary.passed, summary.gains, summary.left_out, summary.ranked_by) == (4, 2, 1, "improvement")
    assert summary.sources == {"family": 1, "swap": 2, "made": 1}
    assert read(summary) == summary
    assert counted(result).gains is None


TOLD_BASE = BaseMaterial("LaNiAsO", tc_predicted_k=5.0, ef_predicted_ev_per_atom=-2.0, tc_oracle_k=3.0)


def best(**changed: list[Any]) -> Any:
    """Four rows of three chemical systems."""
    columns = {
        "tc_k": [100.0, 80.0, 60.0, 40.0],
        "tc_oracle_k": [50.0, 70.0, 60.0, 20.0],
        "trusted_tc_k": [50.0, 60.0, 0.0, 20.0],
        "extrapolation": [0.5, 0.9, 1.5, 1.0],
        "nearest_distance": [0.3, 0.0, 0.1, 0.02],
        "known": [None, "YBa2Cu3O8", None, "NbN"],
    }
    return pa.table({"formula": ["YBa2Cu3O7", "Y2Ba4Cu8O16", "MgB2", "NbN"], **columns, **changed})


def test_the_top_is_worked_by_hand() -> None:
    assert top_mean(best(), 4, TOLD_BASE) == TopMean(
        k=4,
        used=4,
        mean_tc_k=70.0,
        delta_tc_k=65.0,
        mean_tc_oracle_k=50.0,
        delta_tc_oracle_k=47.0,
        gap_k=20.0,
        mean_trusted_tc_k=32.5,
        flagged_fraction=0.25,
        chemical_systems=3,
        median_nearest_distance=pytest.approx(0.06),
        known=2,
    )


def test_the_first_k_count_or_all_there_are() -> None:
    first, all_ = top_mean(best(), 2, TOLD_BASE), top_mean(best(), 10, TOLD_BASE)
    assert (first.used, first.gap_k, first.chemical_systems, first.known) == (2, 30.0, 1, 1)
    assert (all_.used, all_.gap_k) == (4, 20.0)


def test_what_one_of_the_rows_lacks_is_unknown_of_all() -> None:
    lacking = best(tc_oracle_k=[50.0, np.nan, 60.0, 20.0], extrapolation=[np.nan] * 4)
    told = top_mean(lacking, 4, TOLD_BASE)
    assert (told.mean_tc_oracle_k, told.delta_tc_oracle_k, told.gap_k, told.flagged_fraction) == (None,) * 4
    assert (told.mean_tc_k, told.mean_trusted_tc_k) == (70.0, 32.5)
    assert top_mean(lacking, 1, TOLD_BASE).gap_k == 50.0


def test_differences_need_a_base_and_its_values() -> None:
    assert top_mean(best(), 4, None).delta_tc_k is None
    plain = BaseMaterial("LaNiAsO", 5.0, -2.0)
    told = top_mean(best(), 4, plain)
    assert (told.delta_tc_k, told.delta_tc_oracle_k, told.gap_k) == (65.0, None, 20.0)
