from __future__ import annotations

import csv
import io
from typing import Any

import pyarrow as pa

from kiago_ray.storage.columns import columns, schema
from kiago_ray.storage.table import top_csv


def ranked_table(passed: list[bool]) -> Any:
    rows = [
        {
            "rank": at + 1,
            "formula": f"LaNi{at + 1}AsO",
            "tc_k": 81.26171875 - at,
            "trusted_tc_k": 64.12,
            "tc_oracle_k": 64.12,
            "extrapolation": 0.875,
            "extrapolated": False,
            "pareto": True,
            "delta_tc_k": -0.04,
            "ef_ev_per_atom": -1.23456,
            "passed": good,
            "neutral": good,
            "oxidation_states": "La+3 Ni+2 As-3 O-2",
            "nearest_known": "LaNiAsO",
            "nearest_distance": 0.05049,
            "seed": 0,
            "row": at,
        }
        for at, good in enumerate(passed)
    ]
    return pa.Table.from_pylist(rows, schema=schema())


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_first_row_as_a_person_reads_it() -> None:
    text = top_csv(ranked_table([True]))
    first = read(text)[0]
    assert text.startswith(
        "rank,passed,formula,base,trusted_tc_k,tc_k,tc_std_k,tc_oracle_k,tc_oracle_std_k,delta_tc_k,ef_ev_per_atom,"
        "extrapolation,extrapolated,pareto,known,made,nearest_known,nearest_distance,"
    )
    assert set(first) <= set(columns())
    assert (first["rank"], first["passed"], first["formula"]) == ("1", "yes", "LaNiAsO".replace("Ni", "Ni1"))
    assert (first["tc_k"], first["delta_tc_k"], first["ef_ev_per_atom"]) == ("81.3", "0.0", "-1.235")
    assert (first["nearest_distance"], first["nearest_tc_k"], first["known"]) == ("0.050", "", "")
    assert (first["trusted_tc_k"], first["tc_oracle_k"], first["extrapolation"]) == ("64.1", "64.1", "0.88")
    assert (first["extrapolated"], first["pareto"], first["tc_std_k"]) == ("no", "yes", "")
    assert first["oxidation_states"] == "La+3 Ni+2 As-3 O-2"


def test_only_rows_that_passed_and_at_most_a_hundred() -> None:
    rows = read(top_csv(ranked_table([True] * 120 + [False] * 5)))
    assert [row["rank"] for row in rows] == [str(rank) for rank in range(1, 101)]
    assert len(read(top_csv(ranked_table([True, True, False])))) == 2


def test_where_none_passed_the_best_are_there_and_marked() -> None:
    rows = read(top_csv(ranked_table([False] * 120)))
    assert len(rows) == 100
    assert {row["passed"] for row in rows} == {"no"}


def test_a_table_without_rows_is_a_header() -> None:
    assert top_csv(ranked_table([])).count("\n") == 1


def test_the_hull_is_there_where_phases_were_given() -> None:
    table = ranked_table([True, True])
    assert not {"e_hull_ev_per_atom", "near_hull"} & set(read(top_csv(table))[0])
    for name, values in (("e_hull_ev_per_atom", [0.01234, None]), ("near_hull", [True, None])):
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), [values])
    rows = read(top_csv(table))
    assert [(row["e_hull_ev_per_atom"], row["near_hull"]) for row in rows] == [("0.012", "yes"), ("", "")]


def test_plausibility_and_improvement_are_there_where_a_row_has_them() -> None:
    table = ranked_table([True, True])
    told = {"plausibility": 0.0001234, "expected_improvement_k": 3.26, "gain": True, "best_nearby": "LaNiAsO"}
    judged = pa.Table.from_pylist([{**row, **told} for row in table.to_pylist()], schema=schema())
    first = read(top_csv(judged))[0]
    assert [first[name] for name in told] == ["0.00012", "3.3", "yes", "LaNiAsO"]
    assert not set(told) & set(read(top_csv(table))[0])
