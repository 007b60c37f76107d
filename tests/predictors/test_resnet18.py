"""The T_c network against a plain ResNet-18 written with ordinary padded convolutions, and its scale."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from kiago_ray.chemistry.elements import element_map
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.predictors.resnet18 import (
    SCALE,
    ResidualBlock,
    TapConv,
    TcResNet,
    amounts,
    max_pool,
)


@pytest.fixture
def network() -> TcResNet:
    """Random weights, and norms that do something."""
    torch.manual_seed(11)
    made = TcResNet()
    for name, buffer in made.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
        elif name.endswith("running_mean"):
            buffer.normal_(std=0.1)
    return made.double().eval().requires_grad_(False)


@pytest.fixture
def compositions() -> Tensor:
    formulas = [
        "LaNiAsO",
        "YBa2Cu3O7",
        "MgB2",
        "Nb",
        "La1.85Sr0.15CuO4",
        "HgBa2Ca2Cu3O8",
        "CeCoIn5",
        "LaH10",
        "UPt3",
    ]
    return torch.from_numpy(parse_fractions(formulas))


def norm(x: Tensor, layer: torch.nn.BatchNorm1d) -> Tensor:
    return functional.batch_norm(
        x, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=layer.eps
    )


def padded(x: Tensor, conv: TapConv, corner: tuple[int, int], stride: int = 1, size: int = 3) -> Tensor:
    return functional.conv2d(x, conv.full_kernel(corner, size), stride=stride, padding=size // 2)


def plain_block(
    x: Tensor, block: ResidualBlock, first: tuple[int, int], second: tuple[int, int], stride: int
) -> Tensor:
    y = torch.relu(norm(padded(x, block.conv1, first, stride), block.norm1))
    y = norm(padded(y, block.conv2, second), block.norm2)
    if block.shortcut is not None:
        x = norm(padded(x, block.shortcut[0], (0, 0), stride, size=1), block.shortcut[1])
    return torch.relu(x + y)


def plain_resnet18(network: TcResNet, fractions: Tensor) -> Tensor:
    """The textbook network on the drawn map: every kernel 3×3 (stem 7×7), every map padded."""
    functions = amounts(fractions).split(118, dim=1)
    maps = torch.cat(
        [torch.einsum("re,ecpk->rcpk", f, torch.from_numpy(element_map()).double()) for f in functions], 1
    )
    x = torch.relu(norm(functional.conv2d(maps, network.stem.weight, stride=2, padding=3), network.stem_norm))
    x = functional.max_pool2d(x, 3, stride=2, padding=1)
    corners = [((0, 0), (0, 0), 1)] * 2 + [((1, 0), (1, 0), 2), ((1, 0), (1, 0), 1)]
    corners += [((1, 0), (1, 0), 2), ((1, 0), (1, 0), 1), ((1, 1), (1, 1), 2), ((1, 1), (1, 1), 1)]
    for block, (first, second, stride) in zip(network.blocks, corners, strict=True):
        assert isinstance(block, ResidualBlock)
        x = plain_block(x, block, first, second, stride)
    return network.head(x.mean((2, 3))).squeeze(1)


def test_leaving_out_the_padded_taps_is_exact(network: TcResNet, compositions: Tensor) -> None:
    x = compositions.clone().requires_grad_()
    ours, plain = network.blocks and network_log(network, x), plain_resnet18(network, x)
    torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-10)
    weights = torch.randn(len(x), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (mine,) = torch.autograd.grad((ours * weights).sum(), x)
    (theirs,) = torch.autograd.grad((plain * weights).sum(), x)
    torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


def network_log(network: TcResNet, x: Tensor) -> Tensor:
    """`log_tc` in double precision: the network itself ends in single."""
    maps = (amounts(x) @ network.stem_matrix()).view(-1, 4, 16, 64)
    maps = network.blocks(max_pool(torch.relu(network.stem_norm(maps))))
    return network.head(maps.flatten(1)).squeeze(1)


def test_single_precision_agrees_with_double(network: TcResNet, compositions: Tensor) -> None:
    expected = network_log(network, compositions).float()
    torch.testing.assert_close(network.float().log_tc(compositions.float()), expected, rtol=1e-4, atol=1e-4)


def test_it_is_a_resnet18() -> None:
    convolutions = [m for m in TcResNet().modules() if isinstance(m, TapConv | torch.nn.Conv2d)]
    heads = [m for m in TcResNet().modules() if isinstance(m, torch.nn.Linear)]
    on_the_path = [
        c for c in convolutions if not (isinstance(c, TapConv) and c.kernel == (1, 1) and c.stride == 2)
    ]
    assert len(on_the_path) + len(heads) == 18


def test_the_scale_has_an_exact_inverse_and_a_slope_at_zero_kelvin() -> None:
    tc_k = torch.tensor([0.0, 0.3, 39.0, 138.0, 250.0], dtype=torch.float64)
    torch.testing.assert_close(SCALE.tc_k(SCALE.log(tc_k)), tc_k)
    assert SCALE.log(torch.tensor(20 * (math.e - 1))).item() == pytest.approx(1)
    z = torch.tensor([0.0, -1.0], requires_grad=True)
    SCALE.tc_k(z).sum().backward()
    assert z.grad is not None
    assert z.grad.tolist() == pytest.approx([20, 20 / math.e])


def test_amounts_vanish_where_an_element_is_absent_and_their_slopes_are_finite() -> None:
    x = torch.zeros(1, 118, requires_grad=True)
    assert amounts(x).abs().max() < 1e-6
    amounts(x).sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_gradients_against_finite_differences(network: TcResNet, compositions: Tensor) -> None:
    x = compositions[:2].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network_log(network, x).sum(), x)
    direction = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) * (
        x > 0
    )
    step = 1e-7
    with torch.no_grad():
        up, down = (network_log(network, x + s * step * direction).sum() for s in (1, -1))
    assert float((up - down) / (2 * step)) == pytest.approx(float((gradient * direction).sum()), rel=1e-4)
