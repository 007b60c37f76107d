"""Whether a composition's relatives are composed alike: the share of them that have its amounts.

A chemical system says which elements there are, not how many atoms of each. YBa2Cu3O7 with neodymium for yttrium is
NdBa2Cu3O7 and hardly Nd2BaCuO5, because the most of what is known with another rare earth is composed so.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.plausibility.literature import Floats, Literature
from kiago_ray.plausibility.relatives import Pairs, selected

ALIKE = 0.2  # L1 distance at which a relative hardly counts as composed alike
TYPICAL = 8  # compositions that stand for those of a system
UNKNOWN = 0.5  # share that is taken where there are no relatives
ADDED_COUNT = 0.5  # a relative with one element less counts as this part of one with an element swapped
_MERGED = 0.1  # L1 distance up to which one composition stands for another
_MOST_COMPOSITIONS = 300  # of a system that are looked at, those reported most often
_LITTLE = 0.02  # support that UNKNOWN has
_STEEP = 4


class Agreement(nn.Module):
    """Fractions (rows, 118) and their relatives → ln of the share of these, by support, that are composed alike,
    (rows,).

    elements: (s, n) of each system, padded with 118. amounts: (s, TYPICAL, n) fractions of its typical compositions.
    shares: (s, TYPICAL) of its compositions that each stands for.
    """

    elements: Tensor
    amounts: Tensor
    shares: Tensor

    def __init__(self, literature: Literature) -> None:
        super().__init__()
        width = int(literature.systems.sum(axis=1).max(initial=1))
        number = len(literature.systems)
        elements = np.full((number, width), N_ELEMENTS, dtype=np.int64)
        amounts, shares = np.zeros((number, TYPICAL, width)), np.zeros((number, TYPICAL))
        order = np.lexsort((-literature.reports, literature.system))
        begins = np.searchsorted(literature.system[order], np.arange(number + 1))
        for at, row in enumerate(literature.systems):
            held = np.flatnonzero(row)
            elements[at, : len(held)] = held
            mine = literature.fractions[order[begins[at] : begins[at + 1]][:_MOST_COMPOSITIONS]]
            found, counts = typical(mine[:, held])
            amounts[at, : len(found), : len(held)] = found
            shares[at, : len(found)] = counts / max(len(mine), 1)
        self.register_buffer("elements", torch.tensor(elements), persistent=False)
        self.register_buffer("amounts", torch.tensor(amounts, dtype=torch.float32), persistent=False)
        self.register_buffer("shares", torch.tensor(shares, dtype=torch.float32), persistent=False)

    def only(self, kept: Tensor) -> Agreement:
        """The same of the systems `kept` (m,) alone."""
        return selected(self, kept, ("elements", "amounts", "shares"))

    def forward(self, fractions: Tensor, swapped: Pairs, added: Pairs) -> Tensor:
        agreeing = whole = fractions.new_zeros(len(fractions))
        for pairs, count in ((swapped, 1.0), (added, ADDED_COUNT)):
            support = count * pairs.support
            agreeing = agreeing.index_add(0, pairs.row, support * self._alike(fractions, pairs))
            whole = whole.index_add(0, pairs.row, support)
        return ((agreeing + _LITTLE * UNKNOWN) / (whole + _LITTLE)).log()

    def _alike(self, fractions: Tensor, pairs: Pairs) -> Tensor:
        """The share of each relative's compositions that are the row's, with the new element in the place of the one
        that it stands for, (pairs,).
        """
        padded = torch.cat([fractions, fractions.new_zeros(len(fractions), 1)], dim=1)
        elements = self.elements[pairs.system]
        row = pairs.row[:, None]
        mine = padded[row, elements]
        mine = mine + (elements == pairs.lost[:, None]) * padded[row, pairs.new[:, None]]
        overlap = torch.minimum(mine[:, None], self.amounts[pairs.system]).sum(dim=2)
        distance = 2 * (1 - overlap)
        return (self.shares[pairs.system] * (-((distance / ALIKE) ** _STEEP)).exp()).sum(dim=1)


def typical(compositions: Floats) -> tuple[Floats, Floats]:
    """Compositions (m, n) that stand for the others near them, at most TYPICAL, with how many each stands for: first
    the one that most are near to.
    """
    near = np.abs(compositions[:, None] - compositions[None]).sum(axis=2) <= _MERGED
    left = np.ones(len(compositions), dtype=np.bool_)
    chosen: list[int] = []
    counts: list[float] = []
    while left.any() and len(chosen) < TYPICAL:
        stands_for = (near & left).sum(axis=1)
        best = int(stands_for.argmax())
        chosen.append(best)
        counts.append(float(stands_for[best]))
        left &= ~near[best]
    return compositions[chosen], np.array(counts)
