"""The spread: coefficients from made-up errors whose deviation is known, and what they then cover."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kiago_ray.predictors.ensemble import Spread
from kiago_ray.training.calibration import HeldOut, coverage, fit_spread


def made(count: int, seed: int, further: float) -> HeldOut:
    """Errors of a normal distribution whose deviation grows with disagreement and extrapolation."""
    generator = np.random.default_rng(seed)
    disagreement = generator.exponential(3, count)
    extrapolation = np.abs(generator.normal(further, 0.2, count))
    mean = generator.uniform(5, 100, count)
    deviation = 2 * (1 + disagreement) ** 0.7 * np.exp(0.8 * extrapolation)
    measured = np.clip(mean, 0, None) + deviation * generator.standard_normal(count)
    return HeldOut(mean, disagreement, extrapolation, measured)


def test_known_deviations_are_found_and_covered_on_both_splits() -> None:
    spread = fit_spread([made(3000, 0, 0.3), made(3000, 1, 1.0)])
    for seed, further in ((2, 0.3), (3, 1.0)):
        covered = coverage(spread, made(4000, seed, further))
        assert covered["within_1_sigma"] == pytest.approx(0.683, abs=0.03)
        assert covered["within_2_sigma"] == pytest.approx(0.954, abs=0.02)
    assert spread.coefficients[1] == pytest.approx(0.7, abs=0.12)
    assert spread.coefficients[3] == pytest.approx(0.8, abs=0.15)


def test_an_uncalibrated_spread_is_seen_to_cover_too_little() -> None:
    covered = coverage(Spread(), made(2000, 4, 1.0))
    assert covered["within_1_sigma"] < 0.5


def test_the_spread_has_a_slope_where_t_c_is_below_0() -> None:
    spread = Spread().double()
    spread.coefficients.copy_(torch.tensor([0.1, 0.6, 0.4, 0.5]))
    values = torch.tensor([[-20.0, 3.0], [0.5, 2.0], [0.2, 1.5]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: spread(v[0], v[1], v[2]), (values,))
