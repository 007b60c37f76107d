"""Banded products against the dense ones that they stand for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kiago_ray.predictors.climbed.resnet18_inference import Band, BandedLinear, bands


def banded_matrix() -> Tensor:
    """12 inputs, 8 outputs: output k reads inputs k to k + 4."""
    generator = torch.Generator().manual_seed(1)
    matrix = torch.randn(12, 8, dtype=torch.float64, generator=generator)
    i, k = torch.arange(12)[:, None], torch.arange(8)[None]
    return torch.where((i >= k) & (i <= k + 4), matrix, 0)


def test_bands_span_what_their_outputs_read() -> None:
    assert bands(banded_matrix(), 4) == (Band((0, 8), (0, 4)), Band((4, 12), (4, 8)))
    assert bands(banded_matrix(), 3)[-1] == Band((6, 12), (6, 8))
    assert sum(band.products for band in bands(banded_matrix(), 1)) == 8 * 5
    assert bands(torch.zeros(3, 2), 2)[0].outputs == (0, 2)


@pytest.mark.parametrize("width", [1, 3, 4, 8, 100])
@pytest.mark.parametrize("rows", [0, 1, 5])
def test_both_directions_are_the_dense_products(width: int, rows: int) -> None:
    generator = torch.Generator().manual_seed(2)
    matrix, bias = banded_matrix(), torch.randn(8, dtype=torch.float64, generator=generator)
    layer = BandedLinear(matrix, bias, width=width)
    x, g = (torch.randn(rows, n, dtype=torch.float64, generator=generator) for n in (12, 8))
    torch.testing.assert_close(layer(x), x @ matrix + bias)
    torch.testing.assert_close(layer.back(g), g @ matrix.T)
    torch.testing.assert_close(layer.add_to(g.clone(), x), g + x @ matrix + bias)
    torch.testing.assert_close(layer.back_to(x.clone(), g), x + g @ matrix.T)
