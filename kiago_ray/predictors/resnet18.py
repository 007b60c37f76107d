"""Critical temperature from a composition: a ResNet-18 on the periodic-table map, and the same frozen for searches.

The paper's predictor (section 3.1): the composition is drawn on a periodic table with four channels (s, p, d
and f block), every element a flag times its amount, and read by a ResNet-18 (He et al., 2015). Three choices
are ours. The amount enters through seven functions, each with four channels of its own: on plain fractions a network
learns coarse trends long before the small dopings that decide T_c. Taps of a kernel that only ever see padding are
left out, which is exact: 2.3 M weights instead of 11 M. And the network predicts a logarithm of T_c
(`LogScale`), so that the value before the final ReLU can be followed out of 0 K.

`ResNet18Inference` is the frozen network as plain matrix products: the same values and gradients for a fraction of the
work. Map, stem convolution and its norm are linear in the amounts, and so one matrix; the other norms fold into the
convolutions before them, which on maps of 2×8 places and fewer are matrices, mostly zero (`BandedLinear`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from itertools import product
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from kiago_ray.chemistry.elements import N_ELEMENTS, element_map, position
from kiago_ray.predictors.inference import Inference, Trace, through_relu

WAVES = (4, 16)  # periods of 1/4 and 1/16 of all atoms
AMOUNTS = 3 + 2 * len(WAVES)
MAP_CHANNELS = 4
STEM_ROWS, STEM_COLUMNS = 4, 16  # the 7 × 32 map after a stride of 2


def amounts(fractions: Tensor) -> Tensor:
    """Functions of the amount, each 0 at 0 with a finite slope there: (rows, 118) → (rows, 7·118)."""
    root = torch.sqrt(fractions + 1e-3) - torch.full_like(fractions, 1e-3).sqrt()  # 0 at 0 in any precision
    log = torch.log1p(100 * fractions) / 5
    functions = [fractions, root, log]
    for wave in WAVES:
        angle = 2 * torch.pi * wave * fractions
        functions += [torch.sin(angle), 1 - torch.cos(angle)]
    return torch.cat(functions, dim=1)


def amount_slopes(fractions: Tensor) -> Tensor:
    """The derivative of each of `amounts` by its fraction: (rows, 118) → (rows, 7·118)."""
    slopes = [torch.ones_like(fractions), 0.5 * torch.rsqrt(fractions + 1e-3), 20 / (1 + 100 * fractions)]
    for wave in WAVES:
        turn = 2 * torch.pi * wave
        slopes += [turn * torch.cos(turn * fractions), turn * torch.sin(turn * fractions)]
    return torch.cat(slopes, dim=1)


class LogScale(NamedTuple):
    """What a network predicts instead of T_c: ln(1 + T_c / scale_k). The inverse is exact and has a slope everywhere,
    also below 0 K; above `highest` it is clipped, where the exponential would only amplify an error.
    """

    scale_k: float
    highest: float

    def log(self, tc_k: Tensor) -> Tensor:
        """T_c in K → the network's scale."""
        return torch.log1p(tc_k / self.scale_k)

    def tc_k(self, log_tc: Tensor) -> Tensor:
        """The network's scale → T_c in K, negative below 0."""
        return self.scale_k * torch.expm1(log_tc.clamp(max=self.highest))

    def slope(self, tc_k: Tensor) -> Tensor:
        """The derivative of `tc_k` where its value is tc_k in K, 0 where it is clipped."""
        return torch.where(tc_k < self.tc_k(torch.full_like(tc_k, self.highest)), tc_k + self.scale_k, 0)


SCALE = LogScale(20.0, highest=4.0)


class TapConv(nn.Module):
    """A convolution on (rows, height, width, channels) as one matrix product over the taps it needs.

    `kernel` counts those taps, `padding` what lies outside the map on each side; weight (taps·in, out).
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int], stride: int, padding: tuple[int, int]
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride, padding
        taps = kernel[0] * kernel[1] * inputs
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
            for i in range(high)
            for j in range(wide)
        ]
        columns = torch.cat(taps, dim=3) if len(taps) > 1 else taps[0]
        flat = columns.reshape(rows * down * across, self.weight.shape[0])
        return (flat @ self.weight).view(rows, down, across, self.weight.shape[1])

    def full_kernel(self, corner: tuple[int, int], size: int) -> Tensor:
        """The same as an ordinary (out, in, size, size) kernel whose used taps start at `corner`."""
        high, wide = self.kernel
        used = self.weight.view(high, wide, -1, self.weight.shape[1]).permute(3, 2, 0, 1)
        kernel = used.new_zeros(*used.shape[:2], size, size)
        kernel[:, :, corner[0] : corner[0] + high, corner[1] : corner[1] + wide] = used
        return kernel


class ChannelNorm(nn.BatchNorm1d):
    """Batch norm over the last axis of (rows, height, width, channels)."""

    def forward(self, maps: Tensor) -> Tensor:
        return super().forward(maps.reshape(-1, maps.shape[-1])).view(maps.shape)


class ResidualBlock(nn.Module):
    """ResNet's basic block: two convolutions and a shortcut."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        first: tuple[tuple[int, int], int, tuple[int, int]],
        second: tuple[tuple[int, int], tuple[int, int]],
    ) -> None:
        super().__init__()
        kernel, stride, padding = first
        self.conv1 = TapConv(inputs, outputs, kernel, stride, padding)
        self.norm1 = ChannelNorm(outputs)
        self.conv2 = TapConv(outputs, outputs, second[0], 1, second[1])
        self.norm2 = ChannelNorm(outputs)
        self.shortcut = (
            nn.Sequential(TapConv(inputs, outputs, (1, 1), stride, (0, 0)), ChannelNorm(outputs))
            if inputs != outputs
            else None
        )

    def forward(self, maps: Tensor) -> Tensor:
        residual = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(maps)))))
        shortcut = maps if self.shortcut is None else self.shortcut(maps)
        return torch.relu(residual + shortcut)


class TcResNet(nn.Module):
    """T_c in K before the final ReLU: fractions (rows, 118) → (rows,)."""

    table: Tensor
    supported: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.from_numpy(element_map()), persistent=False)
        self.register_buffer("supported", torch.ones(N_ELEMENTS, dtype=torch.bool), persistent=False)
        self.stem = nn.Conv2d(AMOUNTS * MAP_CHANNELS, 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.stem.weight, mode="fan_out")
        self.stem_norm = ChannelNorm(64)
        square, line, cell = ((3, 3), (1, 1)), ((1, 3), (0, 1)), ((1, 1), (0, 0))
        self.blocks = nn.Sequential(
            ResidualBlock(64, 64, (square[0], 1, square[1]), square),  # 2 × 8
            ResidualBlock(64, 64, (square[0], 1, square[1]), square),
            ResidualBlock(64, 128, ((2, 3), 2, (0, 1)), line),  # 1 × 4
            ResidualBlock(128, 128, (line[0], 1, line[1]), line),
            ResidualBlock(128, 256, (line[0], 2, line[1]), line),  # 1 × 2
            ResidualBlock(256, 256, (line[0], 1, line[1]), line),
            ResidualBlock(256, 512, ((1, 2), 2, (0, 0)), cell),  # 1 × 1
            ResidualBlock(512, 512, (cell[0], 1, cell[1]), cell),
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
        maps = self.blocks(max_pool(maps))
        return cast(Tensor, self.head(maps.flatten(1))).squeeze(1).float()

    def forward(self, fractions: Tensor) -> Tensor:
        return SCALE.tc_k(self.log_tc(fractions))


def max_pool(maps: Tensor) -> Tensor:
    """3×3 max pooling, stride 2, padding 1: (rows, 4, 16, c) → (rows, 2, 8, c)."""
    pooled = functional.max_pool2d(maps.permute(0, 3, 1, 2), 3, stride=2, padding=1)
    return pooled.permute(0, 2, 3, 1)


BAND = 128  # outputs of one product: more multiply by more zeros, fewer are less efficient
Band = tuple[slice, slice]
"""Inputs and outputs of a matrix: these outputs read only these inputs."""


def bands(matrix: Tensor, width: int) -> list[Band]:
    """The outputs of a matrix (inputs, outputs) in groups of `width`, each with the span of inputs it reads;
    neighbours that read the same are one group.
    """
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
    """x·W + b for a frozen matrix W (inputs, outputs); convolutions on small maps become this.

    width: outputs of one product. needed: entries of W that aren't 0, the multiply-adds that a row needs in either
    direction.
    """

    bias: Tensor

    def __init__(self, matrix: Tensor, bias: Tensor, *, width: int = BAND) -> None:
        super().__init__()
        self.inputs, self.outputs = matrix.shape
        self.register_buffer("bias", bias, persistent=False)
        self.needed = int(torch.count_nonzero(matrix))
        self.down, self.up = bands(matrix, width), bands(matrix.T, width)
        self.down_matrices, self.up_matrices = _parts(matrix, self.down), _parts(matrix.T, self.up)
        # Inputs in groups may read more than outputs do; then the gradient is summed over the outputs' bands.
        self.one_way = sum(p.numel() for p in self.up_matrices) > sum(p.numel() for p in self.down_matrices)
        if self.one_way:
            self.up, self.up_matrices = [band[::-1] for band in self.down], nn.ParameterList()

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """x (rows, inputs) → x·W + b (rows, outputs), added to `onto` in place where that is given."""
        if onto is None:
            return _multiply(x, self.down, self.down_matrices, x.new_empty(len(x), self.outputs), self.bias)
        onto += self.bias
        return _multiply(x, self.down, self.down_matrices, onto, onto)

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


class ResNet18Block(nn.Module):
    """A residual block on (rows, features), its norms folded in."""

    def __init__(self, block: ResidualBlock, shape: tuple[int, int, int]) -> None:
        super().__init__()
        first, shape_between = _convolution(block.conv1, block.norm1, shape)
        second, self.shape = _convolution(block.conv2, block.norm2, shape_between)
        self.first = BandedLinear(*first)
        self.second = BandedLinear(*second)
        self.shortcut: BandedLinear | None = None
        if block.shortcut is not None:
            conv, norm = cast(TapConv, block.shortcut[0]), cast(ChannelNorm, block.shortcut[1])
            self.shortcut = BandedLinear(*_convolution(conv, norm, shape)[0])

    def forward(self, x: Tensor, trace: Trace) -> Tensor:
        """x (rows, inputs) → (rows, outputs); what the gradient needs goes to the trace."""
        between = self.first(x).relu_()
        y = x.clone() if self.shortcut is None else self.shortcut(x)
        self.second(between, onto=y).relu_()
        trace += [between, y]
        return y

    def back(self, gradient: Tensor, trace: Trace) -> Tensor:
        """∂/∂ outputs → ∂/∂ inputs, in place where it can be."""
        y, between = trace.pop(), trace.pop()
        through_relu(gradient, y)
        inner = through_relu(self.second.back(gradient), between)
        outer = gradient if self.shortcut is None else self.shortcut.back(gradient)
        return self.first.back(inner, onto=outer)


class ResNet18Inference(Inference):
    """`TcResNet`, frozen."""

    order: Tensor
    place: Tensor

    def __init__(self, network: TcResNet) -> None:
        super().__init__()
        exact = copy.deepcopy(network).double().eval()
        # By column, then period.
        order = sorted(range(N_ELEMENTS), key=lambda index: position(index + 1)[:0:-1])
        self.register_buffer("order", torch.tensor(order), persistent=False)
        self.register_buffer("place", torch.tensor(order).argsort(), persistent=False)
        self.register_buffer("supported", network.supported.clone(), persistent=False)
        with torch.no_grad():
            drawn = exact.stem_matrix().view(AMOUNTS, N_ELEMENTS, -1)[:, order].transpose(0, 1).flatten(0, 1)
            scale, shift = _folded(exact.stem_norm)
            places = STEM_ROWS * STEM_COLUMNS
            self.stem = BandedLinear(drawn * scale.repeat(places), shift.repeat(places))
            self.channels = len(scale)
            shape, blocks = (STEM_ROWS // 2, STEM_COLUMNS // 2, self.channels), []
            for block in exact.blocks:
                blocks.append(ResNet18Block(cast(ResidualBlock, block), shape))
                shape = blocks[-1].shape
        self.blocks = nn.ModuleList(blocks)
        self.head = exact.head.requires_grad_(False)
        self.to(network.head.weight.dtype)

    def wide_layers(self) -> list[nn.Module]:
        return [*self.blocks]

    @property
    def needed(self) -> int:
        layers = (layer for layer in self.modules() if isinstance(layer, BandedLinear))
        return sum(layer.needed for layer in layers) + self.head.in_features

    def value(self, x: Tensor) -> tuple[Tensor, Trace]:
        drawn = amounts(x[:, self.order]).view(len(x), AMOUNTS, N_ELEMENTS).transpose(1, 2).flatten(1)
        image = self.stem.product(drawn).view(len(x), STEM_ROWS, STEM_COLUMNS, -1).permute(0, 3, 1, 2)
        pooled, taken = functional.max_pool2d(image, 3, stride=2, padding=1, return_indices=True)
        # Bias and ReLU commute with the maximum. From here on places go by column: what a kernel covers lies together.
        maps = pooled.permute(0, 3, 2, 1) + self.stem.bias[-self.channels :]
        maps = maps.relu_().to(self.wide).flatten(1)
        trace = [image, taken, maps]
        for block in self.blocks:
            maps = block(maps, trace)
        return SCALE.tc_k(self.head(maps.to(x.dtype))[:, 0]), trace

    def gradient(self, x: Tensor, values: Tensor, trace: Trace) -> Tensor:
        gradient = (SCALE.slope(values)[:, None] * self.head.weight).to(self.wide)
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

    taken: (rows, c, h, w) the place in the image of each maximum, of several the first, as in torch.
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
