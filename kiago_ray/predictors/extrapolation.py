"""How far a composition lies from what the T_c predictors have learnt from: a distance with a slope.

Compositions are points of the networks' statistics and ratios (`tc_features`; not the amounts of single elements, so
that the likes of known materials are near them), standardised, reduced and whitened by principal components. Known
superconductors are summed up by the centres of k-means clusters there, and the score is the distance to the nearest
centres, softly, in units of the 95th percentile over known superconductors that were held out: 1 in 20 of them
scores above 1. The T_c networks have no part in it, so what deceives them doesn't deceive the score.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kiago_ray.predictors.tc_features import TcFeatures

COMPONENTS = 24
CENTRES = 512
SOFTNESS = 0.25  # of the squared distances that share in the nearest


class Extrapolation(nn.Module):
    """Fractions (rows, 118) → score (rows,): above 1 further out than 95 % of known superconductors never seen."""

    centre: Tensor
    projection: Tensor
    centres: Tensor
    unit: Tensor

    def __init__(self, components: int = COMPONENTS, centres: int = CENTRES) -> None:
        super().__init__()
        self.features = TcFeatures()
        inputs = self.features.described(torch.full((1, 118), 1 / 118)).shape[1]
        self.register_buffer("centre", torch.zeros(inputs))
        self.register_buffer("projection", torch.zeros(inputs, components))
        self.register_buffer("centres", torch.zeros(centres, components))
        self.register_buffer("unit", torch.ones(1))

    def distance(self, fractions: Tensor) -> Tensor:
        """Soft distance to the nearest centres, (rows,): at least the exact one less ~SOFTNESS·ln(centres)/2."""
        point = (self.features.described(fractions) - self.centre) @ self.projection
        square = (point**2).sum(1, keepdim=True) - 2 * point @ self.centres.T + (self.centres**2).sum(1)
        nearest = -SOFTNESS * torch.logsumexp(-square / SOFTNESS, dim=1)
        return (nearest.clamp(min=0) + 1e-6).sqrt()

    def forward(self, fractions: Tensor) -> Tensor:
        return self.distance(fractions) / self.unit
