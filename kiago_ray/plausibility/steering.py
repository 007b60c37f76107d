"""What a search is given of plausibility: what takes the place of what around its base, and a term of its loss."""

from __future__ import annotations

from dataclasses import replace

from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.plausibility.shipped import Prospects
from kiago_ray.predictors.base import Predictors
from kiago_ray.search.family import Substitutions
from kiago_ray.search.problem import resolve
from kiago_ray.search.spec import SearchSpec


def around(spec: SearchSpec, prospects: Prospects | None) -> Substitutions | None:
    """What takes the place of what around the base of a family search; None for any other search."""
    if prospects is None or not spec.family.enabled or spec.base is None:
        return None
    return prospects.around(spec.base)


def informed(
    spec: SearchSpec, predictors: Predictors, prospects: Prospects | None, substitutions: Substitutions | None
) -> Predictors:
    """The predictors of a search with plausibility, where its loss has it: that of compositions of the elements
    that the search can reach, which is nearly the same there and faster (`Plausibility.near`).
    """
    if prospects is None or spec.plausibility_weight <= 0:
        return predictors
    problem = resolve(spec, predictors.supported.cpu().numpy(), substitutions)
    if problem.family is None:
        return replace(predictors, plausibility=prospects.plausibility)
    sites = problem.family.family.sites
    reached = {z for site in sites for z in (*site.own, *site.substitutes) if z < N_ELEMENTS}
    device = predictors.supported.device
    return replace(predictors, plausibility=prospects.plausibility.near(sorted(reached)).to(device))
