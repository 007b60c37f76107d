"""Charge neutrality and the Pauling rule for many formulas at once: SMACT's verdicts, in polynomial time.

A formula is neutral when each element can be given one of its oxidation states so that Σ countᵢ·stateᵢ = 0,
and it passes the Pauling rule when such states exist with every positive element less electronegative than
every negative one (`smact.screening.smact_validity`; section 3.1 of the paper). SMACT tries the product of
all states. Here:

**Neutrality** is reachability: adding element j to a formula shifts the charges that can be reached by
countⱼ·state, for each of its states. A Python integer holds a set of charges, one bit each, so a shift and
an "or" do one state.

**The Pauling rule** is a cut. Sort the elements by electronegativity. If an assignment passes, let e be the
greatest electronegativity of a positive element (below all if there is none): an element up to e can't be
negative, as that one would not be below it, and an element above e is not positive. So some cut between two
different electronegativities has only states ≥ 0 up to it and only states ≤ 0 beyond; and each neutral
assignment of that kind passes, because no two elements on different sides are equally electronegative. With
P the totals the left can reach by states ≥ 0 and N those the right can reach by -states ≥ 0, the formula
passes iff P and N share a total at one of the cuts, k + 1 at most for k elements. Prefixes give every P and
suffixes every N, so the cost is the sum of the numbers of states, not their product. An element without
electronegativity fails the rule, as in SMACT.

SMACT accepts two kinds of formula unseen: a single element, and (with `include_alloys`) metals only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry import oxidation
from kiago_ray.chemistry.elements import N_ELEMENTS, SYMBOLS
from kiago_ray.chemistry.formula import reduce_counts
from kiago_ray.chemistry.oxidation import OxidationSet

MAX_ATOMS = 1_000_000  # in a reduced formula; the sets of charges grow with it


@dataclass(frozen=True)
class Neutrality:
    """Verdicts on N formulas, and what they rest on."""

    neutral: NDArray[np.bool_]
    """(N,) SMACT's verdict without the Pauling rule."""
    pauling: NDArray[np.bool_]
    """(N,) SMACT's verdict with it: neutral and Pauling."""
    alloy: NDArray[np.bool_]
    """(N,) made of two or more elements, all metals: accepted unseen if alloys are included."""
    elemental: NDArray[np.bool_]
    """(N,) a single element: accepted unseen."""
    assigned: NDArray[np.bool_]
    """(N,) `states` holds a neutral assignment, a Pauling one if there is any."""
    states: NDArray[np.int16]
    """(N, 118) the oxidation state of each element; 0 for absent elements and rows not assigned."""


def check(
    counts: NDArray[Any], states: OxidationSet = OxidationSet.ICSD24, *, include_alloys: bool = True
) -> Neutrality:
    """SMACT's verdicts on whole-number counts (N, 118), each with the states it rests on.

    Of several assignments one is given: if any is a Pauling one, with the cut as high up the scale as can be;
    then, from the most electronegative element down, each takes the state most frequent in the ICSD among
    those that leave the rest neutral.

    Raises ValueError for another shape, for counts that are fractional (SMACT would truncate them in
    silence), negative or all zero, and for more than MAX_ATOMS atoms in a reduced formula.
    """
    whole = _whole(counts)
    table = oxidation.states_by_frequency(states)
    electronegativity = oxidation.electronegativities()
    n_elements = (whole > 0).sum(axis=1)
    elemental = n_elements == 1
    alloy = ~((whole > 0) & ~oxidation.metals()).any(axis=1) & ~elemental
    assigned = np.zeros(len(whole), dtype=np.bool_)
    ordered = np.zeros(len(whole), dtype=np.bool_)
    charges = np.zeros((len(whole), N_ELEMENTS), dtype=np.int16)
    # Ascending electronegativity, None first: those elements are never compared.
    order = np.array(sorted(range(N_ELEMENTS), key=lambda z: (electronegativity[z] or 0.0, z)))
    for row, amounts in enumerate(whole[:, order]):
        present = order[amounts > 0]
        if not all(table[z] for z in present):
            continue
        amount = amounts[amounts > 0].tolist()
        choices = [table[z] for z in present]
        scale = [electronegativity[z] for z in present]
        found = None if None in scale else _pauling(amount, choices, scale)
        ordered[row] = found is not None
        found = found or _neutral(amount, choices)
        if found is not None:
            assigned[row] = True
            charges[row, present] = found
    unseen = elemental | alloy if include_alloys else elemental
    return Neutrality(assigned | unseen, ordered | unseen, alloy, elemental, assigned, charges)


def _whole(counts: NDArray[Any]) -> NDArray[np.int64]:
    """The counts as reduced whole numbers; ValueError where they are something else."""
    counts = np.asarray(counts)
    if counts.ndim != 2 or counts.shape[1] != N_ELEMENTS:
        raise ValueError(f"counts have the shape {counts.shape}; give (formulas, {N_ELEMENTS})")
    with np.errstate(invalid="ignore"):
        whole = counts.astype(np.int64)
    wrong = (whole != counts) | (whole < 0)
    if wrong.any():
        row, z = np.argwhere(wrong)[0]
        amount = f"{counts[row, z]} of {SYMBOLS[z]} in row {row}"
        raise ValueError(f"counts must be whole and not negative; make the formula integer first: {amount}")
    if not whole.any(axis=1).all():
        raise ValueError(f"row {int(np.argmin(whole.any(axis=1)))} of the counts holds no atoms")
    whole = reduce_counts(whole)
    atoms = whole.sum(axis=1)
    if len(atoms) and atoms.max() > MAX_ATOMS:
        row = int(np.argmax(atoms))
        raise ValueError(f"the formula in row {row} has {atoms[row]} atoms; the limit is {MAX_ATOMS}")
    return whole


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


def _pauling(
    counts: Sequence[int], states: Sequence[Sequence[int]], scale: Sequence[float | None]
) -> list[int] | None:
    """States that cancel and pass the Pauling rule, or None; elements in ascending order of `scale`."""
    positive = [[s for s in known if s >= 0] for known in states]
    negative = [[s for s in known if s <= 0] for known in states]
    below = _reach(counts, positive)
    above = _reach(counts[::-1], [[-s for s in known] for known in negative[::-1]])
    k = len(counts)
    for cut in range(k, -1, -1):
        between = cut in (0, k) or scale[cut - 1] != scale[cut]
        if between and below[cut] & above[k - cut]:
            return _neutral(counts, positive[:cut] + negative[cut:])
    return None
