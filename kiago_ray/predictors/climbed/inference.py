"""The frozen networks as a search and a judge use them: values with input gradients, in chunks, in any precision.

A row's value is one number, so its gradient to the input is computed along with it, some rows at a time: nothing is
kept, and no weight has a gradient. Values and gradients are exact. For the direction of a step bfloat16 may do
(`in_precision`): then the wide layers alone change; the first and the last layers stay single, because small dopings
need its 24 bits. ElemNet and the ensemble are here; the ResNet-18 has a module of its own.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from kiago_ray.predictors.base import BATCH_ROWS, Predictor, Predictors
from kiago_ray.predictors.climbed.elemnet import ElemNet
from kiago_ray.predictors.climbed.ensemble import BatchedLinear, CalibratedEnsemble

CPU_ROWS = 512  # what so many rows leave behind stays in the cache
LEAST_ROWS = 64  # that are worth a thread
DEVICE_ROWS = 16_384  # about 1.3 GB on a GPU
WIDE = 128  # outputs from which a layer of ElemNet may compute in bfloat16

Trace = list[Tensor]
Floats = NDArray[np.float64]


class Inference(nn.Module, ABC):
    """A predictor of one number a row: fractions (rows, 118) → (rows,), in chunks of rows."""

    supported: Tensor
    single: torch.dtype
    wide: torch.dtype

    @property
    @abstractmethod
    def needed(self) -> int:
        """Multiply-adds that a row's value needs: its weights that aren't 0. Its gradient needs as many."""

    @abstractmethod
    def wide_layers(self) -> list[nn.Module]:
        """The layers that may compute in less than single precision."""

    @abstractmethod
    def value(self, x: Tensor) -> tuple[Tensor, Trace]:
        """Values (rows,) of fractions x (rows, 118), and what their gradients need."""

    @abstractmethod
    def gradient(self, x: Tensor, values: Tensor, trace: Trace) -> Tensor:
        """∂ value / ∂ x, (rows, 118). Uses the trace up."""

    def forward(self, fractions: Tensor) -> Tensor:
        """Values, to be differentiated once. Fractions of another type of number are converted."""
        fractions = fractions.to(self.single)
        if torch.is_grad_enabled() and fractions.requires_grad:
            return cast(Tensor, _RowWise.apply(fractions, self))  # type: ignore[no-untyped-call]
        return self.evaluate(fractions, gradients=False)[0]

    def evaluate(self, fractions: Tensor, *, gradients: bool) -> tuple[Tensor, Tensor | None]:
        """Values (rows,) and, where asked for, their gradients (rows, 118).

        On a CPU torch's threads share the rows: products as small as these gain nothing from being split themselves.
        """
        values = fractions.new_empty(len(fractions))
        slopes = torch.empty_like(fractions) if gradients else None

        @torch.no_grad()
        def compute(rows: slice) -> None:
            values[rows], trace = self.value(fractions[rows])
            if slopes is not None:
                slopes[rows] = self.gradient(fractions[rows], values[rows], trace)

        threads = torch.get_num_threads() if fractions.device.type == "cpu" else 1
        most = CPU_ROWS if fractions.device.type == "cpu" else DEVICE_ROWS
        size = min(most, max(LEAST_ROWS, -(-len(fractions) // threads)))
        chunks = [slice(start, start + size) for start in range(0, len(fractions), size)]
        if threads == 1 or len(chunks) < 2:
            for chunk in chunks:
                compute(chunk)
        else:
            try:
                with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                    list(pool.map(compute, chunks))
            finally:
                torch.set_num_threads(threads)  # torch takes what the pool's threads said for all new threads
        return values, slopes


class _RowWise(torch.autograd.Function):
    """Lets autograd take the gradients that an `Inference` computes along with its values."""

    @staticmethod
    def forward(ctx: Any, fractions: Tensor, network: Inference) -> Tensor:
        values, gradients = network.evaluate(fractions, gradients=True)
        ctx.save_for_backward(gradients)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (gradients,) = ctx.saved_tensors
        return gradient[:, None] * gradients, None


class ElemNetInference(Inference):
    """`ElemNet`, frozen."""

    index: Tensor

    def __init__(self, network: ElemNet) -> None:
        super().__init__()
        self.register_buffer("index", network.index.clone(), persistent=False)
        self.register_buffer("supported", network.supported.clone(), persistent=False)
        self.layers = copy.deepcopy(network.layers).requires_grad_(False)
        self.single = self.wide = cast(nn.Linear, self.layers[0]).weight.dtype

    def wide_layers(self) -> list[nn.Module]:
        return [layer for layer in self.layers[1:] if cast(nn.Linear, layer).out_features >= WIDE]

    @property
    def needed(self) -> int:
        return sum(cast(nn.Linear, layer).weight.numel() for layer in self.layers)

    def value(self, x: Tensor) -> tuple[Tensor, Trace]:
        hidden, trace = x[:, self.index], Trace()
        for layer in self.layers[:-1]:
            hidden = layer(hidden.to(cast(nn.Linear, layer).weight.dtype)).relu_()
            trace.append(hidden)
        return self.layers[-1](hidden)[:, 0], trace

    def gradient(self, x: Tensor, values: Tensor, trace: Trace) -> Tensor:
        weights = [cast(nn.Linear, layer).weight for layer in self.layers]
        gradient = weights[-1].expand(len(x), -1).clone()
        for weight in reversed(weights[:-1]):
            gradient = through_relu(gradient.to(weight.dtype), trace.pop()) @ weight
        return torch.zeros_like(x).index_copy_(1, self.index, gradient)


def in_precision(predictors: Predictors, precision: Precision) -> Predictors:
    """Copies of the predictors whose wide layers compute in `precision`; one that is no `Inference` stays as it is."""
    quick = torch.bfloat16
    return replace(
        predictors,
        tc=_converted(predictors.tc, quick if precision == "bfloat16" else torch.float32),
        ef=_converted(predictors.ef, quick if precision != "float32" else torch.float32),
    )


def capturable(predictors: Predictors) -> bool:
    """Whether all are `Inference`s: they never wait for the host, so that a step can be captured as a CUDA graph."""
    asked = (predictors.tc, predictors.ef, *filter(None, (predictors.plausibility,)))
    return all(isinstance(each, Inference) for each in asked)


def _converted(predictor: Predictor, dtype: torch.dtype) -> Predictor:
    if not isinstance(predictor, Inference) or predictor.wide == dtype:
        return predictor
    if predictor.wide != predictor.single:
        raise ValueError(
            f"a predictor in {predictor.wide} has lost digits; start from the one in single precision"
        )
    copied = copy.deepcopy(predictor)
    copied.wide = dtype
    for layer in copied.wide_layers():
        layer.to(dtype)
    return copied


def through_relu(gradient: Tensor, activation: Tensor) -> Tensor:
    """The gradient where the activation is above 0, in place."""
    return cast(
        Tensor,
        torch.ops.aten.threshold_backward.grad_input(gradient, activation, 0, grad_input=gradient),
    )


Precision = Literal["float32", "mixed", "bfloat16"]
"""float32: everything. mixed: E_f's wide layers in bfloat16. bfloat16: those of both predictors."""


def step_precision(asked: Literal["auto"] | Precision, device: torch.device) -> Precision:
    """What `asked` stands for on this device; "auto" depends on the type of machine alone."""
    if asked != "auto":
        return asked
    return "bfloat16" if multiplies_bfloat16(device) else "float32"


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products of bfloat16 (AVX512-BF16 or AMX on a CPU)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def with_lower_bound(predictors: Predictors, kappa: float, extrapolation_weight: float) -> Predictors:
    """The predictors with the lower bound as T_c, where `tc` is the ensemble; any other has no spread and stays."""
    if not isinstance(predictors.tc, EnsembleInference):
        return predictors
    return replace(predictors, tc=predictors.tc.lower_bound(kappa, extrapolation_weight))


class EnsembleInference(Inference):
    """`CalibratedEnsemble`, frozen: T_c, or the lower bound that `lower_bound` asks for.

    Nothing needs rewriting here: all is matrix products, and without weight gradients autograd does what is needed.
    """

    def __init__(
        self, network: CalibratedEnsemble, kappa: float = 0.0, extrapolation_weight: float = 0.0
    ) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.register_buffer("supported", network.supported.clone(), persistent=False)
        self.single = self.wide = network.ensemble.head.weight.dtype
        self.kappa, self.extrapolation_weight = kappa, extrapolation_weight

    def lower_bound(self, kappa: float, extrapolation_weight: float) -> EnsembleInference:
        """The same networks with μ − κσ − w·(score beyond what is free) as their value."""
        return EnsembleInference(self.network, kappa, extrapolation_weight).to(self.supported.device)

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

    def raw_estimates(self, fractions: NDArray[np.floating]) -> tuple[Floats, Floats, Floats]:
        """Mean T_c before the ReLU and disagreement in K, and extrapolation, each (N,), of fractions (N, 118)."""
        found = self._in_batches(fractions, self.network.raw_estimates)
        return found[0], found[1], found[2]

    def estimates(self, fractions: NDArray[np.floating]) -> tuple[Floats, Floats, Floats]:
        """T_c clipped at 0 and its deviation in K, and extrapolation, each (N,), of fractions (N, 118)."""
        found = self._in_batches(fractions, self.network.estimate)
        return np.clip(found[0], 0, None), found[1], found[2]

    @torch.no_grad()
    def _in_batches(
        self, fractions: NDArray[np.floating], ask: Callable[[Tensor], tuple[Tensor, ...]]
    ) -> list[Floats]:
        rows = torch.from_numpy(np.asarray(fractions, dtype=np.float32)).to(self.supported.device)
        parts = [ask(rows[start : start + BATCH_ROWS]) for start in range(0, max(len(rows), 1), BATCH_ROWS)]
        return [torch.cat(values).double().cpu().numpy() for values in zip(*parts, strict=True)]
