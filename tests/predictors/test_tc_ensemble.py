"""The ensemble is its members: side by side they compute what each would alone."""

from __future__ import annotations

import pytest
import torch

from kiago_ray.predictors.base import check_contract
from kiago_ray.predictors.climbed.ensemble import TcEnsemble, from_log, to_log


@pytest.fixture
def ensemble() -> TcEnsemble:
    torch.manual_seed(3)
    return TcEnsemble(members=3, width=32).eval()


def compositions(rows: int) -> torch.Tensor:
    x = torch.rand(rows, 118, generator=torch.Generator().manual_seed(0)) ** 8
    return x / x.sum(1, keepdim=True)


def test_it_keeps_the_contract_of_a_predictor(ensemble: TcEnsemble) -> None:
    check_contract(ensemble)


def test_each_member_predicts_what_it_would_alone(ensemble: TcEnsemble) -> None:
    x = compositions(40)
    together = ensemble.log_tc(x)
    for member in range(3):
        alone = TcEnsemble(members=1, width=32).eval()
        state = ensemble.state_dict()
        alone.load_state_dict({k: v[member : member + 1] if v.ndim == 3 else v for k, v in state.items()})
        torch.testing.assert_close(alone.log_tc(x)[:, 0], together[:, member])
    torch.testing.assert_close(ensemble(x), from_log(together).mean(1))


def test_members_differ(ensemble: TcEnsemble) -> None:
    assert (ensemble.log_tc(compositions(40)).std(1) > 0).all()


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
    torch.testing.assert_close(from_log(to_log(tc_k)), tc_k)
    log = torch.tensor(-0.3, requires_grad=True)
    (slope,) = torch.autograd.grad(from_log(log), log)
    assert slope == pytest.approx(60 * 0.740818, rel=1e-5)
