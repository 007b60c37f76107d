"""Fitting the ensemble's spread to held-out rows and counting the errors that it covers; fitting its extrapolation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from torch import Tensor

from kiago_ray.errors import InputError
from kiago_ray.predictors.ensemble import (
    CENTRES,
    COMPONENTS,
    LEAST_STD_K,
    Extrapolation,
    Spread,
    spread_terms,
)

SHARES = ((0.683, 1.0), (0.954, 2.0))  # of a normal distribution within 1σ and 2σ
COVERAGE_WEIGHT = 1000.0
SOFTNESS = 0.15  # of ln σ, over which an error counts as half covered

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class HeldOut:
    """Held-out rows of one split: what the ensemble says of them, and the measured T_c in K; each (N,)."""

    mean_k: Doubles
    disagreement_k: Doubles
    extrapolation: Doubles
    measured_k: Doubles

    def pick(self, rows: NDArray[np.bool_]) -> HeldOut:
        return HeldOut(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def terms(self) -> tuple[Tensor, Tensor, Tensor]:
        """What a spread is made of, each (N,)."""
        mean_k, disagreement_k, extrapolation = map(
            torch.from_numpy, (self.mean_k, self.disagreement_k, self.extrapolation)
        )
        return mean_k, disagreement_k, extrapolation

    def errors(self) -> Doubles:
        """|measured − predicted| in K, predictions clipped at 0 as they are reported."""
        return np.abs(self.measured_k - np.clip(self.mean_k, 0, None))


def fit_spread(splits: list[HeldOut]) -> Spread:
    """Coefficients for which 68.3 % of each split's errors lie within σ and 95.4 % within 2σ, as far as four can.

    The pinball loss of ln|error| at these quantiles, every split weighing the same: unlike a likelihood it asks for
    exactly these shares, whatever the tails. What a split as a whole is off by costs extra, so that none is served at
    the expense of the other.
    """
    parts = [
        (spread_terms(*each.terms()).numpy(), np.log(np.maximum(each.errors() - LEAST_STD_K, 1e-3)))
        for each in splits
    ]

    def loss(coefficients: Doubles) -> float:
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
    std = spread(*rows.terms()).numpy()
    errors = rows.errors()
    return {
        "within_1_sigma": round(float((errors <= std).mean()), 4),
        "within_2_sigma": round(float((errors <= 2 * std).mean()), 4),
        "mean_std_k": round(float(std.mean()), 3),
    }


PERCENTILE = 95.0
LEAST_SCALE = 1e-3  # of a feature that hardly varies

Floats = NDArray[np.float32]


@torch.no_grad()
def fit_extrapolation(known: Floats, held_out: Floats, *, seed: int) -> Extrapolation:
    """Fit components and centres to known superconductors (N, 118), the unit to held-out ones (M, 118).

    Raises InputError for fewer known ones than there are components.
    """
    if len(known) < COMPONENTS:
        raise InputError(
            f"{len(known)} known superconductors don't span {COMPONENTS} components: use more data"
        )
    network = Extrapolation()
    described = network.features.described(torch.from_numpy(known)).double().numpy()
    mean, scale = described.mean(axis=0), described.std(axis=0) + LEAST_SCALE
    principal = PCA(COMPONENTS, whiten=True, random_state=seed).fit((described - mean) / scale)
    whitened = principal.components_ / np.sqrt(principal.explained_variance_)[:, None]
    points = (described - mean) / scale @ whitened.T
    count = min(CENTRES, len(points))
    clusters = KMeans(count, n_init=1, max_iter=30, random_state=seed).fit(points)
    for name, array in (
        ("centre", mean),
        ("projection", (whitened / scale).T),
        (
            "centres",
            np.resize(clusters.cluster_centers_, (CENTRES, COMPONENTS)),
        ),  # over again where there are fewer
    ):
        getattr(network, name).copy_(torch.from_numpy(np.ascontiguousarray(array)))
    distances = network.distance(torch.from_numpy(held_out)).numpy()
    network.unit.fill_(float(np.percentile(distances, PERCENTILE)))
    return network.eval()
