"""Conventional elemental substitution (C-ES, section 3.4): elements of a base exchanged for others of the same
oxidation state.

An element is exchanged whole, so totals stay what they were. Row r draws from a generator of (seed, base, r) alone, as
a search's starts do; rows may repeat each other, as the paper's samples do.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry import neutrality, oxidation
from kiago_ray.chemistry.elements import INDEX, SYMBOLS, Floats, Mask
from kiago_ray.chemistry.formula import parse, parse_amounts, reduce_counts
from kiago_ray.chemistry.neutrality import MAX_VALENCE_ATOMS, atom_valences, likeliest_valences
from kiago_ray.chemistry.oxidation import OxidationSet
from kiago_ray.errors import InputError
from kiago_ray.search.problem import canonical_text, row_generator

States = Mapping[int, tuple[int, ...]]
"""Atomic number - 1 → the oxidation states that the element's atoms have in the base; mostly one."""

_DECIMALS = 9  # of the amounts of a base, which are made whole to find its states


@dataclass(frozen=True)
class Exchange:
    """A base (118,) in atoms as its formula has them, and for each element that may be exchanged its partners."""

    base: Floats
    partners: Mapping[int, tuple[int, ...]]

    def rows(self, count: int, seed: int) -> Floats:
        """`count` formulas, (count, 118) in atoms. Of each a random part of the elements that have partners is
        exchanged, at least one, each for a partner drawn at random that no other of them took.
        """
        text = canonical_text(self.base / self.base.sum())
        return np.stack([self._row(row_generator(seed, text, row)) for row in range(count)])

    def _row(self, rng: np.random.Generator) -> Floats:
        open_sites = sorted(self.partners)
        chosen = np.zeros(len(open_sites), dtype=np.bool_)
        while not chosen.any():
            chosen = rng.random(len(open_sites)) < 0.5
        row, taken = self.base.copy(), set()
        for z in np.array(open_sites)[chosen].tolist():
            among = [other for other in self.partners[z] if other not in taken]
            if among:  # else it stays
                other = among[rng.integers(len(among))]
                taken.add(other)
                row[other], row[z] = row[z], 0.0
        return row


def exchange(
    formula: str,
    supported: Mask,
    oxidation_set: OxidationSet = OxidationSet.SMACT14,
    *,
    sites: Mapping[str, int] | None = None,
    keep: Collection[str] = (),
) -> Exchange:
    """What of a base may be exchanged for what, among the elements `supported` (118,).

    sites: the only elements that are exchanged, with their oxidation states (section 3.5); without it all but `keep`
    are, with the states that `base_states` finds. A partner has these states, all of them where atoms of the element
    differ, and is not in the base. Raises InputError.
    """
    amounts, base = parse(formula), parse_amounts(formula)
    foreign = [symbol for symbol in (*(sites or {}), *keep) if symbol not in amounts]
    if foreign:
        raise InputError(f"{foreign[0]} is not in {formula}; name one of {', '.join(amounts)}")
    states: States = {INDEX[symbol]: (state,) for symbol, state in (sites or {}).items()}
    states = states or base_states(formula, oxidation_set)
    known, others = oxidation.states(oxidation_set), np.flatnonzero(supported & (base == 0)).tolist()
    partners = {
        z: tuple(other for other in others if set(needed) <= set(known[other]))
        for z, needed in states.items()
        if SYMBOLS[z] not in keep
    }
    partners = {z: among for z, among in partners.items() if among}
    if not partners:
        raise InputError(
            f"no element of {formula} has another with its oxidation state in {oxidation_set}; choose another base"
        )
    return Exchange(base, partners)


def base_states(formula: str, oxidation_set: OxidationSet) -> States:
    """The oxidation states of each element of a base: the likeliest that are neutral under the Pauling rule, else any
    that SMACT calls neutral, then two of an element, then each atom's own. Raises InputError where none are neutral.
    """
    whole = _whole_base(formula)
    found = likeliest_valences(whole, oxidation_set, mixed=False)[0][0]
    if not found:
        verdict = neutrality.check(whole, oxidation_set)
        if verdict.assigned[0]:
            return {z: (int(verdict.states[0, z]),) for z in np.flatnonzero(whole[0]).tolist()}
        found = likeliest_valences(whole, oxidation_set, mixed=True)[0][0]
    if not found and whole.sum() <= MAX_VALENCE_ATOMS:
        found = atom_valences(whole, oxidation_set)[0]
    if not found:
        raise InputError(
            f"{formula} has no oxidation states in {oxidation_set} that add up to 0; name a site and its state"
        )
    return {z: tuple(state for state, _ in pairs) for z, pairs in found.items()}


def _whole_base(formula: str) -> NDArray[np.int64]:
    """The base in reduced whole numbers, (1, 118); fractional amounts in the steps that they are written in."""
    amounts = parse_amounts(formula)[None]
    for decimals in range(_DECIMALS + 1):
        scaled = amounts * 10**decimals
        if (np.abs(scaled - np.rint(scaled)) < 1e-6).all():
            break
    whole = reduce_counts(np.rint(scaled).astype(np.int64))
    if whole.sum() > neutrality.MAX_ATOMS:
        raise InputError(f"{formula} has too many decimals to find its oxidation states; round its amounts")
    return np.asarray(whole)
