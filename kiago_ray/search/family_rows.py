"""The rows of a family search: each row's slots, its shares of every site at the start, its source, and its space.

The space is σ of eq. 5 normalised site by site, so that every site keeps its amount. Each row has slots of its own,
(sites, slots of a site), flattened in x_base: first a site's own elements, then what may come in, an element or a
vacancy. So rows of different bases may run together, and rows that only hold a proposal are rows like any other.

A row of the source "family" draws from a generator made of (seed, base, row) alone: one or two foreign elements, by
odds, on sites that are about equally likely. Every other row holds a proposal of its source's list and stays there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.search.family import HALF, VACANCY, Family, Site
from kiago_ray.search.family_proposals import FAMILY, Occupation, Sources, base_occupation
from kiago_ray.search.losses import Norm, integer_distance
from kiago_ray.search.problem import MIN_TOTAL, Problem, canonical_text, row_generator
from kiago_ray.search.stages import SearchState, init

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
    family: Family,
    lists: Proposed,
    sources: Sources,
    seed: int,
    base_text: str,
    rows: Sequence[int],
    places: Sequence[int],
    size: int,
) -> FamilyStarts:
    """The starts of these rows of the search at their places among `size`; what else there is holds the base and stays
    there.
    """
    slots = Slots.of(family)
    whole = np.array([[site.total] for site in family.sites])
    own_element, own_atoms = placed(family, slots, base_occupation(family))
    element, atoms = np.repeat(own_element[None], size, axis=0), np.repeat(own_atoms[None], size, axis=0)
    share, exists = atoms / whole, atoms > 0
    moves, labels = np.zeros(size, dtype=np.bool_), np.full(size, "", dtype=object)
    for at, row in zip(places, rows, strict=True):
        label, number = sources.of(row)
        listed = lists.get(label, ())
        if number < len(listed):
            element[at], atoms[at] = placed(family, slots, listed[number])
            share[at], exists[at], labels[at] = atoms[at] / whole, atoms[at] > 0, label
        else:
            element[at], exists[at] = laid_out(family, slots)
            share[at], atoms[at] = drawn(row_generator(seed, base_text, row), family, slots), 0
            moves[at], labels[at] = True, FAMILY
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


@dataclass(frozen=True)
class FamilySpace:
    """Slots of each row; s sites, k slots a site, of which the first `width` are the site's own elements.

    element: (rows, s, k) index, 118 for a vacancy and for a slot that isn't there. own_mix: (rows, s, width) shares of
    the own elements in the base. amount: (rows, s) atoms. low, high: (rows, s) share that substitutes take where there
    are any. most: (rows, s, k) share that a slot takes at most. on_grid: (rows, s, k) bool slots whose amounts are
    multiples of 1/grid of an atom, all but the site's main one. counted: (rows, s, k) bool slots that the limits of
    stage 2 count. swaps: sites that may then be replaced by more than half.
    """

    element: Tensor
    own_mix: Tensor
    amount: Tensor
    low: Tensor
    high: Tensor
    most: Tensor
    on_grid: Tensor
    counted: Tensor
    grid: int
    max_foreign: int
    max_foreign_per_site: int
    swaps: int

    @property
    def width(self) -> int:
        """Slots of a site that are its own elements."""
        return self.own_mix.shape[2]

    def occupation(self, x_base: Tensor, mask: Tensor, *, straight_through: bool = False) -> Tensor:
        """Atoms in every slot, (rows, s, k); each site's add up to its amount.

        A share of a site is what ReLU(x_base) has of it. Substitutes that have more or less than they may are scaled,
        and own elements take the rest as they stand to one another, or as in the base where none of them has anything.
        """
        optimised = x_base * mask
        positive = optimised.relu()
        if straight_through:
            positive = optimised + (positive - optimised).detach()
        y = positive.view(self.element.shape)
        total = y.sum(dim=2, keepdim=True)
        share = y / torch.where(total > 0, total, 1)
        own, free = share[..., : self.width], share[..., self.width :]
        free = _bounded(free, self.low, self.high, self.most[..., self.width :], straight_through)
        whole = own.sum(dim=2, keepdim=True)
        mix = torch.where(whole > 0, own / torch.where(whole > 0, whole, 1), self.own_mix)
        rest = 1 - free.sum(dim=2, keepdim=True)
        own = mix * (rest + (rest.clamp(min=0) - rest).detach())  # never −1e-8, whatever rounding does
        return torch.cat((own, free), dim=2) * self.amount[..., None]

    def compose(self, x_base: Tensor, mask: Tensor, *, straight_through: bool = False) -> Tensor:
        """Fractions (rows, 118): the atoms of all slots by element, without the vacancies."""
        atoms = self.occupation(x_base, mask, straight_through=straight_through).flatten(1)
        by_element = atoms.new_zeros(len(atoms), N_ELEMENTS + 1)
        by_element = by_element.scatter_add(1, self.element.flatten(1), atoms)[:, :N_ELEMENTS]
        return by_element / by_element.sum(dim=1, keepdim=True)

    def has_something(self, x_base: Tensor, mask: Tensor) -> Tensor:
        """(rows,) bool: where every site that has to be left has something else."""
        free = (x_base * mask).relu().view(self.element.shape)[..., self.width :].sum(dim=2)
        return ((free > MIN_TOTAL) | (self.low < 1)).all(dim=1)

    def off_grid(self, x_base: Tensor, mask: Tensor, x: Tensor, norm: Norm) -> Tensor:
        """How far slots are from the grid, (rows,), relative to all atoms as eq. 10 has it; a slot with all of its
        site is on it.
        """
        atoms = self.occupation(x_base, mask)
        whole = self.amount[..., None]
        counts = self.on_grid & (atoms < whole - 0.5 / self.grid)
        grid = torch.full_like(self.amount, self.grid)
        gaps = integer_distance(torch.where(counts, atoms, 0), grid, norm).sum(dim=1)
        return gaps / self.amount.sum(dim=1)

    def limited(self, x_base: Tensor, mask: Tensor) -> tuple[Self, Tensor]:
        """Stage 2: of what isn't in the base the largest shares stay, max_foreign in all and max_foreign_per_site on a
        site, and all sites but the `swaps` that gave up most keep half of their own elements.
        """
        share = self.occupation(x_base, mask) / torch.where(self.amount > 0, self.amount, 1)[..., None]
        foreign = torch.where(self.counted, share, 0)
        on_site = _largest(foreign.flatten(0, 1), self.max_foreign_per_site).view(foreign.shape)
        kept = _largest(torch.where(on_site, foreign, 0).flatten(1), self.max_foreign)
        allowed = mask & (kept | ~self.counted.flatten(1))
        left = share[..., self.width :].sum(dim=2)
        whole = _largest(torch.where(left > HALF, left + self.low, 0), self.swaps)
        high = torch.where(whole | (self.low >= 1), self.high, self.high.clamp(max=HALF))
        return replace(self, low=torch.minimum(self.low, high), high=high), allowed


def _bounded(free: Tensor, low: Tensor, high: Tensor, most: Tensor, straight_through: bool) -> Tensor:
    """Shares of substitutes (rows, s, k) with none above `most` and their sums between low and high (rows, s); a site
    without any stays so. straight_through: the gradient is that of the shares as they came.
    """
    capped = torch.minimum(free, most)
    total = capped.sum(dim=2, keepdim=True)
    wanted = torch.minimum(torch.maximum(total, low[..., None]), high[..., None])
    scale = torch.where(total > 0, wanted / torch.where(total > 0, total, 1), 1)
    bounded = torch.minimum(capped * scale, most)
    return free + (bounded - free).detach() if straight_through else bounded


def _largest(values: Tensor, number: int) -> Tensor:
    """(…, n) bool: the `number` largest values above 0 of each row; of equal ones the first."""
    order = torch.argsort(values, dim=-1, descending=True, stable=True)
    chosen = torch.zeros_like(values, dtype=torch.bool)
    chosen.scatter_(-1, order[..., :number], True)
    return chosen & (values > 0)


def begin_family(
    problem: Problem,
    rows: NDArray[np.int64],
    size: int,
    device: torch.device,
) -> tuple[FamilySpace, SearchState, FamilyStarts]:
    """The rows of a family search at their places (n,) in a shard of `size`; the other places are padding."""
    assert problem.family is not None
    spec, family = problem.spec, problem.family.family
    starts = family_starts(
        family,
        problem.family.lists,
        Sources(spec.sources),
        spec.seed,
        canonical_text(problem.base),
        rows.tolist(),
        (rows % size).tolist(),
        size,
    )
    space = family_space(family, starts, device)
    share, exists = (
        torch.as_tensor(each.reshape(size, -1), device=device) for each in (starts.share, starts.exists)
    )
    state = init(share.float(), exists, spec.revive, space)
    moves = torch.as_tensor(starts.moves, dtype=torch.float32, device=device)
    return space, replace(state, rate=moves), starts


def family_space(family: Family, rows: FamilyStarts, device: torch.device) -> FamilySpace:
    """The space of these rows: the limits of the family's sites for those that move; the others are what they are."""
    slots, sites = Slots.of(family), family.sites
    shape = rows.element.shape
    mix = np.zeros((len(sites), slots.width))
    for at, site in enumerate(sites):
        mix[at, : len(site.own)] = np.array(site.amounts) / sum(site.amounts)
    moves = rows.moves[:, None]
    vacancy = rows.element == VACANCY
    foreign = (np.arange(slots.number) >= slots.width) & rows.exists & moves[..., None]
    vacant, most_vacant = (
        np.array([getattr(site, name) for site in sites])[None, :, None] for name in ("vacant", "most_vacant")
    )
    main = np.arange(slots.number) == 0
    free_to_move = np.array([not site.held for site in sites])[None, :, None] & moves[..., None]

    def tensor(values: NDArray[np.generic] | Floats) -> Tensor:
        tensor = torch.as_tensor(np.ascontiguousarray(values), device=device)
        return tensor.float() if tensor.is_floating_point() else tensor

    def limits(name: str, otherwise: float) -> Tensor:
        values = np.array([float(getattr(site, name)) for site in sites])
        return tensor(np.where(moves, values, otherwise))

    return FamilySpace(
        element=tensor(rows.element),
        own_mix=tensor(np.broadcast_to(mix, (shape[0], *mix.shape))),
        amount=tensor(np.broadcast_to([site.total for site in sites], shape[:2])),
        low=limits("low", 0.0),
        high=limits("high", 1.0),
        most=tensor(np.where(vacancy & foreign, most_vacant, 1.0)),
        on_grid=tensor(rows.exists & ~main & free_to_move),
        counted=tensor(foreign & ~(vacancy & (vacant > 0))),
        grid=family.grid,
        max_foreign=family.max_foreign,
        max_foreign_per_site=family.max_foreign_per_site,
        swaps=family.whole_swaps,
    )
