"""What the rows of a search can reach: how x_base becomes a composition, and which grid formulas lie on.

The stages know nothing else of it. `OpenSpace` is the paper's: any allowed element in any amount beside fixed amounts,
under element masks and the element limit (sections 2.4 and 2.5). `family_rows.FamilySpace` keeps the sites of a base.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

from kiago_ray.search.losses import Norm, integer_loss

MIN_TOTAL = 1e-6  # of ReLU(x_base): below this a row has nothing left to normalise


def compose(x_base: Tensor, const: Tensor, mask: Tensor, *, straight_through: bool = False) -> Tensor:
    """x = x_const + σ(x_base·M)·(1 − Σ x_const), σ(x) = ReLU(x) / Σ ReLU(x): eq. 12 with stage 1's mask M_elem, eq. 15
    with stage 2's M_max·M_elem.

    x_base: (rows, 118); const: (118,) fractions; mask: (rows, 118) or (118,) bool. Returns (rows, 118)
    fractions: each row sums to 1, holds const exactly where the mask is off, and exactly 0 where neither has
    anything.

    straight_through: absent elements keep the gradient that they would have on coming back, which ReLU makes
    0. A row with nothing left is x_const alone; `has_something` tells.
    """
    optimised = x_base * mask  # eq. 6
    positive = optimised.relu()
    if straight_through:
        positive = optimised + (positive - optimised).detach()
    total = positive.sum(dim=1, keepdim=True)
    share = positive / torch.where(total > 0, total, torch.ones_like(total))  # eq. 5
    return const + share * (1 - const.sum())  # eq. 4, in stage 1 eq. 12, in stage 2 eq. 15


def has_something(x_base: Tensor, mask: Tensor) -> Tensor:
    """(rows,) bool: where some allowed value is above 0, so that eq. 5 has something to divide by."""
    return (x_base * mask).relu().sum(dim=1) > MIN_TOTAL


def limit_mask(x_base: Tensor, mask: Tensor, limit: int, always: Tensor) -> Tensor:
    """M_max·M: (rows, 118) bool, the `limit` largest values of stage 1's result.

    Only elements that are present are kept, and of equal ones that with the lower atomic number. Elements in
    `always` (118,), such as fixed ones that may grow, stay allowed and don't count here.
    """
    candidates = (x_base * mask).relu().masked_fill(always, 0)
    order = torch.argsort(candidates, dim=1, descending=True, stable=True)
    largest = torch.zeros_like(candidates, dtype=torch.bool)
    largest.scatter_(1, order[:, :limit], True)  # eq. 7
    return (largest & (candidates > 0)) | (mask & always)  # eq. 8


class Space(Protocol):
    """Maps x_base (rows, p) under masks (rows, p) bool to fractions; p is the space's own."""

    def compose(self, x_base: Tensor, mask: Tensor, *, straight_through: bool = False) -> Tensor:
        """Fractions (rows, 118), each row summing to 1. straight_through: what is absent keeps the gradient that it
        would have on coming back.
        """
        ...

    def has_something(self, x_base: Tensor, mask: Tensor) -> Tensor:
        """(rows,) bool: where there is something to compose."""
        ...

    def off_grid(self, x_base: Tensor, mask: Tensor, x: Tensor, norm: Norm) -> Tensor:
        """L_integer, (rows,): how far from a formula's amounts what is composed lies, which are the fractions x."""
        ...

    def limited(self, x_base: Tensor, mask: Tensor) -> tuple[Self, Tensor]:
        """The space of stage 2 and each row's mask in it, by what stage 1 came to."""
        ...


@dataclass(frozen=True)
class OpenSpace:
    """x_const + σ(x_base·M)·(1 − Σ x_const) (eq. 12), with at most `limit` elements in stage 2.

    const: (118,) fractions. always: (118,) bool elements that stay allowed in stage 2 and don't count. totals: (n,)
    numbers of atoms, N_unit. width: most elements that a row can hold, so that the integer loss looks at no more.
    """

    const: Tensor
    limit: int
    always: Tensor
    totals: Tensor
    width: int | None = None

    def compose(self, x_base: Tensor, mask: Tensor, *, straight_through: bool = False) -> Tensor:
        return compose(x_base, self.const, mask, straight_through=straight_through)

    def has_something(self, x_base: Tensor, mask: Tensor) -> Tensor:
        return has_something(x_base, mask)

    def off_grid(self, x_base: Tensor, mask: Tensor, x: Tensor, norm: Norm) -> Tensor:
        return integer_loss(x, self.totals, norm, self.width)

    def limited(self, x_base: Tensor, mask: Tensor) -> tuple[Self, Tensor]:
        return self, limit_mask(x_base, mask, self.limit, self.always)
