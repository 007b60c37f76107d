"""The candidates of a finished search: a page of them, the whole table, its plots."""

from __future__ import annotations

import io
from typing import Any

import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from kiago_ray.report.plots import SEARCH_PLOTS
from kiago_ray.storage.location import Location
from kiago_ray.storage.run_directory import CANDIDATES
from kiago_ray.storage.table import read_table


def page(result: Location, offset: int, limit: int, *, passed_only: bool) -> tuple[int, list[dict[str, Any]]]:
    """How many there are, and some of them, by rank. Raises StorageError."""
    table = read_table(result / CANDIDATES)
    if passed_only:
        table = table.filter(pc.fill_null(table["passed"], False))
    return len(table), [_plain(row) for row in table.slice(offset, limit).to_pylist()]


def parquet(result: Location) -> bytes:
    """All of them as the file that was written. Raises StorageError."""
    return (result / CANDIDATES).read_bytes()


def csv(result: Location) -> bytes:
    """All of them with all columns. Raises StorageError."""
    sink = io.BytesIO()
    pa_csv.write_csv(read_table(result / CANDIDATES), sink)
    return sink.getvalue()


def plot(result: Location, name: str) -> bytes | None:
    """A plot as PNG; None where there is none of this name. Raises StorageError."""
    place = result / name
    return place.read_bytes() if name in SEARCH_PLOTS and place.kind() == "file" else None


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row as JSON can have it: NaN is null."""
    return {name: None if value != value else value for name, value in row.items()}
