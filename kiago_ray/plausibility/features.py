"""What plausibility reads of a composition: its relatives, the company of its elements, its make-up and its charges.

Everything is smooth in the fractions but for kinks where an element is wholly present. Nothing is looked up of the
composition itself: what its own chemical system holds has no part in it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.plausibility.charges import Charges
from kiago_ray.plausibility.literature import Floats, Literature, Mask
from kiago_ray.plausibility.odds import per_system, swap_odds
from kiago_ray.plausibility.relatives import RELATIVE_NAMES, Agreement, Relatives, selected
from kiago_ray.predictors.ensemble import TcFeatures

TABLES = ("together", "company", "together_lately", "lift")
COMPANY_NAMES = (
    *("elements", "elements_squared", "many_elements"),
    *(f"{name}_{kind}" for name in TABLES for kind in ("mean", "least")),
    *("alike_mean", "alike_most"),
    *(f"element_{name}_{kind}" for name in ("reported", "lately") for kind in ("mean", "least")),
)
_MANY = 5  # elements; most systems of superconductors hold no more
_SHARPNESS = 2.0  # of the soft minimum over pairs
_COMPANY_SCALE = 10.0
_ALIKE_SHARPNESS = 8.0


class Company(nn.Module):
    """Presence (rows, 118) and whether each row's own system is known (rows,) → (rows, COMPANY_NAMES)."""

    pairs: Tensor
    pairs_without: Tensor
    elements: Tensor
    elements_without: Tensor
    alike: Tensor

    def __init__(self, literature: Literature) -> None:
        super().__init__()
        for name, own in (("", 0.0), ("_without", 1.0)):
            pairs, elements = _tables(literature, own)
            self.register_buffer("pairs" + name, torch.tensor(pairs, dtype=torch.float32), persistent=False)
            self.register_buffer(
                "elements" + name, torch.tensor(elements, dtype=torch.float32), persistent=False
            )
        alike = torch.tensor(swap_odds(literature.systems), dtype=torch.float32)
        self.register_buffer("alike", alike, persistent=False)

    def forward(self, presence: Tensor, own: Tensor) -> Tensor:
        size = presence.sum(dim=1)
        with_own, without = (
            self._columns(presence, size, pairs, elements)
            for pairs, elements in (
                (self.pairs, self.elements),
                (self.pairs_without, self.elements_without),
            )
        )
        known = own[:, None] > 0
        return torch.where(known, without, with_own)

    def _columns(self, presence: Tensor, size: Tensor, pairs: Tensor, elements: Tensor) -> Tensor:
        off = 1 - torch.eye(N_ELEMENTS, dtype=presence.dtype, device=presence.device)
        number = (size * (size - 1)).clamp(min=1)
        columns = [size, size**2 / 8, (size - _MANY).clamp(min=0)]
        for table in pairs:
            least = ((presence @ (off * (-_SHARPNESS * table).exp())) * presence).sum(dim=1) / number
            columns.append(((presence @ (off * table)) * presence).sum(dim=1) / number)
            columns.append(-(least + 1e-9).log() / _SHARPNESS)
        columns.append(((presence @ self.alike) * presence).sum(dim=1) / number)
        most = ((presence @ (off * (self.alike * _ALIKE_SHARPNESS).expm1())) * presence).sum(dim=1)
        columns.append((most / 2).log1p())
        for row in elements:
            columns.append((presence @ row) / size)
            columns.append(-((presence @ (-row).exp()) / size).log())
        return torch.stack(columns, dim=1)


def _tables(literature: Literature, own: float) -> tuple[np.ndarray, np.ndarray]:
    """Tables of pairs (4, 118, 118) and of elements (2, 118), `own` systems fewer that hold them."""
    one = literature.systems.astype(np.float64)
    together = np.maximum(one.T @ one - own, 0)
    lately = np.maximum((one * literature.recent[:, None]).T @ one, 0)
    held = np.maximum(one.sum(axis=0) - own, 0)
    company = per_system(together, held)
    lift = np.log((together + 0.5) / (held[:, None] * held / max(len(one), 1) + 0.5))
    pairs = np.stack([np.log1p(together), _COMPANY_SCALE * company, np.log1p(lately), lift])
    return pairs, np.stack([np.log1p(held), np.log1p(np.diag(lately))])


TRACE = 0.002  # of all atoms: an element counts as wholly present from here on
MAKE_UP_WIDTHS = (0.08, 0.2)  # of the kernels over compositions
NEAR_SHARE = 0.2  # of the atoms: what has more of other elements hardly counts in them
_FLOOR = 1e-3
_VALUES_AT_ONCE = 20_000_000  # of rows × systems


class PlausibilityFeatures(nn.Module):
    """Fractions (rows, 118), every row summing to 1 → features (rows, …), and the agreement of the relatives (rows,).

    The first features, those of `names`, depend on which elements are present alone, the others on the amounts too.
    """

    def __init__(self, literature: Literature) -> None:
        super().__init__()
        self.relatives = Relatives(literature)
        self.agreement = Agreement(literature)
        self.company = Company(literature)
        self.make_up = MakeUp(literature)
        self.charges = Charges()
        self.statistics = TcFeatures()
        self.register_buffer("known", self.relatives.systems, persistent=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the features of systems."""
        return (*RELATIVE_NAMES, *COMPANY_NAMES)

    def of_systems(self, fractions: Tensor) -> Tensor:
        """Those that depend on which elements are present, (rows, names)."""
        presence, own = _presence(fractions), self.own(fractions)
        return torch.cat([self.relatives(presence, own), self.company(presence, own)], dim=1)

    def own(self, fractions: Tensor) -> Tensor:
        """(rows,): 1 where the row's own chemical system is known."""
        there = (fractions > 0).to(fractions)
        known = self.get_buffer("known")
        size = there.sum(dim=1, keepdim=True)
        same = (there @ known.T == size) & (known.sum(dim=1) == size)
        return same.any(dim=1).to(fractions)

    def forward(self, fractions: Tensor) -> tuple[Tensor, Tensor]:
        presence, own = _presence(fractions), self.own(fractions)
        swapped, added = self.relatives.pairs(presence, own)
        features = [
            self.relatives.of_pairs(presence, swapped, added),
            self.company(presence, own),
            self.make_up(fractions),
            self.charges(fractions),
            self.statistics.statistics(fractions),
        ]
        return torch.cat(features, dim=1), self.agreement(fractions, swapped, added)

    def near(self, present: Mask) -> PlausibilityFeatures:
        """Nearly the same for compositions of the elements `present` (118,) alone, with fewer systems to look at."""
        other = object.__new__(PlausibilityFeatures)
        nn.Module.__init__(other)
        other.relatives = self.relatives.near(present)
        other.agreement = self.agreement.only(self.relatives.kept(present))
        other.company, other.charges, other.statistics = self.company, self.charges, self.statistics
        other.make_up = self.make_up.near(present)
        other.register_buffer("known", self.get_buffer("known"), persistent=False)
        return other

    @torch.no_grad()
    def of_many(self, fractions: Floats) -> tuple[Tensor, Tensor]:
        """As a call, for many rows of fractions (n, 118), in chunks."""
        parts = [self(rows) for rows in self._chunks(fractions)]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])

    @torch.no_grad()
    def of_many_systems(self, fractions: Floats) -> Tensor:
        """As `of_systems`, for many rows."""
        return torch.cat([self.of_systems(rows) for rows in self._chunks(fractions)])

    def _chunks(self, fractions: Floats) -> list[Tensor]:
        at_once = max(16, min(2048, _VALUES_AT_ONCE // max(len(self.make_up.points), 1)))
        rows = torch.as_tensor(np.asarray(fractions), dtype=torch.float32)
        return [rows[start : start + at_once] for start in range(0, max(len(rows), 1), at_once)]


def _presence(fractions: Tensor) -> Tensor:
    """How far each element is there, (rows, 118) from 0 to 1."""
    return (fractions / TRACE).clamp(max=1)


class MakeUp(nn.Module):
    """Fractions (rows, 118) → how many known compositions of other systems are made up alike, (rows, widths).

    Elements that replace one another count as near: distances are d² = (x − y)ᵀ G (x − y), G_ac being how often c
    takes the place of a, made positive.
    """

    factor: Tensor
    points: Tensor
    sets: Tensor
    shares: Tensor
    counts: Tensor

    def __init__(self, literature: Literature) -> None:
        super().__init__()
        factor = positive_factor(swap_odds(literature.systems))
        arrays = {
            "factor": factor,
            "points": literature.fractions @ factor,
            "sets": literature.fractions > 0,
            "shares": literature.fractions,
            "counts": np.log1p(literature.reports),
        }
        for name, array in arrays.items():
            self.register_buffer(name, torch.tensor(array, dtype=torch.float32), persistent=False)

    def near(self, present: Mask) -> MakeUp:
        """The same with the compositions alone of which no more than NEAR_SHARE lies outside `present` (118,)."""
        kept = (self.shares @ torch.tensor(~present, dtype=torch.float32)) <= NEAR_SHARE
        return selected(self, kept, ("points", "sets", "shares", "counts"))

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
