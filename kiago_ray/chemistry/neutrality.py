"""Charge balance of formulas in whole numbers of atoms: states of their elements whose charges add up to 0.

Elements have one state each (`check`, which gives SMACT's verdicts: `smact.screening.smact_validity`, section 3.1 of
the paper), one or two (`likeliest_valences`: Cu²⁺ and Cu³⁺ in YBa₂Cu₃O₇), or each atom has its own (`atom_valences`,
section 3.6: LaH10 = {La 2+, H 1- × 6, H 1+ × 4}). Amounts that aren't whole are `balance`'s business. SMACT and the
paper try the product of all states; here the cost is the sum of the numbers of states:

**Neutrality** is reachability. An element shifts the charges that can be reached by atoms·state, for each of its
states. A Python integer holds a set of charges, one bit each, so a shift and an "or" do one state.

**The Pauling rule** (no cation is more electronegative than an anion) is a cut: an assignment passes exactly if some
cut between two different electronegativities has only states ≥ 0 up to it and only states ≤ 0 beyond: if the totals
that the left reaches by states ≥ 0 and those that the right reaches by −states ≥ 0 have one in common. Prefixes give
all of the former and suffixes all of the latter.

SMACT fails the rule for an element without electronegativity. It accepts two kinds of formula unseen: a single
element, and (with `include_alloys`) metals only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry import oxidation
from kiago_ray.chemistry.elements import N_ELEMENTS, Floats, Ints, Mask
from kiago_ray.chemistry.formula import checked_amounts, reduce_counts
from kiago_ray.chemistry.oxidation import OxidationSet

MAX_ATOMS = 1_000_000  # in a reduced formula of `check`; the sets of charges grow with it
MAX_VALENCE_ATOMS = 1_000  # where atoms of one element may differ; the work grows with the square of it

Valence = tuple[tuple[int, int], ...]
"""(state, atoms) of one element: one pair, or two with the likelier state first; by atoms the most frequent first."""
Valences = Mapping[int, Valence]
"""The valence of each element of a formula, by atomic number - 1; charges add up to 0. {} where nothing balances."""
Charges = dict[int, tuple[float, Valence]]
"""The charges that one element's atoms can have together, each with the nats and the states of the likeliest way."""
Taken = tuple[Ints, Charges]
States = Sequence[Mapping[int, float]]
"""How likely, or how dear, each state of each of the 118 elements is, the most frequent first."""
Scale = Sequence[float | None]


@dataclass(frozen=True)
class Neutrality:
    """SMACT's verdicts on N formulas, and what they rest on.

    neutral, pauling: (N,) the verdict without the Pauling rule and with it. alloy: (N,) two or more elements, all
    metals: accepted unseen if alloys are included. elemental: (N,) a single element: accepted unseen. assigned: (N,)
    `states` holds a neutral assignment, a Pauling one if there is any. states: (N, 118), 0 where nothing is assigned.
    """

    neutral: Mask
    pauling: Mask
    alloy: Mask
    elemental: Mask
    assigned: Mask
    states: NDArray[np.int16]


def check(
    counts: NDArray[Any], states: OxidationSet = OxidationSet.ICSD24, *, include_alloys: bool = True
) -> Neutrality:
    """SMACT's verdicts on whole-number counts (N, 118), each with the states it rests on.

    Of several assignments one is given: if any is a Pauling one, with the cut as high up the scale as can be; then,
    from the most electronegative element down, each takes the state most frequent in the ICSD among those that leave
    the rest neutral. Raises ValueError as `checked_amounts` does for whole numbers (SMACT would truncate others in
    silence), and for more than MAX_ATOMS atoms in a reduced formula.
    """
    whole = reduce_counts(checked_amounts(counts, whole=True).astype(np.int64))
    _refuse_more_than(MAX_ATOMS, whole)
    table, electronegativity = oxidation.state_shares(states), oxidation.electronegativities()
    elemental = (whole > 0).sum(axis=1) == 1
    alloy = ~((whole > 0) & ~oxidation.metals()).any(axis=1) & ~elemental
    assigned, ordered = np.zeros((2, len(whole)), dtype=np.bool_)
    charges = np.zeros((len(whole), N_ELEMENTS), dtype=np.int16)
    for row, amounts in enumerate(whole):
        present = _ascending(amounts, electronegativity)
        if not all(table[z] for z in present):
            continue
        amount = amounts[present].tolist()
        choices = [list(table[z]) for z in present]
        scale = [electronegativity[z] for z in present]
        found = None if None in scale else _pauling(amount, choices, scale)
        ordered[row] = found is not None
        found = found or _neutral(amount, choices)
        if found is not None:
            assigned[row] = True
            charges[row, present] = found
    unseen = elemental | alloy if include_alloys else elemental
    return Neutrality(assigned | unseen, ordered | unseen, alloy, elemental, assigned, charges)


def atom_valences(counts: NDArray[Any], states: OxidationSet = OxidationSet.ICSD24) -> list[Valences]:
    """For each formula of whole-number counts (n, 118) valences of its atoms, each atom's own, that add up to 0.

    Of several assignments one with few mixed elements is given: each element in turn, the one with the most atoms
    last, keeps to the first of its states (by their frequency in the ICSD) for as many atoms as leaves the rest
    neutral. An element alone is neutral with 0 for each atom, as SMACT has it. Raises ValueError as `check` does, and
    for more than MAX_VALENCE_ATOMS atoms.
    """
    whole = checked_amounts(counts, whole=True).astype(np.int64)
    _refuse_more_than(MAX_VALENCE_ATOMS, whole)
    return [_by_atom(row, oxidation.state_shares(states)) for row in whole]


def _by_atom(row: Ints, table: States) -> Valences:
    present = sorted(np.flatnonzero(row).tolist(), key=lambda z: (-row[z], z))
    if len(present) == 1:
        return {present[0]: ((0, int(row[present[0]])),)}
    if not all(table[z] for z in present):
        return {}
    atoms = [z for z in present for _ in range(row[z])]
    found = _neutral([1] * len(atoms), [list(table[z]) for z in atoms])
    counted = Counter(zip(atoms, found or (), strict=False))
    return {
        z: tuple(sorted(((s, n) for (own, s), n in counted.items() if own == z), key=lambda p: (-p[1], p[0])))
        for z in (present if found else ())
    }


def _ascending(counts: Ints, scale: Scale) -> list[int]:
    """The elements of counts (118,) by their place on the scale; those without one, which nothing compares, first."""
    return sorted(np.flatnonzero(counts).tolist(), key=lambda z: (scale[z] or 0.0, z))


def _refuse_more_than(most: int, whole: Ints) -> None:
    atoms = whole.sum(axis=1)
    if len(atoms) and atoms.max() > most:
        row = int(np.argmax(atoms))
        raise ValueError(f"the formula in row {row} has {atoms[row]} atoms; the limit is {most}")


def cuts(scale: Scale) -> list[int]:
    """How many of k elements on a rising scale a Pauling cut may leave below it, from k to 0; it parts no equals."""
    k = len(scale)
    return [cut for cut in range(k, -1, -1) if cut in (0, k) or scale[cut - 1] != scale[cut]]


def _reach(counts: Sequence[int], charges: Sequence[Sequence[int]]) -> list[int]:
    """Sets of totals as bits: bit q of entry j is set iff the first j elements can total q ≥ 0."""
    reach = [1]
    for count, choices in zip(counts, charges, strict=True):
        bits = 0
        for choice in choices:
            bits |= reach[-1] << (count * choice)
        reach.append(bits)
    return reach


def _neutral(counts: Sequence[int], states: Sequence[Sequence[int]]) -> list[int] | None:
    """States that cancel, or None; the last element takes its first state that fits, and so on back."""
    lowest = [min(known) for known in states]
    # Counted from the lowest state of each element, no total is negative.
    raised = [[s - low for s in known] for known, low in zip(states, lowest, strict=True)]
    reach = _reach(counts, raised)
    rest = -sum(count * low for count, low in zip(counts, lowest, strict=True))
    if rest < 0 or not reach[-1] >> rest & 1:
        return None
    chosen: list[int] = []
    for j in range(len(counts) - 1, -1, -1):
        for state in states[j]:
            left = rest - counts[j] * (state - lowest[j])
            if left >= 0 and reach[j] >> left & 1:
                chosen.append(state)
                rest = left
                break
    return chosen[::-1]


def _pauling(counts: Sequence[int], states: Sequence[Sequence[int]], scale: Scale) -> list[int] | None:
    """States that cancel and pass the Pauling rule, or None; elements in ascending order of `scale`."""
    positive = [[s for s in known if s >= 0] for known in states]
    negative = [[s for s in known if s <= 0] for known in states]
    below = _reach(counts, positive)
    above = _reach(counts[::-1], [[-s for s in known] for known in negative[::-1]])
    for cut in cuts(scale):
        if below[cut] & above[len(counts) - cut]:
            return _neutral(counts, positive[:cut] + negative[cut:])
    return None


def likeliest_valences(
    counts: NDArray[Any], states: OxidationSet = OxidationSet.ICSD24, *, mixed: bool
) -> tuple[list[Valences], Floats]:
    """The states that balance each of the whole numbers of atoms (N, 118) under the Pauling rule and occur most often,
    for the atoms of the reduced formula; and their nats (N,), the least Σ −ln(share of the state in the ICSD) over
    atoms, a mean over these: inf where a formula isn't neutral. mixed: atoms of one element may take two states.
    Without it exactly the formulas are neutral that pass SMACT's Pauling rule. A formula of more than
    MAX_VALENCE_ATOMS atoms when reduced isn't judged, and so not neutral.
    """
    table, scale = oxidation.state_nats(states), oxidation.electronegativities()
    whole = reduce_counts(np.asarray(counts))
    found = [_likeliest(row, table, scale, mixed) for row in whole]
    nats = np.array([each[1] for each in found]) / np.maximum(whole.sum(axis=1), 1)
    return [each[0] for each in found], nats


def _likeliest(counts: Ints, table: States, scale: Scale, mixed: bool) -> tuple[Valences, float]:
    """The likeliest assignment over all cuts and its nats, {} and inf without any."""
    present = _ascending(counts, scale)
    if not present or counts.sum() > MAX_VALENCE_ATOMS or any(scale[z] is None for z in present):
        return {}, np.inf
    below, lower = _cheapest([_charges(int(counts[z]), table[z], 1, mixed) for z in present])
    above, upper = _cheapest([_charges(int(counts[z]), table[z], -1, mixed) for z in reversed(present)])
    k, best = len(present), (np.inf, 0, 0)
    for cut in cuts([scale[z] for z in present]):
        shared = min(len(below[cut]), len(above[k - cut]))
        cost = below[cut][:shared] + above[k - cut][:shared]
        charge = int(cost.argmin())
        best = min(best, (float(cost[charge]), -cut, charge))
    nats, cut, charge = best[0], -best[1], best[2]
    if not np.isfinite(nats):
        return {}, np.inf
    chosen = _traced(lower[:cut], charge) + _traced(upper[: k - cut], charge)[::-1]
    return dict(zip(present, chosen, strict=True)), nats


def _charges(count: int, table: Mapping[int, float], sign: int, mixed: bool) -> Charges:
    """Each charge·sign ≥ 0 that `count` atoms can have together, with the likeliest way and its nats."""
    states = [(state, nats) for state, nats in table.items() if state * sign >= 0]
    found: Charges = {sign * count * state: (count * nats, ((state, count),)) for state, nats in states}
    for (first, cheap), (second, dear) in combinations(states, 2) if mixed else ():
        for atoms in range(1, count):
            charge = sign * (atoms * first + (count - atoms) * second)
            cost = atoms * cheap + (count - atoms) * dear
            if charge not in found or cost < found[charge][0]:
                found[charge] = (cost, ((first, atoms), (second, count - atoms)))
    return found


def _cheapest(valences: list[Charges]) -> tuple[list[Floats], list[Taken]]:
    """Of the elements on one side of a cut, from the outside in: cost[j][q], the least nats of the first j at charge
    q; and of each element its charge at those of the first ones up to it, with its `_charges`.
    """
    cost, taken = [np.zeros(1)], list[Taken]()
    for choices in valences:
        reach = np.full(len(cost[-1]) + max(choices, default=0), np.inf)
        which = np.zeros(len(reach), dtype=np.int64)
        for charge, (nats, _) in choices.items():
            new, at = cost[-1] + nats, slice(charge, charge + len(cost[-1]))
            better = new < reach[at]
            reach[at][better], which[at][better] = new[better], charge
        cost.append(reach)
        taken.append((which, choices))
    return cost, taken


def _traced(taken: list[Taken], charge: int) -> list[Valence]:
    """What each of the elements takes so that together they have `charge`."""
    chosen: list[Valence] = []
    for which, choices in reversed(taken):
        own = int(which[charge])
        chosen.append(choices[own][1])
        charge -= own
    return chosen[::-1]
