"""The files of `kiago structures`: a file a row while it goes on, so that the same command goes on after a kill, and
at the end folders, tables, a page, a README, and a section of the run's page.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from kiago_ray.report.structures import cell_picture, readme, structures_page, structures_section
from kiago_ray.runs.plan import make_plan
from kiago_ray.runs.spec import recorded_campaign
from kiago_ray.screening.screens import SCREENS
from kiago_ray.search.sections import ScreensSpec, validated
from kiago_ray.search.spec import SearchSpec
from kiago_ray.storage.location import Location, StorageError
from kiago_ray.storage.run_directory import (
    REPORT,
    SUMMARY,
    CampaignResults,
    RunDirectory,
    SearchResults,
    read_results,
    summary_json,
)
from kiago_ray.storage.table import columns, csv_text, parquet_bytes
from kiago_ray.structures.inputs import PROGRAMS, input_files
from kiago_ray.structures.proposals import Found, Request

ROWS = "rows"
TABLE, TABLE_CSV, PAGE, README = "structures.parquet", "structures.csv", "structures.html", "README.md"
PICTURE = "cell.png"
STABLE = "structure_stable"
_SECTION = ("<!-- structures -->", "<!-- end of structures -->")  # around it on the page of a run


def screens_of(record: Mapping[str, Any]) -> Mapping[str | None, ScreensSpec]:
    """The screens of a run's searches by the name that its rows give them, None for a search on its own; {} for what
    is neither a search nor a campaign. Raises SpecError.
    """
    if "campaign" in record:
        plan = make_plan(recorded_campaign(record["campaign"]), None, families=record.get("families", ()))
        return {each.name: each.spec.screens for each in plan.searches}
    return {None: validated(SearchSpec, record["search"]).screens} if "search" in record else {}


@dataclass(frozen=True)
class StructureRun:
    """Where structures of rows are kept. candidates: the rows of the run that they are of, joined in the table. of:
    that run, where the structures are in its directory. screens: see `screens_of`.
    """

    location: Location
    requests: Sequence[Request]
    candidates: Sequence[Mapping[str, Any]] = ()
    of: RunDirectory | None = None
    screens: Mapping[str | None, ScreensSpec] = field(default_factory=dict)

    def _row_file(self, at: int) -> Location:
        return self.location / ROWS / f"{at + 1:04d}.json"

    def keep(self, at: int, found: Found) -> None:
        """Write what came of a row, whole or not at all. Raises StorageError."""
        (self.location / ROWS).make_directory()
        told = {
            name: cell and cell.as_dict()
            for name, cell in (("start", found.start), ("relaxed", found.relaxed))
        }
        content = json.dumps({"values": dict(found.values), **told}, default=float)
        self._row_file(at).write_bytes(content.encode())

    def kept(self, at: int) -> Found | None:
        """What came of a row; None where it isn't done, or its file is damaged. Raises StorageError."""
        content = self._row_file(at).read_if_there()
        if content is None:
            return None
        from pymatgen.core.structure import Structure

        try:
            told = json.loads(content)
            start, relaxed = (told[name] and Structure.from_dict(told[name]) for name in ("start", "relaxed"))
            found = Found(told["values"], start, relaxed)
            return found if found.values["formula"] == self.requests[at].formula else None
        except (ValueError, KeyError, TypeError):
            return None

    def finish(self) -> list[dict[str, Any]]:
        """Write folders, tables, pages and README of all rows that are done; return the rows. Raises StorageError."""
        done = [(at, found) for at in range(len(self.requests)) if (found := self.kept(at)) is not None]
        if not done:
            raise StorageError(f"{self.location.text} holds no finished row; run the command again")
        rows, pictures = [self._joined(at, found) for at, found in done], dict[int, bytes]()
        for row, (_, found) in zip(rows, done, strict=True):
            if found.relaxed is None or found.start is None:
                continue
            folder, pictures[row["number"]] = self.location / row["folder"], cell_picture(found.relaxed)
            for name in PROGRAMS:
                (folder / name).make_directory()
            folder.write_all({**input_files(found.relaxed, found.start), PICTURE: pictures[row["number"]]})
        told = columns()[STABLE], *columns("structures").values()
        names = [name for name in rows[0] if any(row[name] is not None for row in rows)]
        self.location.write_all(
            {
                TABLE: parquet_bytes(pa.Table.from_pylist(rows)),
                TABLE_CSV: csv_text(rows, names),
                PAGE: structures_page(rows, pictures),
                README: readme(rows, told),
            }
        )
        if self.of is not None:
            _tell_run(self.of, structures_section(rows, pictures, self.location.name))
        return rows

    def _joined(self, at: int, found: Found) -> dict[str, Any]:
        """A row with the columns of the run's table, its own, and the verdict of the screen; where its search asks for
        that, a row that fails it hasn't passed.
        """
        row = dict(self.candidates[at]) if self.candidates else {}
        own = {name: found.values.get(name) for name in columns("structures")}
        limits = self.screens.get(row.get("search"), ScreensSpec())
        table = pa.table(
            {name: pa.array([own[name]], each.type) for name, each in columns("structures").items()}
        )
        stable = SCREENS[STABLE].verdict(table, limits)[0].as_py()
        if stable is False and STABLE in limits.names:
            row["passed"] = False
        formula = self.requests[at].formula
        name = f"{at + 1:03d}_{re.sub(r'[^A-Za-z0-9.]', '', formula)[:60]}"
        own = {
            "number": at + 1,
            "formula": formula,
            "folder": None if found.relaxed is None else name,
            STABLE: stable,
            **own,
        }
        return {**own, **row, **own}  # its own come first and count, whatever the table has under their names


def _tell_run(run: RunDirectory, section: str) -> None:
    """Write the section on structures into the page of a run that is done, in place of any before."""
    kind: Any = CampaignResults if "campaign" in run.record else SearchResults
    results, page = read_results(run.location, kind), (run.location / REPORT).read_if_there()
    if results is None or page is None or run.record.get("finished") is not True:
        return
    before, begin, rest = page.decode().partition(_SECTION[0])
    _, end, after = rest.partition(_SECTION[1])
    if end:
        content = f"{before}{begin}\n{section}\n{end}{after}".encode()
        outputs = {**results.outputs, REPORT: hashlib.sha256(content).hexdigest()}
        run.location.write_all({REPORT: content, SUMMARY: summary_json(replace(results, outputs=outputs))})
