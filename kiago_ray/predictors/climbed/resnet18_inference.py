"""The frozen ResNet-18 as plain matrix products: the same values and gradients for a fraction of the work.

* The map, the stem convolution and its norm are linear in the amounts of the elements: one matrix, of which a place of
  the output needs the elements under its kernel alone.
* Norms fold into the convolution before them; convolutions on maps of 2×8 places and fewer are small matrices, mostly
  zero, computed as a few dense products of the parts that aren't (`BandedLinear`).

Where empty places of the map tie for a maximum, its gradient goes to the first, as in torch.
"""

from __future__ import annotations

import copy
from itertools import product
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from kiago_ray.chemistry.elements import N_ELEMENTS, position
from kiago_ray.predictors.climbed.inference import Inference, Trace, through_relu
from kiago_ray.predictors.climbed.resnet18 import (
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


class Band(NamedTuple):
    """`outputs` (from, to) read only `inputs` (from, to)."""

    inputs: tuple[int, int]
    outputs: tuple[int, int]

    @property
    def products(self) -> int:
        """Multiply-adds a row."""
        return (self.inputs[1] - self.inputs[0]) * (self.outputs[1] - self.outputs[0])


def bands(matrix: Tensor, width: int) -> tuple[Band, ...]:
    """The outputs of a matrix (inputs, outputs) in groups of `width`, each with the span of inputs it reads;
    neighbours that read the same are one group.
    """
    found: list[Band] = []
    for start in range(0, matrix.shape[1], width):
        stop = min(start + width, matrix.shape[1])
        read = torch.nonzero((matrix[:, start:stop] != 0).any(dim=1))[:, 0]
        span = (int(read[0]), int(read[-1]) + 1) if len(read) else (0, 1)
        if found and found[-1].inputs == span:
            start = found.pop().outputs[0]
        found.append(Band(span, (start, stop)))
    return tuple(found)


class BandedLinear(nn.Module):
    """x·W + b for a frozen matrix W (inputs, outputs); convolutions on small maps become this.

    `width`: outputs of one product. Wide ones multiply by more zeros, narrow ones are less efficient. `needed`:
    entries of W that aren't 0, the multiply-adds that a row needs in either direction.
    """

    bias: Tensor

    def __init__(self, matrix: Tensor, bias: Tensor, *, width: int) -> None:
        super().__init__()
        self.inputs, self.outputs = matrix.shape
        self.register_buffer("bias", bias, persistent=False)
        self.needed = int(torch.count_nonzero(matrix))
        self.down = bands(matrix, width)
        self.down_matrices = _parts(matrix, self.down)
        up = bands(matrix.T, width)
        # Inputs in groups may read more than outputs do; then the gradient is summed over the outputs' bands.
        self.up = up if _products(up) <= _products(self.down) else None
        self.up_matrices = _parts(matrix.T, up) if self.up is not None else None

    def forward(self, x: Tensor) -> Tensor:
        """x (rows, inputs) → x·W + b (rows, outputs)."""
        y = x.new_empty(len(x), self.outputs)
        for ((i, j), (k, n)), part in zip(self.down, self.down_matrices, strict=True):
            torch.addmm(self.bias[k:n], x[:, i:j], part, out=y[:, k:n])
        return y

    def product(self, x: Tensor) -> Tensor:
        """x·W, without b."""
        y = x.new_empty(len(x), self.outputs)
        for ((i, j), (k, n)), part in zip(self.down, self.down_matrices, strict=True):
            torch.mm(x[:, i:j], part, out=y[:, k:n])
        return y

    def add_to(self, y: Tensor, x: Tensor) -> Tensor:
        """y += x·W + b in place."""
        y += self.bias
        for ((i, j), (k, n)), part in zip(self.down, self.down_matrices, strict=True):
            y[:, k:n].addmm_(x[:, i:j], part)
        return y

    def back(self, gradient: Tensor) -> Tensor:
        """∂/∂y (rows, outputs) → ∂/∂x (rows, inputs)."""
        if self.up is None or self.up_matrices is None:
            return self.back_to(gradient.new_zeros(len(gradient), self.inputs), gradient)
        g = gradient.new_empty(len(gradient), self.inputs)
        for ((k, n), (i, j)), part in zip(self.up, self.up_matrices, strict=True):
            torch.mm(gradient[:, k:n], part, out=g[:, i:j])
        return g

    def back_to(self, g: Tensor, gradient: Tensor) -> Tensor:
        """g += ∂/∂x in place."""
        if self.up is not None and self.up_matrices is not None:
            for ((k, n), (i, j)), part in zip(self.up, self.up_matrices, strict=True):
                g[:, i:j].addmm_(gradient[:, k:n], part)
            return g
        for ((i, j), (k, n)), part in zip(self.down, self.down_matrices, strict=True):
            g[:, i:j].addmm_(gradient[:, k:n], part.T)
        return g


def _products(of: tuple[Band, ...]) -> int:
    return sum(band.products for band in of)


def _parts(matrix: Tensor, of: tuple[Band, ...]) -> nn.ParameterList:
    """The matrix of each band, each in a piece of memory of its own."""
    return nn.ParameterList(
        nn.Parameter(matrix[slice(*band.inputs), slice(*band.outputs)].contiguous(), requires_grad=False)
        for band in of
    )


BAND = 128  # outputs of one product


class ResNet18Block(nn.Module):
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


class ResNet18Inference(Inference):
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
                blocks.append(ResNet18Block(cast(ResidualBlock, block), shape))
                shape = blocks[-1].shape
        self.blocks = nn.ModuleList(blocks)
        self.head = exact.head.requires_grad_(False)
        self.to(self.single)

    def wide_layers(self) -> list[nn.Module]:
        return [*self.blocks]

    @property
    def needed(self) -> int:
        blocks = sum(cast(ResNet18Block, block).needed for block in self.blocks)
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
            gradient = cast(ResNet18Block, block).back(gradient, trace)
        maps, taken, image = trace.pop(), trace.pop(), trace.pop()
        through_relu(gradient, maps)
        height, width = STEM_ROWS // 2, STEM_COLUMNS // 2
        pooled = gradient.view(len(x), width, height, -1).permute(0, 3, 2, 1)
        spread = unpool(pooled.to(x.dtype, memory_format=torch.channels_last), image, taken)
        drawn = self.stem.back(spread.permute(0, 2, 3, 1).flatten(1)).view(len(x), N_ELEMENTS, AMOUNTS)
        slopes = amount_slopes(x).view(len(x), AMOUNTS, N_ELEMENTS)
        return (drawn[:, self.place].transpose(1, 2) * slopes).sum(1)


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
