"""The frozen networks as a search and a judge use them: values with input gradients, in chunks, in any precision.

A row's value is one number, so its gradient to the input is computed along with it, some rows at a time: nothing is
kept, and no weight has a gradient. Values and gradients are exact. For the direction of a step bfloat16 may do
(`in_precision`): then the wide layers alone change; the first and the last layers stay single, because small dopings
need its 24 bits. The formation energy's ElemNet is here, the networks of T_c in `ensemble` and `resnet18`.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from kiago_ray.chemistry.elements import ELEMNET_INDEX, N_ELEMENTS
from kiago_ray.predictors.base import Predictor, Predictors

CPU_ROWS = 512  # what so many rows leave behind stays in the cache
LEAST_ROWS = 64  # that are worth a thread
DEVICE_ROWS = 16_384  # about 1.3 GB on a GPU

Trace = list[Tensor]
Precision = Literal["float32", "mixed", "bfloat16"]
"""float32: everything. mixed: E_f's wide layers in bfloat16. bfloat16: those of both predictors."""


class Inference(nn.Module, ABC):
    """A predictor of one number a row: fractions (rows, 118) → (rows,), in chunks of rows."""

    supported: Tensor

    @property
    @abstractmethod
    def needed(self) -> int:
        """Multiply-adds that a row's value needs: its weights that aren't 0. Its gradient needs as many."""

    @abstractmethod
    def wide_layers(self) -> list[nn.Module]:
        """The layers that may compute in less than single precision; never the first."""

    @abstractmethod
    def value(self, x: Tensor) -> tuple[Tensor, Trace]:
        """Values (rows,) of fractions x (rows, 118), and what their gradients need."""

    @abstractmethod
    def gradient(self, x: Tensor, values: Tensor, trace: Trace) -> Tensor:
        """∂ value / ∂ x, (rows, 118). Uses the trace up."""

    @property
    def single(self) -> torch.dtype:
        """The precision of the first layer and of the values."""
        return next(self.parameters()).dtype

    @property
    def wide(self) -> torch.dtype:
        """The precision of the wide layers."""
        return next(self.wide_layers()[0].parameters()).dtype

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


def through_relu(gradient: Tensor, activation: Tensor) -> Tensor:
    """The gradient where the activation is above 0, in place."""
    return cast(
        Tensor,
        torch.ops.aten.threshold_backward.grad_input(gradient, activation, 0, grad_input=gradient),
    )


class ElemNet(Inference):
    """E_f in eV/atom: fractions (rows, 118) → (rows,).

    Jha et al., Sci. Rep. 8, 17593 (2018): a fully connected network of 17 layers on the atomic fractions of 86
    elements. Those are not Z = 1 to 86: see `chemistry.elements.ELEMNET_SYMBOLS`.
    """

    LAYERS = (1024,) * 4 + (512,) * 3 + (256,) * 3 + (128,) * 3 + (64,) * 2 + (32, 1)
    WIDE = 128
    """Outputs from which a layer may compute in bfloat16."""

    index: Tensor

    def __init__(self) -> None:
        super().__init__()
        linear = [nn.Linear(i, o) for i, o in pairwise((len(ELEMNET_INDEX), *self.LAYERS))]
        for layer in linear:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        self.layers = nn.ModuleList(linear)
        self.register_buffer("index", torch.tensor(ELEMNET_INDEX), persistent=False)
        supported = torch.zeros(N_ELEMENTS, dtype=torch.bool)
        supported[list(ELEMNET_INDEX)] = True
        self.register_buffer("supported", supported, persistent=False)

    def wide_layers(self) -> list[nn.Module]:
        return [layer for layer in self.layers[1:] if cast(nn.Linear, layer).out_features >= self.WIDE]

    @property
    def needed(self) -> int:
        return sum(cast(nn.Linear, layer).weight.numel() for layer in self.layers)

    def forward(self, fractions: Tensor) -> Tensor:
        """In training, values with gradients to the weights; otherwise as every `Inference`."""
        return self.value(fractions)[0].float() if self.training else super().forward(fractions)

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


def _converted(predictor: Predictor, dtype: torch.dtype) -> Predictor:
    if not isinstance(predictor, Inference) or predictor.wide == dtype:
        return predictor
    if predictor.wide != predictor.single:
        raise ValueError(
            f"a predictor in {predictor.wide} has lost digits; start from the one in single precision"
        )
    copied = copy.deepcopy(predictor)
    for layer in copied.wide_layers():
        layer.to(dtype)
    return copied


def capturable(predictors: Predictors) -> bool:
    """Whether all are `Inference`s: they never wait for the host, so that a step can be captured as a CUDA graph."""
    asked = (predictors.tc, predictors.ef, *filter(None, (predictors.plausibility,)))
    return all(isinstance(each, Inference) for each in asked)


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
