"""The frozen ensemble as a search uses it: values with input gradients, in chunks, in any precision."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kiago_ray.predictors.base import BATCH_ROWS, Predictors
from kiago_ray.predictors.believed import BelievedTc
from kiago_ray.predictors.lowered import Lowered, Trace
from kiago_ray.predictors.tc_ensemble import BatchedLinear

Floats = NDArray[np.float64]


def steered(predictors: Predictors, kappa: float, extrapolation_weight: float) -> Predictors:
    """The predictors with the lower bound as T_c, where `tc` is the ensemble; any other has no spread and stays."""
    if not isinstance(predictors.tc, LoweredEnsemble):
        return predictors
    return replace(predictors, tc=predictors.tc.steering(kappa, extrapolation_weight))


class LoweredEnsemble(Lowered):
    """`BelievedTc`, frozen: T_c, or the lower bound that `steering` asks for.

    Nothing needs rewriting here: all is matrix products, and without weight gradients autograd does what is needed.
    """

    def __init__(self, network: BelievedTc, kappa: float = 0.0, extrapolation_weight: float = 0.0) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.register_buffer("supported", network.supported.clone(), persistent=False)
        self.single = self.wide = network.ensemble.head.weight.dtype
        self.kappa, self.extrapolation_weight = kappa, extrapolation_weight

    def steering(self, kappa: float, extrapolation_weight: float) -> LoweredEnsemble:
        """The same networks with μ − κσ − w·(score beyond what is free) as their value."""
        return LoweredEnsemble(self.network, kappa, extrapolation_weight).to(self.supported.device)

    def wide_layers(self) -> list[nn.Module]:
        return [*self.network.ensemble.blocks]

    @property
    def needed(self) -> int:
        layers = (m for m in self.network.ensemble.modules() if isinstance(m, BatchedLinear))
        extra = self.network.extrapolation
        return (
            sum(layer.weight.numel() for layer in layers) + extra.projection.numel() + extra.centres.numel()
        )

    def value(self, x: Tensor) -> tuple[Tensor, Trace]:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            bound = self.network.bound(leaf, self.kappa, self.extrapolation_weight)
        return bound.detach(), [leaf, bound]

    def gradient(self, x: Tensor, values: Tensor, trace: Trace) -> Tensor:
        bound, leaf = trace.pop(), trace.pop()
        return torch.autograd.grad(bound, leaf, torch.ones_like(bound))[0]

    def opinions(self, fractions: NDArray[np.floating]) -> tuple[Floats, Floats, Floats]:
        """Mean T_c before the ReLU and disagreement in K, and extrapolation, each (N,), of fractions (N, 118)."""
        found = self._in_batches(fractions, self.network.opinions)
        return found[0], found[1], found[2]

    def beliefs(self, fractions: NDArray[np.floating]) -> tuple[Floats, Floats, Floats]:
        """T_c clipped at 0 and its deviation in K, and extrapolation, each (N,), of fractions (N, 118)."""
        found = self._in_batches(fractions, self.network.belief)
        return np.clip(found[0], 0, None), found[1], found[2]

    @torch.no_grad()
    def _in_batches(
        self, fractions: NDArray[np.floating], ask: Callable[[Tensor], tuple[Tensor, ...]]
    ) -> list[Floats]:
        rows = torch.from_numpy(np.asarray(fractions, dtype=np.float32)).to(self.supported.device)
        parts = [ask(rows[start : start + BATCH_ROWS]) for start in range(0, max(len(rows), 1), BATCH_ROWS)]
        return [torch.cat(values).double().cpu().numpy() for values in zip(*parts, strict=True)]
