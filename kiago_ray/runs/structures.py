"""The files of `kiago structures`: a file a row while it goes on, so that the same command goes on after a kill, and
at the end folders, tables, a page and a README.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import pandas as pd
import pyarrow as pa

from kiago_ray.report.structures import cell_picture, readme, structures_page
from kiago_ray.storage.location import Location, StorageError
from kiago_ray.storage.table import as_text, parquet_bytes
from kiago_ray.structures.inputs import input_files
from kiago_ray.structures.proposals import Found, Request

ROWS = "rows"
TABLE, TABLE_CSV, PAGE, README = "structures.parquet", "structures.csv", "structures.html", "README.md"
PICTURE = "cell.png"


@cache
def columns() -> tuple[dict[str, str], ...]:
    """The columns of `structures.csv` in their order: name, unit, decimals and description of each."""
    text = (resources.files("kiago_ray.structures") / "columns.csv").read_text("utf-8")
    return tuple(csv.DictReader(io.StringIO(text)))


@dataclass(frozen=True)
class StructureRun:
    """Where structures of rows are kept. candidates: the rows of the run that they are of, joined in the table."""

    location: Location
    requests: Sequence[Request]
    candidates: Sequence[Mapping[str, Any]] = ()

    def _row_file(self, at: int) -> Location:
        return self.location / ROWS / f"{at + 1:04d}.json"

    def keep(self, at: int, found: Found) -> None:
        """Write what came of a row, whole or not at all. Raises StorageError."""
        (self.location / ROWS).make_directory()
        told = {
            "values": dict(found.values),
            "notes": list(found.notes),
            "start": None if found.start is None else found.start.as_dict(),
            "relaxed": None if found.relaxed is None else found.relaxed.as_dict(),
        }
        self._row_file(at).write_bytes(json.dumps(told, default=float).encode())

    def kept(self, at: int) -> Found | None:
        """What came of a row; None where it isn't done, or its file is damaged. Raises StorageError."""
        content = self._row_file(at).read_if_there()
        if content is None:
            return None
        from pymatgen.core.structure import Structure

        try:
            told = json.loads(content)
            values = told["values"]
            if values["formula"] != self.requests[at].formula:
                return None
            start, relaxed = (
                None if told[name] is None else Structure.from_dict(told[name])
                for name in ("start", "relaxed")
            )
        except (ValueError, KeyError, TypeError):
            return None
        return Found(values, start, relaxed, values.get("error"), told["notes"])

    def finish(self) -> list[Found]:
        """Write folders, tables, page and README of all rows that are done; return these. Raises StorageError."""
        done = [(at, found) for at in range(len(self.requests)) if (found := self.kept(at)) is not None]
        if not done:
            raise StorageError(f"{self.location.text} holds no finished row; run the command again")
        pictures: dict[int, bytes] = {}
        for at, found in done:
            if found.relaxed is None or found.start is None:
                continue
            folder = self.location / self.folder(at)
            for name, text in input_files(found.relaxed, found.start).items():
                parent = folder / name.rpartition("/")[0] if "/" in name else folder
                parent.make_directory()
                (folder / name).write_bytes(text.encode())
            pictures[at] = cell_picture(found.relaxed)
            (folder / PICTURE).write_bytes(pictures[at])
        rows = [self._joined(at, found) for at, found in done]
        self.location.write_all(
            {
                TABLE: parquet_bytes(pa.Table.from_pandas(pd.DataFrame(rows), preserve_index=False)),
                TABLE_CSV: _csv(rows),
                PAGE: structures_page(rows, {at: pictures[at] for at in list(pictures)[:50]}, columns()),
                README: readme(rows, columns()),
            }
        )
        return [found for _, found in done]

    def folder(self, at: int) -> str:
        """The name of a row's folder."""
        return f"{at + 1:03d}_{re.sub(r'[^A-Za-z0-9.]', '', self.requests[at].formula)[:60]}"

    def _joined(self, at: int, found: Found) -> dict[str, Any]:
        """A row's own columns, the folder and the columns of the run's table."""
        own = {column["name"]: found.values.get(column["name"]) for column in columns()}
        folder = self.folder(at) if found.relaxed is not None else None
        run = dict(self.candidates[at]) if self.candidates else {}
        return {"number": at + 1, **own, "folder": folder} | {
            name: value for name, value in run.items() if name not in own
        }


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows with as many digits as mean something, yes and no for verdicts."""
    decimals = {column["name"]: column["decimals"] for column in columns()}
    names = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([shown(row[name], decimals.get(name, "")) for name in names])
    return text.getvalue()


def shown(value: Any, decimals: str = "") -> str:
    """A value as a table shows it."""
    if value != value:
        return ""
    return as_text(value, f"{{:z.{decimals}f}}" if decimals and isinstance(value, float) else "{}")
