from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kiago_ray.chemistry.formula import parse
from kiago_ray.data.compositions import KnownCompositions
from kiago_ray.report.reasons import reasons_of
from kiago_ray.screening.candidates import collect, ranked
from kiago_ray.screening.known import BaseMaterial, KnownMaterials, TriedMaterials
from kiago_ray.screening.screens import apply_screens
from kiago_ray.search.result import SearchResult
from kiago_ray.search.sections import ScreensSpec
from kiago_ray.search.spec import SearchSpec
from kiago_ray.storage.location import Location, StorageError
from kiago_ray.storage.table import (
    candidates_table,
    columns,
    read_table,
    schema,
    table_bytes,
    top_csv,
)

from ..conftest import known_of

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


SPEC = SearchSpec(screens={"names": PAPER})
BASE = BaseMaterial("LaNiAsO", tc_predicted_k=5.0, ef_predicted_ev_per_atom=-2.0)


def table_of(result: SearchResult, known: KnownMaterials | None = None, seed: int = 3) -> Any:
    return whole(result, known=known, base=BASE, seed=seed)


def whole(result: SearchResult, spec: SearchSpec = SPEC, **given: Any) -> Any:
    return candidates_table(apply_screens(collect(result, spec, **given), spec.screens))


def test_every_row_is_kept_with_its_verdicts(make_result: MakeResult) -> None:
    table = table_of(make_result(ROWS))
    assert table.schema.equals(schema(), check_metadata=True)
    assert table["formula"].to_pylist() == ["NaCl2", "LaNiAsO", None, "LaNiAsO", "LaFeAsO", "MgCoNi3"]
    assert table["status"].to_pylist() == ["ok", "ok", "no_integer_formula", "ok", "ok", "ok"]
    assert table["neutral"].to_pylist() == [False, True, None, True, True, True]
    assert table["passed"].to_pylist() == [False, True, False, True, True, True]
    assert table["alloy"].to_pylist() == [False, False, None, False, False, True]
    assert table["rank"].null_count == len(ROWS)
    for name in ("known", "made", "tried", "tried_nearby", "tc_given_tried_k"):
        assert table[name].null_count == len(ROWS)


def test_one_row_worked_by_hand(make_result: MakeResult) -> None:
    known = known_of(["LaNiAsO0.9F0.1", "MgB2"], [3.8, 39.0])
    row = table_of(make_result(ROWS), known).to_pylist()[3]
    distance = row.pop("nearest_distance")
    assert distance == pytest.approx(0.2 / 4)
    assert row.pop("integer_distance") == pytest.approx(0.01)
    assert row.pop("nearest_emd") == pytest.approx(0.1 / 4 * 5)  # from O, the 97th place, to F, the 102nd
    assert row == {
        "rank": None,
        "formula": "LaNiAsO",
        "base": "LaNiAsO",
        "search": None,
        "source": None,
        "plausibility": None,
        "existence": None,
        "plausibility_reason": None,
        "expected_improvement_k": pytest.approx(4.2),  # the predictors' own 8 K is all that is known
        "gain": True,
        "new_system": True,
        "best_nearby": known.formulas[0],
        "best_nearby_tc_k": 3.8,
        "trusted_tc_k": None,
        "tc_k": 8.0,
        "tc_std_k": None,
        "tc_oracle_k": None,
        "tc_oracle_std_k": None,
        "extrapolation": None,
        "extrapolated": None,
        "pareto": None,
        "tc_relaxed_k": 9.0,
        "delta_tc_k": 3.0,
        "ef_ev_per_atom": -2.0,
        "n_atoms": 4,
        "n_elements": 4,
        "neutral": True,
        "pauling": True,
        "ef_negative": True,
        "few_elements": True,
        "plausible": None,
        "neutral_mixed": None,
        "neutral_atoms": None,
        "hydride": None,
        "e_hull_ev_per_atom": None,
        "e_hull_std_ev_per_atom": None,
        "decomposition": None,
        "near_hull": None,
        "structure_stable": None,
        "known": None,
        "measured_tc_k": None,
        "measured_pressure_gpa": None,
        "contradicted": None,
        "made": None,
        "tried": None,
        "passed": True,
        "alloy": False,
        "balanced": True,
        "oxidation_states": "La+3 Ni+2 As-3 O-2",
        "charge_kind": "ionic",
        "charge_nats_per_atom": pytest.approx((0.3 + 0.2 + 0.049) / 4, abs=1e-3),  # Ni2+, As3- and La3+
        "mean_valences": "Ni+2",
        "holes_per_cu": None,
        "undoped": None,
        "tried_nearby": None,
        "tc_given_tried_k": None,
        "nearest_known": known.formulas[0],
        "nearest_tc_k": 3.8,
        "nearest_pressure_gpa": None,
        "nearest_reports": 1,
        "nearest_reference": None,
        "nearest_emd_known": known.formulas[0],
        "nearest_emd_tc_k": 3.8,
        "nearest_emd_pressure_gpa": None,
        "status": "ok",
        "recoveries": 0,
        "seed": 3,
        "row": 3,
        "start_formula": "La0.25Ni0.25As0.25O0.25",
    }


def test_the_pressure_of_a_neighbour_stands_in_its_row(make_result: MakeResult) -> None:
    known = known_of(["H3S", "LaH10"], [203.0, 250.0], pressure_gpa=[155.0, 170.0])
    rows = table_of(
        make_result([("H3S", 190.0, 0.1), ("H4Se", 100.0, 0.1), (None, 0.0, 0.0)]), known
    ).to_pylist()
    assert [row["nearest_known"] for row in rows] == ["H3S", "LaH10", None]
    assert [row["nearest_pressure_gpa"] for row in rows] == [155.0, 170.0, None]
    assert [row["nearest_emd_known"] for row in rows] == ["H3S", "H3S", None]
    assert [row["nearest_emd_tc_k"] for row in rows] == [203.0, 203.0, None]
    assert [row["nearest_emd_pressure_gpa"] for row in rows] == [155.0, 155.0, None]
    assert [row["nearest_emd"] for row in rows] == [0.0, pytest.approx(0.2 + 7 * 0.05), None]
    assert [row["known"] for row in rows] == ["H3S", None, None]


def test_a_known_hydride_does_not_come_first_and_its_pressure_is_told(make_result: MakeResult) -> None:
    known = known_of(["LaH10"], [250.0], pressure_gpa=[170.0])
    spec = SearchSpec(screens={"names": ["hydride"], "rank_by": "tc"})
    rows = [("LaH10", 238.0, -0.1), ("LaH11", 236.0, -0.1), ("YH9", 20.0, -0.1)]
    best = ranked(whole(make_result(rows), spec, known=known), spec.screens).to_pylist()
    assert [(row["formula"], row["known"]) for row in best] == [
        ("YH9", None),
        ("LaH10", "LaH10"),
        ("LaH11", "LaH10"),  # 0.8 % of the atoms away
    ]
    assert (best[1]["measured_tc_k"], best[1]["measured_pressure_gpa"]) == (250.0, 170.0)
    assert best[1]["contradicted"] is None
    first, *others = reasons_of(best[1], None)
    assert "measured at 250 K under 170 GPa" in first.sentence
    assert not any(reason.side == "for" for reason in others)  # no "oracle agrees" of what was measured


def test_what_is_known_made_or_tried_is_named_and_listed_after_what_is_new(make_result: MakeResult) -> None:
    result = make_result(ROWS)
    table = whole(
        result,
        known=known_of(["LaFeAsO0.99F0.01"], [5.0]),
        made=KnownCompositions.of(["LaNiAsO"], names=["COD 1, space group 129"]),
        tried=TriedMaterials.from_table(
            pd.DataFrame({"formula": ["MgCoNi3"], "tc_k": [0.0], "down_to_k": [2]})
        ),
    )
    best = ranked(table).to_pylist()
    assert [(row["formula"], row["known"], row["made"], row["tried"]) for row in best] == [
        ("LaNiAsO", None, "COD 1, space group 129", None),
        ("LaFeAsO", "LaFeAsO0.99F0.01", None, None),
        ("MgCoNi3", None, None, "MgCoNi3: none down to 2 K"),
        ("NaCl2", None, None, None),
    ]


def test_a_row_without_a_formula_has_nulls(make_result: MakeResult) -> None:
    known = known_of(["MgB2"], [39.0])
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


def test_a_cuprate_tells_its_doping(make_result: MakeResult) -> None:
    formulas = ("La1.85Sr0.15CuO4", "La2CuO4", "Nb3Sn", "NaCl2", None)
    rows = table_of(make_result([(formula, 5.0, -1.0) for formula in formulas])).to_pylist()
    assert [row["oxidation_states"] for row in rows] == [
        "Sr+2 La+3 Cu+2*0.85 Cu+3*0.15 O-2",
        "La+3 Cu+2 O-2",
        "metallic",
        None,
        None,
    ]
    assert [row["charge_kind"] for row in rows] == ["ionic", "ionic", "metallic", "ionic", None]
    assert [row["mean_valences"] for row in rows] == ["Cu+2.15", "Cu+2", None, None, None]
    assert [row["holes_per_cu"] for row in rows] == [pytest.approx(0.15), 0.0, None, None, None]
    assert [row["undoped"] for row in rows] == [False, True, None, None, None]
    assert [row["balanced"] for row in rows] == [True, True, True, False, None]
    assert rows[3]["charge_nats_per_atom"] is None


def test_ranked_is_unique_formulas_best_first(make_result: MakeResult) -> None:
    best = ranked(table_of(make_result(ROWS)))
    assert best.schema.equals(schema(), check_metadata=True)
    assert best["formula"].to_pylist() == ["LaFeAsO", "MgCoNi3", "LaNiAsO", "NaCl2"]
    assert best["rank"].to_pylist() == [1, 2, 3, 4]
    assert best["row"].to_pylist() == [4, 5, 1, 0]


def judged(result: SearchResult) -> Any:
    """ROWS with second opinions: LaFeAsO is believed at 12 K, MgCoNi3 at 10 K and LaNiAsO not at all."""
    opinions = {
        "tc_std_k": np.array([9.0, 1.0, 5.0, 1.0]),
        "tc_oracle_k": np.array([89.0, 7.0, 17.0, 12.0]),
        "tc_oracle_std_k": np.ones(4),
        "extrapolation": np.array([0.1, 1.2, 0.9, 0.7]),
    }
    return whole(result, opinions=lambda fractions: opinions)


def test_second_opinions_and_what_they_come_to(make_result: MakeResult) -> None:
    rows = judged(make_result(ROWS)).to_pylist()
    names = (
        "tc_std_k",
        "tc_oracle_k",
        "tc_oracle_std_k",
        "extrapolation",
        "extrapolated",
        "trusted_tc_k",
        "pareto",
    )
    assert [rows[4][name] for name in names] == [5.0, 17.0, 1.0, 0.9, False, 12.0, None]
    assert [rows[1][name] for name in names] == [1.0, 7.0, 1.0, 1.2, True, 0.0, None]
    assert [rows[2][name] for name in names] == [None] * 7  # it has no formula


def test_ranked_by_trust_with_the_pareto_front(make_result: MakeResult) -> None:
    best = ranked(judged(make_result(ROWS)))
    assert best["formula"].to_pylist() == ["LaFeAsO", "MgCoNi3", "LaNiAsO", "NaCl2"]
    assert best["trusted_tc_k"].to_pylist() == [12.0, 10.0, 0.0, 80.0]
    # LaNiAsO is as stable as LaFeAsO, but further out and believed less; NaCl2 didn't pass.
    assert best["pareto"].to_pylist() == [True, True, False, False]
    by_tc = ranked(judged(make_result(ROWS)), ScreensSpec(rank_by="tc"))
    assert by_tc["tc_k"].to_pylist() == [26.0, 11.0, 8.0, 90.0]


def test_without_second_opinions_the_front_is_unknown(make_result: MakeResult) -> None:
    assert ranked(table_of(make_result(ROWS)))["pareto"].null_count == 4


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


def test_plausibility_and_improvement_of_rows(make_result: MakeResult) -> None:
    result = replace(
        make_result(
            [("LaFeAsO", 30.0, -2.0), (None, 0.0, 0.0), ("LaNiAsO", 8.0, -2.0), ("MgB2", 30.0, -0.1)]
        ),
        source=np.array(["family", "family", "swap", "made"], dtype=object),
    )
    known = known_of(["LaFeAsO0.9F0.1", "MgB2"], [26.0, 39.0])
    opinions = {
        "log_plausibility": np.log([0.5, 0.25, 0.8]),
        "existence": np.array([0.6, 0.05, 0.9]),
        "plausibility_reason": ["as it is", "Ni replaced Fe", None],
    }
    table = whole(
        result,
        SearchSpec(screens={"names": ["plausible"]}),
        known=known,
        base=replace(BASE, formula="LaFeAsO0.9F0.1"),
        opinions=lambda fractions: opinions,
    )
    columns = table.to_pydict()
    assert columns["plausibility"] == [pytest.approx(0.5), None, pytest.approx(0.25), pytest.approx(0.8)]
    assert columns["existence"] == [pytest.approx(0.6), None, pytest.approx(0.05), pytest.approx(0.9)]
    assert columns["plausibility_reason"] == ["as it is", None, "Ni replaced Fe", None]
    assert columns["plausible"] == [True, None, False, True]
    assert columns["best_nearby_tc_k"] == [26.0, None, 26.0, 39.0]  # the base counts for LaNiAsO
    assert columns["expected_improvement_k"] == [pytest.approx(4.0), None, 0.0, 0.0]
    assert columns["gain"] == [True, None, False, False]
    best = ranked(table, ScreensSpec(rank_by="improvement", improvement_tc_share=0)).to_pydict()
    assert best["formula"] == ["LaFeAsO", "MgB2", "LaNiAsO"]  # MgB2 is known
    assert ranked(table, ScreensSpec(rank_by="tc"))["formula"].to_pylist() == ["LaFeAsO", "MgB2", "LaNiAsO"]


VALUES = {"string": "FeSe", "double": 8.5, "bool": True, "int32": 1, "int64": 2**62}


def made(rows: int = 3) -> Any:
    full = {column.name: VALUES[str(column.type)] for column in columns().values()}
    empty = dict.fromkeys(full)
    return pa.Table.from_pylist([full if row % 2 == 0 else empty for row in range(rows)], schema=schema())


@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize("as_uri", [False, True])
def test_round_trip_with_descriptions(tmp_path: Path, rows: int, as_uri: bool) -> None:
    path = tmp_path / "candidates.parquet"
    path.write_bytes(table_bytes(made(rows)))
    table = read_table(path.as_uri() if as_uri else path)
    assert table.equals(made(rows))
    for column, field in zip(columns().values(), pq.read_schema(path), strict=True):
        assert field.metadata[b"description"].decode() == column.description
        assert field.metadata[b"unit"].decode() == column.unit


def test_columns_come_back_in_our_order(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(table_bytes(made().select(list(reversed(schema().names)))))
    assert read_table(tmp_path / "t.parquet").schema.names == schema().names


def test_other_tables_are_refused_with_the_column(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    other = made().drop_columns(["tc_k"])
    pq.write_table(other, path)
    with pytest.raises(
        StorageError, match="not a table of candidates of this version: it has no column 'tc_k'"
    ):
        read_table(path)
    with pytest.raises(ValueError, match="no column 'tc_k'"):
        table_bytes(other)
    at = made().schema.get_field_index("seed")
    pq.write_table(made().set_column(at, "seed", pa.array(["a", "b", "c"])), path)
    with pytest.raises(StorageError, match="column 'seed' holds string, not int64"):
        read_table(path)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(table_bytes(made()))
    contents = path.read_bytes()
    for damaged in (b"", b"formula,tc_k\nMgB2,39\n", contents[: len(contents) // 2], contents[:-4]):
        path.write_bytes(damaged)
        with pytest.raises(StorageError, match="not a whole Parquet file") as caught:
            read_table(path)
        assert "\n" not in str(caught.value)


def test_missing_and_unwritable_places(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"can't read .*gone\.parquet: No such file"):
        read_table(tmp_path / "gone.parquet")
    with pytest.raises(StorageError, match=r"can't write .*t\.parquet: No such file or directory"):
        Location.of(tmp_path / "gone" / "t.parquet").write_bytes(table_bytes(made()))
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match=r"can't write .*t\.parquet: Not a directory"):
        Location.of(tmp_path / "file" / "t.parquet").write_bytes(table_bytes(made()))


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
