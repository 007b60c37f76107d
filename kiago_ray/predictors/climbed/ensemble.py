"""T_c by an ensemble, its calibrated standard deviation, and how far out a composition lies.

K residual networks on `features`, evaluated together as batched products, differ by their initial weights and by the
fold of chemical systems that each leaves out. They predict ln(1 + T_c / 60 K) before any ReLU; in kelvin their mean is
T_c, and how far they disagree says how little is known there. A search may climb the lower bound
μ − κσ − w·max(score − `FREE`, 0) instead of μ: then it doesn't pay to go where the networks disagree or know nothing.

`Spread` gives σ: members agree too well on systems that none of them saw, so ln σ is linear in their disagreement, in
the height of T_c and in the extrapolation score, with coefficients from held-out rows (`training.calibration`).

`Extrapolation` is a distance with a slope. Compositions are points of the networks' statistics and ratios (without the
amounts of single elements, so that the likes of known materials are near them), reduced and whitened by principal
components. Known superconductors are summed up by the centres of k-means clusters there, and the score is the soft
distance to the nearest centres, in units of the 95th percentile over known superconductors that were held out: 1 in 20
of them scores above 1. The T_c networks have no part in it, so what deceives them doesn't deceive the score.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.predictors.climbed.features import TcFeatures
from kiago_ray.predictors.climbed.resnet18 import AMOUNTS

SCALE_K = 60.0  # above it, errors count by their share of T_c; below it, alike
HIGHEST_LOG = 3.0  # 1,145 K
MEMBERS = 6
WIDTH = 384
DEPTH = 2
DROPOUT = 0.06
AMOUNT_SCALE = 0.25  # of the functions of the amounts, which are 0 for most elements


def to_log(tc_k: Tensor) -> Tensor:
    """T_c in K → the networks' scale, ln(1 + T_c / 60 K)."""
    return torch.log1p(tc_k / SCALE_K)


def from_log(log_tc: Tensor) -> Tensor:
    """The exact inverse of `to_log`, in K; negative below 0."""
    return SCALE_K * torch.expm1(log_tc.clamp(max=HIGHEST_LOG))


class BatchedLinear(nn.Module):
    """K linear layers side by side: (K, rows, inputs) → (K, rows, outputs)."""

    def __init__(self, members: int, inputs: int, outputs: int, gain: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(members, inputs, outputs) * gain / inputs**0.5)
        self.bias = nn.Parameter(torch.zeros(members, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias.to(x.dtype), x, self.weight.to(x.dtype))


class BatchedBlock(nn.Module):
    """A residual block of each member: norm, layer, SiLU, layer."""

    def __init__(self, members: int, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(members, 1, width))
        self.first = BatchedLinear(members, width, width, 2**0.5)
        self.second = BatchedLinear(members, width, width, 0.2**0.5)

    def forward(self, x: Tensor, dropout: float) -> Tensor:
        inner = functional.silu(self.first(normed(x, self.scale).to(self.first.weight.dtype)))
        inner = functional.dropout(inner, dropout, self.training)
        return x + cast(Tensor, self.second(inner)).to(x.dtype)


class TcEnsemble(nn.Module):
    """T_c in K before the final ReLU, the mean of K networks: fractions (rows, 118) → (rows,)."""

    supported: Tensor
    centre: Tensor
    scale: Tensor

    def __init__(self, members: int = MEMBERS, width: int = WIDTH, depth: int = DEPTH) -> None:
        super().__init__()
        self.members = members
        self.register_buffer("supported", torch.ones(N_ELEMENTS, dtype=torch.bool), persistent=False)
        self.features = TcFeatures()
        inputs = self.features(torch.full((1, N_ELEMENTS), 1 / N_ELEMENTS)).shape[1]
        self.register_buffer("centre", torch.zeros(inputs))
        self.register_buffer("scale", torch.ones(inputs))
        self.entry = BatchedLinear(members, inputs, width, 1.0)
        self.blocks = nn.ModuleList(BatchedBlock(members, width) for _ in range(depth))
        self.last_scale = nn.Parameter(torch.ones(members, 1, width))
        self.head = BatchedLinear(members, width, 1, 0.1**0.5)

    @torch.no_grad()
    def standardise(self, fractions: Tensor) -> None:
        """Fit centre and scale of the features to training rows (N, 118)."""
        features = self.features(fractions)
        self.centre.copy_(features.mean(dim=0))
        self.scale.copy_(features.std(dim=0) + 1e-3)
        drawn = AMOUNTS * N_ELEMENTS
        self.centre[:drawn] = 0
        self.scale[:drawn] = AMOUNT_SCALE

    def hidden(self, fractions: Tensor) -> Tensor:
        """What the last layer sees: (K, rows, width)."""
        with torch.autocast(fractions.device.type, enabled=False):  # dopings need all 24 bits
            seen = (self.features(fractions) - self.centre) / self.scale
            x = self.entry(seen.expand(self.members, -1, -1))
        for block in self.blocks:
            x = block(x, DROPOUT)
        return normed(x, self.last_scale)

    def log_tc(self, fractions: Tensor) -> Tensor:
        """ln(1 + T_c / 60 K) of each member, unclipped: (rows, 118) → (rows, K)."""
        last = functional.dropout(self.hidden(fractions), DROPOUT, self.training)
        with torch.autocast(last.device.type, enabled=False):
            return cast(Tensor, self.head(last))[..., 0].T

    def forward(self, fractions: Tensor) -> Tensor:
        return from_log(self.log_tc(fractions)).mean(dim=1)


def normed(x: Tensor, scale: Tensor) -> Tensor:
    """Root-mean-square norm over the last axis, times a scale."""
    return functional.rms_norm(x, (x.shape[-1],)) * scale


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


FREE = 0.8  # of the score; a little below the flag at 1, so that the integer formula nearby isn't flagged


class Estimate(NamedTuple):
    """Each (rows,): T_c in K before the final ReLU, its standard deviation in K, and the extrapolation score."""

    tc_k: Tensor
    tc_std_k: Tensor
    extrapolation: Tensor


class CalibratedEnsemble(nn.Module):
    """Fractions (rows, 118) → T_c in K before the final ReLU (rows,), the mean of the ensemble."""

    supported: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.ensemble = TcEnsemble()
        self.extrapolation = Extrapolation()
        self.spread = Spread()
        self.register_buffer("supported", self.ensemble.supported.clone(), persistent=False)

    def raw_estimates(self, fractions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean T_c and the members' disagreement (their sample deviation) in K, and the extrapolation score."""
        members = from_log(self.ensemble.log_tc(fractions))
        mean = members.mean(dim=1)
        variance = (members - mean[:, None]).square().sum(dim=1) / (members.shape[1] - 1)
        return mean, (variance + 1e-6).sqrt(), self.extrapolation(fractions)

    def estimate(self, fractions: Tensor) -> Estimate:
        """Mean, spread and extrapolation, with gradients."""
        mean, disagreement, extrapolation = self.raw_estimates(fractions)
        return Estimate(mean, self.spread(mean, disagreement, extrapolation), extrapolation)

    def forward(self, fractions: Tensor) -> Tensor:
        return from_log(self.ensemble.log_tc(fractions)).mean(dim=1)

    def bound(self, fractions: Tensor, kappa: float, extrapolation_weight: float) -> Tensor:
        """μ − κσ − w·max(score − FREE, 0) in K, (rows,)."""
        if not kappa and not extrapolation_weight:
            return torch.as_tensor(self(fractions))
        estimate = self.estimate(fractions)
        beyond = (estimate.extrapolation - FREE).relu()
        return estimate.tc_k - kappa * estimate.tc_std_k - extrapolation_weight * beyond
