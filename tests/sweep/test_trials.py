"""Which trials are best, how much better, and what is kept of them on storage."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import ttest_1samp, ttest_ind

from kiago_ray.search.sections import validated
from kiago_ray.storage.location import Location
from kiago_ray.sweep.metrics import METRICS, Score, difference
from kiago_ray.sweep.results import trials_table
from kiago_ray.sweep.spec import SweepSpec
from kiago_ray.sweep.trials import (
    Ledger,
    Status,
    Trial,
    best_trial,
    front,
    trial_name,
)


def score(value: float, *, base: str = "LaNiAsO", seed: int = 0, gap: float = 0.0) -> Score:
    values = {**dict.fromkeys(METRICS, 0.0), "trusted_delta_tc_k": value, "gap_k": gap}
    return Score(base, seed, values, 1000, 2.0)


def trial(number: int, value: float, *, gap: float = 0.0, status: Status = "finished") -> Trial:
    return Trial(number, status, {"alpha": float(number)}, (score(value, gap=gap),))


@pytest.fixture
def chosen() -> SweepSpec:
    values: dict[str, Any] = {
        "name": "small",
        "bases": ["LaNiAsO", "MgB2"],
        "seeds": [0, 1],
        "space": {"alpha": {"uniform": [0, 20]}, "preset": {"choice": ["default", "paper"]}},
        "trials": 4,
    }
    return validated(SweepSpec, values)


def test_the_best_is_a_finished_one() -> None:
    trials = [
        trial(0, 1.0),
        trial(1, 9.0, status="stopped"),
        trial(2, 5.0),
        trial(3, 5.0),
        trial(4, math.nan),
    ]
    best = best_trial(trials, "trusted_delta_tc_k")
    assert best is not None
    assert best.number == 2
    assert best_trial(trials[1:2], "trusted_delta_tc_k") is None


def test_less_is_better_where_the_metric_says_so() -> None:
    best = best_trial([trial(0, 0.0, gap=3.0), trial(1, 0.0, gap=-2.0)], "gap_k")
    assert best is not None
    assert best.number == 1


def test_the_front_is_what_nothing_beats() -> None:
    trials = [trial(0, 1.0, gap=1.0), trial(1, 5.0, gap=5.0), trial(2, 4.0, gap=6.0), trial(3, 3.0, gap=2.0)]
    assert [each.number for each in front(trials, ("trusted_delta_tc_k", "gap_k"))] == [1, 3, 0]


def test_a_difference_is_paired_and_has_students_interval() -> None:
    best = [score(value, seed=seed) for seed, value in enumerate([5.0, 9.0, 4.0, 8.0])]
    other = [score(value, seed=seed) for seed, value in enumerate([3.0, 8.0, 4.0, 5.0])]
    found = difference(best, other[::-1], "trusted_delta_tc_k", "default")
    interval = ttest_1samp([2.0, 1.0, 0.0, 3.0], 0).confidence_interval(0.95)
    assert found.value == pytest.approx(1.5)
    assert found.interval == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert (found.pairs, found.bases[0].best, found.bases[0].other) == (4, 6.5, 5.0)


def test_bases_that_spread_unequally_have_welchs_interval() -> None:
    """The mean over two bases is half of x - (-y), of which scipy knows the interval."""
    x, y = [12.0, -7.0, 3.0], [1.0, 1.2, 0.9]
    best = [score(v, seed=s) for s, v in enumerate(x)] + [
        score(v, seed=s, base="MgB2") for s, v in enumerate(y)
    ]
    other = [replace(each, values=dict.fromkeys(METRICS, 0.0)) for each in best]
    found = difference(best, other, "trusted_delta_tc_k", "default")
    interval = ttest_ind(x, [-v for v in y], equal_var=False).confidence_interval(0.95)
    assert found.interval == (pytest.approx(interval.low / 2), pytest.approx(interval.high / 2))


def test_a_difference_averages_bases_however_many_seeds_each_has() -> None:
    best = [score(2.0, seed=0), score(2.0, seed=1), score(10.0, base="MgB2")]
    other = [score(0.0, seed=0), score(0.0, seed=1), score(0.0, base="MgB2")]
    found = difference(best, other, "trusted_delta_tc_k", "default")
    assert found.value == pytest.approx(6.0)
    assert found.interval is None
    assert [each.difference for each in found.bases] == [2.0, 10.0]


def test_a_ledger_gives_back_what_was_put_in(tmp_path: Path, chosen: SweepSpec) -> None:
    place = Location.of(tmp_path)
    ledger = Ledger(place, chosen)
    ledger.begin(3, {"alpha": 2.5, "preset": "paper"})
    assert ledger.trials() == [Trial(3, "unfinished", {"alpha": 2.5, "preset": "paper"}, ())]
    scores = (score(1.0), score(math.nan, base="MgB2"))
    ledger.keep(trial_name(3), 0, scores)
    found = ledger.trials()[0]
    assert (found.status, found.seeds, found.row_steps, found.seconds) == ("unfinished", 1, 2000, 4.0)
    assert found.scores[0] == scores[0]
    assert math.isnan(found.scores[1].values["trusted_delta_tc_k"])
    ledger.end(3, "stopped")
    assert ledger.trials()[0].status == "stopped"
    ledger.end(3, "failed", "no memory")
    assert (ledger.trials()[0].status, ledger.trials()[0].cause) == ("failed", "no memory")
    assert not ledger.trials()[0].ended


def test_a_damaged_file_is_as_if_it_were_not_there(tmp_path: Path, chosen: SweepSpec) -> None:
    place = Location.of(tmp_path)
    ledger = Ledger(place, chosen)
    ledger.begin(0, {"alpha": 2.5, "preset": "paper"})
    for seed in chosen.seeds:
        ledger.keep(trial_name(0), seed, (score(1.0, seed=seed), score(2.0, base="MgB2", seed=seed)))
    ledger.end(0, "finished")
    assert ledger.trials()[0].status == "finished"
    for damaged in ("{}", '{"status": "odd", "cause": null}', '{"sta'):
        (tmp_path / trial_name(0) / "end.json").write_text(damaged)
        assert (ledger.trials()[0].status, ledger.trials()[0].cause) == ("unfinished", None)
    (tmp_path / trial_name(0) / "end.json").write_text('{"status": "finished"}')
    assert ledger.trials()[0].status == "finished"
    (tmp_path / trial_name(0) / "seed-1.json").write_text('[{"base": ')
    assert ledger.trials()[0].status == "unfinished"
    assert set(ledger.scores(trial_name(0), chosen.seeds)) == {0}
    (tmp_path / trial_name(0) / "point.json").write_text("[]")
    assert ledger.trials() == []


def test_the_table_has_a_row_a_trial(chosen: SweepSpec) -> None:
    other = Trial(1, "failed", {"preset": "default"}, (), "why")
    one = Trial(0, "finished", {"alpha": 0.5, "preset": "paper"}, (score(1.0), score(2.0, seed=1)))
    rows = trials_table([one, other], list(chosen.space)).to_pylist()
    assert (rows[0]["field.alpha"], rows[0]["field.preset"]) == (0.5, json.dumps("paper"))
    assert (rows[0]["trusted_delta_tc_k"], rows[0]["searches"], rows[0]["row_steps"]) == (1.5, 2, 2000)
    assert rows[0]["trusted_delta_tc_k_error"] == pytest.approx(0.5)
    assert (rows[1]["field.alpha"], rows[1]["status"], rows[1]["cause"]) == (None, "failed", "why")
    assert rows[1]["trusted_delta_tc_k"] is None
    assert dict(rows[0]["scores"][1]["values"])["trusted_delta_tc_k"] == 2.0
