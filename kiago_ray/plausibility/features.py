"""What plausibility reads of a composition: its relatives, the company of its elements, its make-up and its charges.

Everything is smooth in the fractions but for kinks where an element is wholly present. Nothing is looked up of the
composition itself: its own chemical system is left out, and what that adds to counts is taken off. Relatives are known
systems that differ by one element swapped, added or left out. What they say is a sum or a maximum over them of (weight
of the system) × (odds that the one element stands for the other), linear in how far each element is present, so that a
search has a slope where one comes or goes. The agreement is the share of them that are composed alike: YBa2Cu3O7 with
neodymium for yttrium is NdBa2Cu3O7 and hardly Nd2BaCuO5, as most of what is known with another rare earth is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from kiago_ray.chemistry.balance import HARD, SOFT, price_table
from kiago_ray.chemistry.elements import N_ELEMENTS, SYMBOLS, Floats, Mask
from kiago_ray.chemistry.oxidation import state_costs
from kiago_ray.plausibility.literature import HOT_K, PRIOR, PRIOR_BESIDE, Literature, per_system
from kiago_ray.predictors.base import buffer
from kiago_ray.predictors.ensemble import TcFeatures
from kiago_ray.search.losses import nats_of_balance

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

TABLES = ("together", "company", "together_lately", "lift")
COMPANY_NAMES = (
    *("elements", "elements_squared", "many_elements"),
    *(f"{name}_{kind}" for name in TABLES for kind in ("mean", "least")),
    *("alike_mean", "alike_most"),
    *(f"element_{name}_{kind}" for name in ("reported", "lately") for kind in ("mean", "least")),
)
CHARGE_NAMES = ("charge_nats", "charge_nats_ionic", "strong_anions")
MAKE_UP_WIDTHS = (0.08, 0.2)  # of the kernels over compositions
NEAR_SHARE = 0.2  # of the atoms: what has more of other elements hardly counts in them
TRACE = 0.002  # of all atoms: an element counts as wholly present from here on
UNCHARGED_NATS = 12.0  # of an atom without a charge where its states don't balance
MOST_NATS = 4.0  # an atom; what is unlikelier counts as this
IONIC = 0.3  # share of strong anions from which a composition is wholly ionic
MIXED = (1.1, 1.3)  # hard anions to soft ones: from the one to the other a composition becomes an oxide
_MANY = 5  # elements; most systems of superconductors hold no more
_SHARPNESS = 2.0  # of the soft minimum over pairs
_COMPANY_SCALE = 10.0
_ALIKE_SHARPNESS = 8.0
_FLOOR = 1e-3
_NOTHING = 1e-9
_PRICES = np.linspace(-12, 12, 97)
_VALUES_AT_ONCE = 20_000_000  # of rows × systems


class PlausibilityFeatures(nn.Module):
    """Fractions (rows, 118), every row summing to 1 → features (rows, …), and the agreement of the relatives (rows,).
    The first features, those of `names`, depend on which elements are present alone, the others on the amounts too.
    """

    names = (*RELATIVE_NAMES, *COMPANY_NAMES)

    def __init__(self, literature: Literature) -> None:
        super().__init__()
        self.relatives = Relatives(literature)
        self.agreement = Agreement(literature)
        self.company = Company(literature)
        self.make_up = MakeUp(literature)
        self.charges = Charges()
        self.statistics = TcFeatures()

    def forward(self, fractions: Tensor) -> tuple[Tensor, Tensor]:
        systems, swapped, added = self.of_systems(fractions)
        amounts = self.make_up(fractions), self.charges(fractions), self.statistics.statistics(fractions)
        features = torch.cat([systems, *amounts], dim=1)
        return features, self.agreement(fractions, swapped, added)

    def of_systems(self, fractions: Tensor) -> tuple[Tensor, Pairs, Pairs]:
        """Those that rest on which elements are present (rows, names), and the relatives by a swap and an addition."""
        presence, own = (fractions / TRACE).clamp(max=1), self.own(fractions)
        columns, swapped, added = self.relatives(presence, own)
        return torch.cat([columns, self.company(presence, own)], dim=1), swapped, added

    def own(self, fractions: Tensor) -> Tensor:
        """(rows,): 1 where the row's own chemical system is known."""
        there = (fractions > 0).to(fractions)
        size = there.sum(dim=1, keepdim=True)
        same = (there @ self.relatives.systems.T == size) & (self.relatives.sizes == size)
        return same.any(dim=1).to(fractions)

    def near(self, present: Mask) -> PlausibilityFeatures:
        """A copy that is nearly the same for compositions of the elements `present` (118,) alone: with the systems
        that hold at most one other element, and the compositions of which no more than NEAR_SHARE lies outside.
        """
        absent = torch.tensor(~present, dtype=torch.float32)
        systems = (self.relatives.systems @ absent) <= 1
        alike = (self.make_up.shares @ absent) <= NEAR_SHARE
        other = copy.deepcopy(self)
        for module, kept in ((other.relatives, systems), (other.agreement, systems), (other.make_up, alike)):
            for name in module.SELECTED:
                setattr(module, name, getattr(module, name)[kept])
        return other

    def chunks(self, fractions: Floats) -> Iterator[Tensor]:
        """Many rows of fractions (n, 118), a few at a time; one chunk at least."""
        at_once = max(16, min(2048, _VALUES_AT_ONCE // max(len(self.make_up.points), 1)))
        rows = torch.as_tensor(np.asarray(fractions), dtype=torch.float32)
        return (rows[start : start + at_once] for start in range(0, max(len(rows), 1), at_once))


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
        """Known systems one swap away. The row's own system holds the new element alone, and adds to the counts."""
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
    """Fractions (rows, 118) and relatives → ln of the share of these, by support, that are composed alike, (rows,).

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


class Company(nn.Module):
    """Presence (rows, 118) and whether each row's own system is known (rows,) → (rows, COMPANY_NAMES)."""

    def __init__(self, literature: Literature) -> None:
        super().__init__()
        self.pairs, self.elements = map(buffer, _tables(literature, own=0.0))
        self.pairs_without, self.elements_without = map(buffer, _tables(literature, own=1.0))
        self.alike = buffer(literature.swap_odds)

    def forward(self, presence: Tensor, own: Tensor) -> Tensor:
        with_own = self._columns(presence, self.pairs, self.elements)
        without = self._columns(presence, self.pairs_without, self.elements_without)
        return torch.where(own[:, None] > 0, without, with_own)

    def _columns(self, presence: Tensor, pairs: Tensor, elements: Tensor) -> Tensor:
        size = presence.sum(dim=1)
        off = 1 - torch.eye(N_ELEMENTS, dtype=presence.dtype, device=presence.device)
        number = (size * (size - 1)).clamp(min=1)

        def summed(table: Tensor) -> Tensor:
            """Over the pairs of different elements of each row, (rows,)."""
            return ((presence @ table) * presence).sum(dim=1)

        columns = [size, size**2 / 8, (size - _MANY).clamp(min=0)]
        for table in pairs:
            least = summed(off * (-_SHARPNESS * table).exp()) / number
            columns += [summed(off * table) / number, -(least + 1e-9).log() / _SHARPNESS]
        columns.append(summed(self.alike) / number)
        columns.append((summed(off * (self.alike * _ALIKE_SHARPNESS).expm1()) / 2).log1p())
        for row in elements:
            columns += [(presence @ row) / size, -((presence @ (-row).exp()) / size).log()]
        return torch.stack(columns, dim=1)


def _tables(literature: Literature, own: float) -> tuple[Floats, Floats]:
    """Tables of pairs (4, 118, 118) and of elements (2, 118), `own` systems fewer that hold them."""
    one = literature.systems.astype(np.float64)
    together = np.maximum(one.T @ one - own, 0)
    lately = np.maximum((one * literature.recent[:, None]).T @ one, 0)
    held = np.maximum(one.sum(axis=0) - own, 0)
    company = per_system(together, held)
    lift = np.log((together + 0.5) / (held[:, None] * held / max(len(one), 1) + 0.5))
    pairs = np.stack([np.log1p(together), _COMPANY_SCALE * company, np.log1p(lately), lift])
    return pairs, np.stack([np.log1p(held), np.log1p(np.diag(lately))])


class MakeUp(nn.Module):
    """Fractions (rows, 118) → how many known compositions of other systems are made up alike, (rows, widths).

    Elements that replace one another count as near: d² = (x − y)ᵀ G (x − y), G_ac being how often c takes a's place,
    made positive. factor: (118, 118), of which G is the square. points, shares: (m, 118) known compositions by it and
    by fractions. counts: (m,) ln(1 + reports) of each.
    """

    SELECTED = ("points", "sets", "shares", "counts")

    def __init__(self, literature: Literature) -> None:
        super().__init__()
        factor = positive_factor(literature.swap_odds)
        self.factor, self.points = buffer(factor), buffer(literature.fractions @ factor)
        self.sets, self.shares = buffer(literature.fractions > 0), buffer(literature.fractions)
        self.counts = buffer(np.log1p(literature.reports))

    def forward(self, fractions: Tensor) -> Tensor:
        if not len(self.points):
            return fractions.new_full((len(fractions), len(MAKE_UP_WIDTHS)), float(np.log(_FLOOR)))
        there = (fractions > 0).to(fractions)
        different = there.sum(dim=1, keepdim=True) + self.sets.sum(dim=1) - 2 * (there @ self.sets.T)
        point = fractions @ self.factor
        square = (point**2).sum(1, keepdim=True) - 2 * point @ self.points.T + (self.points**2).sum(1)
        square = square.clamp(min=0).masked_fill(different < 0.5, torch.inf)
        sums = [(-square / (2 * width**2)).exp() @ self.counts for width in MAKE_UP_WIDTHS]
        return torch.stack([(each + _FLOOR).log() for each in sums], dim=1)


def positive_factor(odds: Floats) -> Floats:
    """L (118, 118) with L Lᵀ near to odds with ones on the diagonal, and positive: its rows have length 1."""
    similar = odds + np.eye(N_ELEMENTS)
    values, vectors = np.linalg.eigh((similar + similar.T) / 2)
    factor = vectors * np.sqrt(np.clip(values, 0, None))
    return np.asarray(factor / np.linalg.norm(factor, axis=1, keepdims=True))


class Charges(nn.Module):
    """Fractions (rows, 118) → (rows, CHARGE_NAMES): nats an atom of the likeliest states that add up to zero (the
    linear program of `chemistry.balance` by its dual, see `price_table` there), the same as far as it is ionic, and
    the share of anions of oxygen's and sulfur's kind. tables: (2, cuts, prices, 118), of oxides and of all else.
    """

    def __init__(self) -> None:
        super().__init__()
        costs = state_costs()
        # Without the last cut, above all elements, which leaves no anions.
        tables = [price_table(nats, costs.scale, _PRICES, UNCHARGED_NATS)[:-1] for nats in costs.nats[:2]]
        self.tables = buffer(np.stack(tables))
        self.hard, self.soft = (buffer(np.isin(SYMBOLS, list(symbols))) for symbols in (HARD, SOFT))

    def forward(self, fractions: Tensor) -> Tensor:
        hard, soft = fractions @ self.hard, fractions @ self.soft
        oxide, other = (nats_of_balance(fractions, table).clamp(0, MOST_NATS) for table in self.tables)
        as_oxide = ((hard - MIXED[0] * soft) / ((MIXED[1] - MIXED[0]) * soft + _NOTHING)).clamp(0, 1)
        nats = as_oxide * oxide + (1 - as_oxide) * other
        strong = hard + soft
        return torch.stack([nats, nats * (strong / IONIC).clamp(max=1), strong], dim=1)
