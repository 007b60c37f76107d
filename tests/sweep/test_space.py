"""Drawing from a space: by Optuna and by the grid, with conditions."""

from __future__ import annotations

import itertools
from typing import Any

import optuna
import pytest

from kiago_ray.sweep.spec import Parameter, check_order, grid_points
from kiago_ray.sweep.study import draw


def space(**parameters: dict[str, Any]) -> dict[str, Parameter]:
    return {name: Parameter.model_validate(values) for name, values in parameters.items()}


CONDITIONAL = space(
    preset={"choice": ["default", "paper"]},
    kappa={"uniform": [0.5, 2.0], "when": {"preset": "default"}},
    rate={"loguniform": [1e-3, 1e-1]},
    n={"randint": [3, 5]},
)


def test_draws_keep_to_their_ranges_and_conditions() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    points = [draw(CONDITIONAL, study.ask()) for _ in range(200)]
    assert {point["preset"] for point in points} == {"default", "paper"}
    assert all(("kappa" in point) == (point["preset"] == "default") for point in points)
    assert all(0.5 <= point["kappa"] <= 2 for point in points if "kappa" in point)
    assert {point["n"] for point in points} == {3, 4, 5}
    rates = sorted(point["rate"] for point in points)
    assert rates[0] >= 1e-3
    assert rates[-1] <= 1e-1
    assert rates[100] == pytest.approx(1e-2, rel=0.5)  # the middle of the factors, not of the range


def test_a_grid_has_every_combination_once() -> None:
    listed = space(a={"grid": [1, 2, 3]}, b={"choice": ["x", {"y": 1}]})
    points = grid_points(listed)
    assert points == [{"a": a, "b": b} for a, b in itertools.product([1, 2, 3], ["x", {"y": 1}])]


def test_a_grid_leaves_out_what_does_not_apply() -> None:
    listed = space(preset={"grid": ["default", "paper"]}, k={"grid": [1, 2], "when": {"preset": ["default"]}})
    assert grid_points(listed) == [
        {"preset": "default", "k": 1},
        {"preset": "default", "k": 2},
        {"preset": "paper"},
    ]


def test_a_grid_is_bounded_and_needs_lists() -> None:
    with pytest.raises(ValueError, match="more than 10,000 points"):
        grid_points(space(**{name: {"grid": list(range(30))} for name in "abc"}))
    with pytest.raises(ValueError, match="a: a grid search needs values"):
        grid_points(space(a={"uniform": [0, 1]}))


def test_conditions_name_what_is_chosen_before() -> None:
    with pytest.raises(ValueError, match="b is no parameter above a"):
        check_order(space(a={"choice": [1], "when": {"b": 1}}, b={"choice": [1, 2]}))
    with pytest.raises(ValueError, match="b never is 3"):
        check_order(space(b={"choice": [1, 2]}, a={"choice": [1], "when": {"b": [1, 3]}}))
    with pytest.raises(ValueError, match="b never is"):
        check_order(space(b={"uniform": [1, 2]}, a={"choice": [1], "when": {"b": 1}}))
