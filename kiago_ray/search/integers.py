"""Fractions → integer formulas that satisfy every constraint, and the paper's plain rounding for comparison.

The projection takes, for each total number of atoms N, the counts nearest to N·x in L1 among those that add
up to N, keep fixed amounts and stay on the elements of x. Such a loss is a sum of one convex function an
element, so giving one atom at a time to the element that is furthest below its target is optimal, not just
greedy; with no lower bounds that is the method of largest remainders. Ties go to the lower atomic number, and
between totals to the smaller one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry.formula import reduce_counts

WHOLE = 1e-6  # atoms: a fixed amount counts as whole within this
_SAME = 9  # decimals of an L1 distance: what differs by less is a tie
_NEVER = np.inf

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class IntegerCandidates:
    """The k integer formulas nearest to each row, nearest first.

    counts: (rows, k, 118) atoms, zeros where there are fewer formulas. distance: (rows, k) L1 distance in
    fractions, inf there.
    """

    counts: Ints
    distance: Floats


def least_counts(total: int, fixed: Floats) -> Ints:
    """Atoms that fixed amounts (118,) need at least in a formula of `total` atoms, (118,)."""
    return np.ceil(total * fixed - WHOLE).astype(np.int64)


def feasible_totals(totals: Iterable[int], fixed: Floats, may_grow: bool) -> tuple[int, ...]:
    """The totals in which fixed amounts (118,) are whole atoms or, where they may grow, have room."""
    if may_grow:
        return tuple(n for n in totals if least_counts(n, fixed).sum() <= n)
    return tuple(n for n in totals if (np.abs(n * fixed - np.rint(n * fixed)) < WHOLE).all())


def nearest_counts(fractions: Floats, total: int, least: Ints, exact: NDArray[np.bool_]) -> Ints:
    """Counts (rows, k) that add up to `total`, nearest to total·fractions (rows, k) in L1 (and in L2).

    least: (rows, k) atoms that are the minimum; exact: (rows, k) where they are the count itself.
    """
    target = np.where(exact, least, fractions * total)
    counts = np.where(exact, least, np.maximum(np.floor(target + 1e-9).astype(np.int64), least))
    missing = total - counts.sum(axis=1)
    below = np.where(exact | (fractions <= 0), -_NEVER, np.round(target - counts, _SAME))
    order = np.argsort(-below, axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(order.shape[1])[None, :].repeat(len(order), axis=0), axis=1)
    counts = counts + (rank < missing[:, None])
    # Lower bounds took more than there is: give back what is missed least.
    for row in np.flatnonzero(missing < 0):
        for _ in range(-int(missing[row])):
            spare = np.where(counts[row] > least[row], target[row] - counts[row], _NEVER)
            spare[exact[row]] = _NEVER
            counts[row, np.argmin(np.round(spare, _SAME))] -= 1
    return np.asarray(counts)


def project(
    fractions: Floats, totals: tuple[int, ...], fixed: Floats, may_grow: bool, keep: int = 1
) -> IntegerCandidates:
    """The `keep` nearest distinct integer formulas of each row of fractions (rows, 118).

    `totals` are feasible for `fixed` (see feasible_totals). A formula that a smaller total already gives is
    left out.
    """
    rows = len(fractions)
    columns, everything = nearest_by_total(fractions, totals, fixed, may_grow)
    x = np.take_along_axis(fractions, columns, axis=1)
    distance = np.full((rows, len(totals)), _NEVER)
    reduced = np.zeros_like(everything)  # by the greatest common divisor: the same for the same composition
    for at, total in enumerate(totals):
        counts = everything[:, at]
        reduced[:, at] = reduce_counts(counts)
        repeated = (reduced[:, :at] == reduced[:, at, None]).all(axis=2).any(axis=1)
        far = np.round(np.abs(counts / total - x).sum(axis=1), _SAME)
        distance[:, at] = np.where(repeated, _NEVER, far)
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :keep]
    distance = np.take_along_axis(distance, nearest, axis=1)
    chosen = np.take_along_axis(everything, nearest[:, :, None], axis=1).astype(np.int64)
    chosen[~np.isfinite(distance)] = 0
    result = np.zeros((rows, nearest.shape[1], fractions.shape[1]), dtype=np.int64)
    np.put_along_axis(result, columns[:, None, :].repeat(nearest.shape[1], axis=1), chosen, axis=2)
    return IntegerCandidates(result, distance)


def nearest_by_total(
    fractions: Floats, totals: tuple[int, ...], fixed: Floats, may_grow: bool
) -> tuple[Ints, NDArray[np.int16]]:
    """The columns of each row of fractions (rows, 118) that hold something, by atomic number, (rows, widest row), and
    the counts on them that are nearest for each of n totals, (rows, n, widest row). Narrower rows have empty columns
    among theirs.
    """
    columns = _active_columns(fractions, fixed)
    x = np.take_along_axis(fractions, columns, axis=1)
    bound = fixed[columns]
    exact = (bound > 0) & (not may_grow)
    counts = [nearest_counts(x, total, least_counts(total, fixed)[columns], exact) for total in totals]
    return columns, np.stack(counts, axis=1).astype(np.int16)


def _active_columns(fractions: Floats, fixed: Floats) -> Ints:
    """For each row, by atomic number, the columns that hold something: (rows, widest row)."""
    active = (fractions > 0) | (fixed > 0)
    width = max(int(active.sum(axis=1).max(initial=1)), 1)
    return np.sort(np.argsort(~active, axis=1, kind="stable")[:, :width], axis=1)


def choose(candidates: IntegerCandidates, cost: Floats, max_distance: float) -> Ints:
    """Counts (rows, 118) of the candidate within max_distance that has the least cost (rows, k); the nearest if none
    is within it.

    Of equal costs the nearer wins, and a cost that isn't finite only where no other is.
    """
    near = candidates.distance <= max_distance
    near[:, 0] = True
    best = np.argmin(np.where(near & np.isfinite(cost), cost, _NEVER), axis=1)
    return np.asarray(candidates.counts[np.arange(len(best)), best])


def rounded_counts(fractions: Floats, total: int) -> Ints:
    """The paper's rule-based conversion (3.3): each of total·fractions to its nearest integer, (…, 118).

    Nothing repairs the sum: it may be more or less than `total`.
    """
    return np.rint(fractions * total).astype(np.int64)


def fractional_amounts(
    fractions: Floats, fixed: Floats, may_grow: bool, atoms: float, decimals: int = 4
) -> Floats:
    """Amounts (rows, 118) of a formula with `atoms` atoms: fixed ones as given, the others in steps of
    10^-decimals.

    What fixed amounts leave, to the nearest step, is shared out by the same method as integer counts; fixed
    amounts that may grow are shared out too, and never less than they were.
    """
    unit = 10**decimals
    held = np.zeros_like(fixed) if may_grow else fixed
    free = np.where(held > 0, 0.0, fractions)
    share = free / np.maximum(free.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    steps = round(atoms * (1 - float(held.sum())) * unit)
    least = least_counts(steps, fixed) if may_grow else np.zeros(len(fixed), dtype=np.int64)
    exact = np.zeros(free.shape, dtype=np.bool_)
    counts = nearest_counts(share, steps, np.broadcast_to(least, free.shape), exact)
    return np.asarray(np.round(held * atoms, 9) + counts / unit)
