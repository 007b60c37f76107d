"""Guidance of the samples by the predictors: down the gradient of −T_c + α·E_f (the paper's 3.1, eq. 13).

The paper calls it classifier guidance: x ← x − w·∂L/∂x at every step, with respect to the noisy sample in atoms. The
predictors see the sample's positive part, normalised (eq. 5), though they never saw noise in training. T_c counts
before its final ReLU, so that a sample at 0 K has a slope.

The slope is each sample's own, so that a sample doesn't depend on how many are drawn with it. The paper doesn't say
whether its loss is averaged over a batch, which would divide its weights by hundreds: what its
1e-3 does, ours does near 4e-6 (benchmarks/superdiff.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kiago_ray.chemistry.elements import N_ELEMENTS

if TYPE_CHECKING:
    from kiago_ray.predictors.base import Predictor


@dataclass(frozen=True)
class Guidance:
    """tc and ef: predictors, on the device of the samples. alpha: K per eV/atom. weight: atoms² per K."""

    tc: Predictor
    ef: Predictor
    alpha: float = 4.0
    weight: float = 1e-3

    def __post_init__(self) -> None:
        for name, value in (("alpha", self.alpha), ("weight", self.weight)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} of the guidance is {value!r}: give a finite number, 0 or more")

    def slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """∂(−T_c + α·E_f)/∂x of samples x (rows, 120), of the same shape, and their T_c in K (rows,).

        A row with nothing above 0 is no composition: its slope and its T_c are 0.
        """
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            parts, alive = positive_fractions(leaf)
            raw_tc = self.tc(parts)
            loss = self.alpha * self.ef(parts) - raw_tc
            (slope,) = torch.autograd.grad(loss.sum(), leaf)
        return torch.where(alive[:, None], slope, 0), torch.where(alive, raw_tc.detach().relu(), 0)


def positive_fractions(x: Tensor) -> tuple[Tensor, Tensor]:
    """σ of eq. 5: samples (rows, 120) → atomic fractions (rows, 118), and which rows (rows,) have anything above 0."""
    positive = x[:, :N_ELEMENTS].relu()
    total = positive.sum(dim=1, keepdim=True)
    alive = total[:, 0] != 0  # NaN counts as alive, so that it shows
    return positive / torch.where(alive[:, None], total, 1), alive


@torch.no_grad()
def predicted_tc_k(tc: Predictor, x: Tensor) -> Tensor:
    """T_c in K, 0 or more, of samples (rows, 120) at any noise: (rows,); 0 where nothing is above 0."""
    parts, alive = positive_fractions(x)
    return torch.where(alive, tc(parts).relu(), 0)
