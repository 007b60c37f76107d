"""The paper's two networks (section 3.1): ElemNet for E_f, a ResNet-18 for T_c, and the latter frozen for searches.

The ResNet-18 (He et al., 2015) reads the composition drawn on a periodic table with four channels (s, p, d and f
block). Three choices are ours: the amount enters through seven functions (`base.amounts`), each with four channels
of its own; taps of a kernel that only ever see padding are left out, which is exact: 2.3 M weights, not 11 M; and
the network predicts a logarithm of T_c (`LogScale`), so that the value can be followed out of 0 K.
`ResNet18Inference` computes the same values and gradients for a fraction of the work: map, stem and its norm are one
matrix; the other norms fold into the convolutions before them, which on maps of 2×8 places and fewer are matrices too,
mostly zero (`BandedLinear`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from itertools import pairwise, product
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from kiago_ray.chemistry.elements import ELEMNET_INDEX, N_ELEMENTS, element_map, position
from kiago_ray.predictors.base import (
    AMOUNTS,
    Inference,
    LogScale,
    amount_slopes,
    amounts,
    buffer,
)

SCALE = LogScale(20.0, highest=4.0)
MAP_CHANNELS = 4
STEM_ROWS, STEM_COLUMNS = 4, 16  # the 7 × 32 map after a stride of 2
BAND = 128  # outputs of one product: more multiply by more zeros, fewer are less efficient
Band = tuple[slice, slice]  # inputs and outputs of a matrix: these outputs read only these inputs
Taps = tuple[tuple[int, int], int, tuple[int, int]]  # kernel, stride and padding of a convolution
Shape = tuple[int, int, int]  # height, width and channels of a map


class ElemNet(Inference):
    """E_f in eV/atom: fractions (rows, 118) → (rows,).

    Jha et al., Sci. Rep. 8, 17593 (2018): a fully connected network of 17 layers on the atomic fractions of 86
    elements. Those are not Z = 1 to 86: see `chemistry.elements.ELEMNET_SYMBOLS`.
    """

    LAYERS = (1024,) * 4 + (512,) * 3 + (256,) * 3 + (128,) * 3 + (64,) * 2 + (32, 1)
    WIDE = 128  # outputs from which a layer may compute in bfloat16

    def __init__(self) -> None:
        super().__init__()
        self.linear = [nn.Linear(i, o) for i, o in pairwise((len(ELEMNET_INDEX), *self.LAYERS))]
        self.layers = nn.ModuleList(self.linear)
        for layer in self.linear:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        self.index = nn.Buffer(torch.tensor(ELEMNET_INDEX), persistent=False)
        known = torch.zeros(N_ELEMENTS, dtype=torch.bool).index_fill_(0, self.index, True)
        self.supported = nn.Buffer(known, persistent=False)

    def wide_layers(self) -> list[nn.Module]:
        return [layer for layer in self.linear[1:] if layer.out_features >= self.WIDE]

    def forward(self, fractions: Tensor) -> Tensor:
        """In training, values with gradients to the weights; otherwise as every `Inference`."""
        return self.direct(fractions).float() if self.training else super().forward(fractions)

    def direct(self, x: Tensor) -> Tensor:
        hidden = x.index_select(1, self.index)
        *inner, last = self.linear
        for layer in inner:
            hidden = layer(hidden.to(layer.weight.dtype)).relu_()
        return cast(Tensor, last(hidden))[:, 0]


class TapConv(nn.Module):
    """A convolution on (rows, height, width, channels) as one matrix product over the taps it needs.

    `kernel` counts those taps, `padding` what lies outside the map on each side; weight (taps·in, out).
    """

    def __init__(self, inputs: int, outputs: int, geometry: Taps) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = geometry
        taps = math.prod(self.kernel) * inputs
        self.weight = nn.Parameter(torch.empty(taps, outputs))
        nn.init.normal_(self.weight, std=(2 / taps) ** 0.5)

    def forward(self, maps: Tensor) -> Tensor:
        (high, wide), (above, beside), stride = self.kernel, self.padding, self.stride
        if above or beside:
            maps = functional.pad(maps, (0, 0, beside, beside, above, above))
        rows, height, width, _ = maps.shape
        down, across = (height - high) // stride + 1, (width - wide) // stride + 1
        taps = [
            maps[:, i : i + stride * (down - 1) + 1 : stride, j : j + stride * (across - 1) + 1 : stride]
            for i, j in product(range(high), range(wide))
        ]
        columns = torch.cat(taps, dim=3) if len(taps) > 1 else taps[0]
        flat = columns.reshape(rows * down * across, self.weight.shape[0])
        return (flat @ self.weight).view(rows, down, across, self.weight.shape[1])


class ChannelNorm(nn.BatchNorm1d):
    """Batch norm over the last axis of (rows, height, width, channels)."""

    def forward(self, maps: Tensor) -> Tensor:
        return super().forward(maps.reshape(-1, maps.shape[-1])).view(maps.shape)


class ResidualBlock(nn.Module):
    """ResNet's basic block: two convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, first: Taps, second: Taps) -> None:
        super().__init__()
        self.conv1, self.norm1 = TapConv(inputs, outputs, first), ChannelNorm(outputs)
        self.conv2, self.norm2 = TapConv(outputs, outputs, second), ChannelNorm(outputs)
        self.shortcut: nn.Sequential | None = None
        if inputs != outputs:
            across = TapConv(inputs, outputs, ((1, 1), first[1], (0, 0)))
            self.shortcut = nn.Sequential(across, ChannelNorm(outputs))

    def forward(self, maps: Tensor) -> Tensor:
        residual = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(maps)))))
        shortcut = maps if self.shortcut is None else self.shortcut(maps)
        return torch.relu(residual + shortcut)


class TcResNet(nn.Module):
    """T_c in K before the final ReLU: fractions (rows, 118) → (rows,)."""

    def __init__(self) -> None:
        super().__init__()
        self.table = buffer(element_map())
        self.supported = nn.Buffer(torch.ones(N_ELEMENTS, dtype=torch.bool), persistent=False)
        self.stem = nn.Conv2d(AMOUNTS * MAP_CHANNELS, 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.stem.weight, mode="fan_out")
        self.stem_norm = ChannelNorm(64)
        square, line, cell = ((3, 3), 1, (1, 1)), ((1, 3), 1, (0, 1)), ((1, 1), 1, (0, 0))
        self.blocks = nn.Sequential(
            ResidualBlock(64, 64, square, square),  # 2 × 8
            ResidualBlock(64, 64, square, square),
            ResidualBlock(64, 128, ((2, 3), 2, (0, 1)), line),  # 1 × 4
            ResidualBlock(128, 128, line, line),
            ResidualBlock(128, 256, ((1, 3), 2, (0, 1)), line),  # 1 × 2
            ResidualBlock(256, 256, line, line),
            ResidualBlock(256, 512, ((1, 2), 2, (0, 0)), cell),  # 1 × 1
            ResidualBlock(512, 512, cell, cell),
        )
        self.head = nn.Linear(512, 1)

    def stem_matrix(self) -> Tensor:
        """Map and stem convolution as one matrix: (7·118, 4·16·64); both are linear in the amounts."""
        kernels = torch.split(self.stem.weight, MAP_CHANNELS, dim=1)
        maps = [functional.conv2d(self.table, kernel, stride=2, padding=3) for kernel in kernels]
        return torch.cat([m.permute(0, 2, 3, 1).flatten(1) for m in maps])

    def log_tc(self, fractions: Tensor) -> Tensor:
        """ln(1 + T_c / 20 K), unclipped: (rows, 118) → (rows,)."""
        matrix = self.stem_matrix()
        with torch.autocast(fractions.device.type, enabled=False):  # dopings need all 24 bits
            maps = amounts(fractions) @ matrix.float()
        maps = torch.relu(self.stem_norm(maps.view(-1, STEM_ROWS, STEM_COLUMNS, 64)))
        pooled = functional.max_pool2d(maps.permute(0, 3, 1, 2), 3, stride=2, padding=1)
        maps = self.blocks(pooled.permute(0, 2, 3, 1))
        return cast(Tensor, self.head(maps.flatten(1))).squeeze(1).float()

    def forward(self, fractions: Tensor) -> Tensor:
        return SCALE.tc_k(self.log_tc(fractions))


def bands(matrix: Tensor, width: int) -> list[Band]:
    """Groups of `width` outputs of a matrix (inputs, outputs) and the inputs each reads; equal neighbours are one."""
    found: list[Band] = []
    for start in range(0, matrix.shape[1], width):
        stop = min(start + width, matrix.shape[1])
        read = torch.nonzero((matrix[:, start:stop] != 0).any(dim=1))[:, 0]
        span = slice(int(read[0]), int(read[-1]) + 1) if len(read) else slice(0, 1)
        if found and found[-1][0] == span:
            start = found.pop()[1].start
        found.append((span, slice(start, stop)))
    return found


class BandedLinear(nn.Module):
    """x·W + b for a frozen matrix W (inputs, outputs), in products of `width` outputs; convolutions become this."""

    def __init__(self, matrix: Tensor, bias: Tensor, *, width: int = BAND) -> None:
        super().__init__()
        self.inputs, self.outputs = matrix.shape
        self.bias = nn.Buffer(bias, persistent=False)
        self.down, self.up = bands(matrix, width), bands(matrix.T, width)
        self.down_matrices, self.up_matrices = _parts(matrix, self.down), _parts(matrix.T, self.up)
        # Inputs in groups may read more than outputs do; then the gradient is summed over the outputs' bands.
        self.one_way = sum(p.numel() for p in self.up_matrices) > sum(p.numel() for p in self.down_matrices)
        if self.one_way:
            self.up, self.up_matrices = [band[::-1] for band in self.down], nn.ParameterList()

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """x (rows, inputs) → x·W + b (rows, outputs), added to `onto` in place where that is given."""
        y = x.new_empty(len(x), self.outputs) if onto is None else onto.add_(self.bias)
        return _multiply(x, self.down, self.down_matrices, y, self.bias if onto is None else y)

    def product(self, x: Tensor) -> Tensor:
        """x·W, without b."""
        return _multiply(x, self.down, self.down_matrices, x.new_empty(len(x), self.outputs))

    def back(self, gradient: Tensor, onto: Tensor | None = None) -> Tensor:
        """∂/∂y (rows, outputs) → ∂/∂x (rows, inputs), added to `onto` in place where that is given."""
        parts: Iterable[Tensor] = self.up_matrices
        if self.one_way:
            parts = [part.T for part in self.down_matrices]
            onto = gradient.new_zeros(len(gradient), self.inputs) if onto is None else onto
        y = gradient.new_empty(len(gradient), self.inputs) if onto is None else onto
        return _multiply(gradient, self.up, parts, y, onto)


def _parts(matrix: Tensor, of: list[Band]) -> nn.ParameterList:
    """The matrix of each band, each in a piece of memory of its own."""
    return nn.ParameterList(
        nn.Parameter(matrix[inputs, outputs].contiguous(), requires_grad=False) for inputs, outputs in of
    )


def _multiply(
    x: Tensor, of: list[Band], parts: Iterable[Tensor], y: Tensor, plus: Tensor | None = None
) -> Tensor:
    """x·W + `plus` by bands into y, which is returned."""
    for (inputs, outputs), part in zip(of, parts, strict=True):
        if plus is None:
            torch.mm(x[:, inputs], part, out=y[:, outputs])
        else:
            torch.addmm(plus[..., outputs], x[:, inputs], part, out=y[:, outputs])
    return y


def _through_relu(gradient: Tensor, activation: Tensor) -> Tensor:
    """The gradient where the activation is above 0, in place."""
    backward = torch.ops.aten.threshold_backward.grad_input
    return cast(Tensor, backward(gradient, activation, 0, grad_input=gradient))


class ResNet18Inference(Inference):
    """`TcResNet`, frozen."""

    def __init__(self, network: TcResNet) -> None:
        super().__init__()
        exact = copy.deepcopy(network).double().eval()
        order = sorted(range(N_ELEMENTS), key=lambda z: position(z + 1)[:0:-1])  # by column, then period
        self.order = nn.Buffer(torch.tensor(order), persistent=False)
        self.place = nn.Buffer(self.order.argsort(), persistent=False)
        self.supported = nn.Buffer(network.supported.clone(), persistent=False)
        with torch.no_grad():
            drawn = exact.stem_matrix().view(AMOUNTS, N_ELEMENTS, -1)[:, order].transpose(0, 1).flatten(0, 1)
            scale, shift = _folded(exact.stem_norm)
            places = STEM_ROWS * STEM_COLUMNS
            self.stem = BandedLinear(drawn * scale.repeat(places), shift.repeat(places))
            self.channels = len(scale)
            shape, self.blocks = (STEM_ROWS // 2, STEM_COLUMNS // 2, self.channels), nn.ModuleList()
            for block in cast(Iterable[ResidualBlock], exact.blocks):
                first, between = _folded_convolution(block.conv1, block.norm1, shape)
                second, made = _folded_convolution(block.conv2, block.norm2, between)
                layers = nn.ModuleList([first, second])
                if block.shortcut is not None:
                    across = cast(tuple[TapConv, ChannelNorm], tuple(block.shortcut))
                    layers.append(_folded_convolution(*across, shape)[0])
                self.blocks.append(layers)
                shape = made
        self.head = exact.head.requires_grad_(False)
        self.to(network.head.weight.dtype)

    def wide_layers(self) -> list[nn.Module]:
        return [*self.blocks]

    def direct(self, x: Tensor) -> Tensor:
        return self.chunk(x, False)[0]

    def chunk(self, x: Tensor, gradients: bool) -> tuple[Tensor, Tensor | None]:
        """As every `Inference`'s; the gradients are worked out here, not by autograd."""
        drawn = amounts(x[:, self.order]).view(len(x), AMOUNTS, N_ELEMENTS).transpose(1, 2).flatten(1)
        image = self.stem.product(drawn).view(len(x), STEM_ROWS, STEM_COLUMNS, -1).permute(0, 3, 1, 2)
        pooled, taken = functional.max_pool2d(image, 3, stride=2, padding=1, return_indices=True)
        # Bias and ReLU commute with the maximum. From here on places go by column: what a kernel covers lies together.
        maps = pooled.permute(0, 3, 2, 1) + self.stem.bias[-self.channels :]
        maps = maps.relu_().to(self.wide).flatten(1)
        trace, blocks = [maps], cast(list[list[BandedLinear]], list(self.blocks))
        for first, second, *shortcut in blocks:
            between = first(maps).relu_()
            maps = shortcut[0](maps) if shortcut else maps.clone()
            second(between, onto=maps).relu_()
            trace += [between, maps]
        values = SCALE.tc_k(self.head(maps.to(x.dtype))[:, 0])
        if not gradients:
            return values, None
        gradient = (SCALE.slope(values)[:, None] * self.head.weight).to(self.wide)
        for first, second, *shortcut in reversed(blocks):
            _through_relu(gradient, trace.pop())
            inner = _through_relu(second.back(gradient), trace.pop())
            outer = shortcut[0].back(gradient) if shortcut else gradient
            gradient = first.back(inner, onto=outer)
        _through_relu(gradient, trace.pop())
        pooled = gradient.view(len(x), STEM_COLUMNS // 2, STEM_ROWS // 2, -1).permute(0, 3, 2, 1)
        spread = unpool(pooled.to(x.dtype, memory_format=torch.channels_last), image, taken)
        drawn = self.stem.back(spread.permute(0, 2, 3, 1).flatten(1)).view(len(x), N_ELEMENTS, AMOUNTS)
        slopes = amount_slopes(x).view(len(x), AMOUNTS, N_ELEMENTS)
        return values, (drawn[:, self.place].transpose(1, 2) * slopes).sum(1)


def unpool(gradient: Tensor, image: Tensor, taken: Tensor) -> Tensor:
    """The gradient of a 3×3 maximum with stride 2 and padding 1: (rows, c, h, w) → that of `image` (rows, c, 2h, 2w).

    taken: (rows, c, h, w) the place in the image of each maximum, of several the first, as in torch.
    """
    if image.device.type != "cpu":
        return unpool_in_order(gradient, image, taken)
    backward, pool = torch.ops.aten.max_pool2d_with_indices_backward, ([3, 3], [2, 2], [1, 1], [1, 1], False)
    return cast(Tensor, backward(gradient, image, *pool, taken))


def unpool_in_order(gradient: Tensor, image: Tensor, taken: Tensor) -> Tensor:
    """As `unpool`, in a fixed order of additions: on a GPU torch's own adds as its threads come."""
    height, width = gradient.shape[2:]
    rows = 2 * torch.arange(height, device=image.device)[:, None]
    columns = 2 * torch.arange(width, device=image.device)
    spread = gradient.new_zeros(len(gradient), gradient.shape[1], 2 * height + 1, 2 * width + 1)
    for down, across in product(range(3), repeat=2):
        place = (rows + down - 1) * image.shape[3] + columns + across - 1
        here = spread[:, :, down : down + 2 * height : 2, across : across + 2 * width : 2]
        here += gradient * (taken == place)
    return spread[:, :, 1:, 1:]


def _folded(norm: ChannelNorm) -> tuple[Tensor, Tensor]:
    """A norm in evaluation as a factor and a shift of each channel."""
    mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    scale = norm.weight / torch.sqrt(variance + norm.eps)
    return scale, norm.bias - mean * scale


def _folded_convolution(conv: TapConv, norm: ChannelNorm, shape: Shape) -> tuple[BandedLinear, Shape]:
    """A convolution and its norm on maps of `shape` as one matrix, features by column, row, channel; new shape."""
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
    layer = BandedLinear(matrix.flatten(3).flatten(0, 2), shift.repeat(rows * columns))
    return layer, (rows, columns, len(scale))
