"""The frozen networks as plain matrix products: the same values and input gradients for a fraction of the work.

* The map, the stem convolution and its norm are linear in the amounts of the elements: one matrix, of which a place of
  the output needs the elements under its kernel alone.
* Norms fold into the convolution before them; convolutions on maps of 2×8 places and fewer are small matrices.
* A row's value is one number, so its gradient to the input is computed along with it, some rows at a time: nothing is
  kept, and no weight has a gradient.

That is exact; where empty places of the map tie for a maximum, its gradient goes to the first, as in torch. For the
direction of a step bfloat16 may do (`in_precision`): there the wide layers alone change; the stem, the first and the
last layers stay single, because small dopings need its 24 bits.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.chemistry.periodic_map import position
from kiago_ray.predictors.banded import BandedLinear
from kiago_ray.predictors.base import Predictor, Predictors
from kiago_ray.predictors.elemnet import ElemNet
from kiago_ray.predictors.precision import Precision
from kiago_ray.predictors.tc import (
    AMOUNTS,
    STEM_COLUMNS,
    STEM_ROWS,
    ChannelNorm,
    ResidualBlock,
    TapConv,
    TcResNet,
    amount_slopes,
    amounts,
    from_log,
    log_slope,
)

CPU_ROWS = 512  # what so many rows leave behind stays in the cache
LEAST_ROWS = 64  # that are worth a thread
DEVICE_ROWS = 16_384  # about 1.3 GB on a GPU
BAND = 128  # outputs of one product
WIDE = 128  # outputs from which a layer of ElemNet may compute in bfloat16

Trace = list[Tensor]


class Lowered(nn.Module, ABC):
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
    """Lets autograd take the gradients that a lowered predictor computes along with its values."""

    @staticmethod
    def forward(ctx: Any, fractions: Tensor, network: Lowered) -> Tensor:
        values, gradients = network.evaluate(fractions, gradients=True)
        ctx.save_for_backward(gradients)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (gradients,) = ctx.saved_tensors
        return gradient[:, None] * gradients, None


class LoweredBlock(nn.Module):
    """A residual block on (rows, features), its norms folded in."""

    def __init__(self, block: ResidualBlock, shape: tuple[int, int, int]) -> None:
        super().__init__()
        first, shape_between = _convolution(block.conv1, block.norm1, shape)
        second, self.shape = _convolution(block.conv2, block.norm2, shape_between)
        self.first = BandedLinear(*first, width=BAND)
        self.second = BandedLinear(*second, width=BAND)
        self.shortcut: BandedLinear | None = None
        if block.shortcut is not None:
            conv, norm = cast(TapConv, block.shortcut[0]), cast(ChannelNorm, block.shortcut[1])
            self.shortcut = BandedLinear(*_convolution(conv, norm, shape)[0], width=BAND)

    @property
    def needed(self) -> int:
        """Multiply-adds a row, those by 0 left out."""
        parts = (self.first, self.second, self.shortcut)
        return sum(part.needed for part in parts if part is not None)

    def forward(self, x: Tensor, trace: Trace) -> Tensor:
        """x (rows, inputs) → (rows, outputs); what the gradient needs goes to the trace."""
        between = self.first(x).relu_()
        y = x.clone() if self.shortcut is None else self.shortcut(x)
        self.second.add_to(y, between).relu_()
        trace += [between, y]
        return y

    def back(self, gradient: Tensor, trace: Trace) -> Tensor:
        """∂/∂ outputs → ∂/∂ inputs, in place where it can be."""
        y, between = trace.pop(), trace.pop()
        through_relu(gradient, y)
        inner = through_relu(self.second.back(gradient), between)
        outer = gradient if self.shortcut is None else self.shortcut.back(gradient)
        return self.first.back_to(outer, inner)


class LoweredTc(Lowered):
    """`TcResNet`, frozen."""

    order: Tensor
    place: Tensor

    def __init__(self, network: TcResNet) -> None:
        super().__init__()
        exact = copy.deepcopy(network).double().eval()
        self.single = self.wide = network.head.weight.dtype
        order = sorted(
            range(N_ELEMENTS), key=lambda index: position(index + 1)[:0:-1]
        )  # by column, then period
        self.register_buffer("order", torch.tensor(order), persistent=False)
        self.register_buffer("place", torch.tensor(order).argsort(), persistent=False)
        self.register_buffer("supported", network.supported.clone(), persistent=False)
        with torch.no_grad():
            drawn = exact.stem_matrix().view(AMOUNTS, N_ELEMENTS, -1)[:, order].transpose(0, 1).flatten(0, 1)
            scale, shift = _folded(exact.stem_norm)
            places = STEM_ROWS * STEM_COLUMNS
            stem = (drawn * scale.repeat(places), shift.repeat(places))
            self.stem = BandedLinear(*stem, width=BAND)
            self.channels = len(scale)
            shape, blocks = (STEM_ROWS // 2, STEM_COLUMNS // 2, self.channels), []
            for block in exact.blocks:
                blocks.append(LoweredBlock(cast(ResidualBlock, block), shape))
                shape = blocks[-1].shape
        self.blocks = nn.ModuleList(blocks)
        self.head = exact.head.requires_grad_(False)
        self.to(self.single)

    def wide_layers(self) -> list[nn.Module]:
        return [*self.blocks]

    @property
    def needed(self) -> int:
        blocks = sum(cast(LoweredBlock, block).needed for block in self.blocks)
        return self.stem.needed + blocks + self.head.in_features

    def value(self, x: Tensor) -> tuple[Tensor, Trace]:
        drawn = amounts(x[:, self.order]).view(len(x), AMOUNTS, N_ELEMENTS).transpose(1, 2).flatten(1)
        image = self.stem.product(drawn).view(len(x), STEM_ROWS, STEM_COLUMNS, -1).permute(0, 3, 1, 2)
        pooled, taken = functional.max_pool2d(image, 3, stride=2, padding=1, return_indices=True)
        # Bias and ReLU commute with the maximum. From here on places go by column: what a kernel covers lies together.
        maps = (
            (pooled.permute(0, 3, 2, 1) + self.stem.bias[-self.channels :]).relu_().to(self.wide).flatten(1)
        )
        trace = [image, taken, maps]
        for block in self.blocks:
            maps = block(maps, trace)
        return from_log(self.head(maps.to(x.dtype))[:, 0]), trace

    def gradient(self, x: Tensor, values: Tensor, trace: Trace) -> Tensor:
        gradient = (log_slope(values)[:, None] * self.head.weight).to(self.wide)
        for block in reversed(self.blocks):
            gradient = cast(LoweredBlock, block).back(gradient, trace)
        maps, taken, image = trace.pop(), trace.pop(), trace.pop()
        through_relu(gradient, maps)
        height, width = STEM_ROWS // 2, STEM_COLUMNS // 2
        pooled = gradient.view(len(x), width, height, -1).permute(0, 3, 2, 1)
        spread = unpool(pooled.to(x.dtype, memory_format=torch.channels_last), image, taken)
        drawn = self.stem.back(spread.permute(0, 2, 3, 1).flatten(1)).view(len(x), N_ELEMENTS, AMOUNTS)
        slopes = amount_slopes(x).view(len(x), AMOUNTS, N_ELEMENTS)
        return (drawn[:, self.place].transpose(1, 2) * slopes).sum(1)


class LoweredElemNet(Lowered):
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


def lower(predictors: Predictors) -> Predictors:
    """The same predictors, those of our own networks lowered; any other stays as it is."""

    def lowered(predictor: Predictor) -> Predictor:
        if isinstance(predictor, TcResNet):
            return LoweredTc(predictor)
        return LoweredElemNet(predictor) if isinstance(predictor, ElemNet) else predictor

    return Predictors(tc=lowered(predictors.tc), ef=lowered(predictors.ef))


def in_precision(predictors: Predictors, precision: Precision) -> Predictors:
    """Copies of the lowered predictors whose wide layers compute in `precision`; any other stays as it is."""
    quick = torch.bfloat16
    return replace(
        predictors,
        tc=_converted(predictors.tc, quick if precision == "bfloat16" else torch.float32),
        ef=_converted(predictors.ef, quick if precision != "float32" else torch.float32),
    )


def is_lowered(predictors: Predictors) -> bool:
    """Whether all are lowered: they never wait for the host, so that a step can be captured as a CUDA graph."""
    asked = (predictors.tc, predictors.ef, *filter(None, (predictors.plausibility,)))
    return all(isinstance(each, Lowered) for each in asked)


def _converted(predictor: Predictor, dtype: torch.dtype) -> Predictor:
    if not isinstance(predictor, Lowered) or predictor.wide == dtype:
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


def unpool(gradient: Tensor, image: Tensor, taken: Tensor) -> Tensor:
    """The gradient of a 3×3 maximum with stride 2 and padding 1: (rows, c, h, w) → that of `image` (rows, c, 2h, 2w).

    taken: (rows, c, h, w) the place in the image of each maximum.
    """
    if image.device.type == "cpu":
        return cast(
            Tensor,
            torch.ops.aten.max_pool2d_with_indices_backward(
                gradient, image, [3, 3], [2, 2], [1, 1], [1, 1], False, taken
            ),
        )
    return unpool_in_order(gradient, image, taken)


def unpool_in_order(gradient: Tensor, image: Tensor, taken: Tensor) -> Tensor:
    """As `unpool`, in a fixed order of additions: on a GPU torch's own adds as its threads come."""
    height, width = gradient.shape[2:]
    rows = 2 * torch.arange(height, device=image.device)[:, None]
    columns = 2 * torch.arange(width, device=image.device)
    spread = gradient.new_zeros(len(gradient), gradient.shape[1], 2 * height + 1, 2 * width + 1)
    for down in range(3):
        for across in range(3):
            place = (rows + down - 1) * image.shape[3] + columns + across - 1
            here = spread[:, :, down : down + 2 * height : 2, across : across + 2 * width : 2]
            here += gradient * (taken == place)
    return spread[:, :, 1:, 1:]


def _folded(norm: ChannelNorm) -> tuple[Tensor, Tensor]:
    """A norm in evaluation as a factor and a shift of each channel."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def _convolution(
    conv: TapConv, norm: ChannelNorm, shape: tuple[int, int, int]
) -> tuple[tuple[Tensor, Tensor], tuple[int, int, int]]:
    """Matrix (inputs, outputs) and bias of a convolution and its norm on maps of `shape` (height, width, channels),
    and the shape that it makes. Features go by column, row, channel.
    """
    height, width, channels = shape
    (high, wide), (above, beside), stride = conv.kernel, conv.padding, conv.stride
    rows, columns = (height + 2 * above - high) // stride + 1, (width + 2 * beside - wide) // stride + 1
    scale, shift = _folded(norm)
    taps = conv.weight.view(high, wide, channels, -1) * scale
    matrix = taps.new_zeros(width, height, channels, columns, rows, len(scale))
    for row, column, i, j in product(range(rows), range(columns), range(high), range(wide)):
        down, across = stride * row + i - above, stride * column + j - beside
        if 0 <= down < height and 0 <= across < width:
            matrix[across, down, :, column, row] = taps[i, j]
    return (matrix.flatten(3).flatten(0, 2), shift.repeat(rows * columns)), (rows, columns, len(scale))
