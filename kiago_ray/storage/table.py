"""Tables of candidates in Parquet files: written whole or not at all, checked when read."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kiago_ray.storage.columns import completed, schema, schema_problem
from kiago_ray.storage.location import Location, StorageError, Where, reason


def write_table(table: Any, where: Where, about: Mapping[str, str] | None = None) -> None:
    """Write a table of candidates; `about` goes into the file's metadata. The directory must exist.

    Raises StorageError, naming the column where the table is not one of candidates.
    """
    place = Location.of(where)
    try:
        content = table_bytes(table, about)
    except ValueError as error:
        raise StorageError(f"can't write {place.text}: {error}") from error
    place.write_bytes(content)


def table_bytes(table: Any, about: Mapping[str, str] | None = None) -> bytes:
    """The Parquet file of a table of candidates. Raises ValueError, naming the column, for another table."""
    problem = schema_problem(table.schema)
    if problem:
        raise ValueError(f"the table is not one of candidates; {problem}")
    described = completed(table).cast(schema()).replace_schema_metadata(dict(about or {}))
    sink = io.BytesIO()
    pq.write_table(described, sink, compression="zstd")
    return sink.getvalue()


def read_table(where: Where) -> Any:
    """The table of candidates in a Parquet file; one of an older version has nulls in the columns that came later.

    Raises StorageError for a file that is missing, isn't Parquet or is cut off, and, naming the column, for a
    table of something else.
    """
    place = Location.of(where)
    try:
        with place.filesystem.open_input_file(place.path) as stream:
            table = pq.ParquetFile(stream).read()
    except pa.ArrowInvalid as error:
        raise StorageError(f"{place.text} is not a whole Parquet file: {reason(error)}") from error
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"can't read {place.text}: {reason(error)}") from error
    problem = schema_problem(table.schema)
    if problem:
        raise StorageError(f"{place.text} is not a table of candidates of this version: {problem}")
    return completed(table)
