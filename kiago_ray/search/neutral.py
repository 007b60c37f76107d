"""The integer formulas around a row that are charge neutral and keep the Pauling rule, by enumeration.

For each total number of atoms: the counts nearest to the row (search.integers), and what one or two atoms that
change from one element of the row to another make of them. A formula is neutral when one of the row's likeliest
assignments of states gives it no charge, which is a matrix product for all of a row's formulas at once. Every formula
found passes `chemistry.neutrality.check`, which gives the states as certificate; what only a rare assignment would
balance may be missed. Metals alone and single elements pass unseen there, and so they do here. Mixed valence is an
option (chemistry.valences); what only it balances, SMACT's screens rule out.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry import oxidation
from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.chemistry.oxidation import OxidationSet
from kiago_ray.chemistry.valences import likeliest_valences
from kiago_ray.search.integers import IntegerCandidates, least_counts, nearest_by_total
from kiago_ray.search.neutral_states import StateTable, likely_assignments, state_table

MOST_TOTALS = 32  # of a row, those whose nearest counts are nearest
MOST_FORMULAS = 4_096  # of a row, the nearest, that are tested
MOST_MIXED = 48  # of a row, the nearest, that mixed valence is tested on
TWO_ATOMS = 10  # elements of a row up to which two atoms change at once
_SAME = 9  # decimals of an L1 distance: what differs by less is a tie

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class NeutralCandidates(IntegerCandidates):
    """The same of neutral formulas. nats: (rows, k) −ln of how likely the states that balance it are, a mean over
    its atoms; 0 where metals or a single element pass unseen."""

    nats: Floats


def exchanges(elements: int, atoms: int) -> Ints:
    """Every way in which up to `atoms` atoms change from one of `elements` to another, none first: (m, elements).

    Each sums to 0; fewer atoms come first.
    """
    unit = np.eye(elements, dtype=np.int64)
    single = [unit[a] - unit[b] for a in range(elements) for b in range(elements) if a != b]
    moves = {tuple(np.zeros(elements, dtype=np.int64).tolist()): None}
    for number in range(1, atoms + 1):
        for chosen in combinations_with_replacement(range(len(single)), number):
            moves.setdefault(tuple(sum(single[at] for at in chosen).tolist()), None)
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
) -> NeutralCandidates:
    """The `keep` nearest distinct neutral formulas within max_distance of each row of fractions (rows, 118).

    Arguments as those of `integers.project`. mixed_valence: also formulas that only two states of one element balance,
    among the MOST_MIXED nearest. A row is worked out by itself, whichever others there are.
    """
    table, metals = state_table(oxidation_set), oxidation.metals()
    atoms = np.array(totals)
    least = np.stack([least_counts(total, fixed) for total in totals])
    exact = (fixed > 0) & (not may_grow)
    rows, width = fractions.shape
    counts = np.zeros((rows, keep, width), dtype=np.int64)
    distance, nats = np.full((rows, keep), np.inf), np.full((rows, keep), np.inf)
    moves: dict[int, Ints] = {}
    every_column, nearest = nearest_by_total(fractions, totals, fixed, may_grow)
    for row in range(rows):
        held = (fractions[row, every_column[row]] > 0) | (fixed[every_column[row]] > 0)
        columns = every_column[row, held]
        k = len(columns)
        if k not in moves:
            moves[k] = exchanges(k, 2 if k <= TWO_ATOMS else 1)
        allowed = moves[k][~moves[k][:, exact[columns]].any(axis=1)]
        x = fractions[row, columns]
        near, far = _around(x, nearest[row][:, held], atoms, least[:, columns], allowed, max_distance)
        cost = _nats(near, columns, x, table, metals)
        if mixed_valence:
            cost[:MOST_MIXED] = _mixed_nats(near[:MOST_MIXED], columns, cost[:MOST_MIXED], oxidation_set)
        picked = _distinct(near, np.isfinite(cost), keep)
        counts[row, : len(picked), columns] = near[picked].T
        distance[row, : len(picked)] = far[picked]
        nats[row, : len(picked)] = cost[picked]
    return NeutralCandidates(counts, distance, nats)


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


def _nats(counts: Ints, columns: Ints, x: Floats, table: StateTable, metals: Mask) -> Floats:
    """−ln of how likely the states that balance each of counts (n, k) are, a mean over atoms; inf without any."""
    assignments = likely_assignments(columns, x, table)
    # Whole numbers below 2^24 are exact in float32.
    charge = counts.astype(np.float32) @ assignments.states.T.astype(np.float32)
    balanced = charge == 0
    first = balanced.argmax(axis=1)  # the cheapest
    nats = (counts * assignments.nats[first]).sum(axis=1) / counts.sum(axis=1)
    nats[~balanced[np.arange(len(first)), first]] = np.inf
    unseen = ~(counts[:, ~metals[columns]] > 0).any(axis=1) | ((counts > 0).sum(axis=1) == 1)
    return np.where(unseen, 0.0, nats)


def _mixed_nats(counts: Ints, columns: Ints, nats: Floats, oxidation_set: OxidationSet) -> Floats:
    """`nats` (n,) of counts (n, k), and where that is inf −ln of how likely states are that balance it as mixed."""
    unbalanced = np.flatnonzero(~np.isfinite(nats))
    wide = np.zeros((len(unbalanced), N_ELEMENTS), dtype=np.int64)
    wide[:, columns] = counts[unbalanced]
    nats = nats.copy()
    nats[unbalanced] = likeliest_valences(wide, oxidation_set, mixed=True).nats
    return nats


def _distinct(counts: Ints, wanted: Mask, keep: int) -> Ints:
    """The first `keep` of the wanted counts (n, k) that differ as compositions."""
    found: dict[tuple[int, ...], int] = {}
    for at in np.flatnonzero(wanted).tolist():
        row = counts[at] // np.gcd.reduce(counts[at])
        found.setdefault(tuple(row.tolist()), at)
        if len(found) == keep:
            break
    return np.array(list(found.values()), dtype=np.int64)
