"""The extrapolation score: its unit, its order, its slope; what tells known compositions from others."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kiago_ray.errors import InputError
from kiago_ray.predictors.climbed.ensemble import Extrapolation
from kiago_ray.training.calibration import fit_extrapolation
from kiago_ray.training.evaluation import random_compositions


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


def test_random_compositions_are_compositions_and_repeatable() -> None:
    rows = random_compositions(300, seed=5)
    np.testing.assert_allclose(rows.sum(1), 1, atol=1e-6)
    held = (rows > 0).sum(1)
    assert held.min() >= 2
    assert held.max() == 7
    assert np.array_equal(rows, random_compositions(300, seed=5))
