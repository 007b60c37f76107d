"""The formula that each row of a family proposes: on its sites' grid, the best by the objective of those around it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from kiago_ray.search.family_grid import RowSites, amounts_of, formula_of, nearest_atoms, neighbours
from kiago_ray.search.family_space import FamilySpace
from kiago_ray.search.family_start import FamilyStarts
from kiago_ray.search.proposals import Proposals, Score, scored
from kiago_ray.search.sections import ProjectionSpec
from kiago_ray.search.stages import SearchState

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Cost = Callable[[Floats], Floats]
"""Fractions (rows, 118) → the loss that a search climbs down, (rows,) in K."""


def propose_in_family(
    rows: FamilyStarts,
    space: FamilySpace,
    state: SearchState,
    x_final: NDArray[np.float32],
    projection: ProjectionSpec,
    score: Score,
    cost: Cost,
) -> Proposals:
    """The formula of each row that a family search ended with (x_final (rows, 118) fractions), scored as that formula.

    Rows that stay where they are keep what they hold. projection.kind "none" keeps amounts with four decimals; "best"
    takes, of the neighbours on the grid, that of least cost.
    """
    with torch.no_grad():
        ended = space.occupation(state.x_base.double(), state.mask).cpu().numpy()
    status = state.status.cpu().numpy()
    options = [
        _options(row, rows, sites, ended[row], projection) for row, sites in enumerate(_row_sites(space))
    ]
    chosen = (
        _best(options, rows.element, cost) if projection.kind == "best" else [each[0] for each in options]
    )
    amounts = np.stack([amounts_of(*pair) for pair in zip(chosen, rows.element, strict=True)])
    texts = [formula_of(*pair) for pair in zip(chosen, rows.element, strict=True)]
    whole = (amounts == np.rint(amounts)).all(axis=1, keepdims=True)
    counts = np.where(whole, amounts, 0).astype(np.int64)
    return scored(x_final.astype(np.float64), counts, amounts, status, score, texts=texts)


def _row_sites(space: FamilySpace) -> list[RowSites]:
    """The slots of each row, on the host."""
    names = ("element", "amount", "on_grid", "low", "high", "most")
    arrays = {name: getattr(space, name).cpu().numpy() for name in names}
    arrays = {
        name: each.astype(np.float64) if each.dtype == np.float32 else each for name, each in arrays.items()
    }
    return [
        RowSites(**{name: each[row] for name, each in arrays.items()}, width=space.width, grid=space.grid)
        for row in range(len(space.element))
    ]


def _options(
    row: int, rows: FamilyStarts, sites: RowSites, ended: Floats, projection: ProjectionSpec
) -> list[Floats]:
    """What a row may propose, atoms (s, k) each, the nearest first."""
    if not rows.moves[row]:
        return [rows.atoms[row]]
    if projection.kind == "none":
        return [ended]
    nearest = nearest_atoms(ended, sites)
    if projection.kind == "nearest":
        return [nearest]
    return neighbours(nearest, ended, sites, projection.max_candidates, projection.max_distance)


def _best(options: list[list[Floats]], element: Ints, cost: Cost) -> list[Floats]:
    """Of each row's options that of least cost; the first of equal ones, and where no cost is finite."""
    best = np.zeros(len(options), dtype=np.int64)
    least = np.full(len(options), np.inf)
    for at in range(max(len(each) for each in options)):
        held = np.array([at < len(each) for each in options])
        fractions = np.stack(
            [amounts_of(each[min(at, len(each) - 1)], element[row]) for row, each in enumerate(options)]
        )
        found = cost(fractions / fractions.sum(axis=1, keepdims=True))
        better = held & np.isfinite(found) & (found < least)
        best, least = np.where(better, at, best), np.where(better, found, least)
    return [each[at] for each, at in zip(options, best.tolist(), strict=True)]
