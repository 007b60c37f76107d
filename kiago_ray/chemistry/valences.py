"""The likeliest oxidation states that balance a formula under the Pauling rule, mixed valence allowed or not.

`neutrality.check` says whether there are such states; here of all that balance those are found that occur most often:
the least Σ −ln(share of the state in the ICSD) over atoms. For each charge that the first elements of one side of a
cut can have together the least is carried on, so the cost is a sum over elements, not a product.

With mixed valence each element takes one or two of its states: a atoms of one and n − a of the other, as Cu²⁺ and Cu³⁺
in YBa₂Cu₃O₇, which SMACT's screens don't know. Without, exactly the formulas are balanced that pass its Pauling rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry import oxidation
from kiago_ray.chemistry.formula import reduce_counts
from kiago_ray.chemistry.oxidation import OxidationSet

MAX_ATOMS = 1_000  # in a reduced formula; the work grows with the square of it

Valence = tuple[tuple[int, int], ...]
"""(state, atoms) of one element: one pair, or two with the likelier state first."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Valences:
    """neutral: (N,) bool. assignments: for each formula the valence of each of its elements, by index; {} where it
    isn't neutral. Charges add up to 0 with the atoms of the reduced formula. nats: (N,) −ln of how likely these states
    are, a mean over atoms; inf where it isn't neutral.
    """

    neutral: NDArray[np.bool_]
    assignments: tuple[dict[int, Valence], ...]
    nats: Floats


def likeliest_valences(
    counts: NDArray[Any], states: OxidationSet = OxidationSet.ICSD24, *, mixed: bool
) -> Valences:
    """The likeliest states that balance each of the whole numbers of atoms (N, 118). mixed: atoms of one element may
    take two states. A formula of more than MAX_ATOMS atoms when reduced isn't judged, and so not neutral.
    """
    known, shares = oxidation.states_by_frequency(states), oxidation.state_shares(states)
    table = [list(zip(s, -np.log(p), strict=True)) if s else [] for s, p in zip(known, shares, strict=True)]
    scale = oxidation.electronegativities()
    whole = reduce_counts(np.asarray(counts))
    found = [_likeliest(row, table, scale, mixed) for row in whole]
    nats = np.array([each[1] for each in found]) / np.maximum(whole.sum(axis=1), 1)
    return Valences(np.isfinite(nats), tuple(each[0] for each in found), nats)


def _likeliest(
    counts: NDArray[np.int64],
    table: Sequence[Sequence[tuple[int, float]]],
    scale: Sequence[float | None],
    mixed: bool,
) -> tuple[dict[int, Valence], float]:
    """The likeliest assignment over all cuts and its nats, {} and inf without any."""
    present = sorted(np.flatnonzero(counts).tolist(), key=lambda z: (scale[z] or 0.0, z))
    if not present or counts.sum() > MAX_ATOMS or any(scale[z] is None for z in present):
        return {}, np.inf
    below = _Side.of([_valences(int(counts[z]), table[z], 1, mixed) for z in present])
    above = _Side.of([_valences(int(counts[z]), table[z], -1, mixed) for z in reversed(present)])
    k, best = len(present), (np.inf, 0, 0)
    for cut in range(k, -1, -1):
        if cut in (0, k) or scale[present[cut - 1]] != scale[present[cut]]:
            shared = min(len(below.cost[cut]), len(above.cost[k - cut]))
            cost = below.cost[cut][:shared] + above.cost[k - cut][:shared]
            charge = int(cost.argmin())
            best = min(best, (float(cost[charge]), -cut, charge))
    nats, cut, charge = best[0], -best[1], best[2]
    if not np.isfinite(nats):
        return {}, np.inf
    chosen = below.traced(cut, charge) + above.traced(k - cut, charge)[::-1]
    return dict(zip(present, chosen, strict=True)), nats


def _valences(
    count: int, table: Sequence[tuple[int, float]], sign: int, mixed: bool
) -> dict[int, tuple[float, Valence]]:
    """Each charge·sign ≥ 0 that `count` atoms can have together, with the likeliest way and its nats."""
    states = [(state, cost) for state, cost in table if state * sign >= 0]
    found: dict[int, tuple[float, Valence]] = {
        sign * count * state: (count * cost, ((state, count),)) for state, cost in states
    }
    for (first, cheap), (second, dear) in combinations(states, 2) if mixed else ():
        for atoms in range(1, count):
            charge = sign * (atoms * first + (count - atoms) * second)
            cost = atoms * cheap + (count - atoms) * dear
            if charge not in found or cost < found[charge][0]:
                found[charge] = (cost, ((first, atoms), (second, count - atoms)))
    return found


@dataclass(frozen=True)
class _Side:
    """The elements of one side of a cut, from the outside in. cost[j][q]: least nats of the first j at the charge q;
    taken[j][q]: the charge of the element j then.
    """

    valences: list[dict[int, tuple[float, Valence]]]
    cost: list[Floats]
    taken: list[NDArray[np.int64]]

    @classmethod
    def of(cls, valences: list[dict[int, tuple[float, Valence]]]) -> _Side:
        cost, taken = [np.zeros(1)], []
        for choices in valences:
            reach = np.full(len(cost[-1]) + max(choices, default=0), np.inf)
            which = np.zeros(len(reach), dtype=np.int64)
            for charge, (nats, _) in choices.items():
                new, at = cost[-1] + nats, slice(charge, charge + len(cost[-1]))
                better = new < reach[at]
                reach[at][better], which[at][better] = new[better], charge
            cost.append(reach)
            taken.append(which)
        return cls(valences, cost, taken)

    def traced(self, elements: int, charge: int) -> list[Valence]:
        """What each of the first `elements` takes so that together they have `charge`."""
        chosen: list[Valence] = []
        for j in range(elements - 1, -1, -1):
            own = int(self.taken[j][charge])
            chosen.append(self.valences[j][own][1])
            charge -= own
        return chosen[::-1]
