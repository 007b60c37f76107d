"""The ensemble, its lower bound with its slope, the extrapolation score."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kiago_ray.chemistry.elements import COMMON, INDEX, N_ELEMENTS, properties
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.data.tables import known_table
from kiago_ray.errors import InputError
from kiago_ray.predictors.base import Predictors, check_contract, in_precision
from kiago_ray.predictors.ensemble import (
    FREE,
    SCALE,
    SEEN_K,
    VALENCE_OF,
    CalibratedEnsemble,
    Extrapolation,
    Spread,
    TcEnsemble,
    TcFeatures,
    with_lower_bound,
)
from kiago_ray.predictors.networks import ElemNet
from kiago_ray.training.recipes import fit_extrapolation
from kiago_ray.training.tables import random_compositions


@pytest.fixture
def ensemble() -> TcEnsemble:
    torch.manual_seed(3)
    return TcEnsemble(members=3, width=32).eval()


def compositions(rows: int) -> torch.Tensor:
    x = torch.rand(rows, 118, generator=torch.Generator().manual_seed(0)) ** 8
    return x / x.sum(1, keepdim=True)


def test_each_member_predicts_what_it_would_alone(ensemble: TcEnsemble) -> None:
    x = compositions(40)
    together = ensemble(x)
    for member in range(3):
        alone = TcEnsemble(members=1, width=32).eval()
        state = ensemble.state_dict()
        alone.load_state_dict({k: v[member : member + 1] if v.ndim == 3 else v for k, v in state.items()})
        torch.testing.assert_close(alone(x)[:, 0], together[:, member])


def test_members_differ(ensemble: TcEnsemble) -> None:
    assert (ensemble(compositions(40)).std(1) > 0).all()


def test_standardised_features_have_mean_0_and_deviation_1(ensemble: TcEnsemble) -> None:
    x = compositions(500)
    ensemble.standardise(x)
    described = ((ensemble.features(x) - ensemble.centre) / ensemble.scale)[:, 826:]
    torch.testing.assert_close(described.mean(0), torch.zeros(described.shape[1]), atol=1e-3, rtol=0)
    varying = ensemble.features(x)[:, 826:].std(0) > 0.05
    assert varying.sum() > 100
    torch.testing.assert_close(described.std(0)[varying], torch.ones(int(varying.sum())), atol=0.03, rtol=0)


def test_the_scale_has_an_exact_inverse_with_a_slope_below_0() -> None:
    tc_k = torch.tensor([-30.0, 0.0, 4.2, 92.0, 260.0], dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(SCALE.tc_k(SCALE.log(tc_k)), tc_k)
    log = torch.tensor(-0.3, requires_grad=True)
    (slope,) = torch.autograd.grad(SCALE.tc_k(log), log)
    assert slope == pytest.approx(60 * 0.740818, rel=1e-5)


@pytest.fixture(scope="module")
def network() -> CalibratedEnsemble:
    torch.manual_seed(0)
    made = CalibratedEnsemble().eval()
    made.spread.coefficients.copy_(torch.tensor([0.3, 0.8, 0.2, 0.4]))
    made.extrapolation.projection.normal_(std=0.02)
    made.extrapolation.centres.normal_()
    made.extrapolation.unit.fill_(4.0)
    return made


def believed_compositions(rows: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(random_compositions(rows, seed=seed))


def test_the_bound_is_the_mean_less_spread_and_what_lies_beyond(network: CalibratedEnsemble) -> None:
    x = believed_compositions()
    estimate = network.estimate(x)
    assert (estimate.extrapolation > FREE).any()
    assert (estimate.extrapolation < FREE).any()
    beyond = (estimate.extrapolation - FREE).clamp(min=0)
    torch.testing.assert_close(
        network.lower_bound(1.5, 20.0)(x), estimate.tc_k - 1.5 * estimate.tc_std_k - 20 * beyond
    )
    torch.testing.assert_close(network.lower_bound(0.0, 0.0)(x), network(x))
    torch.testing.assert_close(network(x), SCALE.tc_k(network.ensemble(x)).mean(1))
    assert (network.lower_bound(2.0, 0.0)(x) < network.lower_bound(1.0, 0.0)(x)).all()


def test_the_bound_has_the_slope_of_its_differences() -> None:
    torch.manual_seed(1)
    double = CalibratedEnsemble().double().eval()
    double.extrapolation.projection.normal_(std=0.02)
    double.extrapolation.centres.normal_()
    x = believed_compositions(3).double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: double.lower_bound(1.0, 20.0).direct(x)[:, 0], (x,), eps=1e-7, atol=1e-4
    )


def test_sigma_is_no_more_than_the_range_of_t_c_ever_seen() -> None:
    table = known_table()
    assert table is not None
    assert table.table["tc_k"].max() == SEEN_K
    spread = Spread()
    spread.coefficients.copy_(torch.tensor([1.0, 1.0, 0.0, 0.0]))
    disagreement = torch.tensor([0.0, 60.0, 91.0, 5000.0])  # e·(1 + disagreement) + 0.3
    terms = Spread.terms(torch.zeros(4), disagreement, torch.zeros(4)).requires_grad_()
    std = spread(terms)
    assert std.tolist() == pytest.approx([3.0183, 166.115, 250.0, 250.0], abs=1e-3)
    assert std[2] == std[3] == SEEN_K
    (slopes,) = torch.autograd.grad(std.sum(), terms)
    free = torch.exp(terms @ spread.coefficients).detach()  # no bound on the way back
    torch.testing.assert_close(slopes[:, 1], free)


def test_lowered_it_keeps_value_and_gradient(network: CalibratedEnsemble) -> None:
    lowered = network.lower_bound(1.0, 20.0)
    x = believed_compositions(700)  # two chunks
    mine, plain = x.clone().requires_grad_(), x.clone().requires_grad_()
    value, (expected, mean) = lowered(mine), lowered.direct(plain).unbind(1)
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(mean, network(x), rtol=1e-4, atol=1e-3)
    (gradient,) = torch.autograd.grad(value.sum(), mine)
    (wanted,) = torch.autograd.grad(expected.sum(), plain)
    torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-1)
    assert gradient.isfinite().all()


def test_lowered_it_keeps_the_contract(network: CalibratedEnsemble) -> None:
    check_contract(network.lower_bound(1.0, 20.0))


def test_bfloat16_changes_little_and_leaves_the_first_copy_alone(network: CalibratedEnsemble) -> None:
    exact = network.lower_bound(1.0, 20.0)
    pair = Predictors(tc=exact, ef=exact)
    quick = in_precision(pair, "bfloat16").tc
    x = believed_compositions(200)
    before = exact(x)
    assert not torch.equal(quick(x), before)
    torch.testing.assert_close(quick(x), before, rtol=0.05, atol=1.0)
    assert torch.equal(exact(x), before)


def test_estimates_of_arrays_are_those_of_tensors_and_empty_for_nothing(network: CalibratedEnsemble) -> None:
    rows = random_compositions(20, seed=1)
    found, tensors = network.estimates(rows), network.estimate(torch.from_numpy(rows))
    for array, tensor in zip(found, tensors, strict=True):
        np.testing.assert_array_equal(array, tensor.detach())
    assert (found.tc_std_k > 0).all()
    assert (found.disagreement_k > 0).all()
    assert [len(each) for each in network.estimates(random_compositions(0, seed=0))] == [0, 0, 0, 0]


def test_only_the_ensemble_is_steered(network: CalibratedEnsemble) -> None:
    other = ElemNet().eval()
    pair = Predictors(tc=network, ef=other)
    x = believed_compositions(5)
    torch.testing.assert_close(with_lower_bound(pair, 1.0, 0.0).tc(x), network.lower_bound(1.0, 0.0)(x))
    plain = Predictors(tc=other, ef=other)
    assert with_lower_bound(plain, 1.0, 30.0) is plain


def family(count: int, seed: int) -> np.ndarray:
    """Oxides of La, Sr, Ba and Cu in amounts that vary around La2CuO4's."""
    generator = np.random.default_rng(seed)
    rows = np.zeros((count, 118), dtype=np.float32)
    for z, amount in ((56, 1.5), (37, 0.4), (55, 0.2), (28, 1.0), (7, 4.0)):
        rows[:, z] = amount * generator.uniform(0.7, 1.3, count)
    return rows / rows.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def fitted() -> Extrapolation:
    return fit_extrapolation(family(300, 0), family(400, 1), seed=0)


def test_one_in_twenty_held_out_rows_is_flagged(fitted: Extrapolation) -> None:
    scores = fitted(torch.from_numpy(family(400, 1)))
    assert (scores > 1).float().mean() == pytest.approx(0.05, abs=0.005)
    fresh = fitted(torch.from_numpy(family(2000, 2)))
    assert (fresh > 1).float().mean() == pytest.approx(0.05, abs=0.03)


def test_foreign_compositions_lie_further_out(fitted: Extrapolation) -> None:
    known = fitted(torch.from_numpy(family(200, 3)))
    foreign = fitted(torch.from_numpy(random_compositions(200, seed=0)))
    assert foreign.min() > known.max()


def test_the_soft_distance_is_close_to_the_exact_one(fitted: Extrapolation) -> None:
    x = torch.from_numpy(np.concatenate([family(50, 4), random_compositions(50, seed=1)]))
    point = (fitted.features.described(x) - fitted.centre) @ fitted.projection
    exact = torch.cdist(point, fitted.centres).min(dim=1).values
    soft = fitted.distance(x)
    assert (soft <= exact + 2e-3).all()
    # Centres are repeated where there are fewer rows than centres: at most ln(512) of them share in the nearest.
    assert (soft**2 >= exact**2 - 0.25 * np.log(512) - 1e-2).all()


def test_the_score_has_the_slope_of_its_differences(fitted: Extrapolation) -> None:
    double = fit_extrapolation(family(300, 0), family(400, 1), seed=0).double()
    x = torch.from_numpy(random_compositions(3, seed=2)).double().requires_grad_()
    assert torch.autograd.gradcheck(double, (x,), eps=1e-7, atol=1e-3, rtol=1e-3)


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(InputError, match="10 known superconductors don't span 24 components"):
        fit_extrapolation(family(10, 0), family(10, 1), seed=0)


def fractions_of(*formulas: str) -> torch.Tensor:
    return torch.from_numpy(parse_fractions(formulas))


def test_means_and_deviations_are_those_of_the_properties() -> None:
    features = TcFeatures().double()
    x = fractions_of("La1.85Sr0.15CuO4", "MgB2")
    values = properties().values
    standard = (values - values[:COMMON].mean(0)) / values[:COMMON].std(0)
    mean = x.numpy() @ standard
    deviation = np.sqrt((x.numpy()[:, :, None] * (standard - mean[:, None]) ** 2).sum(1) + 0.02)
    found = features.statistics(x).numpy()
    p = len(properties().names)
    np.testing.assert_allclose(found[:, :p], mean, atol=1e-6)
    np.testing.assert_allclose(found[:, p : 2 * p], deviation, atol=1e-6)


def test_copper_needs_the_charge_that_chemists_count() -> None:
    """Cu is +2 in CaCuO2, +2.33 in YBa2Cu3O7 and +1 in YBa2Cu3O5 (3.0, 7, 1 less what rounding off takes)."""
    features = TcFeatures().double()
    found = features.chemistry(fractions_of("CaCuO2", "YBa2Cu3O7", "YBa2Cu3O5"))[
        :, 5 + VALENCE_OF.index("Cu")
    ]
    x = fractions_of("CaCuO2", "YBa2Cu3O7", "YBa2Cu3O5")[:, INDEX["Cu"]]
    softened = x / (x + 0.01)
    expected = torch.tanh(torch.tensor([2.0, 7 / 3, 1.0]) * softened / 4) * softened
    torch.testing.assert_close(found, expected)


def test_every_feature_has_the_slope_of_its_differences() -> None:
    features = TcFeatures().double()
    x = fractions_of("YBa2Cu3O7", "LaFeAsO").requires_grad_()
    assert torch.autograd.gradcheck(features, (x,), eps=1e-7, atol=1e-4, fast_mode=True)


def test_features_stay_finite_with_their_slopes_at_single_elements() -> None:
    x = torch.eye(N_ELEMENTS).requires_grad_()
    found = TcFeatures()(x)
    (slope,) = torch.autograd.grad(found.sum(), x)
    assert found.isfinite().all()
    assert slope.isfinite().all()
