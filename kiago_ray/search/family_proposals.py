"""Proposals from a family that no gradient makes: whole swaps, known compounds beside the base, one element more; and
which rows of a search come from where.

Each is an occupation: for every site of the family its elements with their atoms. Lists are ordered, and depend on the
family and what is known alone, so that the k-th proposal is the same wherever it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.search.family import VACANCY, Family, Site, Substitutions
from kiago_ray.search.sections import SourcesSpec

Occupation = tuple[dict[int, float], ...]
"""For each site its elements (indices) with their atoms."""

PORTIONS = (0.5, 0.25)  # of a site that "plus one" gives to a foreign element
SAME_ATOMS = 0.01  # atoms by which an amount may differ and count as the same
_MORE = 1e-9
_KEY_DECIMALS = 4  # of fractions that are the same composition

Floats = NDArray[np.float64]

CYCLE = 20  # rows after which the pattern repeats
FAMILY = "family"
LABELS: Mapping[str, str] = {"family": FAMILY, "swap": "swap", "made": "made", "plus_one": "plus one"}


def base_occupation(family: Family) -> Occupation:
    """The base itself, its vacancies left out."""
    return tuple(dict(zip(site.own, site.amounts, strict=True)) for site in family.sites)


def atoms_of(occupation: Occupation) -> Floats:
    """Atoms of each element, (118,), of all sites together."""
    row = np.zeros(N_ELEMENTS)
    for site in occupation:
        for z, amount in site.items():
            row[z] += amount
    return row


def proposed(family: Family, substitutions: Substitutions) -> dict[str, list[Occupation]]:
    """The lists of proposals by source; what exists is not among the swaps."""
    existing = made(family, substitutions)
    keys = {_key(each) for each in existing}
    swapped = [each for each in swaps(family, substitutions) if _key(each) not in keys]
    return {"swap": swapped, "made": existing, "plus one": plus_one(family, substitutions)}


def _key(occupation: Occupation) -> bytes:
    atoms = atoms_of(occupation)
    return bytes(np.round(atoms / atoms.sum(), _KEY_DECIMALS).tobytes())


def swaps(family: Family, substitutions: Substitutions) -> list[Occupation]:
    """One own element of a site replaced wholly by another element, by falling odds."""
    base, found = base_occupation(family), []
    for at, site in _open_sites(family):
        for own, amount in zip(site.own, site.amounts, strict=True):
            for z in _candidates(site, own, family, substitutions):
                if z in base[at] or not _within(site, amount / site.total):
                    continue
                changed = {z if each == own else each: atoms for each, atoms in base[at].items()}
                found.append((-substitutions.odds[own, z], at, own, z, _with(base, at, changed)))
    return [each[-1] for each in sorted(found, key=lambda each: each[:-1])]


def plus_one(family: Family, substitutions: Substitutions) -> list[Occupation]:
    """One foreign element on a part of a site in the place of its main one: that which makes the most plausible
    composition first, the others by falling odds. What fits a base may be rare elsewhere, as fluorine on oxygen is.
    """
    base = base_occupation(family)
    found: list[tuple[int, int, int, int, Occupation]] = []
    for at, site in _open_sites(family):
        main, amount = site.own[0], site.amounts[0]
        units = (max(round(portion * site.total * family.grid), 1) for portion in PORTIONS)
        doped = [unit / family.grid for unit in dict.fromkeys(units)]
        for z in _candidates(site, main, family, substitutions):
            for place, atoms in enumerate(doped):
                if atoms > amount - _MORE or not _within(site, atoms / site.total):
                    continue
                changed = {**base[at], main: amount - atoms}
                changed[z] = changed.get(z, 0.0) + atoms
                found.append((main, z, place, at, _with(base, at, changed)))
    likely = sorted(found, key=lambda each: (-substitutions.odds[each[:2]], each[2], each[3], each[1]))
    partly = substitutions.partly
    if partly is not None and found:
        best = max(found, key=lambda each: float(partly[each[:2]]))[:2]
        likely.sort(key=lambda each: each[:2] != best)
    return [each[-1] for each in likely]


def made(family: Family, substitutions: Substitutions) -> list[Occupation]:
    """Compounds of `substitutions.made` that are the base but for one site, where up to max_foreign_per_site foreign
    elements stand in any amounts; those with the likelier substitutes first.
    """
    base = base_occupation(family)
    atoms = sum(site.total for site in family.sites)
    own = atoms_of(base)
    found = []
    for at, site in _open_sites(family):
        rest = own - atoms_of((base[at],))
        holds = (substitutions.made[:, rest > SAME_ATOMS] > 0).all(axis=1)
        likely = np.flatnonzero(holds)
        there = substitutions.made[likely] * atoms - rest
        enough = (there > -SAME_ATOMS).all(axis=1)
        number = (there > SAME_ATOMS).sum(axis=1)
        for row in np.flatnonzero(enough & (number <= len(site.own) + family.max_foreign_per_site)).tolist():
            on_site = {int(z): float(there[row, z]) for z in np.flatnonzero(there[row] > SAME_ATOMS)}
            foreign = {z: amount for z, amount in on_site.items() if z not in site.own}
            if any(rest[z] > SAME_ATOMS for z in foreign):  # the base's elements stay on their own sites
                continue
            if not _fits(site, foreign, on_site, family):
                continue
            odds = sum(substitutions.odds[site.own[0], z] * amount for z, amount in foreign.items())
            found.append((-odds, at, int(likely[row]), _with(base, at, on_site)))
    return [each[-1] for each in sorted(found, key=lambda each: each[:-1])]


def _open_sites(family: Family) -> list[tuple[int, Site]]:
    """The sites that may change, with their places; where a site has to be left, that one alone."""
    numbered = list(enumerate(family.sites))
    return [each for each in numbered if each[1].leaves] or [each for each in numbered if not each[1].held]


def _fits(site: Site, foreign: dict[int, float], on_site: dict[int, float], family: Family) -> bool:
    """Whether what stands on a site of a made compound is something else than the base and what may be there."""
    if not foreign or len(foreign) > min(family.max_foreign_per_site, family.max_foreign):
        return False
    if not all(family.allowed[z] for z in foreign) or abs(sum(on_site.values()) - site.total) > SAME_ATOMS:
        return False
    return _within(site, sum(foreign.values()) / site.total)


def _candidates(site: Site, own: int, family: Family, substitutions: Substitutions) -> list[int]:
    """Elements that may take the place of `own` on a site; of a site that is named for doping, only those named."""
    if site.restricted:
        return [z for z in site.substitutes if z != VACANCY]
    known = np.flatnonzero((substitutions.odds[own] > 0) & family.allowed)
    return [int(z) for z in known if z != own]


def _within(site: Site, share: float) -> bool:
    """Whether substitutes may take this share of a site."""
    return site.low - _MORE <= share <= site.high + _MORE


def _with(base: Occupation, at: int, changed: dict[int, float]) -> Occupation:
    """The base with one site changed."""
    return (*base[:at], changed, *base[at + 1 :])


@dataclass(frozen=True)
class Sources:
    """The source of every row, by the row's number and the shares alone."""

    shares: SourcesSpec

    @cached_property
    def pattern(self) -> tuple[str, ...]:
        """The labels of rows 0 to CYCLE − 1: each time that source is next which is furthest behind its share."""
        given = {label: getattr(self.shares, field) for field, label in LABELS.items()}
        total = sum(given.values())
        behind = dict.fromkeys(given, 0.0)
        chosen = []
        for _ in range(CYCLE):
            behind = {label: value + given[label] / total for label, value in behind.items()}
            chosen.append(max(behind, key=lambda label: round(behind[label], 9)))
            behind[chosen[-1]] -= 1
        return tuple(chosen)

    def of(self, row: int) -> tuple[str, int]:
        """The source of a row, and how many rows before it have the same."""
        cycle, place = divmod(row, CYCLE)
        label = self.pattern[place]
        return label, cycle * self.pattern.count(label) + self.pattern[:place].count(label)
