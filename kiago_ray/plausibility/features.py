"""What plausibility reads of a composition: its relatives, the company of its elements, its make-up and its charges.

Everything is smooth in the fractions but for kinks where an element is wholly present. Nothing is looked up of the
composition itself: what its own chemical system holds has no part in it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from kiago_ray.chemistry.balance import HARD, SOFT, price_table
from kiago_ray.chemistry.elements import N_ELEMENTS, SYMBOLS, Floats, Mask
from kiago_ray.chemistry.oxidation import state_costs
from kiago_ray.plausibility.literature import Literature, per_system
from kiago_ray.plausibility.relatives import RELATIVE_NAMES, Agreement, Pairs, Relatives
from kiago_ray.predictors.features import TcFeatures, buffer
from kiago_ray.search.losses import nats_of_balance

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
            columns.append(summed(off * table) / number)
            columns.append(-(least + 1e-9).log() / _SHARPNESS)
        columns.append(summed(self.alike) / number)
        columns.append((summed(off * (self.alike * _ALIKE_SHARPNESS).expm1()) / 2).log1p())
        for row in elements:
            columns.append((presence @ row) / size)
            columns.append(-((presence @ (-row).exp()) / size).log())
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

    Elements that replace one another count as near: distances are d² = (x − y)ᵀ G (x − y), G_ac being how often c
    takes the place of a, made positive.

    factor: (118, 118), of which G is the square. points, shares: (m, 118) known compositions by it and by fractions.
    counts: (m,) ln(1 + reports) of each.
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
