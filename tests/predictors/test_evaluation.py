"""Scores against hand-computed values; the comparison models on rows whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from kiago_ray.training.evaluation import extra_trees, nearest_neighbour, score


def test_scores_by_hand() -> None:
    scores = score(np.array([10.0, 20, 60, 100]), np.array([12.0, 20, 50, 110]), high=50)
    assert scores.mae == pytest.approx(5.5)
    assert scores.bias == pytest.approx(-0.5)
    assert scores.bias_high == pytest.approx(-10)
    true = np.array([12.0, 20, 50, 110])
    assert scores.r2 == pytest.approx(1 - 204 / ((true - 48) ** 2).sum(), abs=1e-4)


def test_no_high_row_means_no_high_bias() -> None:
    assert score(np.array([1.0, 2]), np.array([1.0, 3]), high=50).bias_high is None


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        score(np.array([1.0]), np.array([1.0]))


def test_the_comparison_models_know_their_training_rows() -> None:
    generator = np.random.default_rng(0)
    rows = generator.dirichlet(np.ones(118) * 0.05, size=60)
    values = generator.random(60) * 90
    np.testing.assert_array_equal(nearest_neighbour(rows, values, rows[::-1]), values[::-1])
    np.testing.assert_allclose(extra_trees(rows, values, rows), values, atol=1e-8)
