"""A job as clients see it."""

from __future__ import annotations

from kiago_ray.report.plots import SEARCH_PLOTS
from kiago_ray.service.jobs import Job
from kiago_ray.service.schemas import JobView


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
