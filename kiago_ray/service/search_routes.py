"""/v1/searches: searches as jobs that are submitted, watched, cancelled, and whose candidates are read."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from kiago_ray.runs.lease import Lease, LeaseError
from kiago_ray.search.spec import SearchSpec
from kiago_ray.service import search_views as views
from kiago_ray.service.backend import Backend
from kiago_ray.service.budget import requested_search
from kiago_ray.service.jobs import End, Job, JobStore, now
from kiago_ray.service.models import without_phases
from kiago_ray.service.problems import ProblemError, answered
from kiago_ray.service.schemas import CandidatePage, JobList, JobView, problems, search_body
from kiago_ray.service.settings import ServiceSettings
from kiago_ray.storage.location import StorageError

MOST_ROWS = 1000
QUOTA_RETRY_S = 30
POLL_S = 1.0
KEEP_ALIVE_S = 15.0

SearchId = Annotated[str, Path(description="As a submission answered.", max_length=64)]


def search_router(backend: Backend, store: JobStore, settings: ServiceSettings) -> APIRouter:
    """The routes of searches, on a store that all replicas share."""
    router = APIRouter(prefix="/v1/searches", tags=["searches"])
    limits = settings.limits
    keeping = threading.Lock()

    def found(search_id: str) -> Job:
        job = store.get(search_id)
        if job is None:
            raise ProblemError(404, "there is no such search; GET /v1/searches lists them")
        return job

    def view(job: Job, *, whole: bool = True) -> JobView:
        place = store.place_in_queue(job.request.id) if job.state == "queued" else None
        return views.job_view(job, place, whole=whole)

    def keep(client: str, spec: SearchSpec, preset: str) -> Job:
        with keeping:  # counting and keeping are one; other replicas count for themselves
            return kept(client, spec, preset)

    async def runnable(values: dict[str, Any]) -> tuple[SearchSpec, str]:
        models = without_phases(backend.models)
        spec, preset = await run_in_threadpool(requested_search, values, limits)
        await answered(backend.in_turn(lambda: models.check(spec)), limits.predict_timeout_s)
        return spec, preset

    def kept(client: str, spec: SearchSpec, preset: str) -> Job:
        if store.waiting_of(client) >= limits.searches_per_client:
            raise ProblemError(
                429,
                f"{limits.searches_per_client} searches of yours haven't ended; wait for one, or cancel it",
                retry_after_s=QUOTA_RETRY_S,
            )
        if len(store.waiting()) >= limits.searches_waiting:
            raise ProblemError(429, "too many searches wait; come back later", retry_after_s=QUOTA_RETRY_S)
        if len(store.ids()) >= limits.searches_kept and not store.remove_ended():
            raise ProblemError(
                503,
                "the service keeps no more searches",
                retry_after_s=QUOTA_RETRY_S,
            )
        return store.submit(spec, preset, client, settings.search_shard_rows)

    @router.post(
        "",
        status_code=202,
        summary="Start a search",
        response_model=JobView,
        openapi_extra=search_body(),
        responses=problems(415, 422, 504),
    )
    async def submit(request: Request, response: Response) -> Any:
        """Any fields of a search's specification, over those of a preset. It waits until a worker takes it."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise ProblemError(
                415, f"{kind[:80] or 'no Content-Type'} can't be read here; send application/json"
            )
        body = await request.body()
        if len(body) > limits.search_body_bytes:
            raise ProblemError(413, f"a search may have {limits.search_body_bytes:,} bytes")
        spec, preset = await runnable(_mapping(body))
        job = await run_in_threadpool(keep, request.state.client, spec, preset)
        backend.wake()
        response.headers["Location"] = f"{request.scope.get('root_path', '')}/v1/searches/{job.request.id}"
        try:
            return await run_in_threadpool(view, job)
        except StorageError:  # it is kept, so that an error would have the client send it again
            return views.job_view(job, None, whole=True)

    @router.get("", summary="List searches", responses=problems(422))
    def listed(
        limit: Annotated[int, Query(ge=1, le=100)] = 20, offset: Annotated[int, Query(ge=0, le=10**6)] = 0
    ) -> JobList:
        """Newest first."""
        ids = store.ids()
        jobs = [store.readable(each) for each in ids[offset : offset + limit]]
        return JobList(total=len(ids), searches=[view(job, whole=False) for job in jobs if job is not None])

    @router.get("/{search_id}", summary="A search as it stands", responses=problems(404, 422))
    def one(search_id: SearchId) -> JobView:
        """With its whole specification and, once it is done, its summary."""
        return view(found(search_id))

    @router.delete(
        "/{search_id}",
        status_code=202,
        summary="Cancel a search",
        responses={200: {"model": JobView, "description": "It had ended before."}, **problems(404, 422)},
    )
    def cancel(search_id: SearchId, response: Response) -> JobView:
        """It ends at its next step, or when its turn comes. What had ended stays as it is."""
        job = found(search_id)
        if job.end is not None:
            response.status_code = 200
            return view(job)
        store.cancel(search_id)
        if job.state == "queued":
            with (
                suppress(LeaseError),
                Lease(store.folder(search_id)),
            ):  # else a worker has just begun, and sees it
                store.finish(search_id, End("cancelled", now()))
        return view(found(search_id))

    @router.get(
        "/{search_id}/events",
        summary="Watch a search",
        response_class=Response,
        responses={
            200: {
                "content": {
                    "text/event-stream": {"schema": {"description": "Events with a JobView in `data`."}}
                }
            },
            **problems(404, 422),
        },
    )
    async def events(search_id: SearchId) -> Response:
        """Server-sent events: `progress`, and `end` as the last. The stream ends after a while: ask again."""
        await run_in_threadpool(found, search_id)
        return StreamingResponse(told(search_id), media_type="text/event-stream")

    async def told(search_id: str) -> AsyncIterator[str]:
        until = time.monotonic() + limits.stream_s
        before, number, quiet = "", 0, time.monotonic()
        yield f"retry: {int(POLL_S * 2000)}\n\n"
        while time.monotonic() < until:
            job = await run_in_threadpool(store.get, search_id)
            if job is None:
                return
            told_view = await run_in_threadpool(view, job, whole=False)
            text = json.dumps(told_view.model_dump(mode="json"))
            if text != before or job.end is not None:
                number, before, quiet = number + 1, text, time.monotonic()
                event = "progress" if job.end is None else "end"
                yield f"event: {event}\nid: {number}\ndata: {text}\n\n"
            if job.end is not None:
                return
            if time.monotonic() - quiet > KEEP_ALIVE_S:
                quiet = time.monotonic()
                yield ": still here\n\n"
            await asyncio.sleep(POLL_S)

    @router.get(
        "/{search_id}/candidates",
        summary="Its candidates, best first",
        response_model=CandidatePage,
        responses={
            200: {
                "content": {
                    "text/csv": {"schema": {"type": "string"}},
                    "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
                }
            },
            **problems(404, 409, 422),
        },
    )
    def candidates(
        search_id: SearchId,
        limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 100,
        offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
        passed: Annotated[bool, Query(description="Only those that passed every screen.")] = False,
        format: Annotated[
            Literal["json", "csv", "parquet"], Query(description="csv, parquet: all of them, as a file.")
        ] = "json",
    ) -> Any:
        """Columns as `kiago search` writes them; 409 as long as the search isn't done."""
        result = finished(search_id)
        if format == "json":
            total, rows = views.page(result, offset, limit, passed_only=passed)
            return CandidatePage(total=total, offset=offset, limit=limit, candidates=rows)
        content, kind = (
            (views.csv(result), "text/csv")
            if format == "csv"
            else (views.parquet(result), "application/vnd.apache.parquet")
        )
        name = f"kiago-{search_id}.{format}"
        return Response(
            content, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'}
        )

    @router.get(
        "/{search_id}/plots/{name}",
        summary="One of its plots",
        response_class=Response,
        responses={
            200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}},
            **problems(404, 409, 422),
        },
    )
    def plot(search_id: SearchId, name: Annotated[str, Path(max_length=64)]) -> Response:
        """As PNG; `plots` of the search names them."""
        content = views.plot(finished(search_id), name)
        if content is None:
            raise ProblemError(404, "there is no such plot; the search's `plots` names them")
        return Response(content, media_type="image/png")

    def finished(search_id: str) -> Any:
        job = found(search_id)
        if job.state != "done":
            raise ProblemError(409, f"the search is {job.state}; it has candidates once it is done")
        return store.result(search_id)

    return router


def _mapping(body: bytes) -> dict[str, Any]:
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        raise ProblemError(422, 'body: this is no JSON; send such as {"base": "LaNiAsO"}') from None
    if not isinstance(values, dict):
        raise ProblemError(422, 'body: a search is a mapping of fields, such as {"base": "LaNiAsO"}')
    return values
