"""Where the rows of a family search start: each row's slots, its shares of every site, and its source.

A row of the source "family" draws from a generator made of (seed, base, row) alone: one or two foreign elements, by
odds, on sites that are about equally likely. Every other row holds a proposal of its source's list and stays there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kiago_ray.search.family import VACANCY, Family, Site
from kiago_ray.search.family_proposals import Occupation, base_occupation
from kiago_ray.search.sources import FAMILY, Sources
from kiago_ray.search.start import row_generator

WHOLE_PROBABILITY = 0.3  # that a drawn element takes the whole site
LEAST_DOPED, MOST_DOPED = 0.05, 0.5  # share of the site that it takes otherwise

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Proposed = Mapping[str, Sequence[Occupation]]


@dataclass(frozen=True)
class FamilyStarts:
    """n rows with s sites of k slots. element: (n, s, k) index, VACANCY for a vacancy and where there is no slot.
    share: (n, s, k) of a site that a slot has at the start. exists: (n, s, k) slots that may be used. atoms: (n, s, k)
    of a row that stays where it is. moves: (n,) whether it is optimised. source: (n,) label.
    """

    element: Ints
    share: Floats
    exists: Mask
    atoms: Floats
    moves: Mask
    source: NDArray[np.object_]


@dataclass(frozen=True)
class Slots:
    """The layout of slots: `width` for own elements, then `free` for what may come in."""

    width: int
    free: int

    @classmethod
    def of(cls, family: Family) -> Slots:
        width = max(len(site.own) for site in family.sites)
        return cls(width, max(family.max_foreign_per_site, *(len(site.substitutes) for site in family.sites)))

    @property
    def number(self) -> int:
        """Slots of a site."""
        return self.width + self.free


def family_starts(
    family: Family, lists: Proposed, sources: Sources, seed: int, base_text: str, rows: Sequence[int]
) -> FamilyStarts:
    """The starts of these rows of the search."""
    slots = Slots.of(family)
    shape = (len(rows), len(family.sites), slots.number)
    element = np.full(shape, VACANCY, dtype=np.int64)
    share, atoms = np.zeros(shape), np.zeros(shape)
    exists, moves = np.zeros(shape, dtype=np.bool_), np.ones(len(rows), dtype=np.bool_)
    labels = np.full(len(rows), FAMILY, dtype=object)
    for at, row in enumerate(rows):
        label, number = sources.of(row)
        listed = lists.get(label, ())
        if number < len(listed):
            element[at], atoms[at] = placed(family, slots, listed[number])
            exists[at] = atoms[at] > 0
            moves[at], labels[at] = False, label
            share[at] = atoms[at] / np.array([[site.total] for site in family.sites])
        else:
            element[at], exists[at] = laid_out(family, slots)
            share[at] = drawn(row_generator(seed, base_text, row), family, slots)
    return FamilyStarts(element, share, exists, atoms, moves, labels)


def laid_out(family: Family, slots: Slots) -> tuple[Ints, Mask]:
    """The element of each slot (s, k) of a row that is optimised, and the slots that there are; none on a site that
    stays as it is.
    """
    element = np.full((len(family.sites), slots.number), VACANCY, dtype=np.int64)
    exists = np.zeros(element.shape, dtype=np.bool_)
    for at, site in enumerate(family.sites):
        element[at, : len(site.own)] = site.own
        element[at, slots.width : slots.width + len(site.substitutes)] = site.substitutes
        exists[at, : len(site.own)] = not (site.held or site.leaves)
        exists[at, slots.width : slots.width + len(site.substitutes)] = True
    return element, exists


def placed(family: Family, slots: Slots, occupation: Occupation) -> tuple[Ints, Floats]:
    """The element of each slot (s, k) of a row that holds a proposal, and its atoms."""
    element = np.full((len(family.sites), slots.number), VACANCY, dtype=np.int64)
    atoms = np.zeros(element.shape)
    for at, (site, held) in enumerate(zip(family.sites, occupation, strict=True)):
        element[at, : len(site.own)] = site.own
        atoms[at, : len(site.own)] = [held.get(z, 0.0) for z in site.own]
        order = (*site.substitutes, *sorted(held))  # that in which drawn rows have them
        foreign = sorted(set(held) - set(site.own), key=order.index)
        for place, z in enumerate(foreign, start=slots.width):
            element[at, place], atoms[at, place] = z, held[z]
    return element, atoms


def base_atoms(family: Family, slots: Slots) -> tuple[Ints, Floats]:
    """As `placed`, of the base itself."""
    return placed(family, slots, base_occupation(family))


def drawn(rng: np.random.Generator, family: Family, slots: Slots) -> Floats:
    """Shares (s, k) of a start around the base: one or two substitutes on its sites."""
    share = np.zeros((len(family.sites), slots.number))
    for at, site in enumerate(family.sites):
        share[at, : len(site.own)] = np.array(site.amounts) / site.total
        if site.vacant:
            share[at, slots.width + site.substitutes.index(VACANCY)] = site.vacant / site.total
    number = int(rng.integers(1, min(2, family.max_foreign) + 1))
    open_sites = [at for at, site in enumerate(family.sites) if site.substitutes]
    first = [at for at, site in enumerate(family.sites) if site.leaves]
    for turn in range(max(number, len(first))):
        if not open_sites:
            break
        at = first[turn] if turn < len(first) else int(rng.choice(open_sites))
        _put(rng, share[at], family.sites[at], slots)
    return share


def _put(rng: np.random.Generator, share: Floats, site: Site, slots: Slots) -> None:
    """One more substitute on a site's shares (k,), in the place of all that is there alike; none where the one drawn
    is there already.
    """
    weights = np.array(site.odds)
    drawn = int(rng.choice(len(weights), p=weights / weights.sum()))
    whole = rng.random() < WHOLE_PROBABILITY
    amount = rng.uniform(LEAST_DOPED, MOST_DOPED)
    place = slots.width + drawn
    if share[place]:
        return
    low, high = site.low, site.high
    if site.substitutes[drawn] == VACANCY:
        high = min(high, site.most_vacant)
    taken = float(np.clip(1.0 if whole else amount, min(low, high), high))
    share *= 1 - taken
    share[place] += taken
