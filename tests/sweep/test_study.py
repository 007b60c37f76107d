"""Which points are proposed, and that a study goes on from what an earlier one was told."""

from __future__ import annotations

import math
from typing import Any

import optuna

from kiago_ray.sweep.metrics import METRICS, Score
from kiago_ray.sweep.spec import SweepSpec, sweep_from
from kiago_ray.sweep.study import draw, make_study
from kiago_ray.sweep.trials import Status, Trial


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
    return sweep_from({**values, **changes})


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
