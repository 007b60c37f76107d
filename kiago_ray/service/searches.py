"""/v1/searches: searches as jobs that are submitted, watched, cancelled, and whose candidates are read."""

from __future__ import annotations

import io
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, suppress
from functools import partial
from typing import Annotated, Any, Literal

import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from kiago_ray.data.references import doi_of
from kiago_ray.report.plots import SEARCH_PLOTS, SECTION_PLOT
from kiago_ray.runs.lease import Lease, LeaseError
from kiago_ray.search.sections import SpecError
from kiago_ray.search.spec import PRESETS, SearchSpec, build_spec
from kiago_ray.service.backend import Asked, Service
from kiago_ray.service.board import POLL_S
from kiago_ray.service.jobs import Job, JobStore, State, owner_of
from kiago_ray.service.problems import ProblemError, Shape, json_of, problems
from kiago_ray.service.settings import Limits
from kiago_ray.service.tokens import sees_all
from kiago_ray.storage.location import Location, StorageError
from kiago_ray.storage.run_directory import CANDIDATES
from kiago_ray.storage.table import read_table

MOST_ROWS = 1000
QUOTA_RETRY_S = 30
PARQUET = "application/vnd.apache.parquet"

_SEARCH = '{"base": "LaNiAsO"}'
_BINARY = {"schema": {"type": "string", "format": "binary"}}

router = APIRouter(prefix="/v1/searches", tags=["searches"])


class JobView(Shape):
    """A search as it stands."""

    id: str
    owner: str = Field(description="The name of the token that it was submitted with; empty without one.")
    state: State
    submitted_at: str
    started_at: str | None
    ended_at: str | None
    base: str | None
    preset: str
    candidates: int
    spec: dict[str, Any] | None = Field(description="The whole specification; null in lists and streams.")
    progress: dict[str, Any] = Field(description="done of total steps, and phase.")
    place_in_queue: int | None
    error: str | None
    summary: dict[str, Any] | None
    links: dict[str, str]
    plots: list[str]


class JobList(Shape):
    """Searches, newest first."""

    total: int
    searches: list[JobView]


class CandidatePage(Shape):
    """Some candidates, by rank; columns as in candidates.parquet, and nearest_doi, that of nearest_reference."""

    total: int
    offset: int
    limit: int
    candidates: list[dict[str, Any]]


SearchId = Annotated[str, Path(description="As a submission answered.", max_length=64)]


def found_job(search_id: SearchId, request: Request, service: Asked) -> Job:
    """The search that a path names, of who asks. Raises ProblemError, 404."""
    owner = request.state.owner
    mine = sees_all(owner) or owner_of(search_id) == owner
    job = service.store.get(search_id) if mine else None
    if job is None:
        raise ProblemError(404, "there is no such search; GET /v1/searches lists them")
    return job


Found = Annotated[Job, Depends(found_job)]
"""The parameter by which a route gets the search of its path."""


class Events(EventSourceResponse):
    """Server-sent events. media_type is the type of the route's problems in the API's description alone."""

    media_type = "application/json"


def search_body() -> dict[str, Any]:
    """The body that asks for a search: any fields of a specification over those of a preset."""
    schema = SearchSpec.model_json_schema()
    sections = schema.pop("$defs", {})
    schema["properties"] = {"preset": {"enum": list(PRESETS), "default": "default"}, **schema["properties"]}
    example = {"base": "LaNiAsO", "candidates": 64, "steps": [100, 100]}
    content = {"application/json": {"schema": _inlined(schema, sections), "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def _inlined(value: Any, sections: dict[str, Any]) -> Any:
    """A schema without references, and with no field required: what is missing is the preset's."""
    if isinstance(value, list):
        return [_inlined(each, sections) for each in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        return _inlined(sections[value["$ref"].rpartition("/")[2]], sections)
    kept = {key: each for key, each in value.items() if (key, type(each)) != ("required", list)}
    return {key: _inlined(each, sections) for key, each in kept.items()}


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
    models = backend.models
    spec, preset = await run_in_threadpool(requested_search, values, limits)
    await service.answered(backend.in_turn(lambda: models.check(spec)))
    job = await run_in_threadpool(_keep, service, request, spec, preset)
    backend.wake()
    response.headers["Location"] = f"{request.scope.get('root_path', '')}/v1/searches/{job.request.id}"
    try:
        return _view(job, await run_in_threadpool(_place, job, service.store))
    except StorageError:  # it is kept, so that an error would have the client send it again
        return _view(job)


@router.get("", summary="List searches", responses=problems(422))
def listed(
    request: Request,
    service: Asked,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    offset: Annotated[int, Query(ge=0, le=10**6)] = 0,
) -> JobList:
    """Newest first; those of the token's name, where it has one."""
    store, owner = service.store, request.state.owner
    ids = store.ids() if sees_all(owner) else store.ids_of(owner)
    jobs = list(store.readable(ids[offset : offset + limit]))
    places = {} if all(job.ended for job in jobs) else store.queue()
    searches = [_view(job, places.get(job.request.id), whole=False) for job in jobs]
    return JobList(total=len(ids), searches=searches)


@router.get("/{search_id}", summary="A search as it stands", responses=problems(404, 422))
def one(job: Found, service: Asked) -> JobView:
    """With its whole specification and, once it is done, its summary."""
    return _view(job, _place(job, service.store))


@router.delete(
    "/{search_id}",
    status_code=202,
    summary="Cancel a search",
    responses={200: {"model": JobView, "description": "It had ended before."}, **problems(404, 422)},
)
def cancel(job: Found, request: Request, response: Response, service: Asked) -> JobView:
    """It ends at its next step, or when its turn comes. What had ended stays as it is."""
    store, search_id = service.store, job.request.id
    if job.ended:
        response.status_code = 200
        return _view(job)
    store.cancel(search_id)
    if job.status.state == "queued":
        # Else a worker has just begun, and sees it.
        with suppress(LeaseError), Lease(store.folder(search_id)):
            store.finish(search_id, "cancelled")
    job = found_job(search_id, request, service)
    return _view(job, _place(job, store))


@router.get(
    "/{search_id}/events",
    summary="Watch a search",
    response_class=Events,
    responses=problems(404, 422),
)
async def events(job: Found, service: Asked) -> AsyncIterator[JobView]:
    """Server-sent events: `progress`, and `end` as the last. The stream ends after a while: ask again."""
    until, before = time.monotonic() + service.settings.limits.stream_s, None
    async with aclosing(service.board.watch(job.request.id)) as looks:
        async for seen in looks:
            shown = None if seen is None else _view(*seen, whole=False)
            ended = seen is not None and seen[0].ended
            if shown is not None and shown != before:
                name, retry_ms = "end" if ended else "progress", int(POLL_S * 2000)
                yield ServerSentEvent(data=shown, event=name, retry=retry_ms)  # type: ignore[misc] # around a JobView
                before = shown
            if ended or time.monotonic() > until:
                return


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
    job: Found,
    service: Asked,
    limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 100,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
    passed: Annotated[bool, Query(description="Only those that passed every screen.")] = False,
    format: Annotated[
        Literal["json", "csv", "parquet"], Query(description="csv, parquet: all of them, as a file.")
    ] = "json",
) -> Any:
    """Columns as `kiago search` writes them; 409 as long as the search isn't done."""
    table = _result(service.store, job) / CANDIDATES
    if format == "json":
        return candidate_page(table, offset, limit, passed_only=passed)
    named = {"Content-Disposition": f'attachment; filename="kiago-{job.request.id}.{format}"'}
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
def plot(job: Found, name: Annotated[str, Path(max_length=64)], service: Asked) -> Response:
    """As PNG; `plots` of the search names them."""
    result = _result(service.store, job)
    content = (result / name).read_if_there() if name in SEARCH_PLOTS else None
    if content is None:
        raise ProblemError(404, "there is no such plot; the search's `plots` names them")
    return Response(content, media_type="image/png")


def requested_search(values: Mapping[str, Any], limits: Limits) -> tuple[SearchSpec, str]:
    """The specification that a request asks for, as `kiago search` has it, and its preset. Raises SpecError."""
    preset = values.get("preset", "default")
    if not isinstance(preset, str) or preset not in PRESETS:
        raise SpecError(f"preset: {str(preset)[:40]!r} is none; choose one of {', '.join(PRESETS)}")
    spec = build_spec(values)
    if preset == "substitution" and spec.substitute is None:
        raise SpecError('substitute: this preset needs a site and its oxidation state, such as {"La": 3}')
    rows, steps, more, atoms = spec.row_count, sum(spec.steps), formula_steps(spec), spec.n_unit.max
    price = rows * (steps + more)
    priced = f"candidates: {rows:,} rows of {steps:,} steps, and {more} for each one's formula, are {price:,}"
    for asked, most, told in (
        (rows, limits.search_candidates, f"candidates: {rows:,}"),
        (price, limits.search_row_steps, f"{priced} row-steps, which"),
        (atoms, limits.search_atoms, f"n_unit: {atoms:,} atoms"),
    ):
        if asked > most:
            raise SpecError(f"{told} are more than this service's {most:,}; ask for fewer")
    return spec, preset


def formula_steps(spec: SearchSpec) -> int:
    """The steps that take as long as a row's projection and what is found out about its formula.

    As measured in CPU time with all elements and 200 atoms: a step takes 1 ms; the nearest formula and its values 10,
    the best of the near ones 30, of the neutral ones 50, and with mixed valence up to 500 (24 with seven elements).
    """
    projection = spec.projection
    if projection.kind != "best":
        return 10
    if not projection.neutral:
        return 30
    return 500 if spec.charge.mixed_valence else 50


def _keep(service: Service, request: Request, spec: SearchSpec, preset: str) -> Job:
    """A new job of who asks. Raises ProblemError where there are too many."""
    store, limits = service.store, service.settings.limits
    client, owner = request.state.client, request.state.owner
    with service.keeping:  # counting and keeping are one; other replicas count for themselves
        refused = partial(ProblemError, retry_after_s=QUOTA_RETRY_S)
        if store.waiting_of(client) >= limits.searches_per_client:
            mine = f"{limits.searches_per_client} searches of yours haven't ended; wait for one, or cancel it"
            raise refused(429, mine)
        if len(store.waiting()) >= limits.searches_waiting:
            raise refused(429, "too many searches wait; come back later")
        if len(store.ids_of(owner)) >= limits.searches_kept and not store.remove_ended(owner):
            raise refused(503, "the service keeps no more searches")
        return store.submit(spec, preset, client, service.settings.search_shard_rows, owner=owner)


def _result(store: JobStore, job: Job) -> Location:
    """Where the results of a search are that is done. Raises ProblemError, 409."""
    if job.status.state != "done":
        raise ProblemError(409, f"the search is {job.status.state}; it has candidates once it is done")
    return store.result(job.request.id)


def _place(job: Job, store: JobStore) -> int | None:
    """A job's place in the queue; None where it doesn't wait there. Raises StorageError."""
    return store.queue().get(job.request.id) if job.status.state == "queued" else None


def _view(job: Job, place: int | None = None, *, whole: bool = True) -> JobView:
    """A job as clients see it, with its place in the queue; with `whole` its specification too."""
    request, status, spec = job.request, job.status, job.request.spec
    done, total = status.state == "done", status.total or sum(spec["steps"])
    phase = "done" if done else status.phase
    link = f"/v1/searches/{request.id}"
    section = spec.get("base") and (status.summary or {}).get("passed")  # else there are no two ends
    plots = [name for name in SEARCH_PLOTS if section or name != SECTION_PLOT]
    return JobView(
        **request.model_dump(include={"id", "submitted_at", "preset"}),
        owner=owner_of(request.id),
        **status.model_dump(include={"state", "started_at", "ended_at", "error", "summary"}),
        base=spec.get("base"),
        candidates=len(spec["start"]["rows"]) or spec["candidates"],
        spec=spec if whole else None,
        progress={"done": status.done, "total": total, "unit": "steps", "phase": phase},
        place_in_queue=place if status.state == "queued" else None,
        links={"self": link, "events": f"{link}/events", "candidates": f"{link}/candidates"},
        plots=plots if done else [],
    )


def candidate_page(place: Location, offset: int, limit: int, *, passed_only: bool) -> CandidatePage:
    """Some candidates of a table by rank. Raises StorageError."""
    table = read_table(place)
    if passed_only:
        table = table.filter(pc.fill_null(table["passed"], False))
    rows = with_dois(table.slice(offset, limit).to_pylist())
    return CandidatePage(total=len(table), offset=offset, limit=limit, candidates=rows)


def with_dois(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with the DOI of each one's reference, where it has one."""
    return [{**row, "nearest_doi": doi_of(row["nearest_reference"])} for row in rows]
