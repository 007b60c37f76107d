"""The paper's networks: T_c's against a plain ResNet-18 with ordinary padded convolutions, its scale, ElemNet;
and both ready for a search, against the networks that they were made from.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from kiago_ray.chemistry.elements import INDEX
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.cli.bench import load_plain
from kiago_ray.predictors.base import (
    Precision,
    Predictor,
    Predictors,
    amounts,
    capturable,
    check_contract,
    in_precision,
)
from kiago_ray.predictors.networks import (
    SCALE,
    BandedLinear,
    ElemNet,
    ResNet18Inference,
    TapConv,
    TcResNet,
    bands,
    unpool,
    unpool_in_order,
)
from kiago_ray.predictors.weights import load_network, load_predictors

ROWS = 10_000


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
def materials() -> Tensor:
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


def plain_resnet18(network: torch.nn.Module) -> torch.nn.Module:
    """The T_c network with ordinary padded convolutions, as the benchmarks have it."""
    implementation = load_plain(None)
    assert implementation is not None
    return implementation["PlainResNet18"].of(network)


def test_leaving_out_the_padded_taps_is_exact(network: TcResNet, materials: Tensor) -> None:
    """Against the textbook network on the drawn map: every kernel 3×3 (stem 7×7), every map padded."""
    textbook = plain_resnet18(network).double()
    x = materials.clone().requires_grad_()
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


def test_single_precision_agrees_with_double(network: TcResNet, materials: Tensor) -> None:
    expected = network_log(network, materials).float()
    torch.testing.assert_close(network.float().log_tc(materials.float()), expected, rtol=1e-4, atol=1e-4)


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


def test_gradients_against_finite_differences(network: TcResNet, materials: Tensor) -> None:
    x = materials[:2].clone().requires_grad_()
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


@pytest.fixture(scope="module")
def networks() -> Predictors:
    tc, ef = load_network("tc"), load_network("ef")
    assert isinstance(tc, TcResNet)
    assert isinstance(ef, ElemNet)
    return Predictors(tc, ef)


def compositions(rows: int, seed: int = 0, largest: int = 10) -> Tensor:
    """Random fractions (rows, 118) of one to `largest` elements that both predictors know, single precision."""
    generator = torch.Generator().manual_seed(seed)
    supported = load_predictors().following("resnet18").supported
    order = torch.rand(rows, 118, generator=generator).masked_fill(~supported, 2).argsort(1)[:, :largest]
    amounts = torch.rand(rows, largest, generator=generator) + 0.01
    amounts *= torch.arange(largest) < torch.randint(1, largest + 1, (rows, 1), generator=generator)
    x = torch.zeros(rows, 118).scatter(1, order, amounts)
    return x / x.sum(1, keepdim=True)


def value_and_gradient(predictor: Predictor, x: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.clone().requires_grad_()
    values = predictor(leaf)
    (gradient,) = torch.autograd.grad(values.sum(), leaf)
    return values.detach(), gradient


def by_parts(predictor: Predictor, x: Tensor) -> tuple[Tensor, Tensor]:
    parts = [value_and_gradient(predictor, part) for part in x.split(1000)]
    return torch.cat([value for value, _ in parts]), torch.cat([gradient for _, gradient in parts])


def test_lowering_is_exact(networks: Predictors) -> None:
    """In double precision, where no rounding flips a ReLU: values, and gradients towards absent elements too."""
    x = compositions(500).double()
    tc = ResNet18Inference(load_network("tc").double())  # type: ignore[arg-type]
    ef, plain_ef = load_network("ef").double(), load_network("ef").double().train()
    pairs = ((tc, plain_resnet18(load_network("tc")).double()), (ef, plain_ef))
    for lowered, plain in pairs:
        (value, gradient), (expected, slope) = by_parts(lowered, x), by_parts(plain, x)
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6, check_dtype=False)
        torch.testing.assert_close(gradient, slope, rtol=1e-9, atol=1e-9)


def test_the_gradient_of_the_pool_does_not_depend_on_its_order() -> None:
    generator = torch.Generator().manual_seed(4)
    image = torch.randn(3, 5, 4, 16, generator=generator, dtype=torch.float64)
    image[image < 0] = 0.5  # many ties
    leaf = image.clone().requires_grad_()
    pooled, taken = torch.nn.functional.max_pool2d(leaf, 3, stride=2, padding=1, return_indices=True)
    gradient = torch.randn(pooled.shape, generator=generator, dtype=torch.float64)
    (expected,) = torch.autograd.grad(pooled, leaf, gradient)
    torch.testing.assert_close(unpool(gradient, image, taken), expected)
    torch.testing.assert_close(unpool_in_order(gradient, image, taken), expected)


@pytest.mark.parametrize(
    ("rows", "share"), [(1_000, 0.994), pytest.param(ROWS, 0.998, marks=pytest.mark.long)]
)
def test_single_precision_agrees_with_the_plain_network(rows: int, share: float) -> None:
    """Where a ReLU or a maximum is at its kink to the last bit, rounding decides for one side, now and then."""
    x = compositions(rows)
    predictors = load_predictors().following("resnet18")
    for lowered, plain in (
        (predictors.tc, plain_resnet18(load_network("tc"))),
        (predictors.ef, load_network("ef").train()),
    ):
        (value, gradient), (expected, slope) = by_parts(lowered, x), by_parts(plain, x)  # type: ignore[arg-type]
        assert ((value - expected).abs() / expected.abs().clamp(min=1)).max() < 1e-5
        error = (gradient - slope).norm(dim=1) / slope.norm(dim=1)
        assert error.median() < 1e-6
        assert (error < 1e-5).float().mean() >= share


def test_gradients_are_those_of_the_network_that_was_lowered() -> None:
    """In double precision, towards absent elements too, where places of the map tie for a maximum."""
    network = load_network("tc").double()
    x = compositions(200, seed=5).double()
    gradient = by_parts(ResNet18Inference(network), x)[1]  # type: ignore[arg-type]
    leaf = x.clone().requires_grad_()
    log_tc = network_log(network, leaf)  # type: ignore[arg-type]
    (expected,) = torch.autograd.grad(SCALE.tc_k(log_tc).sum(), leaf)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-8)


def test_a_second_derivative_is_refused() -> None:
    x = compositions(3).requires_grad_()
    value = load_predictors().following("resnet18").tc(x)
    (slope,) = torch.autograd.grad(value.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_other_numbers_are_converted() -> None:
    predictors = load_predictors().following("resnet18")
    x = compositions(4)
    for predictor in (predictors.tc, predictors.ef):
        value, gradient = value_and_gradient(predictor, x.double())
        assert gradient.dtype == torch.float64
        torch.testing.assert_close(value, predictor(x))


def test_precision_can_only_be_lost() -> None:
    rough = in_precision(load_predictors().following("resnet18"), "bfloat16")
    assert capturable(rough, energies=True)
    with pytest.raises(ValueError, match="lost digits"):
        in_precision(rough, "float32")


def test_bfloat16_points_the_same_way() -> None:
    exact = load_predictors().following("resnet18")
    quick = in_precision(exact, "bfloat16")
    assert in_precision(exact, "float32").tc is exact.tc
    x = compositions(500, seed=2)
    for one, other, least in ((exact.tc, quick.tc, 0.98), (exact.ef, quick.ef, 0.999)):
        (value, gradient), (rough, slope) = by_parts(one, x), by_parts(other, x)
        present = x > 0
        assert torch.cosine_similarity(gradient * present, slope * present).median() > least
        assert ((value - rough).abs() / value.abs().clamp(min=1)).median() < 0.02


@pytest.mark.parametrize("precision", ["float32", "mixed", "bfloat16"])
def test_the_lowered_predictors_keep_the_contract(precision: Precision) -> None:
    predictors = in_precision(load_predictors().following("resnet18"), precision)
    check_contract(predictors.tc, tolerance=0.05 if precision == "bfloat16" else 1e-3)
    check_contract(predictors.ef, tolerance=1e-3 if precision == "float32" else 0.05)


def test_chunks_of_rows_change_nothing_but_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    x = compositions(50, seed=3)
    predictors = load_predictors().following("resnet18")
    whole = by_parts(predictors.tc, x)
    monkeypatch.setattr("kiago_ray.predictors.base.CPU_ROWS", 7)
    torch.testing.assert_close(by_parts(predictors.tc, x), whole, rtol=1e-4, atol=1e-3)


def test_foreign_predictors_stay_as_they_are(networks: Predictors) -> None:
    def foreign(fractions: Tensor) -> Tensor:
        return fractions.sum(1)

    mixed = Predictors(tc=foreign, ef=networks.ef)
    assert not capturable(mixed, energies=False)
    assert in_precision(mixed, "bfloat16").tc is foreign


@pytest.mark.parametrize("rows", [1, 100, 700])
def test_threads_share_the_rows(rows: int) -> None:
    x, predictors = compositions(rows, seed=6), load_predictors().following("resnet18")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = [value_and_gradient(each, x) for each in (predictors.tc, predictors.ef)]
        torch.set_num_threads(3)
        shared = [value_and_gradient(each, x) for each in (predictors.tc, predictors.ef)]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    for (value, gradient), (expected, slope) in zip(shared, alone, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-4)
        assert ((gradient - slope).norm(dim=1) <= 1e-4 * slope.norm(dim=1)).float().mean() > 0.98


def test_an_error_in_a_thread_arrives_and_leaves_the_threads_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: ResNet18Inference, x: Tensor, gradients: bool) -> None:
        raise MemoryError("no room")

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr(ResNet18Inference, "chunk", fail)
    try:
        with pytest.raises(MemoryError, match="no room"):
            load_predictors().following("resnet18").tc(compositions(300))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def banded_matrix() -> Tensor:
    """12 inputs, 8 outputs: output k reads inputs k to k + 4."""
    generator = torch.Generator().manual_seed(1)
    matrix = torch.randn(12, 8, dtype=torch.float64, generator=generator)
    i, k = torch.arange(12)[:, None], torch.arange(8)[None]
    return torch.where((i >= k) & (i <= k + 4), matrix, 0)


def test_bands_span_what_their_outputs_read() -> None:
    assert bands(banded_matrix(), 4) == [(slice(0, 8), slice(0, 4)), (slice(4, 12), slice(4, 8))]
    assert bands(banded_matrix(), 3)[-1] == (slice(6, 12), slice(6, 8))
    assert all(inputs.stop - inputs.start == 5 for inputs, _ in bands(banded_matrix(), 1))
    assert bands(torch.zeros(3, 2), 2)[0][1] == slice(0, 2)


@pytest.mark.parametrize("width", [1, 3, 4, 8, 100])
@pytest.mark.parametrize("rows", [0, 1, 5])
def test_both_directions_are_the_dense_products(width: int, rows: int) -> None:
    generator = torch.Generator().manual_seed(2)
    matrix, bias = banded_matrix(), torch.randn(8, dtype=torch.float64, generator=generator)
    layer = BandedLinear(matrix, bias, width=width)
    x, g = (torch.randn(rows, n, dtype=torch.float64, generator=generator) for n in (12, 8))
    torch.testing.assert_close(layer(x), x @ matrix + bias)
    torch.testing.assert_close(layer.back(g), g @ matrix.T)
    torch.testing.assert_close(layer(x, onto=g.clone()), g + x @ matrix + bias)
    torch.testing.assert_close(layer.back(g, onto=x.clone()), x + g @ matrix.T)
