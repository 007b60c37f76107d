"""The lower bound that a search climbs: made of its parts, with its own slope, the same lowered and in chunks."""

from __future__ import annotations

import pytest
import torch

from kiago_ray.predictors.base import Predictors, check_contract
from kiago_ray.predictors.climbed.ensemble import FREE, CalibratedEnsemble
from kiago_ray.predictors.climbed.inference import EnsembleInference, in_precision, with_lower_bound
from kiago_ray.training.evaluation import random_compositions


@pytest.fixture(scope="module")
def network() -> CalibratedEnsemble:
    torch.manual_seed(0)
    made = CalibratedEnsemble().eval()
    made.spread.coefficients.copy_(torch.tensor([0.3, 0.8, 0.2, 0.4]))
    made.extrapolation.projection.normal_(std=0.02)
    made.extrapolation.centres.normal_()
    made.extrapolation.unit.fill_(4.0)
    return made


def compositions(rows: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(random_compositions(rows, seed=seed))


def test_the_bound_is_the_mean_less_spread_and_what_lies_beyond(network: CalibratedEnsemble) -> None:
    x = compositions()
    estimate = network.estimate(x)
    assert (estimate.extrapolation > FREE).any()
    assert (estimate.extrapolation < FREE).any()
    beyond = (estimate.extrapolation - FREE).clamp(min=0)
    torch.testing.assert_close(
        network.bound(x, 1.5, 20.0), estimate.tc_k - 1.5 * estimate.tc_std_k - 20 * beyond
    )
    torch.testing.assert_close(network.bound(x, 0.0, 0.0), network(x))
    assert (network.bound(x, 2.0, 0.0) < network.bound(x, 1.0, 0.0)).all()


def test_the_bound_has_the_slope_of_its_differences() -> None:
    torch.manual_seed(1)
    double = CalibratedEnsemble().double().eval()
    double.extrapolation.projection.normal_(std=0.02)
    double.extrapolation.centres.normal_()
    x = compositions(3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: double.bound(v, 1.0, 20.0), (x,), eps=1e-7, atol=1e-4)


def test_lowered_it_keeps_value_and_gradient(network: CalibratedEnsemble) -> None:
    lowered = EnsembleInference(network).lower_bound(1.0, 20.0)
    x = compositions(700)  # two chunks
    mine, plain = x.clone().requires_grad_(), x.clone().requires_grad_()
    value, expected = lowered(mine), network.bound(plain, 1.0, 20.0)
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-3)
    (gradient,) = torch.autograd.grad(value.sum(), mine)
    (wanted,) = torch.autograd.grad(expected.sum(), plain)
    torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-1)
    assert gradient.isfinite().all()


def test_lowered_it_keeps_the_contract(network: CalibratedEnsemble) -> None:
    check_contract(EnsembleInference(network).lower_bound(1.0, 20.0))


def test_bfloat16_changes_little_and_leaves_the_first_copy_alone(network: CalibratedEnsemble) -> None:
    exact = EnsembleInference(network).lower_bound(1.0, 20.0)
    pair = Predictors(tc=exact, ef=exact)
    quick = in_precision(pair, "bfloat16").tc
    x = compositions(200)
    before = exact(x)
    assert not torch.equal(quick(x), before)
    torch.testing.assert_close(quick(x), before, rtol=0.05, atol=1.0)
    assert torch.equal(exact(x), before)


def test_beliefs_are_clipped_and_empty_for_nothing(network: CalibratedEnsemble) -> None:
    lowered = EnsembleInference(network)
    tc_k, std, extrapolation = lowered.estimates(random_compositions(20, seed=1))
    mean, disagreement, same = lowered.raw_estimates(random_compositions(20, seed=1))
    assert (tc_k == mean.clip(min=0)).all()
    assert (std > 0).all()
    assert (disagreement > 0).all()
    assert (extrapolation == same).all()
    assert [len(each) for each in lowered.estimates(random_compositions(0, seed=0))] == [0, 0, 0]


def test_only_the_ensemble_is_steered(network: CalibratedEnsemble) -> None:
    lowered, other = EnsembleInference(network), network.ensemble
    pair = Predictors(tc=lowered, ef=other)
    x = compositions(5)
    torch.testing.assert_close(with_lower_bound(pair, 1.0, 0.0).tc(x), network.bound(x, 1.0, 0.0))
    plain = Predictors(tc=other, ef=other)
    assert with_lower_bound(plain, 1.0, 30.0) is plain
