"""Charge neutrality where each atom has a valence of its own: section 3.6's rule for hydrides, exact and fast.

SMACT gives all atoms of an element one oxidation state, which LaH10 fails. The paper lets atoms of one element differ,
LaH10 = {La 2+, H 1- × 6, H 1+ × 4}, and bounds formulas at 15 atoms because it goes through the combinations. Here the
charges that can be reached are a set, one bit each in a Python integer: an atom more shifts the set by each of its
states. So the cost is atoms × states × charges/64, not states to the power of atoms.

Two states of an element at most, the likeliest ones, are `valences`' business; here any mixture counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry import oxidation
from kiago_ray.chemistry.elements import N_ELEMENTS, SYMBOLS
from kiago_ray.chemistry.oxidation import OxidationSet

MAX_ATOMS = 1000  # of a formula; the cost grows with their square

AtomValences = Mapping[int, tuple[tuple[int, int], ...]]
"""Atomic number - 1 → (state, how many of its atoms have it), the most frequent state first."""


def atom_valences(
    counts: NDArray[Any], states: OxidationSet = OxidationSet.ICSD24
) -> list[AtomValences | None]:
    """For each formula of whole-number counts (n, 118) valences of its atoms that add up to 0, None where none do.

    Of several assignments one with few mixed elements is given: each element in turn, the one with the most atoms
    last, keeps to the first of its states (by their frequency in the ICSD) for as many atoms as leaves the rest
    neutral. An element alone is neutral with 0 for each atom, as SMACT has it.

    Raises ValueError for another shape, counts that are no whole numbers, and more than MAX_ATOMS atoms.
    """
    whole = _whole(counts)
    table = oxidation.states_by_frequency(states)
    return [_balanced(row, table) for row in whole]


def _whole(counts: NDArray[Any]) -> NDArray[np.int64]:
    counts = np.asarray(counts)
    if counts.ndim != 2 or counts.shape[1] != N_ELEMENTS:
        raise ValueError(f"counts have the shape {counts.shape}; give (formulas, {N_ELEMENTS})")
    with np.errstate(invalid="ignore"):
        whole = counts.astype(np.int64)
    wrong = (whole != counts) | (whole < 0)
    if wrong.any():
        row, z = np.argwhere(wrong)[0]
        raise ValueError(
            f"counts must be whole and not negative: {counts[row, z]} of {SYMBOLS[z]} in row {row}"
        )
    atoms = whole.sum(axis=1)
    if len(atoms) and (atoms.min() < 1 or atoms.max() > MAX_ATOMS):
        row = int(np.argmin(atoms)) if atoms.min() < 1 else int(np.argmax(atoms))
        raise ValueError(f"row {row} has {atoms[row]} atoms; give 1 to {MAX_ATOMS}")
    return whole


def _balanced(row: NDArray[np.int64], table: Sequence[Sequence[int]]) -> AtomValences | None:
    present = sorted(np.flatnonzero(row).tolist(), key=lambda z: (-row[z], z))
    if len(present) == 1:
        return {present[0]: ((0, int(row[present[0]])),)}
    if not all(table[z] for z in present):
        return None
    atoms = [z for z in present for _ in range(row[z])]
    lowest = {z: min(table[z]) for z in present}
    # reach[k]: charges of the first k atoms, each counted from its element's lowest state, so that none is negative.
    reach = [1]
    for z in atoms:
        bits = 0
        for state in table[z]:
            bits |= reach[-1] << (state - lowest[z])
        reach.append(bits)
    rest = -sum(lowest[z] for z in atoms)
    if rest < 0 or not reach[-1] >> rest & 1:
        return None
    chosen: dict[int, Counter[int]] = {z: Counter() for z in present}
    for k in range(len(atoms) - 1, -1, -1):
        z = atoms[k]
        for state in table[z]:
            left = rest - (state - lowest[z])
            if left >= 0 and reach[k] >> left & 1:
                chosen[z][state] += 1
                rest = left
                break
    return {
        z: tuple(sorted(counted.items(), key=lambda each: (-each[1], each[0])))
        for z, counted in chosen.items()
    }
