"""The formula that each row of a family proposes: on its sites' grid, as chemists write it, the best by the objective
of those around it.

Every substitute, and every own element but a site's main one, gets the nearest multiple of 1/grid of an atom; the main
one takes the rest of the site's amount, so that it is kept. What comes to less than half a step vanishes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import N_ELEMENTS, SYMBOLS
from kiago_ray.chemistry.formula import write
from kiago_ray.search.family import VACANCY
from kiago_ray.search.family_rows import FamilySpace, FamilyStarts
from kiago_ray.search.result import Proposals, Score, scored
from kiago_ray.search.sections import ProjectionSpec
from kiago_ray.search.stages import SearchState

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Cost = Callable[[Floats], Floats]
"""Fractions (rows, 118) → the loss that a search climbs down, (rows,) in K."""

DECIMALS = 4  # of amounts, as those that stay fractional elsewhere
STEPS = (-2, -1, 0, 1, 2)  # of the grid, that a neighbour differs in an amount
MOST_VARIED = 4  # amounts of a row that neighbours differ in, the largest
MAIN = 0  # a site's slot of its main element
_LEAST = 1e-6  # atoms
Mask = NDArray[np.bool_]


def project_family_rows(
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
    takes the neighbour on the grid that costs least.
    """
    with torch.no_grad():
        ended = space.occupation(state.x_base.double(), state.mask).cpu().numpy()
    sites = _row_sites(space)
    options = [_options(row, rows, sites[row], atoms, projection) for row, atoms in enumerate(ended)]
    best = projection.kind == "best"
    chosen = _best(options, rows.element, cost) if best else [each[0] for each in options]
    pairs = list(zip(chosen, rows.element, strict=True))
    amounts, texts = np.stack([amounts_of(*pair) for pair in pairs]), [formula_of(*pair) for pair in pairs]
    whole = (amounts == np.rint(amounts)).all(axis=1, keepdims=True)
    counts = np.where(whole, amounts, 0).astype(np.int64)
    status = state.status.cpu().numpy()
    return scored(x_final.astype(np.float64), counts, amounts, status, score, texts=texts)


@dataclass(frozen=True)
class RowSites:
    """The slots of one row: element (s, k), on_grid (s, k), low and high (s,) share of substitutes, which stand in the
    slots from `width` on; most: (s, k) share of a slot; amount: (s,) atoms.
    """

    element: Ints
    on_grid: Mask
    low: Floats
    high: Floats
    most: Floats
    amount: Floats
    width: int
    grid: int


def _row_sites(space: FamilySpace) -> list[RowSites]:
    """The slots of each row, on the host and in double precision."""
    arrays = (space.element, space.on_grid, space.low.double(), space.high.double(), space.most.double())
    amount = space.amount.double().cpu().numpy()
    rows = zip(*(each.cpu().numpy() for each in arrays), strict=True)
    return [RowSites(*row, amount, space.width, space.limits.grid) for row in rows]


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
    """The option of each row that costs least; the first of equal ones, and where no cost is finite."""
    best, least = np.zeros(len(options), dtype=np.int64), np.full(len(options), np.inf)
    for at in range(max(len(each) for each in options)):
        held = np.array([at < len(each) for each in options])
        atoms = [each[min(at, len(each) - 1)] for each in options]
        found = cost(np.stack([fractions_of(*pair) for pair in zip(atoms, element, strict=True)]))
        better = held & np.isfinite(found) & (found < least)
        best, least = np.where(better, at, best), np.where(better, found, least)
    return [each[at] for each, at in zip(options, best.tolist(), strict=True)]


def nearest_atoms(atoms: Floats, sites: RowSites) -> Floats:
    """The nearest atoms (s, k) on the grid to where a row ended (s, k), within the limits of its sites."""
    found = atoms.copy()
    for at in range(len(atoms)):
        if sites.on_grid[at].any():
            found[at] = _nearest_on_site(atoms[at], at, sites)
    return found


def _nearest_on_site(atoms: Floats, at: int, sites: RowSites) -> Floats:
    grid, amount, low, high = sites.grid, float(sites.amount[at]), sites.low[at], sites.high[at]
    foreign = np.arange(len(atoms)) >= sites.width
    most = np.floor(sites.most[at] * amount * grid + _LEAST)
    steps = np.where(sites.on_grid[at], np.minimum(np.rint(atoms * grid), most), 0)
    gone = atoms[MAIN] < 0.5 / grid or low >= 1  # nothing of the main element is left
    upper = amount if high >= 1 else np.floor(high * amount * grid + _LEAST) / grid
    lower = np.ceil(low * amount * grid - _LEAST) / grid

    def total() -> float:
        return float(steps[foreign].sum()) / grid

    while total() > upper + _LEAST and steps[foreign].any():
        steps[np.argmax(np.where(foreign, steps, 0))] -= 1
    while steps.sum() / grid > amount + _LEAST:
        steps[np.argmax(steps)] -= 1
    if steps[foreign].any() and not gone and lower <= upper:
        while total() < lower - _LEAST:
            steps[np.argmax(np.where(foreign & (steps < most), steps, 0))] += 1
            if steps.sum() / grid > amount:
                break
    result = steps / grid
    rest = amount - float(result.sum())
    if gone and rest > 0 and high >= 1 and atoms[foreign].any():
        largest = int(np.argmax(np.where(foreign & (sites.most[at] >= 1), atoms, -1)))
        result[largest] += rest
        rest = 0.0
    result[MAIN] = max(rest, 0.0)
    return np.asarray(result)


def neighbours(atoms: Floats, ended: Floats, sites: RowSites, keep: int, max_distance: float) -> list[Floats]:
    """Up to `keep` occupations (s, k) around `atoms`, which is the first: those that differ in amounts by up to two
    steps, nearest to where the row ended (s, k) in L1 of fractions first, within max_distance.
    """
    varied = _varied(atoms, sites)
    if not varied:
        return [atoms]
    goal = fractions_of(ended, sites.element)
    found: list[tuple[float, int, Floats]] = []
    for order, steps in enumerate(product(STEPS, repeat=len(varied))):
        changed = atoms.copy()
        for (at, slot), step in zip(varied, steps, strict=True):
            changed[at, slot] += step / sites.grid
            changed[at, MAIN] -= step / sites.grid
        if not any(steps) or not _within(changed, atoms, varied, sites):
            continue
        distance = float(np.abs(fractions_of(changed, sites.element) - goal).sum())
        if distance <= max_distance:
            found.append((round(distance, 9), order, changed))
    return [atoms, *(each[2] for each in sorted(found, key=lambda each: each[:2])[: keep - 1])]


def _varied(atoms: Floats, sites: RowSites) -> list[tuple[int, int]]:
    """(site, slot) of the amounts that neighbours differ in."""
    found = [(int(at), int(slot)) for at, slot in np.argwhere(sites.on_grid & (atoms > _LEAST))]
    return sorted(found, key=lambda each: (-atoms[each], each))[:MOST_VARIED]


def _within(changed: Floats, atoms: Floats, varied: list[tuple[int, int]], sites: RowSites) -> bool:
    """Whether the limits of the sites hold, and no element goes or comes back that was there or gone."""
    if any(changed[at, slot] < 1 / sites.grid - _LEAST for at, slot in varied):
        return False
    for at, _ in varied:
        if (atoms[at, MAIN] > _LEAST) != (changed[at, MAIN] > _LEAST) or changed[at, MAIN] < -_LEAST:
            return False
        share = changed[at] / sites.amount[at]
        foreign = float(share[sites.width :].sum())
        if (share > sites.most[at] + _LEAST).any():
            return False
        if foreign > _LEAST and not sites.low[at] - _LEAST <= foreign <= sites.high[at] + _LEAST:
            return False
    return True


def fractions_of(atoms: Floats, element: Ints) -> Floats:
    """Fractions (118,) of atoms (s, k) of elements (s, k), vacancies left out."""
    by_element = amounts_of(atoms, element)
    return np.asarray(by_element / by_element.sum())


def amounts_of(atoms: Floats, element: Ints) -> Floats:
    """Atoms of each element (118,) in a formula with atoms (s, k) of elements (s, k), in DECIMALS."""
    by_element = np.bincount(element.ravel(), weights=atoms.ravel(), minlength=N_ELEMENTS + 1)
    return np.asarray(np.round(by_element[:N_ELEMENTS], DECIMALS))


def formula_of(atoms: Floats, element: Ints) -> str:
    """The formula of atoms (s, k) of elements (s, k): site by site, the larger amount first; an element that stands on
    two sites is written once.
    """
    amounts = amounts_of(atoms, element)
    written: dict[str, float] = {}
    for at in range(len(atoms)):
        order = np.argsort(-np.round(atoms[at], DECIMALS), kind="stable")
        for slot in order.tolist():
            z = int(element[at, slot])
            if z != VACANCY and atoms[at, slot] > 0 and amounts[z] > 0:
                written.setdefault(SYMBOLS[z], float(amounts[z]))
    return write(written)
