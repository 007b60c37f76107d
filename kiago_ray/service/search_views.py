"""A search as clients see it: the job, and the candidates and plots of one that is done."""

from __future__ import annotations

import io
from typing import Any

import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from kiago_ray.report.plots import SEARCH_PLOTS
from kiago_ray.service.jobs import Job
from kiago_ray.service.schemas import JobView
from kiago_ray.storage.location import Location
from kiago_ray.storage.run_directory import CANDIDATES
from kiago_ray.storage.table import read_table


def job_view(job: Job, place_in_queue: int | None, *, whole: bool) -> JobView:
    """The job; with `whole` its specification too."""
    request, end = job.request, job.end
    given = request.spec
    steps = sum(given["steps"])
    progress = dict(job.progress or {"done": 0, "total": steps, "unit": "steps", "phase": "waiting"})
    if end is not None and end.state == "done":
        progress = {**progress, "done": progress["total"], "phase": "done"}
    link = f"/v1/searches/{request.id}"
    return JobView(
        id=request.id,
        state=job.state,  # type: ignore[arg-type]
        submitted_at=request.submitted_at,
        started_at=job.started_at,
        ended_at=None if end is None else end.at,
        base=given.get("base"),
        preset=request.preset,
        candidates=len(given["start"]["rows"]) or given["candidates"],
        spec=dict(given) if whole else None,
        progress=progress,
        place_in_queue=place_in_queue,
        error=None if end is None else end.error,
        summary=None if end is None or end.summary is None else dict(end.summary),
        links={"self": link, "events": f"{link}/events", "candidates": f"{link}/candidates"},
        plots=list(SEARCH_PLOTS) if end is not None and end.state == "done" else [],
    )


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
