"""Critical temperature by an ensemble: K residual networks on `tc_features`, evaluated together as batched products.

The networks differ by their initial weights and the fold of chemical systems that each leaves out. They predict
ln(1 + T_c / 60 K) before any ReLU. In kelvin their mean is T_c; how far they disagree says how little is known there,
and `spread` turns that into a standard deviation that held-out rows bear out.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.predictors.tc import AMOUNTS
from kiago_ray.predictors.tc_features import TcFeatures

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
