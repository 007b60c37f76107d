"""What a composition's relatives say: known systems that differ from it by one element swapped, added or left out.

All of it is a sum or a maximum over relatives of (weight of the system) × (odds that the one element stands for the
other), and linear in how far each element is present, so that a search has a slope where an element comes or goes.
The composition's own chemical system is left out, and what it adds to the odds is taken off. The agreement is the
share of the relatives that are composed alike: YBa2Cu3O7 with neodymium for yttrium is NdBa2Cu3O7 and hardly
Nd2BaCuO5, because most of what is known with another rare earth is composed so.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from kiago_ray.chemistry.elements import N_ELEMENTS, Floats
from kiago_ray.plausibility.literature import HOT_K, PRIOR, PRIOR_BESIDE, Literature
from kiago_ray.predictors.features import buffer

LEAST = 0.02  # added to sums before their logarithm
RELATIVE_NAMES = (
    *("swap_sum", "swap_most", "swap_odds", "swap_odds_sum", "swap_count", "swap_recent", "swap_hot"),
    *("swap_beside_sum", "swap_beside_most", "swap_beside_least_sum", "swap_beside_least"),
    *("added_sum", "added_most", "added_odds", "added_count", "added_weight", "added_recent", "added_hot"),
    *("added_beside_sum", "added_beside_most", "added_beside_least_sum", "added_beside_least"),
    *("larger", "smaller_by_two", "parts"),
)
ALIKE = 0.2  # L1 distance at which a relative hardly counts as composed alike
TYPICAL = 8  # compositions that stand for those of a system
UNKNOWN = 0.5  # share that is taken where there are no relatives
ADDED_COUNT = 0.5  # a relative with one element less counts as this part of one with an element swapped
_MERGED = 0.1  # L1 distance up to which one composition stands for another
_MOST_COMPOSITIONS = 300  # of a system that are looked at, those reported most often
_LITTLE = 0.02  # support that UNKNOWN has
_STEEP = 4


class Pairs(NamedTuple):
    """n pairs of a row and a known system next to it. All are (n,).

    row, system: which. lost, new: the element of the system, and the row's that stands for it. scale: how far the
    system is next to the row, 0 to 1. odds: of the one element for the other, times scale. support: the system's
    weight × odds. mean, least: of the odds beside the other elements that both hold, times scale.
    """

    row: Tensor
    system: Tensor
    lost: Tensor
    new: Tensor
    scale: Tensor
    odds: Tensor
    support: Tensor
    mean: Tensor
    least: Tensor


class Relatives(nn.Module):
    """Presence (rows, 118) from 0 to 1 and whether each row's own system is known (rows,) → (rows, RELATIVE_NAMES),
    and the pairs by a swap and by an added element that they are counted from.
    """

    SELECTED = ("systems", "sizes", "weights", "recent", "hot")

    def __init__(self, literature: Literature) -> None:
        super().__init__()
        swaps, beside = literature.swap_counts
        one = literature.systems.astype(np.float32)
        self.systems = buffer(one)
        self.sizes = buffer(one.sum(axis=1))
        self.weights = buffer(literature.weights)
        self.recent = buffer(np.log1p(literature.recent))
        self.hot = buffer(literature.highest_tc_k >= HOT_K)
        self.swaps, self.beside = buffer(swaps), buffer(beside)
        self.held, self.together = buffer(one.sum(axis=0)), buffer(one.T @ one)

    def forward(self, presence: Tensor, own: Tensor) -> tuple[Tensor, Pairs, Pairs]:
        shared = presence @ self.systems.T
        # How many elements of each row a system lacks, and how many it has beside them, (rows, systems) each.
        extra, missing = presence.sum(dim=1, keepdim=True) - shared, self.sizes - shared
        swapped = self._swapped(presence, own, _peak(extra - 1) * _peak(missing - 1))
        added = self._added(presence, own, _peak(extra - 1) * _peak(missing))
        larger = (_peak(extra) * missing.clamp(0, 1)) @ self.weights
        by_two = (_peak(missing) * _peak(extra - 2)) @ self.weights
        within = (_peak(missing) * extra.clamp(0, 1)).sum(dim=1)
        logs = torch.stack([(larger + LEAST).log(), (by_two + LEAST).log(), within.log1p()], dim=1)
        columns = [self._summed(presence, swapped, "swap"), self._summed(presence, added, "added"), logs]
        return torch.cat(columns, dim=1), swapped, added

    def _swapped(self, presence: Tensor, own: Tensor, kernel: Tensor) -> Pairs:
        """The known systems that differ by one element swapped; the row's own system holds the new element alone, and
        adds to the counts.
        """
        row, system = kernel.detach().nonzero(as_tuple=True)
        there, here, own = self.systems[system], presence[row].detach(), own[row]
        lost, new = (there * (1 - here)).argmax(dim=1), (here * (1 - there)).argmax(dim=1)
        count = (self.swaps[lost, new] - own).clamp(min=0)
        odds = count / ((self.held[lost] + PRIOR) * (self.held[new] + PRIOR - own)).sqrt()
        odds = odds * kernel[row, system]
        seen = odds.detach() > 0
        row, system, lost, new, odds, own = (each[seen] for each in (row, system, lost, new, odds, own))
        rest = self.systems[system] * (presence.detach()[row] > 0)
        mean, least = self._beside(lost, new, torch.zeros_like(own), own, rest)
        scale, support = kernel[row, system], self.weights[system] * odds
        return Pairs(row, system, lost, new, scale, odds, support, mean * scale, least * scale)

    def _added(self, presence: Tensor, own: Tensor, kernel: Tensor) -> Pairs:
        """Known systems that lack an element, which shares the likeliest site. The row's own adds to no count."""
        row, system = kernel.detach().nonzero(as_tuple=True)
        there, own = self.systems[system], own[row]
        new = (presence.detach()[row] * (1 - there)).argmax(dim=1)
        either = (self.held + PRIOR - own[:, None]) * (self.held[new] + PRIOR - own)[:, None]
        best, site = (there * (self.swaps[:, new].T / either.sqrt())).max(dim=1)
        rest = there.scatter(1, site[:, None], 0.0)
        odds = best * kernel[row, system]
        mean, least = self._beside(site, new, own, own, rest)
        scale, support = kernel[row, system], self.weights[system] * odds
        return Pairs(row, system, site, new, scale, odds, support, mean * scale, least * scale)

    def _beside(
        self, of: Tensor, by: Tensor, own_of: Tensor, own_by: Tensor, rest: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The mean and the least p(a, c | b) over the elements b of `rest` (n, 118), 0 without one, (n,) each: without
        what the row's own system adds, where it holds a and c (n,).
        """
        count = (self.beside[of, by] - (own_by - own_of)[:, None]).clamp(min=0)
        of_held, by_held = self.together[of] + PRIOR_BESIDE, self.together[by] + PRIOR_BESIDE
        odds = count / ((of_held - own_of[:, None]) * (by_held - own_by[:, None])).sqrt()
        held = rest > 0
        number = held.sum(dim=1)
        mean = (odds * held).sum(dim=1) / number.clamp(min=1)
        return mean, torch.where(number > 0, odds.masked_fill(~held, torch.inf).amin(dim=1), 0.0)

    def _summed(self, presence: Tensor, pairs: Pairs, kind: str) -> Tensor:
        """The columns of one kind of relatives, (rows, columns)."""
        row, system, scale, odds = pairs.row, pairs.system, pairs.scale, pairs.odds
        weight, nothing = self.weights[system], presence.new_zeros(len(presence))

        def total(values: Tensor) -> Tensor:
            return nothing.index_add(0, row, values)

        def most(values: Tensor) -> Tensor:
            return nothing.scatter_reduce(0, row, values, "amax")

        def log(values: Tensor) -> Tensor:
            return (values + LEAST).log()

        first = [log(total(pairs.support)), log(most(pairs.support)), most(odds)]
        count = total(scale).log1p()
        hot = log(total(odds * weight * self.hot[system]))
        if kind == "swap":
            first += [log(total(odds)), count, most(odds * self.recent[system]), hot]
        else:
            first += [count, most(weight * scale), most(self.recent[system] * scale), hot]
        mean, least = pairs.mean, pairs.least
        beside = [log(total(weight * mean)), most(mean), log(total(weight * least)), most(least)]
        return torch.stack([*first, *beside], dim=1)


def _peak(distance: Tensor) -> Tensor:
    """1 at 0, 0 from 1 away, linear between."""
    return (1 - distance.abs()).clamp(min=0)


class Agreement(nn.Module):
    """Fractions (rows, 118) and their relatives → ln of the share of these, by support, that are composed alike,
    (rows,).

    elements: (s, n) of each system, padded with 118. amounts: (s, TYPICAL, n) fractions of its typical compositions.
    shares: (s, TYPICAL) of its compositions that each stands for.
    """

    SELECTED = ("elements", "amounts", "shares")

    def __init__(self, literature: Literature) -> None:
        super().__init__()
        width = int(literature.systems.sum(axis=1).max(initial=1))
        number = len(literature.systems)
        elements = np.full((number, width), N_ELEMENTS, dtype=np.int64)
        amounts, shares = np.zeros((number, TYPICAL, width)), np.zeros((number, TYPICAL))
        compositions = literature.by_system(_MOST_COMPOSITIONS, often_first=True)
        for at, (row, mine) in enumerate(zip(literature.systems, compositions, strict=True)):
            held = np.flatnonzero(row)
            elements[at, : len(held)] = held
            found, counts = typical(mine[:, held])
            amounts[at, : len(found), : len(held)] = found
            shares[at, : len(found)] = counts / max(len(mine), 1)
        self.elements = nn.Buffer(torch.tensor(elements), persistent=False)
        self.amounts, self.shares = buffer(amounts), buffer(shares)

    def forward(self, fractions: Tensor, swapped: Pairs, added: Pairs) -> Tensor:
        agreeing = whole = fractions.new_zeros(len(fractions))
        for pairs, count in ((swapped, 1.0), (added, ADDED_COUNT)):
            support = count * pairs.support
            agreeing = agreeing.index_add(0, pairs.row, support * self._alike(fractions, pairs))
            whole = whole.index_add(0, pairs.row, support)
        return ((agreeing + _LITTLE * UNKNOWN) / (whole + _LITTLE)).log()

    def _alike(self, fractions: Tensor, pairs: Pairs) -> Tensor:
        """The share of a relative's compositions that are the row's with the new element in its place, (pairs,)."""
        padded = torch.cat([fractions, fractions.new_zeros(len(fractions), 1)], dim=1)
        elements, row = self.elements[pairs.system], pairs.row[:, None]
        mine = padded[row, elements]
        mine = mine + (elements == pairs.lost[:, None]) * padded[row, pairs.new[:, None]]
        overlap = torch.minimum(mine[:, None], self.amounts[pairs.system]).sum(dim=2)
        distance = 2 * (1 - overlap)
        return (self.shares[pairs.system] * (-((distance / ALIKE) ** _STEEP)).exp()).sum(dim=1)


def typical(compositions: Floats) -> tuple[Floats, Floats]:
    """At most TYPICAL of compositions (m, n), and how many others near it each stands for, most first."""
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
