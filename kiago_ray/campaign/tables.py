"""Parts of a table of candidates: blocks, the first rows, a few columns. The whole of a large one is never held."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from kiago_ray.screening.summary import BestRows
from kiago_ray.storage.columns import columns, schema
from kiago_ray.storage.location import Location, StorageError, reason
from kiago_ray.storage.table import opened

_HASH_BYTES = 1 << 20


def blocks(place: Location, names: Sequence[str] | None = None) -> Iterator[Any]:
    """The rows of a table's file, one table a row group, with these columns; with all of them by default.

    Raises StorageError as `read_table` does.
    """
    described = _fields(list(columns()) if names is None else names)
    with opened(place) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, described.names).select(described.names).cast(described)


def read_columns(place: Location, names: Sequence[str]) -> Any:
    """All rows of a table's file with these columns alone. Raises StorageError as `read_table` does."""
    return pa.concat_tables([_fields(names).empty_table(), *blocks(place, names)])


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


def _fields(names: Sequence[str]) -> Any:
    every = schema()
    return pa.schema([every.field(name) for name in names])
