"""The network: its shapes at other sizes, rows for themselves, places of their own, sizes refused."""

from __future__ import annotations

import pytest
import torch

from kiago_ray.baselines.superdiff.model import SuperDiff
from kiago_ray.baselines.superdiff.network import NetworkSettings, UNet
from kiago_ray.errors import InputError


@pytest.mark.parametrize(("width", "depth"), [(8, 1), (8, 2), (16, 3)])
def test_shapes_at_any_size(width: int, depth: int) -> None:
    network = UNet(NetworkSettings(width, depth))
    x, step = torch.randn(3, 120), torch.tensor([0, 500, 999])
    assert network(x, step).shape == (3, 120)
    network(x, step).square().sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_rows_do_not_influence_one_another_and_the_step_matters(untrained: SuperDiff) -> None:
    x = torch.randn(4, 120, generator=torch.Generator().manual_seed(0))
    step = torch.tensor([10, 400, 700, 990])
    together = untrained.network(x, step)
    for row in range(4):
        alone = untrained.network(x[row : row + 1], step[row : row + 1])
        torch.testing.assert_close(alone[0], together[row], rtol=1e-4, atol=1e-5)
    assert float((untrained.network(x, step.flip(0)) - together).abs().max()) > 1e-3


def test_elements_are_no_translations_of_one_another(untrained: SuperDiff) -> None:
    x = torch.zeros(1, 120)
    x[0, 40] = 1
    step = torch.tensor([300])
    shifted = untrained.network(x.roll(8, dims=1), step)
    assert float((shifted - untrained.network(x, step).roll(8, dims=1))[0, 30:80].abs().max()) > 1e-2


@pytest.mark.parametrize(("width", "depth"), [(12, 1), (0, 1), (1024, 1), (32, 0), (32, 9)])
def test_sizes_out_of_bounds_are_refused(width: int, depth: int) -> None:
    with pytest.raises(InputError, match="give"):
        NetworkSettings(width, depth)
