"""The space of a family: σ of eq. 5 normalised site by site, so that every site keeps its amount.

Each row has slots of its own, (sites, slots of a site), flattened in x_base: first a site's own elements, then what
may come in, an element or a vacancy. So rows of different bases may run together, and rows that only hold a proposal
are rows like any other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.search.constraints import MIN_TOTAL
from kiago_ray.search.family import HALF
from kiago_ray.search.losses import integer_distance
from kiago_ray.search.space import Norm


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
