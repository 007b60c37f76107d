"""The cheapest neutral assignment of oxidation states to any amounts, exactly, by a sweep over the price of a charge.

With λ the price of one charge (the Lagrange multiplier of neutrality) each element by itself takes the state of least
nats + λ·state. As λ falls, each climbs the lower convex hull of its states' costs, and a step between two states comes
where λ is its slope. So a formula's steps sorted by slope, taken until the charge is 0, are the optimum of one cut
between cations and anions; of all cuts the cheapest holds. All formulas and cuts are swept at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry.bonding import oxides, pnictogen_rich
from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.chemistry.oxidation import OxidationSet
from kiago_ray.chemistry.state_costs import SURROUNDINGS, state_costs

STEPS = 8  # most steps between states of one element on one side of a cut
ON_LINE = 1e-9  # nats × charges: a state on the line between two others belongs to the hull
SAME = 1e-6  # of an element's atoms, or charges an atom: a difference that rounding makes

Shares = tuple[tuple[int, float], ...]
"""(state, atoms) of one element: one pair, or two with the likelier state first."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Hulls:
    """The lower convex hulls of the states' costs by surroundings, side of the cut (0 cations, 1 anions) and element.

    states: (3, 2, 118, STEPS + 1) from the lowest up, the last repeated. nats: the same, inf without any. slope:
    (3, 2, 118, STEPS) nats a charge of each step, inf past the last.
    """

    states: Floats
    nats: Floats
    slope: Floats


@cache
def _hulls(oxidation_set: OxidationSet) -> Hulls:
    costs = state_costs(oxidation_set)
    shape = (len(SURROUNDINGS), 2, N_ELEMENTS)
    states, nats = np.zeros((*shape, STEPS + 1)), np.full((*shape, STEPS + 1), np.inf)
    slope = np.full((*shape, STEPS), np.inf)
    for surroundings, elements in enumerate(costs.nats):
        for z, known in enumerate(elements):
            for side, sign in enumerate((1, -1)):
                hull = _lower_hull(sorted((s, c) for s, c in known.items() if s * sign >= 0))
                if not hull or np.isnan(costs.scale[z]):
                    continue
                at = surroundings, side, z
                states[at], nats[at] = hull[-1]
                for step, (state, cost) in enumerate(hull):
                    states[(*at, step)], nats[(*at, step)] = state, cost
                for step, ((low, cheap), (high, dear)) in enumerate(pairwise(hull)):
                    slope[(*at, step)] = (dear - cheap) / (high - low)
                slope[at] = np.maximum.accumulate(slope[at])  # rounding aside, it is so already
    return Hulls(states, nats, slope)


def _lower_hull(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Those of points (ascending) that no line between two others passes below; those on such a line stay."""
    hull: list[tuple[int, float]] = []
    for x, y in points:
        while len(hull) > 1:
            (x0, y0), (x1, y1) = hull[-2:]
            if (y1 - y0) * (x - x0) <= (y - y0) * (x1 - x0) + ON_LINE:
                break
            hull.pop()
        hull.append((x, y))
    return hull


def cheapest_states(
    amounts: Floats, oxidation_set: OxidationSet
) -> tuple[Floats, list[Mapping[int, Shares]]]:
    """For amounts (n, 118): the nats an atom of the cheapest neutral states (n,), inf where there are none; and the
    states themselves, {} without any.
    """
    n = len(amounts)
    fractions = amounts / amounts.sum(axis=1, keepdims=True)
    scale = state_costs(oxidation_set).scale
    k = max(int((amounts > 0).sum(axis=1).max(initial=0)), 1)
    absent = amounts <= 0
    order = np.lexsort((np.broadcast_to(np.nan_to_num(scale), amounts.shape), absent), axis=1)[:, :k]
    x = np.take_along_axis(fractions, order, axis=1)
    surroundings = np.where(oxides(amounts), 0, np.where(pnictogen_rich(amounts), 2, 1))
    best = np.full(n, np.inf)
    filled = np.zeros((n, k, STEPS))
    sides = np.zeros((n, k), dtype=np.int64)
    for cut in range(k - 1, 0, -1):
        between = (x[:, cut] > 0) & (scale[order[:, cut - 1]] != scale[order[:, cut]])
        rows = np.flatnonzero(between)
        side = np.broadcast_to(np.where(np.arange(k) < cut, 0, 1), (len(rows), k))
        at = surroundings[rows][:, None], side, order[rows]
        cost, fill = _swept(x[rows], _hulls(oxidation_set), at)
        better = cost < best[rows]
        won = rows[better]
        best[won], filled[won], sides[won] = cost[better], fill[better], side[better]
    found: list[Mapping[int, Shares]] = [{} for _ in range(n)]
    hulls = _hulls(oxidation_set)
    for row in np.flatnonzero(np.isfinite(best)).tolist():
        held = [(j, int(order[row, j])) for j in np.flatnonzero(x[row] > 0).tolist()]
        found[row] = {
            z: _shares(hulls, (surroundings[row], sides[row, j], z), filled[row, j], amounts[row, z])
            for j, z in held
        }
    return best, found


def _swept(x: Floats, hulls: Hulls, at: tuple[Ints, Ints, Ints]) -> tuple[Floats, Floats]:
    """One cut of m formulas, fractions x (m, k), on the hulls `at` (m, k): the nats an atom (m,), inf where the charge
    can't be 0; how much of each step is taken (m, k, STEPS).
    """
    m, k = x.shape
    present = x > 0
    states, slope = hulls.states[at], hulls.slope[at]
    lowest = np.where(present, hulls.nats[at][..., 0], 0.0)
    charge = (x * states[..., 0]).sum(axis=1)
    width = (x[..., None] * np.diff(states, axis=2)).reshape(m, k * STEPS)
    slope = np.where(present[..., None], slope, np.inf).reshape(m, k * STEPS)
    order = np.argsort(slope, axis=1, kind="stable")
    width, slope = np.take_along_axis(width, order, axis=1), np.take_along_axis(slope, order, axis=1)
    width = np.where(np.isfinite(slope), width, 0.0)
    before = np.cumsum(width, axis=1) - width
    taken = np.clip(-charge[:, None] - before, 0.0, width)
    taken = np.where(taken < SAME * SAME, 0.0, taken)
    impossible = (charge > SAME) | (charge + width.sum(axis=1) < -SAME) | ~np.isfinite(lowest).all(axis=1)
    cost = (x * np.where(np.isfinite(lowest), lowest, 0.0)).sum(axis=1)
    cost += (taken * np.where(np.isfinite(slope), slope, 0.0)).sum(axis=1)
    part = np.divide(taken, width, out=np.zeros_like(taken), where=width > 0)
    filled = np.zeros_like(part)
    np.put_along_axis(filled, order, part, axis=1)
    return np.where(impossible, np.inf, cost), filled.reshape(m, k, STEPS)


def _shares(hulls: Hulls, at: tuple[int, int, int], filled: Floats, atoms: float) -> Shares:
    """The states of one element's atoms, of whose steps the parts `filled` (STEPS,) are taken."""
    step = int((filled > 1 - SAME).sum())
    part = float(filled[step]) if step < STEPS and filled[step] > SAME else 0.0
    states, nats = hulls.states[at], hulls.nats[at]
    if part == 0:
        return ((int(states[step]), float(atoms)),)
    pairs = [(nats[step], int(states[step]), 1 - part), (nats[step + 1], int(states[step + 1]), part)]
    return tuple((state, round(share * float(atoms), 9)) for _, state, share in sorted(pairs))
