"""The guidance's slope is the derivative of −T_c + α·E_f, by finite differences; rows of nothing have none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from kiago_ray.baselines.superdiff.guidance import Guidance, positive_fractions, predicted_tc_k
from kiago_ray.predictors import load_predictors

Make = Callable[[int, float], Any]


def noisy(rows: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(11)
    x = torch.randn(rows, 120, generator=generator, dtype=dtype)
    return x + 0.05 * x.sign()  # no place so near 0 that a small step would cross it


def test_the_slope_is_the_derivative(smooth: Make) -> None:
    guidance = Guidance(smooth(0, 50.0), smooth(1, 2.0), alpha=4.0)
    x = noisy(3)
    slope, tc_k = guidance.slope(x)

    def loss(at: torch.Tensor) -> torch.Tensor:
        parts, _ = positive_fractions(at)
        return guidance.alpha * guidance.ef(parts) - guidance.tc(parts)

    step = 1e-5
    for place in range(120):
        shift = torch.zeros(120, dtype=torch.float64)
        shift[place] = step
        difference = (loss(x + shift) - loss(x - shift)) / (2 * step)
        torch.testing.assert_close(slope[:, place], difference, rtol=1e-5, atol=1e-7)
    assert not slope[:, 118:].any()  # the two places that are no element
    torch.testing.assert_close(tc_k, predicted_tc_k(guidance.tc, x))


def test_a_step_down_the_slope_lowers_the_loss_of_the_shipped_predictors() -> None:
    predictors = load_predictors()
    guidance = Guidance(predictors.named("resnet18"), predictors.ef)
    x = noisy(16, torch.float32)
    slope, tc_k = guidance.slope(x)
    scale = 1e-3 / slope.square().sum(dim=1, keepdim=True).sqrt()

    def loss(at: torch.Tensor) -> torch.Tensor:
        parts, _ = positive_fractions(at)
        return guidance.alpha * guidance.ef(parts) - guidance.tc(parts)

    assert int((loss(x - scale * slope) < loss(x)).sum()) >= 15  # one may sit on a kink
    assert bool((tc_k >= 0).all())


def test_rows_of_nothing_have_no_slope_and_leave_others_alone(smooth: Make) -> None:
    guidance = Guidance(smooth(0, 50.0), smooth(1, 2.0))
    x = noisy(3)
    alone = guidance.slope(x[:1])
    x[1] = -x[1].abs()
    slope, tc_k = guidance.slope(x)
    assert not slope[1].any()
    assert float(tc_k[1]) == 0
    torch.testing.assert_close(slope[0], alone[0][0])
    parts, alive = positive_fractions(x)
    assert alive.tolist() == [True, False, True]
    torch.testing.assert_close(parts.sum(1), torch.tensor([1.0, 0, 1], dtype=torch.float64))


@pytest.mark.parametrize("wrong", [{"alpha": -1.0}, {"weight": float("nan")}, {"weight": float("inf")}])
def test_wrong_weights_are_named(smooth: Make, wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Guidance(smooth(0, 1.0), smooth(1, 1.0), **wrong)
