"""/v1/runs: what `kiago search`, campaigns and sweeps wrote into a directory of this machine, read only."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field

from kiago_ray.report.plots import CURVES_PLOT, GAINS_PLOT, SEARCH_PLOTS
from kiago_ray.runs.listing import RunLine, listed, run_line
from kiago_ray.service.backend import Asked, Service
from kiago_ray.service.problems import ProblemError, Shape, problems
from kiago_ray.service.searches import MOST_ROWS, PARQUET, CandidatePage, with_dois
from kiago_ray.storage.location import Location, StorageError
from kiago_ray.storage.run_directory import (
    CANDIDATES,
    REPORT,
    SUMMARY,
    TOP,
    RunDirectoryError,
)
from kiago_ray.storage.table import first_rows, opened

MOST_FILE_BYTES = 256 << 20
_NAME = re.compile(r"[^/\\.\0][^/\\\0]{0,200}")
_MOST_NAME_BYTES = 255  # of a directory's name on any disk; a longer one fails as a storage that is gone
_PLOTS = (*SEARCH_PLOTS, GAINS_PLOT, CURVES_PLOT)
_FILES = {CANDIDATES: PARQUET, TOP: "text/csv", REPORT: "text/html"} | dict.fromkeys(_PLOTS, "image/png")

router = APIRouter(prefix="/v1/runs", tags=["runs"])


class RunView(Shape):
    """A run as its files tell; null for what they don't."""

    name: str
    state: str = Field(description="finished, running, how far it is, or what is wrong with it.")
    kind: str | None = Field(
        description="search, baseline, campaign, sweep or paper; null where it can't be read."
    )
    base: str | None
    preset: str | None
    changed_at: float | None = Field(description="Seconds since 1970.")
    rows: int | None = Field(description="Unique formulas.")
    best_tc_k: float | None = Field(description="The highest T_c predicted among those that passed.")


class RunList(Shape):
    """Runs, the latest first, and those that are damaged last."""

    total: int
    left_out: int = Field(description="Directories beyond those that are looked at.")
    runs: list[RunView]


class RunDetail(RunView):
    """A run with what came of it, and the files of it that can be had."""

    summary: dict[str, Any] | None
    files: list[str]


RunName = Annotated[str, Path(description="Its directory's name.", max_length=201)]


def _run(name: str, service: Service) -> tuple[Location, RunLine]:
    """The directory of a run and what it was. Raises ProblemError, 404."""
    runs = service.settings.runs
    if runs is not None and _NAME.fullmatch(name) and len(name.encode()) <= _MOST_NAME_BYTES:
        place = Location.of(runs) / name
        if place.kind() == "directory" and (line := run_line(place)) is not None and line.kind is not None:
            return place, line
    raise ProblemError(404, "there is no such run; GET /v1/runs lists them")


@router.get("", summary="List runs of the command line", responses=problems(422))
def runs(
    service: Asked,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    offset: Annotated[int, Query(ge=0, le=10**6)] = 0,
) -> RunList:
    """Of the directory that the setting `runs` names: the latest first, and what is damaged by name."""
    try:
        where = service.settings.runs
        lines, left_out = ([], 0) if where is None else listed(where, service.runs)
    except RunDirectoryError:  # there are none
        lines, left_out = [], 0
    lines = [line for line in lines if line.state != "no run"]
    shown = [RunView(**asdict(line)) for line in lines[offset : offset + limit]]
    return RunList(total=len(lines), left_out=left_out, runs=shown)


@router.get("/{name}", summary="A run of the command line", responses=problems(404, 422))
def run(name: RunName, service: Asked) -> RunDetail:
    """With its summary, as summary.json has it."""
    place, line = _run(name, service)
    told = (place / SUMMARY).read_mapping()
    own = told.get("summary")
    there = set(place.entries())
    return RunDetail(
        **asdict(line),
        summary=own if isinstance(own, dict) else told or None,
        files=[file for file in _FILES if file in there],
    )


@router.get("/{name}/candidates", summary="Its candidates, best first", responses=problems(404, 409, 422))
def candidates(
    name: RunName, service: Asked, limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 100
) -> CandidatePage:
    """The first by rank; the file candidates.parquet has all."""
    place, _ = _run(name, service)
    table = place / CANDIDATES
    if table.kind() != "file":
        raise ProblemError(409, "this run has no table of candidates")
    try:
        rows = first_rows(table, limit).to_pylist()
        with opened(table) as file:
            total = file.metadata.num_rows
    except StorageError as error:
        raise ProblemError(
            409, "this run's table of candidates is damaged, or another version's; run its command again"
        ) from error
    return CandidatePage(total=total, offset=0, limit=limit, candidates=with_dois(rows))


@router.get(
    "/{name}/files/{file}",
    summary="One of its files",
    response_class=Response,
    responses={
        200: {"content": {kind: {} for kind in sorted(set(_FILES.values()))}},
        **problems(404, 413, 422),
    },
)
def run_file(name: RunName, file: Annotated[str, Path(max_length=64)], service: Asked) -> Response:
    """As it is; `files` of the run names them."""
    place, _ = _run(name, service)
    if file not in _FILES or (place / file).kind() != "file":
        raise ProblemError(404, "there is no such file; the run's `files` names them")
    if place.filesystem.get_file_info((place / file).path).size > MOST_FILE_BYTES:
        raise ProblemError(
            413, f"it is larger than {MOST_FILE_BYTES >> 20} MiB; copy it from the run's directory"
        )
    named = {"Content-Disposition": f'attachment; filename="{file}"'}
    return Response((place / file).read_bytes(), media_type=_FILES[file], headers=named)
