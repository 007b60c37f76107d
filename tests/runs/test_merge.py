from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from kiago_ray.runs import results
from kiago_ray.runs.results import merge_tables
from kiago_ray.screening.candidates import collect, identity, ranked
from kiago_ray.screening.screens import Summary, apply_screens, summarise
from kiago_ray.search.result import SearchResult
from kiago_ray.search.sections import RankBy, ScreensSpec
from kiago_ray.search.spec import SearchSpec
from kiago_ray.storage.location import Location, StorageError
from kiago_ray.storage.table import candidates_table, parquet_bytes, read_table, schema
from kiago_ray.storage.table import columns as table_columns

Merge = Callable[..., tuple[Any, Summary]]
SYMBOLS = np.array(["Ba", "Ca", "La", "Cu", "Fe", "Ni", "As", "Se", "F", "O"])

BY_TRUSTED = ScreensSpec(rank_by="trusted")


def made_table(rows: int, seed: int, *, formulas: int = 300, first_row: int = 0, search: str = "one") -> Any:
    """Rows as searches leave them: a formula's T_c and verdicts are its own; T_c and trusted T_c have ties, 0 above
    all. One composition in three is written in the order of a base by some rows, in whole numbers by others.
    """
    generator = np.random.default_rng(seed)
    chosen = generator.integers(0, formulas, rows)
    texts, sources, verdicts, tc_k, aims, told, hopes = [], [], [], [], [], [], []
    for number in chosen.tolist():
        own = np.random.default_rng([7, number])
        held = own.choice(SYMBOLS, own.integers(1, 5), replace=False)
        texts.append("".join(f"{symbol}{own.integers(2, 30)}" for symbol in held) + f"H{number + 2}")
        sources.append("family" if number % 3 == 0 and generator.random() < 0.5 else None)
        if number % 3 == 0 and sources[-1] is None:
            texts[-1] = identity(texts[-1])
        hopes.append([own.random(), own.integers(0, 4), own.random() < 0.1, own.random() < 0.1])
        verdicts.append(own.random(2) < 0.6)
        tc_k.append(float(np.float32(max(own.normal(10, 15), 0))) if own.random() < 0.8 else None)
        unknown = tc_k[-1] is None or own.random() < 0.1
        aims.append([np.nan if unknown else own.integers(0, 9), own.integers(-9, 2), own.integers(0, 9)])
        told.append(own.random())
    known = generator.random(rows) > 0.1
    verdict = np.array(verdicts, dtype=bool).reshape(rows, 2)
    columns: dict[str, Any] = {name: [None] * rows for name in table_columns()}
    names = ("trusted_tc_k", "ef_ev_per_atom", "extrapolation")
    columns |= {
        name: pa.array(values, from_pandas=True)
        for name, values in zip(names, np.array(aims, dtype=float).reshape(rows, 3).T, strict=True)
    }
    hope = np.array(hopes, dtype=float).reshape(rows, 4)
    columns |= {
        "plausibility": pa.array(hope[:, 0], mask=~known),
        "expected_improvement_k": pa.array(hope[:, 1], mask=~known),
        "gain": pa.array(hope[:, 2] > 0, mask=~known),
        "undoped": pa.array(hope[:, 3] > 0, mask=~known),
        "source": sources,
        "formula": [text if k else None for text, k in zip(texts, known.tolist(), strict=True)],
        "search": [search] * rows,
        "tc_k": [value if k else None for value, k in zip(tc_k, known.tolist(), strict=True)],
        "neutral": pa.array(verdict[:, 0], mask=~known),
        "ef_negative": pa.array(verdict[:, 1], mask=~known),
        "passed": verdict.all(axis=1) & known,
        "seed": np.zeros(rows, dtype=np.int64),
        "row": np.arange(first_row, first_row + rows),
        "known": ["MgB2" if k and draw < 0.1 else None for k, draw in zip(known.tolist(), told, strict=True)],
        "tried": [
            "MgB2: 39 K" if k and draw > 0.9 else None for k, draw in zip(known.tolist(), told, strict=True)
        ],
        "nearest_distance": pa.array(np.ones(rows), mask=~known),
        "start_formula": [f"start {row}" for row in range(first_row, first_row + rows)],
    }
    return pa.table(columns, schema=schema())


@pytest.fixture
def merged(tmp_path: Path) -> Merge:
    """Write tables, merge their files, read the result, and count it."""

    def go(*tables: Any, name: str = "out", ranking: ScreensSpec | None = None) -> tuple[Any, Summary]:
        places = []
        for number, table in enumerate(tables):
            places.append(Location.of(tmp_path / f"in-{number}.parquet"))
            places[-1].write_bytes(parquet_bytes(table))
        output = Location.of(tmp_path / f"{name}.parquet")
        merge_tables(places, output, ranking or BY_TRUSTED)
        out = read_table(output)
        return out, summarise(out, rows=sum(map(len, tables)), statuses={}, required=())

    return go


def shards_of(table: Any, *cuts: int) -> list[Any]:
    edges = [0, *cuts, len(table)]
    return [table.slice(a, b - a) for a, b in pairwise(edges)]


@pytest.mark.parametrize("block_rows", [1, 7, 100, 65_536])
@pytest.mark.parametrize("run_rows", [1, 50, 131_072])
def test_shards_of_a_search_give_what_ranked_makes_of_all_rows(
    merged: Merge, monkeypatch: pytest.MonkeyPatch, block_rows: int, run_rows: int
) -> None:
    monkeypatch.setattr(results, "_RUN_ROWS", run_rows)
    table = made_table(500, seed=1)
    monkeypatch.setattr(results, "BLOCK_ROWS", block_rows)
    out, done = merged(*shards_of(table, 3, 3, 130, 400))
    expected = ranked(table)
    assert out.equals(expected)
    assert out.schema.equals(schema(), check_metadata=True)
    assert done.unique == len(expected) < 300
    assert done.passed == sum(expected["passed"].to_pylist())
    assert done.known == len(expected) - expected["known"].null_count > 0
    assert done.screens["neutral"] == sum(value is True for value in expected["neutral"].to_pylist())


@pytest.mark.parametrize("rank_by", ["improvement", "plausibility", "trusted", "tc"])
def test_the_order_and_the_front_are_those_of_ranked(merged: Merge, rank_by: RankBy) -> None:
    table = made_table(500, seed=6)
    out, _ = merged(*shards_of(table, 250), ranking=ScreensSpec(rank_by=rank_by))
    expected = ranked(table, ScreensSpec(rank_by=rank_by))
    assert out.equals(expected)
    assert 1 < sum(out["pareto"].fill_null(False).to_pylist()) < 40
    assert 0 < out["pareto"].null_count == out["trusted_tc_k"].null_count < len(out)
    trusted = ranked(table)["formula"].to_pylist()
    assert (out["formula"].to_pylist() == trusted) == (rank_by == "trusted")


def test_a_composition_that_two_searches_write_in_two_ways_is_one(merged: Merge) -> None:
    table = made_table(500, seed=6)
    out, done = merged(*shards_of(table, 250))
    formulas = table.filter(pc.is_valid(table["formula"]))["formula"].to_pylist()
    assert done.unique == len({identity(text) for text in formulas}) < len(set(formulas))
    assert {identity(text) for text in formulas} == set(map(identity, out["formula"].to_pylist()))


def test_gains_and_what_is_left_out_are_counted(merged: Merge) -> None:
    out, done = merged(
        made_table(500, seed=6), ranking=ScreensSpec(rank_by="improvement", improvement_tc_share=0)
    )
    new = [row for row in out.to_pylist() if row["passed"] and row["known"] is row["tried"] is None]
    assert done.gains == sum(row["gain"] for row in new) > 0
    assert done.left_out == done.passed - len(new) > 0
    first = out.slice(0, 1).to_pylist()[0]
    assert (first["gain"], first["undoped"]) == (True, False)


def test_the_front_is_that_of_the_merged_table(merged: Merge) -> None:
    one, other = (made_table(200, seed=seed, search=str(seed)) for seed in (7, 8))
    fronts = [
        set(ranked(each).filter(ranked(each)["pareto"].fill_null(False))["formula"].to_pylist())
        for each in (one, other)
    ]
    out, _ = merged(ranked(one), ranked(other))
    front = set(out.filter(out["pareto"].fill_null(False))["formula"].to_pylist())
    assert front < fronts[0] | fronts[1]
    assert front != fronts[0]


def test_judged_rows_of_a_search(make_result: Callable[..., SearchResult], merged: Merge) -> None:
    result = make_result(
        [("NaCl2", 90.0, -1.0), ("LaNiAsO", 8.0, -2.0), (None, 0.0, 0.0), ("La2Ni2As2O2", 8.0, -2.0)]
    )
    spec = SearchSpec(screens={"names": ["neutral"]})
    table = candidates_table(apply_screens(collect(result, spec, seed=3), spec.screens))
    out, done = merged(*shards_of(table, 2))
    assert out.equals(ranked(table))
    assert list(done.screens) == [
        "neutral",
        "pauling",
        "ef_negative",
        "few_elements",
        "balanced",
    ]


def test_the_bytes_do_not_depend_on_how_rows_are_spread(
    merged: Merge, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = made_table(500, seed=2)
    monkeypatch.setattr(results, "BLOCK_ROWS", 64)
    merged(table, name="one")
    monkeypatch.setattr(results, "_RUN_ROWS", 40)
    monkeypatch.setattr(results, "_MOST_PARTS", 2)
    merged(*shards_of(table, 100, 101, 350), name="many")
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "many.parquet").read_bytes()
    assert pq.ParquetFile(tmp_path / "one.parquet").metadata.row_group(0).num_rows == 64


def few_rows(rows: list[tuple[str, bool, float, int]], search: str) -> Any:
    formulas, passed, tc_k, number = zip(*rows, strict=True)
    columns: dict[str, Any] = {name: [None] * len(rows) for name in table_columns()}
    columns |= {"formula": [text or None for text in formulas], "passed": passed, "tc_k": tc_k, "row": number}
    columns |= {"search": [search] * len(rows), "seed": [0] * len(rows)}
    return pa.table(columns, schema=schema())


def test_of_several_searches_the_first_that_passed_stands(merged: Merge) -> None:
    a = few_rows([("FeSe", False, 9.0, 5), ("MgB2", True, 30.0, 9), ("MgB2", True, 31.0, 2)], "a")
    b = few_rows([("FeSe", True, 8.0, 7), ("MgB2", True, 40.0, 0), ("", True, 99.0, 1)], "b")
    out, done = merged(a, b)
    assert out.select(["rank", "formula", "search", "row", "tc_k"]).to_pylist() == [
        {"rank": 1, "formula": "MgB2", "search": "a", "row": 2, "tc_k": 31.0},
        {"rank": 2, "formula": "FeSe", "search": "b", "row": 7, "tc_k": 8.0},
    ]
    assert done.unique == 2


def test_a_merged_table_merges_to_itself(merged: Merge) -> None:
    table, _ = merged(*shards_of(made_table(400, seed=3), 200))
    again, _ = merged(table, name="again")
    assert again.equals(table)


def test_empty_inputs_and_null_columns(merged: Merge) -> None:
    empty = schema().empty_table()
    table = made_table(60, seed=4)
    assert merged(empty, table, empty)[0].equals(ranked(table))
    columns = {name: pa.nulls(3, schema().field(name).type) for name in table_columns()}
    nulls = pa.table({**columns, "passed": [False] * 3, "row": [0, 1, 2]}, schema=schema())
    for tables in ((), (empty,), (nulls,)):
        out, done = merged(*tables)
        assert out.equals(empty)
        assert done.unique == 0
        assert list(done.screens) == [
            "neutral",
            "pauling",
            "ef_negative",
            "few_elements",
            "balanced",
        ]
    unknown = nulls.set_column(1, schema().field(1), pa.array(["NaCl", "KCl", "NaCl"]))
    out, done = merged(unknown)
    assert out["formula"].to_pylist() == ["KCl", "NaCl"]
    assert not done.passed
    assert done.known is None


def test_near_hull_counts_where_it_was_judged(merged: Merge) -> None:
    table = made_table(50, seed=5)
    judged = pa.array([None, True] * 25)
    at = schema().get_field_index("near_hull")
    out, done = merged(table.set_column(at, schema().field(at), judged))
    assert done.screens["near_hull"] == sum(value is True for value in out["near_hull"].to_pylist()) > 0


def test_no_temporary_file_stays(merged: Merge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    merged(made_table(50, seed=6))
    assert list(scratch.iterdir()) == []


def test_a_damaged_input_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch, output = tmp_path / "scratch", tmp_path / "out.parquet"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    output.write_bytes(b"old")
    good, bad = Location.of(tmp_path / "good.parquet"), Location.of(tmp_path / "bad.parquet")
    good.write_bytes(parquet_bytes(made_table(50, seed=7)))
    content = Path(good.path).read_bytes()
    for damaged, message in (
        (content[: len(content) // 2], "bad.parquet is not a whole Parquet file"),
        (content[:4] + bytes(2000) + content[2004:], "bad.parquet"),  # the footer is whole, a page isn't
    ):
        Path(bad.path).write_bytes(damaged)
        with pytest.raises(StorageError, match=message):
            merge_tables([good, bad], Location.of(output), BY_TRUSTED)
        assert output.read_bytes() == b"old"
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "bad.parquet",
            "good.parquet",
            "out.parquet",
            "scratch",
        ]
        assert list(scratch.iterdir()) == []
    pq.write_table(pa.table({"formula": ["NaCl"]}), bad.path)
    with pytest.raises(StorageError, match=r"bad.parquet is not a table of candidates.*no column 'rank'"):
        merge_tables([good, bad], Location.of(output), BY_TRUSTED)
    with pytest.raises(StorageError, match=r"can't read .*gone.parquet: No such file"):
        merge_tables([Location.of(tmp_path / "gone.parquet")], Location.of(output), BY_TRUSTED)


def test_a_scratch_directory_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(StorageError, match=r"can't write temporary files to .*none: No such file.*TMPDIR"):
        merge_tables([], Location.of(tmp_path / "out.parquet"), BY_TRUSTED)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_scratch_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in.parquet").write_bytes(parquet_bytes(made_table(50, seed=8)))
    os.symlink("/dev/full", tmp_path / "0.arrow")
    monkeypatch.setattr(tempfile, "TemporaryDirectory", lambda **_: nullcontext(str(tmp_path)))
    with pytest.raises(StorageError, match=r"can't write temporary files.*No space left.*TMPDIR"):
        merge_tables(
            [Location.of(tmp_path / "in.parquet")], Location.of(tmp_path / "out.parquet"), BY_TRUSTED
        )
    assert not (tmp_path / "out.parquet").exists()
