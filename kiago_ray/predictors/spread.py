"""From how far an ensemble disagrees to a standard deviation that held-out rows bear out.

ln σ is linear in the ensemble's own disagreement, in the height of T_c and in the extrapolation score: members agree
too well on systems that none of them saw, and the score knows those. The coefficients come from held-out
rows (see `calibration`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

FURTHEST = 3.0  # extrapolation scores beyond it count as this
LEAST_STD_K = 0.3


class Spread(nn.Module):
    """(mean, disagreement, extrapolation), each (rows,), → standard deviation of T_c in K (rows,)."""

    coefficients: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("coefficients", torch.tensor([0.0, 1.0, 0.0, 0.0]))

    def forward(self, mean_k: Tensor, disagreement_k: Tensor, extrapolation: Tensor) -> Tensor:
        terms = spread_terms(mean_k, disagreement_k, extrapolation)
        return (terms @ self.coefficients.to(terms)).exp() + LEAST_STD_K


def spread_terms(mean_k: Tensor, disagreement_k: Tensor, extrapolation: Tensor) -> Tensor:
    """What ln σ is linear in, (rows, 4). Smooth at 0 K, so that a search can follow it."""
    height = nn.functional.softplus(mean_k)
    return torch.stack(
        [
            torch.ones_like(mean_k),
            torch.log1p(disagreement_k),
            torch.log1p(height / 10),
            extrapolation.clamp(max=FURTHEST),
        ],
        dim=1,
    )
