"""Tables and run directories, on this machine's disk or on any filesystem that pyarrow opens."""

from __future__ import annotations

from kiago_ray.storage.assemble import candidates_table, ranked
from kiago_ray.storage.columns import COLUMNS, Column, schema
from kiago_ray.storage.location import Location, StorageError
from kiago_ray.storage.run_directory import RunDirectory, RunDirectoryError, open_run
from kiago_ray.storage.table import read_table, write_table
from kiago_ray.storage.top_csv import top_csv

__all__ = [
    "COLUMNS",
    "Column",
    "Location",
    "RunDirectory",
    "RunDirectoryError",
    "StorageError",
    "candidates_table",
    "open_run",
    "ranked",
    "read_table",
    "schema",
    "top_csv",
    "write_table",
]
