"""POST /v1/scan: doping series of a formula in, what is known and what the models say of each composition out."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from kiago_ray.api import planned_scan
from kiago_ray.data.references import doi_of
from kiago_ray.report.scans import described
from kiago_ray.service.backend import Asked
from kiago_ray.service.predictions import Prediction, unreadable
from kiago_ray.service.problems import ProblemError, Shape, StrictRoute, problems

router = APIRouter(tags=["predictions"], route_class=StrictRoute)


class ChangeBody(Shape):
    """What changes: x atoms of the site give way to as many of the dopant."""

    site: str = Field(examples=["La"], description="Element of the formula; Y,Ba: each alone.")
    dopants: str = Field(examples=["Sr,Ba"], description="Elements that come in, one at a time, or vacant.")
    x: str = Field(
        examples=["0:0.3:0.01"],
        description="Atoms of the formula as written: from:to:step with both ends, or amounts such as 0.05,0.1.",
    )


class ScanBody(Shape):
    """A formula and what changes in it: one change for curves, two for maps."""

    formula: str = Field(examples=["La2CuO4"])
    changes: list[ChangeBody] = Field(min_length=1, max_length=2)


class ScanPoint(Prediction):
    """A composition of a series, scored as POST /v1/predict does."""

    x: float
    y: float | None = Field(description="Of the second change; null in a curve.")
    on_grid: bool = Field(description="It was asked for; false for a known composition between.")
    known_tc_k: float | None = Field(description="Measured T_c of just this composition, in K.")
    known_pressure_gpa: float | None = Field(description="The pressure of that measurement.")
    known_reports: int | None = Field(description="Measurements that known_tc_k is the median of.")
    known_reference: str | None = Field(description="The first report.")
    known_doi: str | None = Field(description="Its DOI, where its publisher makes it of volume and page.")
    doubts: list[str] = Field(
        description="Why the predicted T_c can't be believed; [] where nothing is known."
    )


class SeriesView(Shape):
    """A series with its points by rising x, then y."""

    series: str = Field(description="Such as La2-xSrxCuO4.")
    sites: list[str]
    dopants: list[str]
    warnings: list[str] = Field(description="Where the curve can't be right; [] where nothing is known.")
    points: list[ScanPoint]


class ScanView(Shape):
    """A series for each site and dopant, or each two of them."""

    version: str = Field(description="Changes with any of the models' weights.")
    formula: str
    series: list[SeriesView]


@router.post(
    "/v1/scan",
    summary="Scan doping series of a formula",
    response_model=ScanView,
    responses=problems(422, 504),
)
async def scan(body: ScanBody, request: Request, service: Asked) -> Any:
    """T_c and all else at each x, and the known compositions of the same series with their measured T_c.

    A composition counts as a formula of POST /v1/predict, the known ones too.
    """
    limits, models = service.settings.limits, service.backend.models
    if (why := unreadable(body.formula, limits)) is not None:
        raise ProblemError.at("formula", why)
    changes = [(each.site, each.dopants, each.x) for each in body.changes]
    planned = await run_in_threadpool(planned_scan, body.formula, changes, models)
    formulas = planned.formulas
    if len(formulas) > limits.formulas:
        many = f"{len(formulas):,} compositions are more than the {limits.formulas:,} of one request"
        raise ProblemError.at("changes", f"{many}; take a larger step")
    with service.predicting(request.state.client, len(formulas)):
        version, scores = await service.answered(service.backend.score(formulas))
    series = described(planned.scored(scores))
    for point in (point for each in series for point in each["points"]):
        point["known_doi"] = doi_of(point["known_reference"])
    return {"version": version, "formula": body.formula, "series": series}
