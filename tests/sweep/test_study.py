"""Which points are proposed, by a study that goes on from an earlier one; which fields decide a metric."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import optuna
import pytest

from kiago_ray.search.sections import validated
from kiago_ray.sweep.metrics import DEFAULT_METRIC, METRICS, Score
from kiago_ray.sweep.spec import Parameter, SweepSpec
from kiago_ray.sweep.trials import Importance, Status, Trial, draw, importances, make_study, position

from .conftest import MakeTrials


def sweep(**changes: Any) -> SweepSpec:
    values: dict[str, Any] = {
        "name": "small",
        "bases": ["LaNiAsO"],
        "seeds": [0],
        "space": {"alpha": {"uniform": [0, 20]}, "preset": {"choice": ["default", "paper"]}},
        "metrics": "trusted_delta_tc_k",
        "trials": 60,
        "scheduler": {"kind": "none"},
    }
    return validated(SweepSpec, {**values, **changes})


def ended(number: int, point: dict[str, Any], value: float, status: Status = "finished") -> Trial:
    score = Score("LaNiAsO", 0, {**dict.fromkeys(METRICS, 0.0), "trusted_delta_tc_k": value}, 10, 1.0)
    return Trial(number, status, point, (score,))


def worth(point: dict[str, Any]) -> float:
    """Highest at alpha 7 with the preset paper."""
    return -abs(point["alpha"] - 7) + (3 if point["preset"] == "paper" else 0)


def run(chosen: SweepSpec, study: optuna.Study, trials: int) -> list[Trial]:
    """The next trials of a study, each told of."""
    done = []
    for _ in range(trials):
        asked = study.ask()
        point = draw(chosen.space, asked)
        done.append(ended(asked.number, point, worth(point)))
        study.tell(asked, [done[-1].mean(name).value for name in chosen.metrics])
    return done


def test_tpe_gathers_where_it_was_good_and_random_does_not() -> None:
    def off(kind: str) -> float:
        chosen = sweep(searcher={"kind": kind, "seed": 3})
        last = run(chosen, make_study(chosen, []), 60)[30:]
        return sum(abs(trial.point["alpha"] - 7) for trial in last) / len(last)

    assert off("tpe") < 2.5
    assert off("random") > 3.5


def test_the_same_seed_draws_the_same_points() -> None:
    chosen, changed = sweep(), sweep(searcher={"seed": 1})
    first, again = (run(chosen, make_study(chosen, []), 12) for _ in range(2))
    assert first == again
    assert first != run(changed, make_study(changed, []), 12)


def test_a_study_that_goes_on_knows_what_was_found() -> None:
    chosen = sweep()
    before = run(chosen, make_study(chosen, []), 100)
    later = run(chosen, make_study(chosen, before), 30)
    assert [trial.number for trial in later] == list(range(100, 130))
    assert sum(abs(trial.point["alpha"] - 7) for trial in later) / 30 < 3
    assert {tuple(t.point.items()) for t in later}.isdisjoint({tuple(t.point.items()) for t in before})


def test_what_had_begun_comes_first_with_its_own_number_and_point() -> None:
    """What failed is tried again, and a number whose point was lost gets another one."""
    chosen = sweep()
    points = [{"alpha": 3.0 + n, "preset": "paper"} for n in range(6)]
    before = [
        ended(0, points[0], 1.0),
        Trial(1, "unfinished", points[1], ()),
        ended(3, points[3], 1.0, "stopped"),
        Trial(4, "failed", points[4], (), "why"),
        ended(5, points[5], math.nan),
    ]
    study = make_study(chosen, before)
    following = run(chosen, study, 4)
    assert [trial.number for trial in following] == [1, 2, 4, 6]
    assert [trial.point for trial in (following[0], following[2])] == [points[1], points[4]]
    assert [trial.value for trial in study.trials[:4:3]] == [1.0, 1.0]


def test_a_grid_gives_each_trial_its_own_point() -> None:
    chosen = sweep(space={"alpha": {"grid": [1, 2, True]}}, searcher={"kind": "grid"}, trials=None)
    assert chosen.points == 3

    def points(study: optuna.Study, number: int) -> list[Any]:
        return [draw(chosen.space, study.ask())["alpha"] for _ in range(number)]

    assert points(make_study(chosen, []), 3) == [1, 2, True]
    left = Trial(2, "unfinished", {"alpha": True}, ())
    last = points(make_study(chosen, [ended(0, {"alpha": 1}, 0.0), left]), 2)
    assert last[0] == 2
    assert last[1] is True


def test_several_metrics_are_sought_together() -> None:
    chosen = sweep(metrics=["trusted_delta_tc_k", "gap_k"])
    before = run(chosen, make_study(chosen, []), 12)
    assert len(run(chosen, make_study(chosen, before), 2)) == 2


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
