from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from kiago_ray.screening.pareto import pareto_front

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def brute_force(trusted: Floats, ef: Floats, score: Floats, eligible: Mask) -> list[bool]:
    """The definition, pair by pair."""
    costs = np.stack([-trusted, ef, np.where(np.isnan(score), np.inf, score)], axis=1)
    there = eligible & ~np.isnan(trusted) & ~np.isnan(ef)
    beaten = [
        any(
            there[j] and (costs[j] <= costs[i]).all() and (costs[j] < costs[i]).any()
            for j in range(len(costs))
        )
        for i in range(len(costs))
    ]
    return [bool(ok) and not lost for ok, lost in zip(there, beaten, strict=True)]


@pytest.mark.parametrize("levels", [2, 5, 1000])  # few levels: many ties
def test_agrees_with_the_definition(levels: int) -> None:
    generator = np.random.default_rng(levels)
    for _ in range(40):
        n = int(generator.integers(0, 50))
        values = generator.integers(0, levels, (3, n)).astype(float)
        values[generator.random((3, n)) < 0.1] = np.nan
        eligible = generator.random(n) < 0.8
        assert pareto_front(*values, eligible).tolist() == brute_force(*values, eligible)


def test_worked_by_hand() -> None:
    trusted = np.array([90.0, 80.0, 80.0, 80.0, 0.0, 95.0])
    ef = np.array([-1.0, -2.0, -2.0, -1.5, -3.0, -5.0])
    score = np.array([0.5, 0.5, 0.5, 0.4, 0.9, 0.1])
    passed = np.array([True, True, True, True, True, False])  # the last would beat all
    assert pareto_front(trusted, ef, score, passed).tolist() == [True, True, True, True, True, False]
    ef[3], score[3] = -1.0, 0.5  # now the first has a higher T_c and is as good in the rest
    assert pareto_front(trusted, ef, score, passed).tolist() == [True, True, True, False, True, False]


def test_minus_zero_is_zero() -> None:
    zeros = np.array([0.0, -0.0])
    assert pareto_front(np.ones(2), zeros, zeros, np.ones(2, dtype=bool)).all()


def test_where_no_score_is_known_the_other_aims_decide() -> None:
    unknown = np.full(3, np.nan)
    front = pareto_front(
        np.array([9.0, 5.0, 4.0]), np.array([0.0, -1.0, 0.0]), unknown, np.ones(3, dtype=bool)
    )
    assert front.tolist() == [True, True, False]


def test_a_hundred_thousand_rows_on_the_front_take_seconds() -> None:
    points = np.abs(np.random.default_rng(0).normal(size=(3, 100_000)))
    points /= np.linalg.norm(points, axis=0)  # on a sphere no point beats another
    began = time.perf_counter()
    assert pareto_front(points[0], -points[1], -points[2], np.ones(100_000, dtype=bool)).all()
    assert time.perf_counter() - began < 5
