"""What a composition's relatives say: known systems that differ from it by one element swapped, added or left out.

All of it is a sum or a maximum over relatives of (weight of the system) × (odds that the one element stands for the
other), and linear in how far each element is present, so that a search has a slope where an element comes or goes.
The composition's own chemical system is never among its relatives, and what it adds to the odds is taken off.

The relatives also say which amounts belong to it: the agreement is the share of them that are composed alike.
YBa2Cu3O7 with neodymium for yttrium is NdBa2Cu3O7 and hardly Nd2BaCuO5, because most of what is known with another
rare earth is composed so.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.plausibility.literature import HOT_K, Floats, Literature, Mask
from kiago_ray.plausibility.odds import PRIOR, PRIOR_BESIDE, completion_counts

M = TypeVar("M", bound=nn.Module)

LEAST = 0.02  # added to sums before their logarithm


RELATIVE_NAMES = (
    *("swap_sum", "swap_most", "swap_odds", "swap_odds_sum", "swap_count", "swap_recent", "swap_hot"),
    *("swap_beside_sum", "swap_beside_most", "swap_beside_least_sum", "swap_beside_least"),
    *("added_sum", "added_most", "added_odds", "added_count", "added_weight", "added_recent", "added_hot"),
    *("added_beside_sum", "added_beside_most", "added_beside_least_sum", "added_beside_least"),
    *("larger", "smaller_by_two", "parts"),
)


@dataclass(frozen=True)
class Pairs:
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
    """Presence (rows, 118) from 0 to 1 and whether each row's own system is known (rows,) → (rows, RELATIVE_NAMES)."""

    systems: Tensor
    sizes: Tensor
    weights: Tensor
    recent: Tensor
    hot: Tensor
    swaps: Tensor
    beside: Tensor
    held: Tensor
    together: Tensor

    def __init__(self, literature: Literature) -> None:
        super().__init__()
        swaps, beside = completion_counts(literature.systems)
        one = literature.systems.astype(np.float32)
        arrays = {
            "systems": one,
            "sizes": one.sum(axis=1),
            "weights": literature.weights,
            "recent": np.log1p(literature.recent),
            "hot": literature.highest_tc_k >= HOT_K,
            "swaps": swaps,
            "beside": beside,
            "held": one.sum(axis=0),
            "together": one.T @ one,
        }
        for name, array in arrays.items():
            self.register_buffer(name, torch.tensor(array, dtype=torch.float32), persistent=False)

    def near(self, present: Mask) -> Relatives:
        """The same with those systems alone that can be relatives of compositions of the elements `present` (118,),
        the counts as they are."""
        return selected(self, self.kept(present), ("systems", "sizes", "weights", "recent", "hot"))

    def kept(self, present: Mask) -> Tensor:
        """(m,): the systems with at most one element that isn't in `present` (118,)."""
        return ((self.systems @ torch.tensor(~present, dtype=torch.float32)) <= 1).nonzero()[:, 0]

    def odds(self, of: Tensor, by: Tensor, own: Tensor) -> Tensor:
        """p(a, c) without what the own system adds: a, c (n,) elements, own (n,) 1 where it is known. It holds c and
        not a."""
        count = (self.swaps[of, by] - own).clamp(min=0)
        return count / ((self.held[of] + PRIOR) * (self.held[by] + PRIOR - own)).sqrt()

    def odds_beside(self, of: Tensor, by: Tensor, own: Tensor) -> Tensor:
        """p(a, c | b) for every b, (n, 118), likewise."""
        count = (self.beside[of, by] - own[:, None]).clamp(min=0)
        both = (self.together[of] + PRIOR_BESIDE) * (self.together[by] + PRIOR_BESIDE - own[:, None])
        return count / both.sqrt()

    def site_odds(self, by: Tensor, own: Tensor) -> Tensor:
        """p(a, c) for every a, (n, 118), where the own system holds both a and c, so that it adds to no count."""
        return (
            self.swaps[:, by].T
            / ((self.held + PRIOR - own[:, None]) * (self.held[by] + PRIOR - own)[:, None]).sqrt()
        )

    def site_odds_beside(self, of: Tensor, by: Tensor, own: Tensor) -> Tensor:
        """p(a, c | b) for every b, (n, 118), where it holds all three."""
        both = (self.together[of] + PRIOR_BESIDE - own[:, None]) * (
            self.together[by] + PRIOR_BESIDE - own[:, None]
        )
        return self.beside[of, by] / both.sqrt()

    def forward(self, presence: Tensor, own: Tensor) -> Tensor:
        return self.of_pairs(presence, *self.pairs(presence, own))

    def pairs(self, presence: Tensor, own: Tensor) -> tuple[Pairs, Pairs]:
        """The known systems that differ by one element swapped, and those that lack one of the row's."""
        extra, missing = self._beyond(presence)
        return (
            self._swapped(presence, own, _peak(extra - 1) * _peak(missing - 1)),
            self._added(presence, own, _peak(extra - 1) * _peak(missing)),
        )

    def of_pairs(self, presence: Tensor, swapped: Pairs, added: Pairs) -> Tensor:
        """The columns (rows, RELATIVE_NAMES)."""
        extra, missing = self._beyond(presence)
        larger = _peak(extra) * missing.clamp(0, 1)
        by_two = _peak(missing) * _peak(extra - 2)
        within = _peak(missing) * extra.clamp(0, 1)
        sums = [larger @ self.weights, by_two @ self.weights, within.sum(dim=1)]
        logs = [(sums[0] + LEAST).log(), (sums[1] + LEAST).log(), sums[2].log1p()]
        parts = [self._summed(presence, swapped, "swap"), self._summed(presence, added, "added")]
        return torch.cat([*parts, torch.stack(logs, dim=1)], dim=1)

    def _beyond(self, presence: Tensor) -> tuple[Tensor, Tensor]:
        """How many elements of each row a system lacks, and how many it has beside them, (rows, systems) each."""
        shared = presence @ self.systems.T
        return presence.sum(dim=1, keepdim=True) - shared, self.sizes - shared

    def _swapped(self, presence: Tensor, own: Tensor, kernel: Tensor) -> Pairs:
        row, system = kernel.detach().nonzero(as_tuple=True)
        there, here = self.systems[system], presence[row]
        lost = (there * (1 - here.detach())).argmax(dim=1)
        new = (here.detach() * (1 - there)).argmax(dim=1)
        odds = self.odds(lost, new, own[row]) * kernel[row, system]
        seen = odds.detach() > 0
        row, system, lost, new, odds = row[seen], system[seen], lost[seen], new[seen], odds[seen]
        rest = self.systems[system] * (presence.detach()[row] > 0)
        mean, least = _over(rest, self.odds_beside(lost, new, own[row]))
        scale = kernel[row, system]
        support = self.weights[system] * odds
        return Pairs(row, system, lost, new, scale, odds, support, mean * scale, least * scale)

    def _added(self, presence: Tensor, own: Tensor, kernel: Tensor) -> Pairs:
        row, system = kernel.detach().nonzero(as_tuple=True)
        there = self.systems[system]
        new = (presence.detach()[row] * (1 - there)).argmax(dim=1)
        best, site = (there * self.site_odds(new, own[row])).max(dim=1)
        rest = there.scatter(1, site[:, None], 0.0)
        mean, least = _over(rest, self.site_odds_beside(site, new, own[row]))
        scale = kernel[row, system]
        odds = best * scale
        support = self.weights[system] * odds
        return Pairs(row, system, site, new, scale, odds, support, mean * scale, least * scale)

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


def selected(module: M, kept: Tensor, names: Collection[str]) -> M:
    """A module with the entries `kept` of its buffers `names`, and its other buffers as they are."""
    other = object.__new__(type(module))
    nn.Module.__init__(other)
    for name, buffer in module.named_buffers():
        other.register_buffer(name, buffer[kept] if name in names else buffer, persistent=False)
    return other


def _peak(distance: Tensor) -> Tensor:
    """1 at 0, 0 from 1 away, linear between."""
    return (1 - distance.abs()).clamp(min=0)


def _over(rest: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and least of values (n, 118) over the elements of rest (n, 118); 0 where it holds none."""
    held = rest > 0
    count = held.sum(dim=1)
    mean = (values * held).sum(dim=1) / count.clamp(min=1)
    least = values.masked_fill(~held, torch.inf).amin(dim=1)
    return mean, torch.where(count > 0, least, 0.0)


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
