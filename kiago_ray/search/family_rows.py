"""The rows of a family search: what stands in each slot of its sites at the start, and what the rows can reach.

Every site of the base has slots for its own elements, and then for what may come in; what is optimised is the share of
the site that each slot has. Rows that hold a proposal stay where they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.search.family import FAMILY, HALF, VACANCY, Family, Occupation, Site, sources_of
from kiago_ray.search.losses import Norm, integer_distance
from kiago_ray.search.problem import MIN_TOTAL, Problem, canonical_text, row_generator
from kiago_ray.search.sections import FamilySpec
from kiago_ray.search.stages import SearchState, init

WHOLE_PROBABILITY = 0.3  # that a drawn element takes the whole site
LEAST_DOPED, MOST_DOPED = 0.05, 0.5  # share of the site that it takes otherwise

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


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


def family_starts(problem: Problem, rows: Sequence[int], size: int) -> FamilyStarts:
    """The starts of these rows of the search at their places among `size`; the other places hold the base and stay
    there.
    """
    assert problem.family is not None
    spec, family, text = problem.spec, problem.family, canonical_text(problem.base)
    whole = np.array([[site.total] for site in family.sites])
    element, atoms = (np.repeat(each[None], size, axis=0) for each in placed(family, family.occupation))
    share, exists = atoms / whole, atoms > 0
    moves, source = np.zeros(size, dtype=np.bool_), np.full(size, "", dtype=object)
    for row, (label, number) in zip(rows, sources_of(spec.sources, rows), strict=True):
        at, listed = row % size, family.lists.get(label, ())
        if number < len(listed):
            element[at], atoms[at] = placed(family, listed[number])
            share[at], exists[at], source[at] = atoms[at] / whole, atoms[at] > 0, label
        else:
            element[at], exists[at] = laid_out(family)
            share[at], atoms[at] = drawn(row_generator(spec.seed, text, row), family), 0
            moves[at], source[at] = True, FAMILY
    return FamilyStarts(element, share, exists, atoms, moves, source)


def laid_out(family: Family) -> tuple[Ints, Mask]:
    """The element of each slot (s, k) of a row that is optimised, and the slots that there are; none on a site that
    stays as it is.
    """
    element = np.full((len(family.sites), family.slots), VACANCY, dtype=np.int64)
    exists = np.zeros(element.shape, dtype=np.bool_)
    for at, site in enumerate(family.sites):
        own, free = slice(len(site.own)), slice(family.width, family.width + len(site.substitutes))
        element[at, own], element[at, free] = site.own, site.substitutes
        exists[at, own], exists[at, free] = not (site.held or site.leaves), True
    return element, exists


def placed(family: Family, occupation: Occupation) -> tuple[Ints, Floats]:
    """The element of each slot (s, k) of a row that holds a proposal, and its atoms."""
    element = np.full((len(family.sites), family.slots), VACANCY, dtype=np.int64)
    atoms = np.zeros(element.shape)
    for at, (site, held) in enumerate(zip(family.sites, occupation, strict=True)):
        element[at, : len(site.own)] = site.own
        atoms[at, : len(site.own)] = [held.get(z, 0.0) for z in site.own]
        order = (*site.substitutes, *sorted(held))  # that in which drawn rows have them
        foreign = sorted(set(held) - set(site.own), key=order.index)
        for place, z in enumerate(foreign, start=family.width):
            element[at, place], atoms[at, place] = z, held[z]
    return element, atoms


def drawn(rng: np.random.Generator, family: Family) -> Floats:
    """Shares (s, k) of a start around the base: one or two substitutes on its sites."""
    share = np.zeros((len(family.sites), family.slots))
    for at, site in enumerate(family.sites):
        share[at, : len(site.own)] = np.array(site.amounts) / site.total
        if site.vacant:
            share[at, family.width + site.substitutes.index(VACANCY)] = site.vacant / site.total
    number = int(rng.integers(1, min(2, family.limits.max_foreign) + 1))
    open_sites = [at for at, site in enumerate(family.sites) if site.substitutes]
    first = [at for at, site in enumerate(family.sites) if site.leaves]
    for turn in range(max(number, len(first)) if open_sites else 0):
        at = first[turn] if turn < len(first) else int(rng.choice(open_sites))
        _put(rng, share[at], family.sites[at], family.width)
    return share


def _put(rng: np.random.Generator, share: Floats, site: Site, width: int) -> None:
    """One more substitute on a site's shares (k,), in the place of all that is there alike; none where the one drawn
    is there already.
    """
    weights = np.array(site.odds)
    drawn = int(rng.choice(len(weights), p=weights / weights.sum()))
    whole = rng.random() < WHOLE_PROBABILITY
    amount = rng.uniform(LEAST_DOPED, MOST_DOPED)
    if share[width + drawn]:
        return
    high = min(site.high, site.most_vacant) if site.substitutes[drawn] == VACANCY else site.high
    taken = float(np.clip(1.0 if whole else amount, min(site.low, high), high))
    share *= 1 - taken
    share[width + drawn] += taken


@dataclass(frozen=True)
class FamilySpace:
    """Slots of each row; s sites, k slots a site, of which the first `width` are the site's own elements.

    element: (rows, s, k) index, 118 for a vacancy and for a slot that isn't there. own_mix: (s, width) shares of the
    own elements in the base. amount: (s,) atoms. low, high: (rows, s) share that substitutes take where there are any.
    most: (rows, s, k) share that a slot takes at most. on_grid: (rows, s, k) bool slots whose amounts are multiples of
    1/grid of an atom, all but the site's main one. counted: (rows, s, k) bool slots that the limits of stage 2 count.
    """

    element: Tensor
    own_mix: Tensor
    amount: Tensor
    low: Tensor
    high: Tensor
    most: Tensor
    on_grid: Tensor
    counted: Tensor
    limits: FamilySpec

    @property
    def width(self) -> int:
        """Slots of a site that are its own elements."""
        return self.own_mix.shape[1]

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
        return torch.cat((own, free), dim=2) * self.amount[:, None]

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
        atoms, grid = self.occupation(x_base, mask), self.limits.grid
        counts = self.on_grid & (atoms < self.amount[:, None] - 0.5 / grid)
        gaps = integer_distance(torch.where(counts, atoms, 0), torch.full_like(self.amount, grid), norm)
        return gaps.sum(dim=1) / self.amount.sum()

    def limited(self, x_base: Tensor, mask: Tensor) -> tuple[Self, Tensor]:
        """Stage 2: of what isn't in the base the largest shares stay, max_foreign in all and max_foreign_per_site on a
        site, and all sites but the `whole_swaps` that gave up most keep half of their own elements.
        """
        share = self.occupation(x_base, mask) / self.amount[:, None]
        foreign = torch.where(self.counted, share, 0)
        on_site = _largest(foreign.flatten(0, 1), self.limits.max_foreign_per_site).view(foreign.shape)
        kept = _largest(torch.where(on_site, foreign, 0).flatten(1), self.limits.max_foreign)
        allowed = mask & (kept | ~self.counted.flatten(1))
        left = share[..., self.width :].sum(dim=2)
        whole = _largest(torch.where(left > HALF, left + self.low, 0), self.limits.whole_swaps)
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
    problem: Problem, rows: Ints, size: int, device: torch.device
) -> tuple[FamilySpace, SearchState, FamilyStarts]:
    """The rows of a family search at their places (n,) in a shard of `size`; the other places are padding."""
    assert problem.family is not None
    starts = family_starts(problem, rows.tolist(), size)
    space = family_space(problem.family, starts, device)
    share = torch.as_tensor(starts.share.reshape(size, -1), device=device).float()
    exists = torch.as_tensor(starts.exists.reshape(size, -1), device=device)
    state = init(share, exists, problem.spec.revive, space)
    moves = torch.as_tensor(starts.moves, dtype=torch.float32, device=device)
    return space, replace(state, rate=moves), starts


def family_space(family: Family, rows: FamilyStarts, device: torch.device) -> FamilySpace:
    """The space of these rows: the limits of the family's sites for those that move; the others are what they are."""
    sites, slot = family.sites, np.arange(family.slots)
    mix = np.zeros((len(sites), family.width))
    for at, site in enumerate(sites):
        mix[at, : len(site.own)] = np.array(site.amounts) / sum(site.amounts)
    vacant, most_vacant, held, low, high, total = (
        np.array([getattr(site, name) for site in sites])
        for name in ("vacant", "most_vacant", "held", "low", "high", "total")
    )
    moves, vacancy = rows.moves[:, None], rows.element == VACANCY
    foreign = (slot >= family.width) & rows.exists & moves[..., None]

    def tensor(values: NDArray[np.generic] | Floats) -> Tensor:
        tensor = torch.as_tensor(np.ascontiguousarray(values), device=device)
        return tensor.float() if tensor.is_floating_point() else tensor

    return FamilySpace(
        element=tensor(rows.element),
        own_mix=tensor(mix),
        amount=tensor(total),
        low=tensor(np.where(moves, low, 0.0)),
        high=tensor(np.where(moves, high, 1.0)),
        most=tensor(np.where(vacancy & foreign, most_vacant[:, None], 1.0)),
        on_grid=tensor(rows.exists & (slot > 0) & (moves & ~held)[..., None]),
        counted=tensor(foreign & ~(vacancy & (vacant > 0)[:, None])),
        limits=family.limits,
    )
