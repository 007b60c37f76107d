"""/v1/searches: searches as jobs that are submitted, watched, cancelled, and whose candidates are read."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal

import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from kiago_ray.report.plots import SEARCH_PLOTS
from kiago_ray.runs.lease import Lease, LeaseError
from kiago_ray.search.sections import SpecError
from kiago_ray.search.spec import PRESETS, SearchSpec, build_spec
from kiago_ray.service.backend import Asked, Service
from kiago_ray.service.jobs import End, Job, JobStore, search_models
from kiago_ray.service.problems import ProblemError, answered, json_of
from kiago_ray.service.schemas import CandidatePage, JobList, JobView, problems, search_body
from kiago_ray.service.settings import Limits
from kiago_ray.storage.location import Location, StorageError
from kiago_ray.storage.run_directory import CANDIDATES
from kiago_ray.storage.table import read_table

MOST_ROWS = 1000
QUOTA_RETRY_S = 30
POLL_S = 1.0
KEEP_ALIVE_S = 15.0
PARQUET = "application/vnd.apache.parquet"

_SEARCH = '{"base": "LaNiAsO"}'

SearchId = Annotated[str, Path(description="As a submission answered.", max_length=64)]
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_EVENTS = {"text/event-stream": {"schema": {"description": "Events with a JobView in `data`."}}}

router = APIRouter(prefix="/v1/searches", tags=["searches"])


@router.post(
    "",
    status_code=202,
    summary="Start a search",
    response_model=JobView,
    openapi_extra=search_body(),
    responses=problems(415, 422, 504),
)
async def submit(request: Request, response: Response, service: Asked) -> Any:
    """Any fields of a search's specification, over those of a preset. It waits until a worker takes it."""
    limits, backend = service.settings.limits, service.backend
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ProblemError(415, f"{kind[:80] or 'no Content-Type'} can't be read here; send application/json")
    body = await request.body()
    if len(body) > limits.search_body_bytes:
        raise ProblemError(413, f"a search may have {limits.search_body_bytes:,} bytes")
    values = json_of(body, _SEARCH)
    if not isinstance(values, dict):
        raise ProblemError.at("body", f"a search is a mapping of fields, such as {_SEARCH}")
    models = search_models(backend.models)
    spec, preset = await run_in_threadpool(requested_search, values, limits)
    await answered(backend.in_turn(lambda: models.check(spec)), limits.predict_timeout_s)
    job = await run_in_threadpool(_keep, service, request.state.client, spec, preset)
    backend.wake()
    response.headers["Location"] = f"{request.scope.get('root_path', '')}/v1/searches/{job.request.id}"
    try:
        return await run_in_threadpool(_view, service.store, job)
    except StorageError:  # it is kept, so that an error would have the client send it again
        return job_view(job, None)


@router.get("", summary="List searches", responses=problems(422))
def listed(
    service: Asked,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    offset: Annotated[int, Query(ge=0, le=10**6)] = 0,
) -> JobList:
    """Newest first."""
    store = service.store
    ids = store.ids()
    jobs = [store.readable(each) for each in ids[offset : offset + limit]]
    return JobList(
        total=len(ids), searches=[_view(store, job, whole=False) for job in jobs if job is not None]
    )


@router.get("/{search_id}", summary="A search as it stands", responses=problems(404, 422))
def one(search_id: SearchId, service: Asked) -> JobView:
    """With its whole specification and, once it is done, its summary."""
    return _view(service.store, _found(service.store, search_id))


@router.delete(
    "/{search_id}",
    status_code=202,
    summary="Cancel a search",
    responses={200: {"model": JobView, "description": "It had ended before."}, **problems(404, 422)},
)
def cancel(search_id: SearchId, response: Response, service: Asked) -> JobView:
    """It ends at its next step, or when its turn comes. What had ended stays as it is."""
    store = service.store
    job = _found(store, search_id)
    if job.ended:
        response.status_code = 200
        return _view(store, job)
    store.cancel(search_id)
    if job.status.state == "queued":
        with (
            suppress(LeaseError),
            Lease(store.folder(search_id)),
        ):  # else a worker has just begun, and sees it
            store.finish(search_id, End("cancelled"))
    return _view(store, _found(store, search_id))


@router.get(
    "/{search_id}/events",
    summary="Watch a search",
    response_class=Response,
    responses={200: {"content": _EVENTS}, **problems(404, 422)},
)
async def events(search_id: SearchId, service: Asked) -> Response:
    """Server-sent events: `progress`, and `end` as the last. The stream ends after a while: ask again."""
    await run_in_threadpool(_found, service.store, search_id)
    stream = _changes(service.store, search_id, service.settings.limits.stream_s)
    return StreamingResponse(stream, media_type="text/event-stream")


@router.get(
    "/{search_id}/candidates",
    summary="Its candidates, best first",
    response_model=CandidatePage,
    responses={
        200: {"content": {"text/csv": {"schema": {"type": "string"}}, PARQUET: _BINARY}},
        **problems(404, 409, 422),
    },
)
def candidates(
    search_id: SearchId,
    service: Asked,
    limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 100,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
    passed: Annotated[bool, Query(description="Only those that passed every screen.")] = False,
    format: Annotated[
        Literal["json", "csv", "parquet"], Query(description="csv, parquet: all of them, as a file.")
    ] = "json",
) -> Any:
    """Columns as `kiago search` writes them; 409 as long as the search isn't done."""
    table = _result(service.store, search_id) / CANDIDATES
    if format == "json":
        total, rows = candidate_page(table, offset, limit, passed_only=passed)
        return CandidatePage(total=total, offset=offset, limit=limit, candidates=rows)
    named = {"Content-Disposition": f'attachment; filename="kiago-{search_id}.{format}"'}
    if format == "parquet":
        return Response(table.read_bytes(), media_type=PARQUET, headers=named)
    sink = io.BytesIO()
    pa_csv.write_csv(read_table(table), sink)
    return Response(sink.getvalue(), media_type="text/csv", headers=named)


@router.get(
    "/{search_id}/plots/{name}",
    summary="One of its plots",
    response_class=Response,
    responses={200: {"content": {"image/png": _BINARY}}, **problems(404, 409, 422)},
)
def plot(search_id: SearchId, name: Annotated[str, Path(max_length=64)], service: Asked) -> Response:
    """As PNG; `plots` of the search names them."""
    result = _result(service.store, search_id)
    content = (result / name).read_if_there() if name in SEARCH_PLOTS else None
    if content is None:
        raise ProblemError(404, "there is no such plot; the search's `plots` names them")
    return Response(content, media_type="image/png")


def requested_search(values: Mapping[str, Any], limits: Limits) -> tuple[SearchSpec, str]:
    """The specification that a request asks for, as `kiago search` would run it, and its preset's name. Raises
    SpecError: there is no such, or it costs too much.
    """
    preset = values.get("preset", "default")
    if not isinstance(preset, str) or preset not in PRESETS:
        raise SpecError(f"preset: {str(preset)[:40]!r} is none; choose one of {', '.join(PRESETS)}")
    spec = build_spec(values)
    if preset == "substitution" and spec.substitute is None:
        raise SpecError('substitute: this preset needs a site and its oxidation state, such as {"La": 3}')
    steps, price = sum(spec.steps), spec.row_count * sum(spec.steps)
    if spec.row_count > limits.search_candidates:
        raise SpecError(
            f"candidates: {spec.row_count:,} are more than this service's {limits.search_candidates:,}"
        )
    if price > limits.search_row_steps:
        raise SpecError(
            f"candidates: {spec.row_count:,} rows of {steps:,} steps are {price:,} row-steps; this service does "
            f"{limits.search_row_steps:,} a search, so lower candidates or steps"
        )
    if spec.n_unit.max > limits.search_atoms:
        raise SpecError(
            f"n_unit: {spec.n_unit.max:,} atoms are more than this service's {limits.search_atoms:,}"
        )
    return spec, preset


def _keep(service: Service, client: str, spec: SearchSpec, preset: str) -> Job:
    """A new job. Raises ProblemError where there are too many."""
    store, limits = service.store, service.settings.limits
    with service.keeping:  # counting and keeping are one; other replicas count for themselves
        problem = None
        if store.waiting_of(client) >= limits.searches_per_client:
            mine = f"{limits.searches_per_client} searches of yours haven't ended; wait for one, or cancel it"
            problem = 429, mine
        elif len(store.waiting()) >= limits.searches_waiting:
            problem = 429, "too many searches wait; come back later"
        elif len(store.ids()) >= limits.searches_kept and not store.remove_ended():
            problem = 503, "the service keeps no more searches"
        if problem is not None:
            raise ProblemError(*problem, retry_after_s=QUOTA_RETRY_S)
        return store.submit(spec, preset, client, service.settings.search_shard_rows)


def _found(store: JobStore, search_id: str) -> Job:
    job = store.get(search_id)
    if job is None:
        raise ProblemError(404, "there is no such search; GET /v1/searches lists them")
    return job


def _result(store: JobStore, search_id: str) -> Location:
    """Where the results of a search are that is done."""
    job = _found(store, search_id)
    if job.status.state != "done":
        raise ProblemError(409, f"the search is {job.status.state}; it has candidates once it is done")
    return store.result(search_id)


def _view(store: JobStore, job: Job, *, whole: bool = True) -> JobView:
    place = store.place_in_queue(job.request.id) if job.status.state == "queued" else None
    return job_view(job, place, whole=whole)


def job_view(job: Job, place_in_queue: int | None, *, whole: bool = True) -> JobView:
    """A job as clients see it; with `whole` its specification too."""
    request, status = job.request, job.status
    spec, done = request.spec, status.state == "done"
    progress = {
        "done": status.done,
        "total": status.total or sum(spec["steps"]),
        "unit": "steps",
        "phase": "done" if done else status.phase,
    }
    link = f"/v1/searches/{request.id}"
    return JobView(
        **request.model_dump(include={"id", "submitted_at", "preset"}),
        **status.model_dump(include={"state", "started_at", "ended_at", "error", "summary"}),
        base=spec.get("base"),
        candidates=len(spec["start"]["rows"]) or spec["candidates"],
        spec=spec if whole else None,
        progress=progress,
        place_in_queue=place_in_queue,
        links={"self": link, "events": f"{link}/events", "candidates": f"{link}/candidates"},
        plots=list(SEARCH_PLOTS) if done else [],
    )


def candidate_page(
    place: Location, offset: int, limit: int, *, passed_only: bool
) -> tuple[int, list[dict[str, Any]]]:
    """How many candidates a table has, and some of them by rank; NaN is null. Raises StorageError."""
    table = read_table(place)
    if passed_only:
        table = table.filter(pc.fill_null(table["passed"], False))
    rows = table.slice(offset, limit).to_pylist()
    return len(table), [
        {name: None if value != value else value for name, value in row.items()} for row in rows
    ]


async def _changes(store: JobStore, search_id: str, seconds: float) -> AsyncIterator[str]:
    """The job as an event whenever it has moved, until it has ended or the time is over."""
    until, quiet = time.monotonic() + seconds, time.monotonic()
    before, number = "", 0
    yield f"retry: {int(POLL_S * 2000)}\n\n"
    while time.monotonic() < until:
        job = await run_in_threadpool(store.get, search_id)
        if job is None:
            return
        shown = await run_in_threadpool(_view, store, job, whole=False)
        text = json.dumps(shown.model_dump(mode="json"))
        if text != before or job.ended:
            number, before, quiet = number + 1, text, time.monotonic()
            event = "end" if job.ended else "progress"
            yield f"event: {event}\nid: {number}\ndata: {text}\n\n"
        if job.ended:
            return
        if time.monotonic() - quiet > KEEP_ALIVE_S:
            quiet = time.monotonic()
            yield ": still here\n\n"
        await asyncio.sleep(POLL_S)
