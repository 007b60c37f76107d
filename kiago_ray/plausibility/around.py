"""What a family search is told of its base: what may take whose place, where places stay empty, what exists."""

from __future__ import annotations

import numpy as np

from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.plausibility.doping import known_vacancies
from kiago_ray.plausibility.literature import Floats, Literature
from kiago_ray.plausibility.model import Plausibility
from kiago_ray.search.family import Substitutions

_PORTION = 0.2  # of its site that a substitute takes in the composition that stands for doping
_LOOKED_AT = 24  # substitutes of an element whose plausibility is worked out, those of highest odds
_MILDNESS = 0.5  # power of plausibility in the odds


def substitutions_around(
    base: Floats, literature: Literature, odds: Floats, plausibility: Plausibility, made: Floats
) -> Substitutions:
    """Odds (118, 118) as they are around the base (118,) in fractions: those known of elements anywhere (see
    `doping.site_odds`), times the square root of how plausible the base is with the one for the other, wholly or in
    part, relative to the best. made: (m, 118) compounds that exist; those near the base are passed on.
    """
    held = np.flatnonzero(base)
    pairs = [(a, c) for a in held.tolist() for c in _likeliest(odds[a] * (base == 0))]
    here = odds.copy()
    here[held] = 0
    partly = np.full(odds.shape, -np.inf)
    if pairs:
        a, c = np.array(pairs).T
        rows = np.tile(base, (2, len(pairs), 1))
        at = np.arange(len(pairs))
        for kind, portion in enumerate((1.0, _PORTION)):
            rows[kind, at, c] = portion * base[a]
            rows[kind, at, a] -= portion * base[a]
        log_p = plausibility.log_probability(rows.reshape(-1, N_ELEMENTS)).reshape(2, -1)
        partly[a, c] = log_p[1]
        log_p = log_p.max(axis=0)
        here[a, c] = odds[a, c] * np.exp(_MILDNESS * (log_p - log_p.max()))
        here[held] /= max(here[held].max(), 1e-12)
    near = (made[:, held] > 0).sum(axis=1) >= len(held) - 1
    near &= (made > 0).sum(axis=1) <= len(held) + 1
    known = {(row > 0).tobytes() for row in literature.systems}
    untested = [row for row in made[near] if (row > 0).tobytes() not in known]
    return Substitutions(
        odds=np.clip(here, 0, 1),
        vacancies=known_vacancies(literature, base),
        made=np.array(untested).reshape(-1, N_ELEMENTS),
        partly=partly,
    )


def _likeliest(odds: Floats) -> list[int]:
    """The elements of highest odds (118,), those of none left out."""
    order = np.argsort(-odds, kind="stable")[:_LOOKED_AT]
    return [int(z) for z in order if odds[z] > 0]
