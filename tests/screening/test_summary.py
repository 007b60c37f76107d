""""""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import TypeAdapter

from kiago_ray.screening.candidates import collect
from kiago_ray.screening.known import BaseMaterial, KnownMaterials
from kiago_ray.screening.rank import Ranking, ranked
from kiago_ray.screening.screens import apply_screens
from kiago_ray.screening.summary import Summary, TopMean, summarise, top_mean
from kiago_ray.search.result import SearchResult
from kiago_ray.search.sections import RankBy
from kiago_ray.search.spec import SearchSpec
from kiago_ray.storage.table import candidates_table

MakeResult = Callable[[list[tuple[str | None, float, float]]], SearchResult]
BOTH: tuple[RankBy, ...] = ("trusted", "tc")
PAPER = ("neutral", "pauling", "ef_negative", "few_elements")
SPEC = SearchSpec(screens={"names": PAPER})
BASE = BaseMaterial("LaNiAsO", tc_predicted_k=5.0, ef_predicted_ev_per_atom=-2.1, tc_measured_k=2.7)


def counted(
    result: SearchResult,
    base: BaseMaterial | None = BASE,
    ranking: Ranking | None = None,
    known: KnownMaterials | None = None,
    opinions: Any = None,
    **options: Any,
) -> Summary:
    """The summary of rows that PAPER's screens judge."""
    rows = collect(result, SPEC, base=base, known=known, opinions=opinions)
    ranking = ranking or Ranking()
    return summarise(
        ranked(candidates_table(apply_screens(rows, SPEC.screens)), ranking),
        rows=len(rows),
        statuses=result.status_counts(),
        required=PAPER,
        base=base,
        ranked_by=ranking.by,
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
    known = KnownMaterials.from_formulas(["LaFeAsO", "NaCl2", "MgB2"], [26.0, 0.0, 39.0])
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
    }
    assert again["passed_fraction"] == 1.0
    assert again["top"][2] == asdict(TopMean(10, 1, 8.0, 3.0, chemical_systems=1))


def test_the_best_are_those_that_can_be_trusted(make_result: MakeResult) -> None:
    result = make_result([("LaNiAsO", 90.0, -2.0), ("LaFeAsO", 26.0, -2.0), (None, 0.0, 0.0)])
    said = {"tc_std_k": [9.0, 2.0], "tc_oracle_k": [10.0, 25.0], "extrapolation": [0.5, 0.6]}
    opinions = {name: np.array(values) for name, values in said.items()}
    base = replace(BASE, tc_oracle_k=4.0)
    by_trust, by_tc = (
        counted(result, base, Ranking(by), opinions=lambda rows: opinions, top=(1, 2)).top for by in BOTH
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
    known = KnownMaterials.from_formulas(["LaFeAsO", "LaNiAsO0.9F0.1"], [26.0, 8.5])
    summary = counted(result, known=known, ranking=Ranking("improvement"))
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
