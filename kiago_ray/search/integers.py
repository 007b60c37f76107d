"""Fractions → integer formulas that satisfy every constraint: the nearest, and those of them that are charge neutral.

The projection takes, for each total number of atoms N, the counts nearest to N·x in L1 among those that add up to N,
keep fixed amounts and stay on the elements of x. Such a loss is a sum of one convex function an element, so giving one
atom at a time to the element that is furthest below its target is optimal; with no lower bounds that is the method of
largest remainders. Ties go to the lower atomic number, and between totals to the smaller one.

Neutral formulas are found by enumeration: for each total the nearest counts, and what one or two atoms that change
from one element of the row to another make of them. A formula is neutral when one of the row's likeliest assignments
of states gives it no charge, a matrix product for all of a row's formulas at once. An assignment keeps the Pauling
rule, a cut (see chemistry.neutrality), and costs Σ x·(−ln share), the share being how often the element was seen in
that state; the cheapest of each cut grow from the cheapest of its first elements. Every formula found passes
`chemistry.neutrality.check`, metals alone and single elements unseen; what only a rare assignment would balance may be
missed. Mixed valence is an option; what only it balances, SMACT's screens rule out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, reduce
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry import oxidation
from kiago_ray.chemistry.elements import Floats, Ints, Mask
from kiago_ray.chemistry.formula import AMOUNT_DECIMALS, least_counts, reduce_counts
from kiago_ray.chemistry.neutrality import cuts, likeliest_valences
from kiago_ray.chemistry.oxidation import OxidationSet

MOST_TOTALS = 32  # of a row, those whose nearest counts are nearest
MOST_FORMULAS = 4_096  # of a row, the nearest, that are tested
MOST_MIXED = 48  # of a row, the nearest, that mixed valence is tested on
TWO_ATOMS = 10  # elements of a row up to which two atoms change at once
MOST_ASSIGNMENTS = 128  # of a row, over all its cuts
IMPOSSIBLE = 10_000  # the state of an element that has none on its side: neutral only where it has no atoms
_UNLIKELY = 1e3  # nats that it costs, so that it comes after everything possible
_SAME = 9  # decimals of an L1 distance: what differs by less is a tie

Assignments = tuple[Ints, Floats]
"""m assignments to k elements, cheapest first: states (m, k), IMPOSSIBLE where an element must go, and −ln of the
share in which each element was seen in its state, (m, k)."""


@dataclass(frozen=True)
class IntegerCandidates:
    """The k integer formulas nearest to each row, nearest first.

    counts: (rows, k, 118) atoms, zeros where there are fewer formulas. distance: (rows, k) L1 distance in fractions,
    inf there. nats: (rows, k) of neutral formulas −ln of how likely the states that balance them are, a mean over
    atoms; 0 where metals or a single element pass unseen, and where none was asked for.
    """

    counts: Ints
    distance: Floats
    nats: Floats


def nearest_counts(fractions: Floats, total: int, least: Ints, exact: Mask) -> Ints:
    """Counts (rows, k) that add up to `total`, nearest to total·fractions (rows, k) in L1 (and in L2).

    least: (rows, k) atoms that are the minimum; exact: (rows, k) where they are the count itself.
    """
    target = np.where(exact, least, fractions * total)
    counts = np.where(exact, least, np.maximum(np.floor(target + 1e-9).astype(np.int64), least))
    missing = total - counts.sum(axis=1)
    below = np.where(exact | (fractions <= 0), -np.inf, np.round(target - counts, _SAME))
    order = np.argsort(-below, axis=1, kind="stable")
    counts = counts + (np.argsort(order, axis=1) < missing[:, None])
    # Lower bounds took more than there is: give back what is missed least.
    for row in np.flatnonzero(missing < 0):
        for _ in range(-int(missing[row])):
            spare = np.where(counts[row] > least[row], target[row] - counts[row], np.inf)
            spare[exact[row]] = np.inf
            counts[row, np.argmin(np.round(spare, _SAME))] -= 1
    return np.asarray(counts)


def project(
    fractions: Floats, totals: tuple[int, ...], fixed: Floats, may_grow: bool, keep: int = 1
) -> IntegerCandidates:
    """The `keep` nearest distinct integer formulas of each row of fractions (rows, 118), without those that a smaller
    total already gives. `totals` are feasible for `fixed` (see feasible_totals).
    """
    columns, everything = nearest_by_total(fractions, totals, fixed, may_grow)
    x = np.take_along_axis(fractions, columns, axis=1)
    distance = np.full(everything.shape[:2], np.inf)
    reduced = reduce_counts(everything)  # the same for the same composition
    for at, total in enumerate(totals):
        repeated = (reduced[:, :at] == reduced[:, at, None]).all(axis=2).any(axis=1)
        far = np.round(np.abs(everything[:, at] / total - x).sum(axis=1), _SAME)
        distance[:, at] = np.where(repeated, np.inf, far)
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :keep]
    distance = np.take_along_axis(distance, nearest, axis=1)
    chosen = np.take_along_axis(everything, nearest[:, :, None], axis=1).astype(np.int64)
    chosen[~np.isfinite(distance)] = 0
    result = np.zeros((*nearest.shape, fractions.shape[1]), dtype=np.int64)
    np.put_along_axis(result, columns[:, None, :].repeat(nearest.shape[1], axis=1), chosen, axis=2)
    return IntegerCandidates(result, distance, np.zeros(distance.shape))


def nearest_by_total(
    fractions: Floats, totals: tuple[int, ...], fixed: Floats, may_grow: bool
) -> tuple[Ints, NDArray[np.int16]]:
    """The columns of each row of fractions (rows, 118) that hold something, by atomic number, (rows, widest row), with
    empty ones in narrower rows, and the counts on them that are nearest for each of n totals, (rows, n, widest row).
    """
    active = (fractions > 0) | (fixed > 0)
    width = max(int(active.sum(axis=1).max(initial=1)), 1)
    columns = np.sort(np.argsort(~active, axis=1, kind="stable")[:, :width], axis=1)
    x = np.take_along_axis(fractions, columns, axis=1)
    bound = fixed[columns]
    exact = (bound > 0) & (not may_grow)
    counts = [nearest_counts(x, total, least_counts(total, fixed)[columns], exact) for total in totals]
    return columns, np.stack(counts, axis=1).astype(np.int16)


def choose(candidates: IntegerCandidates, cost: Floats, max_distance: float) -> Ints:
    """Counts (rows, 118) of the candidate within max_distance that has the least cost (rows, k); the nearest if none
    is within it. Of equal costs the nearer wins, and a cost that isn't finite only where no other is.
    """
    near = candidates.distance <= max_distance
    near[:, 0] = True
    best = np.argmin(np.where(near & np.isfinite(cost), cost, np.inf), axis=1)
    return np.asarray(candidates.counts[np.arange(len(best)), best])


def fractional_amounts(fractions: Floats, fixed: Floats, may_grow: bool, atoms: float) -> Floats:
    """Amounts (rows, 118) of a formula with `atoms` atoms: fixed ones as given, others with AMOUNT_DECIMALS decimals.

    What fixed amounts leave, to the nearest step, is shared out by the same method as integer counts; fixed amounts
    that may grow are shared out too, and never less than they were.
    """
    unit = 10**AMOUNT_DECIMALS
    held = np.zeros_like(fixed) if may_grow else fixed
    free = np.where(held > 0, 0.0, fractions)
    share = free / np.maximum(free.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    steps = round(atoms * (1 - float(held.sum())) * unit)
    least = least_counts(steps, fixed) if may_grow else np.zeros(len(fixed), dtype=np.int64)
    exact = np.zeros(free.shape, dtype=np.bool_)
    counts = nearest_counts(share, steps, np.broadcast_to(least, free.shape), exact)
    return np.asarray(np.round(held * atoms, 9) + counts / unit)


@cache
def exchanges(elements: int, atoms: int) -> Ints:
    """Every way in which up to `atoms` atoms change from one element to another, the fewest first: (m, elements)."""
    unit = np.eye(elements, dtype=np.int64)
    single = [unit[a] - unit[b] for a in range(elements) for b in range(elements) if a != b]
    moves = {(0,) * elements: None}
    for number in range(1, atoms + 1):
        for chosen in combinations_with_replacement(single, number):
            moves.setdefault(tuple(sum(chosen).tolist()), None)
    return np.array(list(moves), dtype=np.int64)


def neutral_formulas(
    fractions: Floats,
    totals: tuple[int, ...],
    fixed: Floats,
    may_grow: bool,
    *,
    oxidation_set: OxidationSet,
    keep: int,
    max_distance: float,
    mixed_valence: bool = False,
    otherwise: IntegerCandidates | None = None,
) -> IntegerCandidates:
    """The `keep` nearest distinct neutral formulas within max_distance of each row of fractions (rows, 118), worked
    out by itself; `otherwise`'s, of no nats, for a row without any. Other arguments as those of `project`.
    mixed_valence: also those of the MOST_MIXED nearest that only two states of one element balance.
    """
    metals = oxidation.metals()
    atoms = np.array(totals)
    least = np.stack([least_counts(total, fixed) for total in totals])
    exact = (fixed > 0) & (not may_grow)
    rows, width = fractions.shape
    counts = np.zeros((rows, keep, width), dtype=np.int64)
    distance, nats = np.full((rows, keep), np.inf), np.zeros((rows, keep))
    if otherwise is not None:
        counts[:, : otherwise.counts.shape[1]] = otherwise.counts
        distance[:, : otherwise.counts.shape[1]] = otherwise.distance
    every_column, nearest = nearest_by_total(fractions, totals, fixed, may_grow)
    for row in range(rows):
        held = (fractions[row, every_column[row]] > 0) | (fixed[every_column[row]] > 0)
        columns = every_column[row, held]
        k = len(columns)
        moves = exchanges(k, 2 if k <= TWO_ATOMS else 1)
        moves = moves[~moves[:, exact[columns]].any(axis=1)]
        x = fractions[row, columns]
        near, far = _around(x, nearest[row][:, held], atoms, least[:, columns], moves, max_distance)
        cost = _nats(near, columns, x, oxidation_set, metals)
        if mixed_valence:
            unbalanced = np.flatnonzero(~np.isfinite(cost[:MOST_MIXED]))
            wide = np.zeros((len(unbalanced), width), dtype=np.int64)
            wide[:, columns] = near[unbalanced]
            cost[unbalanced] = likeliest_valences(wide, oxidation_set, mixed=True)[1]
        found = np.flatnonzero(np.isfinite(cost))
        _, first = np.unique(reduce_counts(near[found]), axis=0, return_index=True)
        picked = found[np.sort(first)[:keep]]
        if len(picked):
            counts[row], distance[row] = 0, np.inf
            counts[row, : len(picked), columns] = near[picked].T
            distance[row, : len(picked)] = far[picked]
            nats[row, : len(picked)] = cost[picked]
    return IntegerCandidates(counts, distance, nats)


def _around(
    x: Floats, nearest: NDArray[np.int16], atoms: Ints, least: Ints, moves: Ints, max_distance: float
) -> tuple[Ints, Floats]:
    """Counts (n, k) that moves (m, k) make of the nearest (totals, k) to amounts (k,), none below least (totals, k),
    and their L1 distances (n,), nearest first.
    """
    gap = nearest / atoms[:, None] - x
    close = np.argsort(np.round(np.abs(gap).sum(axis=1), _SAME), kind="stable")[:MOST_TOTALS]
    far = np.zeros((len(close), len(moves)))
    fits = np.ones(far.shape, dtype=np.bool_)
    # An element at a time: arrays (totals, moves) are quicker than those with a short last axis.
    for at in range(len(x)):
        step = moves[:, at]
        far += np.abs(gap[close, at, None] + step / atoms[close, None])
        fits &= step >= (least[close, at] - nearest[close, at])[:, None]
    far = np.round(far, _SAME)
    total, move = np.nonzero(fits & (far <= max_distance))
    order = np.argsort(far[total, move], kind="stable")[:MOST_FORMULAS]
    total, move = total[order], move[order]
    return nearest[close[total]] + moves[move], far[total, move]


def _nats(counts: Ints, columns: Ints, x: Floats, oxidation_set: OxidationSet, metals: Mask) -> Floats:
    """−ln of how likely the states that balance each of counts (n, k) are, a mean over atoms; inf without any."""
    states, state_nats = likely_assignments(columns, x, oxidation_set)
    # Whole numbers below 2^24 are exact in float32.
    charge = counts.astype(np.float32) @ states.T.astype(np.float32)
    balanced = charge == 0
    first = balanced.argmax(axis=1)  # the cheapest
    nats = (counts * state_nats[first]).sum(axis=1) / counts.sum(axis=1)
    nats[~balanced[np.arange(len(first)), first]] = np.inf
    unseen = ~(counts[:, ~metals[columns]] > 0).any(axis=1) | ((counts > 0).sum(axis=1) == 1)
    return np.where(unseen, 0.0, nats)


def likely_assignments(
    elements: Ints, fractions: Floats, oxidation_set: OxidationSet, most: int = MOST_ASSIGNMENTS
) -> Assignments:
    """The `most` cheapest assignments for k elements (k,) in amounts (k,): of each cut, then of all.

    On the positive side of a cut an element has its states ≥ 0, on the negative one those ≤ 0; one without
    electronegativity has none.
    """
    known = np.array(oxidation.electronegativities(), dtype=np.float64)[elements]
    order = np.lexsort((elements, np.nan_to_num(known, nan=0.0)))
    scale, weight, table = known[order], fractions[order], oxidation.state_nats(oxidation_set)

    def grown(found: Assignments, at: int, sign: int) -> Assignments:
        states, nats = found
        fits = {} if np.isnan(scale[at]) else table[elements[order[at]]]
        own = {state: each for state, each in fits.items() if state * sign >= 0} or {IMPOSSIBLE: _UNLIKELY}
        own_states, own_nats = np.array([*own]), np.array([*own.values()])
        cost = ((nats @ weight[:at])[:, None] + own_nats * weight[at]).ravel()
        first, last = np.divmod(np.argsort(cost, kind="stable")[:most], len(own))
        longer = np.concatenate([states[first], own_states[last, None]], axis=1)
        return longer, np.concatenate([nats[first], own_nats[last, None]], axis=1)

    below = [(np.zeros((1, 0), dtype=np.int64), np.zeros((1, 0)))]  # the first elements, all positive
    for at in range(len(elements)):
        below.append(grown(below[-1], at, 1))
    found = [
        reduce(lambda each, at: grown(each, at, -1), range(cut, len(elements)), below[cut])
        for cut in reversed(cuts(np.nan_to_num(scale, nan=0.0).tolist()))
    ]
    states, nats = (np.concatenate(each)[:, np.argsort(order)] for each in zip(*found, strict=True))
    cheapest = np.argsort(nats @ fractions, kind="stable")[:most]
    return states[cheapest], nats[cheapest]
