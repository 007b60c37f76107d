"""Parts of a table of candidates: blocks, the first rows, a few columns. The whole of a large one is never held."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kiago_ray.screening.summary import BestRows
from kiago_ray.storage.columns import COLUMN_NAMES, completed, schema, schema_problem
from kiago_ray.storage.location import Location, StorageError, reason

_HASH_BYTES = 1 << 20


def blocks(place: Location, columns: Sequence[str] = COLUMN_NAMES) -> Iterator[Any]:
    """The rows of a table's file, one table a row group, with these columns.

    Raises StorageError as `read_table` does.
    """
    described = _fields(columns)
    with _opened(place) as file:
        there = [name for name in columns if name in file.schema_arrow.names]
        for group in range(file.num_row_groups):
            yield completed(file.read_row_group(group, columns=there), columns).cast(described)


def read_columns(place: Location, columns: Sequence[str]) -> Any:
    """All rows of a table's file with these columns alone. Raises StorageError as `read_table` does."""
    return pa.concat_tables([_fields(columns).empty_table(), *blocks(place, columns)])


def first_rows(place: Location, rows: int) -> Any:
    """The first rows of a table's file, all columns. Raises StorageError as `read_table` does."""
    head = [schema().empty_table()]
    for block in blocks(place):
        head.append(block.slice(0, rows - sum(map(len, head))))
        if sum(map(len, head)) >= rows:
            break
    return pa.concat_tables(head)


def best_rows(head: Any) -> BestRows:
    """Those of a ranked table's first rows that passed, as counting needs them."""
    passed = head.filter(head["passed"])
    numbers = [each.name for each in fields(BestRows) if each.name not in ("formulas", "known", "sources")]
    values = {name: passed[name].to_numpy() for name in numbers}
    known = pc.is_valid(passed["known"]).to_numpy()
    sources = tuple(passed["source"].to_pylist())
    return BestRows(tuple(passed["formula"].to_pylist()), **values, known=known, sources=sources)


def file_sha256(place: Location) -> str:
    """SHA-256 of a file, read piece by piece. Raises StorageError."""
    digest = hashlib.sha256()
    try:
        with place.filesystem.open_input_stream(place.path) as stream:
            while piece := stream.read(_HASH_BYTES):
                digest.update(piece)
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"can't read {place.text}: {reason(error)}") from error
    return digest.hexdigest()


def _fields(columns: Sequence[str]) -> Any:
    every = schema()
    return pa.schema([every.field(name) for name in columns])


@contextmanager
def _opened(place: Location) -> Iterator[Any]:
    try:
        with place.filesystem.open_input_file(place.path) as stream:
            file = pq.ParquetFile(stream, pre_buffer=True)
            problem = schema_problem(file.schema_arrow)
            if problem:
                raise StorageError(f"{place.text} is not a table of candidates of this version: {problem}")
            yield file
    except pa.ArrowInvalid as error:
        raise StorageError(f"{place.text} is not a whole Parquet file: {reason(error)}") from error
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"can't read {place.text}: {reason(error)}") from error
