"""POST /v1/predict, POST /v1/explain, GET /v1/models, GET /healthz."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from kiago_ray.search.spec import PRESETS, preset_values
from kiago_ray.service import formats
from kiago_ray.service.backend import Backend
from kiago_ray.service.explain import explain as explained
from kiago_ray.service.models import described
from kiago_ray.service.problems import BUSY_RETRY_S, ProblemError, answered
from kiago_ray.service.schemas import (
    PREDICT_BODY,
    Explanation,
    FormulaBody,
    Health,
    ModelsView,
    Predictions,
    problems,
)
from kiago_ray.service.settings import Limits

HEALTH_S = 1.0
SMALL_BYTES = 4096
T = TypeVar("T")


def predict_router(backend: Backend, limits: Limits) -> APIRouter:
    """The routes that answer at once."""
    router = APIRouter(tags=["predictions"])
    timeout_s = limits.predict_timeout_s
    asked: Counter[str] = Counter()  # formulas in work, by client
    checked = _Recently(backend.check)

    @router.post(
        "/v1/predict",
        summary="Predict T_c and E_f of many formulas",
        response_model=Predictions,
        openapi_extra=PREDICT_BODY,
        responses={
            200: {
                "content": {each: {"schema": {"type": "string"}} for each in (formats.NDJSON, formats.CSV)}
            },
            **problems(406, 415, 422, 504),
        },
    )
    async def predict(request: Request) -> Response:
        """The same rows in the same order. A formula that can't be read has an `error`; the others have predictions.

        Send JSON, or CSV with a column `formula`. Accept JSON, lines of JSON, or CSV.
        """
        kind = formats.wanted(request.headers.get("accept", ""))
        body, sent = await request.body(), request.headers.get("content-type", "")
        given = await _aside(len(body), formats.read_formulas, body, sent, limits)
        refused = [formats.too_long(each, limits) for each in given]
        fine = [each for each, why in zip(given, refused, strict=True) if why is None]
        client = request.state.client
        if asked[client] and asked[client] + len(fine) > limits.formulas_per_client:
            raise ProblemError(
                429,
                f"{asked[client]:,} formulas of yours are being predicted; wait for them",
                retry_after_s=BUSY_RETRY_S,
            )
        asked[client] += len(fine)
        try:
            version, scores = await answered(backend.score(fine), timeout_s)
        finally:
            asked[client] -= len(fine)
            if not asked[client]:
                del asked[client]
        whole = formats.with_refused(given, refused, scores)
        return Response(await _aside(len(body), formats.write, whole, version, kind), media_type=kind)

    @router.post(
        "/v1/explain",
        summary="Explain one formula",
        response_model=Explanation,
        responses=problems(400, 422, 504),
    )
    async def explain(body: FormulaBody) -> Any:
        """All opinions on it, oxidation states, the nearest known compositions, reasons for and against, and what
        each element would do to T_c.
        """
        why = formats.too_long(body.formula, limits)
        if why is not None:
            raise ProblemError(422, why)
        models = backend.models
        return await answered(backend.in_turn(lambda: explained(body.formula, models)), timeout_s)

    @router.get("/v1/models", summary="The models and their limits", responses=problems(504))
    async def models() -> ModelsView:
        """Model cards with hashes, the elements that are known, the presets of searches, what a request may ask."""
        return ModelsView(
            **described(backend.models),
            limits=limits.model_dump(mode="json"),
            presets={name: preset_values(name) for name in PRESETS},
        )

    @router.get("/healthz", summary="Whether the models predict", tags=["health"], responses=problems(504))
    async def health() -> Health:
        """A known superconductor was predicted within the last second."""
        return Health(status="ok", version=await answered(checked(), timeout_s))

    return router


async def _aside(size: int, work: Callable[..., T], *given: Any) -> T:
    """What `work` gives: of a large request in a thread, so that others are answered meanwhile; of a small one here,
    where that takes less than the way to a thread. size: bytes of the request.
    """
    return await run_in_threadpool(work, *given) if size > SMALL_BYTES else work(*given)


class _Recently:
    """What a call gave, shared by all who ask within a second, so that asking costs the models nothing."""

    def __init__(self, call: Callable[[], Awaitable[str]]) -> None:
        self._call, self._turn = call, asyncio.Lock()
        self._known: tuple[float, str] | None = None

    async def __call__(self) -> str:
        async with self._turn:
            if self._known is None or time.monotonic() - self._known[0] > HEALTH_S:
                self._known = None
                self._known = (time.monotonic(), await self._call())
            return self._known[1]
