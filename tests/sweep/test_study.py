"""Which points are proposed, and that a study goes on from what an earlier one was told."""

from __future__ import annotations

import math
from typing import Any

from kiago_ray.sweep.metrics import METRICS, Score
from kiago_ray.sweep.space import decoded
from kiago_ray.sweep.spec import SweepSpec, sweep_from
from kiago_ray.sweep.study import Study
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
    return Trial(number, f"{number:05d}", status, point, (score,))


def run(chosen: SweepSpec, study: Study, trials: int) -> list[Trial]:
    """Trials whose worth is highest at alpha 7 with the preset paper."""
    done = []
    for number in range(trials):
        point = decoded(chosen.space, study.point(number))
        worth = -abs(point["alpha"] - 7) + (3 if point["preset"] == "paper" else 0)
        done.append(ended(number, point, worth))
        study.tell(done[-1])
    return done


def test_tpe_gathers_where_it_was_good_and_random_does_not() -> None:
    def off(kind: str) -> float:
        chosen = sweep(searcher={"kind": kind, "seed": 3})
        last = run(chosen, Study(chosen), 60)[30:]
        return sum(abs(trial.point["alpha"] - 7) for trial in last) / len(last)

    assert off("tpe") < 2.5
    assert off("random") > 3.5


def test_the_same_seed_draws_the_same_points() -> None:
    chosen = sweep()
    first, again = (run(chosen, Study(chosen), 12) for _ in range(2))
    other = run(sweep(searcher={"seed": 1}), Study(sweep(searcher={"seed": 1})), 12)
    assert first == again
    assert first != other


def test_a_study_that_goes_on_knows_what_was_found() -> None:
    chosen = sweep()
    before = run(chosen, Study(chosen), 100)
    later = Study(chosen, before)
    points = [decoded(chosen.space, later.point(number)) for number in range(100, 130)]
    assert sum(abs(point["alpha"] - 7) for point in points) / 30 < 3
    assert {tuple(point.items()) for point in points}.isdisjoint({tuple(t.point.items()) for t in before})


def test_a_grid_gives_each_trial_its_own_point() -> None:
    chosen = sweep(space={"alpha": {"grid": [1, 2, 3]}}, searcher={"kind": "grid"}, trials=None)
    study = Study(chosen)
    assert chosen.points == 3
    assert [decoded(chosen.space, study.point(number)) for number in (2, 0, 1)] == [
        {"alpha": 3},
        {"alpha": 1},
        {"alpha": 2},
    ]


def test_stopped_failed_and_untold_trials_are_taken() -> None:
    chosen = sweep()
    point = {"alpha": 3.0, "preset": "paper"}
    trials = [
        ended(0, point, 1.0, "stopped"),
        ended(1, point, math.nan),
        Trial(2, "00002", "failed", point, (), "why"),
    ]
    assert set(Study(chosen, trials).point(3)) == {"alpha", "preset"}


def test_several_metrics_are_sought_together() -> None:
    chosen = sweep(metrics=["trusted_delta_tc_k", "gap_k"])
    assert len(run(chosen, Study(chosen), 12)) == 12
