from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from kiago_ray.chemistry.formula import parse
from kiago_ray.screening.candidates import KnownMaterials, collect
from kiago_ray.screening.screens import apply_screens, available_screens
from kiago_ray.screening.summary import BaseMaterial
from kiago_ray.search.result import SearchResult
from kiago_ray.storage.assemble import candidates_table, ranked
from kiago_ray.storage.columns import schema

MakeResult = Callable[[list[tuple[str | None, float, float]]], SearchResult]
PAPER = ("neutral", "pauling", "ef_negative", "few_elements")
ROWS: list[tuple[str | None, float, float]] = [
    ("NaCl2", 90.0, -1.0),
    ("LaNiAsO", 8.0, -2.0),
    (None, 0.0, 0.0),
    ("La2Ni2As2O2", 8.0, -2.0),
    ("LaFeAsO", 26.0, -2.0),
    ("MgCoNi3", 11.0, -0.1),
]


def table_of(result: SearchResult, known: KnownMaterials | None = None, seed: int = 3) -> Any:
    candidates = collect(result, known=known)
    verdicts = apply_screens(candidates, available_screens(), PAPER)
    base = BaseMaterial("LaNiAsO", tc_predicted_k=5.0, ef_predicted_ev_per_atom=-2.0)
    return candidates_table(result, candidates, verdicts, base=base, seed=seed)


def test_every_row_is_kept_with_its_verdicts(make_result: MakeResult) -> None:
    table = table_of(make_result(ROWS))
    assert table.schema.equals(schema(), check_metadata=True)
    assert table["formula"].to_pylist() == ["NaCl2", "LaNiAsO", None, "LaNiAsO", "LaFeAsO", "MgCoNi3"]
    assert table["status"].to_pylist() == ["ok", "ok", "no_integer_formula", "ok", "ok", "ok"]
    assert table["neutral"].to_pylist() == [False, True, None, True, True, True]
    assert table["passed"].to_pylist() == [False, True, False, True, True, True]
    assert table["alloy"].to_pylist() == [False, False, None, False, False, True]
    assert table["rank"].null_count == len(ROWS)
    assert table["novel"].null_count == len(ROWS)


def test_one_row_worked_by_hand(make_result: MakeResult) -> None:
    known = KnownMaterials.from_formulas(["LaNiAsO0.9F0.1", "MgB2"], [3.8, 39.0])
    row = table_of(make_result(ROWS), known).to_pylist()[3]
    distance = row.pop("nearest_distance")
    assert distance == pytest.approx(0.2 / 4)
    assert row.pop("integer_distance") == pytest.approx(0.01)
    assert row == {
        "rank": None,
        "formula": "LaNiAsO",
        "base": "LaNiAsO",
        "search": None,
        "tc_k": 8.0,
        "tc_relaxed_k": 9.0,
        "delta_tc_k": 3.0,
        "ef_ev_per_atom": -2.0,
        "n_atoms": 4,
        "n_elements": 4,
        "neutral": True,
        "pauling": True,
        "ef_negative": True,
        "few_elements": True,
        "novel": True,
        "passed": True,
        "alloy": False,
        "oxidation_states": "La+3 Ni+2 As-3 O-2",
        "nearest_known": known.formulas[0],
        "nearest_tc_k": 3.8,
        "status": "ok",
        "recoveries": 0,
        "seed": 3,
        "row": 3,
        "start_formula": "La0.25Ni0.25As0.25O0.25",
    }


def test_a_row_without_a_formula_has_nulls(make_result: MakeResult) -> None:
    known = KnownMaterials.from_formulas(["MgB2"], [39.0])
    row = table_of(make_result(ROWS), known).to_pylist()[2]
    present = {name for name, value in row.items() if value is not None}
    assert present == {"base", "tc_relaxed_k", "passed", "status", "recoveries", "seed", "row"}
    assert row["passed"] is False


def test_fractional_amounts_have_no_number_of_atoms(make_result: MakeResult) -> None:
    row = table_of(make_result([("Y0.25Al0.75NiAsO", 5.0, -1.0)])).to_pylist()[0]
    assert row["n_atoms"] is None
    assert row["n_elements"] == 5
    assert row["oxidation_states"] is not None
    assert parse(row["formula"]) == {"Y": 0.25, "Al": 0.75, "Ni": 1, "As": 1, "O": 1}


def test_ranked_is_unique_formulas_best_first(make_result: MakeResult) -> None:
    best = ranked(table_of(make_result(ROWS)))
    assert best.schema.equals(schema(), check_metadata=True)
    assert best["formula"].to_pylist() == ["LaFeAsO", "MgCoNi3", "LaNiAsO", "NaCl2"]
    assert best["rank"].to_pylist() == [1, 2, 3, 4]
    assert best["row"].to_pylist() == [4, 5, 1, 0]


def test_ranked_takes_the_lowest_seed_of_several_searches(make_result: MakeResult) -> None:
    result = make_result(ROWS)
    both = pa.concat_tables([table_of(result, seed=7), table_of(result, seed=2)])
    assert set(ranked(both)["seed"].to_pylist()) == {2}
    assert ranked(both).equals(ranked(table_of(result, seed=2)))
    assert ranked(ranked(both)).equals(ranked(both))


def test_no_row_has_a_formula(make_result: MakeResult) -> None:
    best = ranked(table_of(make_result([(None, 0.0, 0.0)])))
    assert best.num_rows == 0
    assert best.schema.equals(schema())
