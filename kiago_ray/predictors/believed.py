"""T_c as far as it can be believed: the ensemble's mean, its calibrated spread, and how far out a composition lies.

A search may follow μ − κσ − w·(how far the extrapolation score lies beyond `FREE`) instead of μ: what the networks
don't agree on, or can't know, then doesn't pay.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from kiago_ray.predictors.extrapolation import Extrapolation
from kiago_ray.predictors.spread import Spread
from kiago_ray.predictors.tc_ensemble import TcEnsemble, from_log

FREE = 0.8  # of the score; a little below the flag at 1, so that the integer formula nearby isn't flagged


class Belief(NamedTuple):
    """Each (rows,): T_c in K before the final ReLU, its standard deviation in K, and the extrapolation score."""

    tc_k: Tensor
    tc_std_k: Tensor
    extrapolation: Tensor


class BelievedTc(nn.Module):
    """Fractions (rows, 118) → T_c in K before the final ReLU (rows,), the mean of the ensemble."""

    supported: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.ensemble = TcEnsemble()
        self.extrapolation = Extrapolation()
        self.spread = Spread()
        self.register_buffer("supported", self.ensemble.supported.clone(), persistent=False)

    def opinions(self, fractions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean T_c and the members' disagreement (their sample deviation) in K, and the extrapolation score."""
        members = from_log(self.ensemble.log_tc(fractions))
        mean = members.mean(dim=1)
        variance = (members - mean[:, None]).square().sum(dim=1) / (members.shape[1] - 1)
        return mean, (variance + 1e-6).sqrt(), self.extrapolation(fractions)

    def belief(self, fractions: Tensor) -> Belief:
        """Mean, spread and extrapolation, with gradients."""
        mean, disagreement, extrapolation = self.opinions(fractions)
        return Belief(mean, self.spread(mean, disagreement, extrapolation), extrapolation)

    def forward(self, fractions: Tensor) -> Tensor:
        return from_log(self.ensemble.log_tc(fractions)).mean(dim=1)

    def bound(self, fractions: Tensor, kappa: float, extrapolation_weight: float) -> Tensor:
        """μ − κσ − w·max(score − FREE, 0) in K, (rows,)."""
        if not kappa and not extrapolation_weight:
            return torch.as_tensor(self(fractions))
        belief = self.belief(fractions)
        beyond = (belief.extrapolation - FREE).relu()
        return belief.tc_k - kappa * belief.tc_std_k - extrapolation_weight * beyond
