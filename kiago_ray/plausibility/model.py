"""The probability that a composition is made and reported: two logistic regressions, and what its relatives agree on.

The first tells what was reported from what nobody would make (elements swapped at random, amounts altered); the second
tells, among the systems next to known ones, which were reported in the following years from which were not; the third
is the share of the relatives that are composed alike. P is the product: the share of such proposals that came true, as
far as the past tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.plausibility.features import PlausibilityFeatures
from kiago_ray.plausibility.literature import Floats, Mask, elements_at_hand

MOST_DEVIATIONS = 5.0  # of a standardised feature; further out it counts as this


@dataclass(frozen=True)
class Logistic:
    """ln of the odds = intercept + Σ weight · (feature − mean) / deviation; arrays are (features,)."""

    mean: Floats
    deviation: Floats
    weight: Floats
    intercept: float

    def log_probability(self, features: Tensor) -> Tensor:
        """ln P of features (rows, features), (rows,)."""
        mean, deviation, weight = (
            torch.as_tensor(each, dtype=features.dtype, device=features.device)
            for each in (self.mean, self.deviation, self.weight)
        )
        standard = ((features - mean) / deviation).clamp(-MOST_DEVIATIONS, MOST_DEVIATIONS)
        return nn.functional.logsigmoid(standard @ weight + self.intercept)


class Plausibility(nn.Module):
    """Fractions (rows, 118), every row summing to 1 → ln P in nats (rows,), differentiable: a predictor for searches.

    exists: reads all features, reported: those of systems alone.
    """

    supported: Tensor

    def __init__(self, features: PlausibilityFeatures, exists: Logistic, reported: Logistic) -> None:
        super().__init__()
        self.features, self.exists, self.reported = features, exists, reported
        self.register_buffer("supported", torch.tensor(elements_at_hand()), persistent=False)

    def forward(self, fractions: Tensor) -> Tensor:
        return self._joined(*self.features(fractions))

    def _joined(self, features: Tensor, agreement: Tensor) -> Tensor:
        systems = features[:, : len(self.reported.weight)]
        return self.exists.log_probability(features) + self.reported.log_probability(systems) + agreement

    def log_probability(self, fractions: NDArray[np.floating]) -> Floats:
        """ln P in nats of fractions (n, 118), (n,)."""
        return self.log_probabilities(fractions)[0]

    @torch.no_grad()
    def log_probabilities(self, fractions: NDArray[np.floating]) -> tuple[Floats, Floats]:
        """ln P, and ln P of the first stage alone: that it exists, reported or not; (n,) each, in nats."""
        if not len(fractions):
            return np.zeros(0), np.zeros(0)
        features, agreement = self.features.of_many(np.asarray(fractions))
        exists = self.exists.log_probability(features)
        return self._joined(features, agreement).double().numpy(), exists.double().numpy()

    def near(self, elements: Sequence[int] | Mask) -> Plausibility:
        """Nearly the same for compositions of these elements alone, faster: known systems with two and more other
        elements aren't seen, nor compositions with much of them (`larger` and the make-up are a little lower).
        """
        present = np.zeros(N_ELEMENTS, dtype=np.bool_)
        present[np.asarray(elements)] = True
        return Plausibility(self.features.near(present), self.exists, self.reported)
