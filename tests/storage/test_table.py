from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kiago_ray.storage.columns import columns, schema
from kiago_ray.storage.location import StorageError
from kiago_ray.storage.table import read_table, write_table

VALUES = {"string": "FeSe", "double": 8.5, "bool": True, "int32": 1, "int64": 2**62}


def made(rows: int = 3) -> Any:
    full = {column.name: VALUES[str(column.type)] for column in columns().values()}
    empty = dict.fromkeys(full)
    return pa.Table.from_pylist([full if row % 2 == 0 else empty for row in range(rows)], schema=schema())


@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize("as_uri", [False, True])
def test_round_trip_with_descriptions(tmp_path: Path, rows: int, as_uri: bool) -> None:
    path = tmp_path / "candidates.parquet"
    write_table(made(rows), path.as_uri() if as_uri else path, {"search": "LaNiAsO"})
    table = read_table(path)
    assert table.equals(made(rows))
    for column, field in zip(columns().values(), pq.read_schema(path), strict=True):
        assert field.metadata[b"description"].decode() == column.description
        assert field.metadata[b"unit"].decode() == column.unit
    assert pq.read_metadata(path).metadata[b"search"] == b"LaNiAsO"
    assert [entry.name for entry in tmp_path.iterdir()] == ["candidates.parquet"]


def test_columns_come_back_in_our_order(tmp_path: Path) -> None:
    write_table(made().select(list(reversed(schema().names))), tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").schema.names == schema().names


def test_other_tables_are_refused_with_the_column(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    other = made().drop_columns(["tc_k"])
    with pytest.raises(StorageError, match=r"can't write .*t\.parquet.*no column 'tc_k'"):
        write_table(other, path)
    assert not path.exists()
    pq.write_table(other, path)
    with pytest.raises(
        StorageError, match="not a table of candidates of this version: it has no column 'tc_k'"
    ):
        read_table(path)
    at = made().schema.get_field_index("seed")
    pq.write_table(made().set_column(at, "seed", pa.array(["a", "b", "c"])), path)
    with pytest.raises(StorageError, match="column 'seed' holds string, not int64"):
        read_table(path)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_table(made(), path)
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
        write_table(made(), tmp_path / "gone" / "t.parquet")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match=r"can't write .*t\.parquet: Not a directory"):
        write_table(made(), tmp_path / "file" / "t.parquet")
