"""The likeliest assignments of oxidation states to the elements of a row, each in keeping with the Pauling rule.

The rule is a cut over electronegativity (see chemistry.neutrality): what lies up to it takes positive states, what
lies beyond negative ones. An assignment costs Σ x·(−ln share), the share being how often the element was seen in that
state; costs add up over elements, so the cheapest of each cut grow from the cheapest of its first elements.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry import oxidation
from kiago_ray.chemistry.oxidation import OxidationSet

MOST_ASSIGNMENTS = 128  # of a row, over all its cuts
IMPOSSIBLE = 10_000  # the state of an element that has none on its side: neutral only where it has no atoms
_UNLIKELY = 1e3  # nats that it costs, so that it comes after everything possible

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Assignments:
    """m assignments of states to k elements, cheapest first.

    states: (m, k), IMPOSSIBLE where an element must go. nats: (m, k) −ln of the share in which the element was seen in
    its state.
    """

    states: Ints
    nats: Floats


@dataclass(frozen=True)
class StateTable:
    """For each element, on the positive side [0] and on the negative side [1] of a cut, its states and −ln of
    their shares, likeliest first, and its electronegativity (NaN where it has none).
    """

    states: tuple[tuple[Ints, ...], tuple[Ints, ...]]
    nats: tuple[tuple[Floats, ...], tuple[Floats, ...]]
    electronegativity: Floats


def state_table(oxidation_set: OxidationSet) -> StateTable:
    """The states of `oxidation_set` by side. 0 is on both sides; an element without electronegativity on none."""
    known = oxidation.states_by_frequency(oxidation_set)
    shares = oxidation.state_shares(oxidation_set)
    scale = np.array([np.nan if e is None else e for e in oxidation.electronegativities()])
    states: tuple[list[Ints], list[Ints]] = ([], [])
    nats: tuple[list[Floats], list[Floats]] = ([], [])
    for z, (each, share) in enumerate(zip(known, shares, strict=True)):
        for side, sign in enumerate((1, -1)):
            fits = [at for at, state in enumerate(each) if state * sign >= 0 and not np.isnan(scale[z])]
            states[side].append(np.array([each[at] for at in fits] or [IMPOSSIBLE], dtype=np.int64))
            nats[side].append(np.array([-np.log(share[at]) for at in fits] or [_UNLIKELY]))
    return StateTable(
        (tuple(states[0]), tuple(states[1])), (tuple(nats[0]), tuple(nats[1])), np.nan_to_num(scale, nan=0.0)
    )


def likely_assignments(
    elements: Ints, fractions: Floats, table: StateTable, most: int = MOST_ASSIGNMENTS
) -> Assignments:
    """The `most` cheapest assignments for k elements (k,) in amounts (k,): of each cut, then of all."""
    order = np.lexsort((elements, table.electronegativity[elements]))
    scale, back = table.electronegativity[elements[order]], np.argsort(order)
    k = len(elements)
    weight = fractions[order]
    below = _cheapest_of_first(elements[order], weight, table, 0, most)
    above = _cheapest_of_first(elements[order[::-1]], weight[::-1], table, 1, most)
    found = [
        _joined(below[cut], (above[k - cut][0][:, ::-1], above[k - cut][1][:, ::-1]), weight, most)
        for cut in range(k + 1)
        if cut in (0, k) or scale[cut - 1] != scale[cut]
    ]
    states = np.concatenate([each[0] for each in found])[:, back]
    nats = np.concatenate([each[1] for each in found])[:, back]
    cheapest = np.argsort(nats @ fractions, kind="stable")[:most]
    return Assignments(states[cheapest], nats[cheapest])


def _cheapest_of_first(
    elements: Ints, weight: Floats, table: StateTable, side: int, most: int
) -> list[tuple[Ints, Floats]]:
    """The `most` cheapest assignments of one side's states to the first 0, 1, … k of elements (k,)."""
    found = [(np.zeros((1, 0), dtype=np.int64), np.zeros((1, 0)))]
    for at, z in enumerate(elements.tolist()):
        one = table.states[side][z][:, None], table.nats[side][z][:, None]
        found.append(_joined(found[-1], one, weight[: at + 1], most))
    return found


def _joined(
    first: tuple[Ints, Floats], second: tuple[Ints, Floats], weight: Floats, most: int
) -> tuple[Ints, Floats]:
    """The `most` cheapest of every row of (m, i) with every row of (n, j): (m·n or fewer, i + j)."""
    n = len(second[0])
    split = first[1].shape[1]
    cost = ((first[1] @ weight[:split])[:, None] + second[1] @ weight[split:]).ravel()
    cheapest = np.argsort(cost, kind="stable")[:most]
    one, other = cheapest // n, cheapest % n
    return (
        np.concatenate([first[0][one], second[0][other]], axis=1),
        np.concatenate([first[1][one], second[1][other]], axis=1),
    )
