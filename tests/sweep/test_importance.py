"""Which fields decide a metric, and whether that can be told."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from kiago_ray.sweep.metrics import DEFAULT_METRIC
from kiago_ray.sweep.spec import Parameter, SweepSpec
from kiago_ray.sweep.study import Importance, importances, position
from kiago_ray.sweep.trials import Trial

from .conftest import MakeTrials


def by_field(importance: Importance) -> dict[str, float]:
    return {each.field: each.value for each in importance.fields}


def test_what_decides_is_important_and_the_rest_is_not(sweep: SweepSpec, make_trials: MakeTrials) -> None:
    def by_alpha(point: Mapping[str, Any]) -> float:
        return 6 * math.log(point["alpha"])

    found = importances(make_trials(sweep, 60, by_alpha), sweep.space, DEFAULT_METRIC)
    values = by_field(found)
    assert found.fields[0].field == "alpha"
    assert found.r2 is not None
    assert found.r2 > 0.8
    assert found.tells
    assert values.pop("alpha") > 1
    assert all(abs(value) < 0.05 for value in values.values())


def test_chance_alone_is_said_to_be_chance(sweep: SweepSpec, make_trials: MakeTrials) -> None:
    found = importances(make_trials(sweep, 60, lambda point: 0.0), sweep.space, DEFAULT_METRIC)
    assert found.r2 is not None
    assert found.r2 < 0.1
    assert not found.tells


def test_a_choice_and_what_applies_by_it(sweep: SweepSpec, make_trials: MakeTrials) -> None:
    by_preset = make_trials(sweep, 40, lambda point: 20.0 * (point["preset"] == "paper"))
    values = by_field(importances(by_preset, sweep.space, DEFAULT_METRIC))
    assert max(values, key=lambda name: values[name]) == "preset"
    assert abs(values["kappa"]) < 0.02
    by_kappa = make_trials(sweep, 80, lambda point: 8.0 * point.get("kappa", 1.5))
    values = by_field(importances(by_kappa, sweep.space, DEFAULT_METRIC))
    assert values["kappa"] > 10 * max(abs(values[name]) for name in ("alpha", "beta.end", "learning_rate"))


def test_the_same_trials_give_the_same(sweep: SweepSpec, trials: list[Trial]) -> None:
    assert importances(trials, sweep.space, DEFAULT_METRIC) == importances(
        trials, sweep.space, DEFAULT_METRIC
    )


def test_few_trials_have_no_r2_and_none_nothing(sweep: SweepSpec, trials: list[Trial]) -> None:
    few = importances(trials[:8], sweep.space, DEFAULT_METRIC)
    assert (few.r2, few.trials, few.tells) == (None, 8, False)
    assert len(few.fields) == len(sweep.space)
    for some in (trials[:0], trials[:1], trials[:3], [trials[0]] * 12):
        none = importances(some, sweep.space, DEFAULT_METRIC)
        assert (none.fields, none.r2) == ((), None)


def test_trials_without_a_value_are_left_out(sweep: SweepSpec, trials: list[Trial]) -> None:
    failed = replace(trials[0], status="failed", scores=())
    unknown = replace(
        trials[1],
        scores=tuple(replace(each, values=dict.fromkeys(each.values, math.nan)) for each in trials[1].scores),
    )
    found = importances([failed, unknown, *trials[2:]], sweep.space, DEFAULT_METRIC)
    assert found.trials == 22
    assert found == importances(trials[2:], sweep.space, DEFAULT_METRIC)


def test_trials_compare_by_their_first_seed(sweep: SweepSpec, trials: list[Trial]) -> None:
    first = [replace(trial, scores=trial.scores[:3]) for trial in trials]
    assert importances(trials, sweep.space, DEFAULT_METRIC) == importances(first, sweep.space, DEFAULT_METRIC)


@pytest.mark.parametrize(
    ("parameter", "value", "expected"),
    [
        ({"uniform": [2, 4]}, 3.5, 0.75),
        ({"randint": [1, 5]}, 2, 0.25),
        ({"loguniform": [0.01, 100]}, 0.1, 0.25),
        ({"choice": ["a", "b", "c"]}, "b", 0.5),
        ({"choice": [1, 10, 100]}, 10, 0.5),
        ({"choice": [[1, 2], {"a": 1}, None]}, {"a": 1}, 0.5),
        ({"choice": [True, 1]}, 1, 1.0),
        ({"grid": ["alone"]}, "alone", 0.5),
    ],
)
def test_where_a_value_lies(parameter: dict[str, Any], value: Any, expected: float) -> None:
    assert position(Parameter.model_validate(parameter), value) == pytest.approx(expected)
