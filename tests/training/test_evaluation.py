"""Scores against hand-computed values; the comparison models on rows whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from kiago_ray.training.evaluation import extra_trees, held_out, nearest_neighbour, score


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


def test_a_row_stays_on_its_side_whatever_the_others_are() -> None:
    keys = [f"key {i}" for i in range(2000)]
    whole = dict(zip(keys, held_out(keys, share=0.1, salt="a"), strict=True))
    some = keys[1500:200:-3]
    assert [whole[k] for k in some] == held_out(some, share=0.1, salt="a").tolist()


def test_about_the_share_is_held_out_and_salts_differ() -> None:
    keys = [str(i) for i in range(20_000)]
    a, b = (held_out(keys, share=0.1, salt=salt) for salt in "ab")
    assert a.mean() == pytest.approx(0.1, abs=0.01)
    assert (a & b).mean() == pytest.approx(0.01, abs=0.004)


def test_equal_keys_go_together() -> None:
    out = held_out(["Cu-O", "Fe-Se"] * 50, share=0.5, salt="x")
    assert len(np.unique(out[::2])) == len(np.unique(out[1::2])) == 1


def test_known_values() -> None:
    """Splits of published cards must not move."""
    formulas = ["MgB2", "LaNiAsO", "Nb3Sn", "YBa2Cu3O7"]
    assert held_out(formulas, share=0.5, salt="kiago-ray 1 random").tolist() == [True, True, False, False]


@pytest.mark.parametrize("share", [0, 1, -0.5, 2])
def test_a_share_outside_0_and_1_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        held_out(["a"], share=share, salt="")
