"""A linear map whose matrix is mostly zero, as a few dense products of the parts that aren't."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


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
