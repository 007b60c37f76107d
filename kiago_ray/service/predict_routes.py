"""POST /v1/predict, POST /v1/explain, GET /v1/models, GET /healthz."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from kiago_ray.chemistry.formula import FormulaError
from kiago_ray.search.presets import PRESETS, preset_values
from kiago_ray.service import formats
from kiago_ray.service.backend import Backend, answered
from kiago_ray.service.problems import ProblemError
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


def predict_router(backend: Backend, limits: Limits) -> APIRouter:
    """The routes that answer at once."""
    router = APIRouter(tags=["predictions"])
    timeout_s = limits.predict_timeout_s

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
        given = formats.read_formulas(await request.body(), request.headers.get("content-type", ""), limits)
        refused = [formats.too_long(each, limits) for each in given]
        fine = [each for each, why in zip(given, refused, strict=True) if why is None]
        version, scores = await answered(backend.score(fine), timeout_s)
        return Response(
            formats.write(formats.with_refused(given, refused, scores), version, kind), media_type=kind
        )

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
        try:
            return await answered(backend.explain(body.formula), timeout_s)
        except FormulaError as error:
            raise ProblemError(422, str(error)) from None

    @router.get("/v1/models", summary="The models and their limits", responses=problems(504))
    async def models() -> ModelsView:
        """Model cards with hashes, the elements that are known, the presets of searches, what a request may ask."""
        described = await answered(backend.describe(), timeout_s)
        return ModelsView(
            **described,
            limits=limits.model_dump(mode="json"),
            presets={name: preset_values(name) for name in PRESETS},
        )

    @router.get("/healthz", summary="Whether the models predict", tags=["health"], responses=problems(504))
    async def health() -> Health:
        """A known superconductor was predicted just now."""
        return Health(status="ok", version=await answered(backend.check(), timeout_s))

    return router
