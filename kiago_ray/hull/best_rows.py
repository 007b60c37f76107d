"""ΔE_hull of a search's best rows: of those that pass its other screens, the first by its order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kiago_ray.hull.energy_hull import EnergyHull
from kiago_ray.screening.candidates import Candidates
from kiago_ray.screening.rank import Ranking, order, unique

MAX_FORMULAS = 1000  # milliseconds each; whoever reads further has `kiago hull`
TOLD_FORMULAS = 200  # where no screen asks for it


def with_e_hull(
    candidates: Candidates,
    amounts: NDArray[np.float64],
    passed: NDArray[np.bool_],
    hull: EnergyHull,
    *,
    ranking: Ranking | None = None,
    most: int = MAX_FORMULAS,
) -> Candidates:
    """The n candidates with `e_hull_ev_per_atom` for the best `most` different formulas that passed, NaN for others.

    amounts: (n, 118) of their formulas. passed: (n,) the screens that don't ask for it.
    """
    rows = np.arange(len(candidates.formulas))
    first = unique(candidates.formulas, np.zeros_like(rows), rows, candidates.of_families)
    first = first[passed[first]]
    standing = candidates.standing(passed).take(first)
    best = first[order([candidates.formulas[row] for row in first], standing, ranking)]
    best = best[:most]
    x = np.asarray(amounts[best], dtype=np.float64)
    found = hull.e_hull(x / x.sum(axis=1, keepdims=True), candidates.ef_ev_per_atom[best])
    by_formula = dict(zip([candidates.formulas[row] for row in best], found.tolist(), strict=True))
    return replace(
        candidates,
        e_hull_ev_per_atom=np.array(
            [by_formula.get(text, np.nan) for text in candidates.formulas], dtype=float
        ),
    )
