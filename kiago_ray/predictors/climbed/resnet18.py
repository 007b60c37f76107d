"""Critical temperature from a composition: a ResNet-18 on the periodic-table map.

The paper's predictor (section 3.1): the composition is drawn on a periodic table with four channels (s, p, d
and f block), every element a flag times its amount, and read by a ResNet-18 (He et al., 2015). Three choices
are ours:

* The amount of an element enters through seven functions, each with four channels of its own: the fraction, its
  root and logarithm, and waves. A network on plain fractions learns coarse trends long before the small dopings
  that decide T_c. The map stays a sum over elements.
* At 1×4, 1×2 and 1×1 maps most taps of a 3×3 kernel only ever see padding. They are left out, which is exact:
  2.3 M weights instead of 11 M. `full_kernel` puts a kernel back into the usual form.
* The network predicts ln(1 + T_c / `SCALE_K`). The inverse is exact and has a slope everywhere, also at and below
  0 K, so the value before the final ReLU can be followed out of 0 K.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from kiago_ray.chemistry.elements import N_ELEMENTS, element_map

SCALE_K = 20.0
HIGHEST_LOG = 4.0  # 1,072 K: beyond it the exponential would only amplify an error
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


def to_log(tc_k: Tensor) -> Tensor:
    """T_c in K → the network's scale, ln(1 + T_c / 20 K)."""
    return torch.log1p(tc_k / SCALE_K)


def from_log(log_tc: Tensor) -> Tensor:
    """The exact inverse of `to_log`, in K; negative below 0."""
    return SCALE_K * torch.expm1(log_tc.clamp(max=HIGHEST_LOG))


def log_slope(tc_k: Tensor) -> Tensor:
    """The derivative of `from_log` at the value tc_k in K, 0 where it is clipped."""
    highest = from_log(torch.full_like(tc_k, HIGHEST_LOG))
    return torch.where(tc_k < highest, tc_k + SCALE_K, 0)


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
        return from_log(self.log_tc(fractions))


def max_pool(maps: Tensor) -> Tensor:
    """3×3 max pooling, stride 2, padding 1: (rows, 4, 16, c) → (rows, 2, 8, c)."""
    pooled = functional.max_pool2d(maps.permute(0, 3, 1, 2), 3, stride=2, padding=1)
    return pooled.permute(0, 2, 3, 1)
