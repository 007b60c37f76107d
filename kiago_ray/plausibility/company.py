"""The company that elements keep: how often the pairs and the single elements of a composition were reported.

Means over pairs weigh the usual, soft minima the one pair that nobody has seen together. A pair or an element counts
by how far it is present; what the composition's own chemical system adds is taken off.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.plausibility.literature import Literature
from kiago_ray.plausibility.odds import per_system, swap_odds

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
