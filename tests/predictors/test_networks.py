"""The T_c network against a plain ResNet-18 with ordinary padded convolutions, its scale; ElemNet's layers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from kiago_ray.chemistry.elements import INDEX
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.cli.bench import load_plain
from kiago_ray.predictors.features import amounts
from kiago_ray.predictors.networks import SCALE, ElemNet, TapConv, TcResNet


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


def test_leaving_out_the_padded_taps_is_exact(network: TcResNet, compositions: Tensor) -> None:
    """Against the textbook network on the drawn map: every kernel 3×3 (stem 7×7), every map padded."""
    implementation = load_plain(None)
    assert implementation is not None
    textbook = implementation["PlainResNet18"].of(network).double()
    x = compositions.clone().requires_grad_()
    ours, plain = SCALE.tc_k(network_log(network, x)), textbook(x)
    torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-10)
    weights = torch.randn(len(x), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (mine,) = torch.autograd.grad((ours * weights).sum(), x)
    (theirs,) = torch.autograd.grad((plain * weights).sum(), x)
    torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


def pooled(maps: Tensor) -> Tensor:
    """A 3×3 maximum, stride 2, padding 1: (rows, 4, 16, c) → (rows, 2, 8, c)."""
    return functional.max_pool2d(maps.permute(0, 3, 1, 2), 3, stride=2, padding=1).permute(0, 2, 3, 1)


def network_log(network: TcResNet, x: Tensor) -> Tensor:
    """`log_tc` in double precision: the network itself ends in single."""
    maps = (amounts(x) @ network.stem_matrix()).view(-1, 4, 16, 64)
    maps = network.blocks(pooled(torch.relu(network.stem_norm(maps))))
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


def test_it_has_the_published_layers() -> None:
    widths = [layer.out_features for layer in ElemNet().layers]
    assert widths == [1024] * 4 + [512] * 3 + [256] * 3 + [128] * 3 + [64] * 2 + [32, 1]
    assert len(widths) == 17
    assert ElemNet().layers[0].in_features == 86


def test_it_reads_plutonium_and_not_radon() -> None:
    network = ElemNet()
    assert bool(network.supported[INDEX["Pu"]])
    assert not bool(network.supported[INDEX["Rn"]])
    assert not bool(network.supported[INDEX["He"]])
    assert int(network.supported.sum()) == 86
    x = torch.from_numpy(parse_fractions(["PuO2", "ThO2"])).float()
    assert network(x)[0] != network(x)[1]


def test_the_first_layer_sees_each_element_at_its_own_place() -> None:
    network = ElemNet()
    eye = torch.eye(118)
    seen = eye.index_select(1, network.index)[network.supported]
    assert torch.equal(seen, torch.eye(86))
