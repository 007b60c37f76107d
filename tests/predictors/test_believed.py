"""The lower bound that a search climbs: made of its parts, with its own slope, the same lowered and in chunks."""

from __future__ import annotations

import pytest
import torch

from kiago_ray.predictors.base import Predictors, check_contract
from kiago_ray.predictors.climbed.ensemble import FREE, BelievedTc
from kiago_ray.predictors.climbed.inference import LoweredEnsemble, in_precision, steered
from kiago_ray.training.evaluation import random_compositions


@pytest.fixture(scope="module")
def network() -> BelievedTc:
    torch.manual_seed(0)
    made = BelievedTc().eval()
    made.spread.coefficients.copy_(torch.tensor([0.3, 0.8, 0.2, 0.4]))
    made.extrapolation.projection.normal_(std=0.02)
    made.extrapolation.centres.normal_()
    made.extrapolation.unit.fill_(4.0)
    return made


def compositions(rows: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(random_compositions(rows, seed=seed))


def test_the_bound_is_the_mean_less_spread_and_what_lies_beyond(network: BelievedTc) -> None:
    x = compositions()
    belief = network.belief(x)
    assert (belief.extrapolation > FREE).any()
    assert (belief.extrapolation < FREE).any()
    beyond = (belief.extrapolation - FREE).clamp(min=0)
    torch.testing.assert_close(network.bound(x, 1.5, 20.0), belief.tc_k - 1.5 * belief.tc_std_k - 20 * beyond)
    torch.testing.assert_close(network.bound(x, 0.0, 0.0), network(x))
    assert (network.bound(x, 2.0, 0.0) < network.bound(x, 1.0, 0.0)).all()


def test_the_bound_has_the_slope_of_its_differences() -> None:
    torch.manual_seed(1)
    double = BelievedTc().double().eval()
    double.extrapolation.projection.normal_(std=0.02)
    double.extrapolation.centres.normal_()
    x = compositions(3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: double.bound(v, 1.0, 20.0), (x,), eps=1e-7, atol=1e-4)


def test_lowered_it_keeps_value_and_gradient(network: BelievedTc) -> None:
    lowered = LoweredEnsemble(network).steering(1.0, 20.0)
    x = compositions(700)  # two chunks
    mine, plain = x.clone().requires_grad_(), x.clone().requires_grad_()
    value, expected = lowered(mine), network.bound(plain, 1.0, 20.0)
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-3)
    (gradient,) = torch.autograd.grad(value.sum(), mine)
    (wanted,) = torch.autograd.grad(expected.sum(), plain)
    torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-1)
    assert gradient.isfinite().all()


def test_lowered_it_keeps_the_contract(network: BelievedTc) -> None:
    check_contract(LoweredEnsemble(network).steering(1.0, 20.0))


def test_bfloat16_changes_little_and_leaves_the_first_copy_alone(network: BelievedTc) -> None:
    exact = LoweredEnsemble(network).steering(1.0, 20.0)
    pair = Predictors(tc=exact, ef=exact)
    quick = in_precision(pair, "bfloat16").tc
    x = compositions(200)
    before = exact(x)
    assert not torch.equal(quick(x), before)
    torch.testing.assert_close(quick(x), before, rtol=0.05, atol=1.0)
    assert torch.equal(exact(x), before)


def test_beliefs_are_clipped_and_empty_for_nothing(network: BelievedTc) -> None:
    lowered = LoweredEnsemble(network)
    tc_k, std, extrapolation = lowered.beliefs(random_compositions(20, seed=1))
    mean, disagreement, same = lowered.opinions(random_compositions(20, seed=1))
    assert (tc_k == mean.clip(min=0)).all()
    assert (std > 0).all()
    assert (disagreement > 0).all()
    assert (extrapolation == same).all()
    assert [len(each) for each in lowered.beliefs(random_compositions(0, seed=0))] == [0, 0, 0]


def test_only_the_ensemble_is_steered(network: BelievedTc) -> None:
    lowered, other = LoweredEnsemble(network), network.ensemble
    pair = Predictors(tc=lowered, ef=other)
    x = compositions(5)
    torch.testing.assert_close(steered(pair, 1.0, 0.0).tc(x), network.bound(x, 1.0, 0.0))
    plain = Predictors(tc=other, ef=other)
    assert steered(plain, 1.0, 30.0) is plain
