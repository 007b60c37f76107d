"""Fitting the spread to held-out rows, and measuring how many errors it covers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor

from kiago_ray.predictors.spread import LEAST_STD_K, Spread, spread_terms

SHARES = ((0.683, 1.0), (0.954, 2.0))  # of a normal distribution within 1σ and 2σ
COVERAGE_WEIGHT = 1000.0
SOFTNESS = 0.15  # of ln σ, over which an error counts as half covered

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class HeldOut:
    """Held-out rows of one split: what the ensemble says of them, and the measured T_c in K; each (N,)."""

    mean_k: Floats
    disagreement_k: Floats
    extrapolation: Floats
    measured_k: Floats

    def pick(self, rows: NDArray[np.bool_]) -> HeldOut:
        return HeldOut(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def opinions(self) -> tuple[Tensor, Tensor, Tensor]:
        """What a spread is made of, each (N,)."""
        mean_k, disagreement_k, extrapolation = map(
            torch.from_numpy, (self.mean_k, self.disagreement_k, self.extrapolation)
        )
        return mean_k, disagreement_k, extrapolation

    def errors(self) -> Floats:
        """|measured − predicted| in K, predictions clipped at 0 as they are reported."""
        return np.abs(self.measured_k - np.clip(self.mean_k, 0, None))


def fit_spread(splits: list[HeldOut]) -> Spread:
    """Coefficients for which 68.3 % of each split's errors lie within σ and 95.4 % within 2σ, as far as four can.

    The pinball loss of ln|error| at these quantiles, every split weighing the same: unlike a likelihood it asks for
    exactly these shares, whatever the tails. What a split as a whole is off by costs extra, so that none is served at
    the expense of the other.
    """
    parts = [
        (spread_terms(*each.opinions()).numpy(), np.log(np.maximum(each.errors() - LEAST_STD_K, 1e-3)))
        for each in splits
    ]

    def loss(coefficients: Floats) -> float:
        total = 0.0
        for terms, log_error in parts:
            log_std = terms @ coefficients
            for share, factor in SHARES:
                over = log_error - log_std - np.log(factor)
                covered = expit(-over / SOFTNESS).mean()
                pinball = np.maximum(share * over, (share - 1) * over).mean()
                total += float(pinball + COVERAGE_WEIGHT * (covered - share) ** 2)
        return total

    start = np.array([0.0, 1.0, 0.0, 0.0])
    best = minimize(
        loss, start, method="Nelder-Mead", options={"maxiter": 8000, "xatol": 1e-4, "fatol": 1e-7}
    )
    spread = Spread()
    spread.coefficients.copy_(torch.from_numpy(best.x))
    return spread


def coverage(spread: Spread, rows: HeldOut) -> dict[str, float]:
    """Shares of errors within 1σ and 2σ, and the mean σ in K."""
    std = spread(*rows.opinions()).numpy()
    errors = rows.errors()
    return {
        "within_1_sigma": round(float((errors <= std).mean()), 4),
        "within_2_sigma": round(float((errors <= 2 * std).mean()), 4),
        "mean_std_k": round(float(std.mean()), 3),
    }
