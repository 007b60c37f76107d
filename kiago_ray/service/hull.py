"""POST /v1/section: the energy above the hull from one composition to another."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import Field

from kiago_ray.errors import InputError
from kiago_ray.models import Models
from kiago_ray.report.phase_diagrams import section_of
from kiago_ray.service.backend import Asked
from kiago_ray.service.predictions import unreadable
from kiago_ray.service.problems import ProblemError, Shape, StrictRoute, problems

_DECIMALS = 6
router = APIRouter(tags=["predictions"], route_class=StrictRoute)


class SectionBody(Shape):
    """Where a section begins and where it ends."""

    first: str = Field(examples=["La2CuO4"])
    last: str = Field(examples=["Sr2CuO4"])


class SectionPoint(Shape):
    """A composition of a section."""

    x: float = Field(description="As in the series; 0 at the first formula.")
    e_hull_ev_per_atom: float = Field(
        description="Over the hull of the known phases in eV/atom; below 0 it would be a new stable phase."
    )
    e_hull_std_ev_per_atom: float | None = Field(
        description="Its standard deviation; null where the energy is a source's."
    )
    phase: str | None = Field(description="The known phase that it is.")


class Stretch(Shape):
    """From x to x, what falls apart into the same phases."""

    first_x: float
    last_x: float
    phases: list[str]


class SectionView(Shape):
    """From one formula to another, by x."""

    series: str = Field(description="The compositions in general, such as La₂₋ₓSrₓCuO₄.")
    points: list[SectionPoint]
    stretches: list[Stretch]


@router.post(
    "/v1/section",
    summary="The energy above the hull from one formula to another",
    response_model=SectionView,
    responses=problems(404, 422, 504),
)
async def section(body: SectionBody, service: Asked) -> Any:
    """In a hundred steps and at each known phase between, with what falls apart into what on the way."""
    models = service.backend.models
    for formula in (body.first, body.last):
        if (why := unreadable(formula, service.settings.limits)) is not None:
            raise ProblemError(422, why)
    return await service.answered(
        service.backend.in_turn(lambda: drawn_section(models, body.first, body.last))
    )


def drawn_section(models: Models, first: str, last: str) -> dict[str, Any]:
    """A SectionView. Raises ProblemError for formulas without a section, and without a hull."""
    if models.hull is None or models.hull.ef is None:
        raise ProblemError(404, "this service has no competing phases to hold a section against")
    try:
        found = section_of(models.hull, first, last)
    except InputError as error:
        raise ProblemError(422, str(error).removeprefix("--section: ")) from None
    std = [None if value != value else round(value, _DECIMALS) for value in found.std_ev_per_atom.tolist()]
    points = zip(found.x.tolist(), found.above_ev_per_atom.tolist(), std, strict=True)
    return {
        "series": found.series,
        "points": [
            {
                "x": round(x, _DECIMALS),
                "e_hull_ev_per_atom": round(above, _DECIMALS),
                "e_hull_std_ev_per_atom": spread,
                "phase": found.known.get(place),
            }
            for place, (x, above, spread) in enumerate(points)
        ],
        "stretches": [
            {"first_x": round(left, _DECIMALS), "last_x": round(right, _DECIMALS), "phases": sorted(phases)}
            for left, right, phases in found.stretches
        ],
    }
