"""What the rows of a search can reach: how x_base becomes a composition, and which grid formulas lie on.

The stages know nothing else of it. `OpenSpace` is the paper's, any allowed element in any amount beside x_const;
`family_space.FamilySpace` keeps the sites of a base.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, Self

from torch import Tensor

from kiago_ray.search.constraints import compose, has_something, limit_mask
from kiago_ray.search.losses import integer_loss

Norm = Literal["l1", "l2"]


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
