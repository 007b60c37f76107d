"""Sweeps on a real Ray cluster: what they find, what they leave, and that nothing is lost or run twice."""

from __future__ import annotations

import html
import re
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
import yaml

from kiago_ray.api import propose
from kiago_ray.distributed.drivers import run_sweep
from kiago_ray.distributed.tune import asha, score_search
from kiago_ray.errors import InputError, KiagoError
from kiago_ray.runs.lease import Lease, LeaseError
from kiago_ray.runs.spec import read_preset
from kiago_ray.search.spec import build_spec, load_preset
from kiago_ray.storage.location import Location, StorageError
from kiago_ray.storage.run_directory import RunDirectoryError
from kiago_ray.sweep.metrics import METRICS, Score
from kiago_ray.sweep.spec import SweepSpec
from kiago_ray.sweep.trials import Ledger, Trial, trial_name

from .sweeps import Heard, request_for, small_sweep

TWO: dict[str, Any] = {"bases": ["LaNiAsO", "MgB2"]}
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]


def scores_of(trials: tuple[Trial, ...] | list[Trial]) -> dict[int, list[tuple[str, int, dict[str, float]]]]:
    return {
        trial.number: [(score.base, score.seed, dict(score.values)) for score in trial.scores]
        for trial in trials
    }


def is_a_trial(process: psutil.Process) -> bool:
    """Whether it is a living actor of a sweep."""
    try:
        return bool(re.match("ray::(SweepTrial|ResourceTrainable)", " ".join(process.cmdline())))
    except psutil.Error:
        return False


@pytest.fixture(scope="module")
def done(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Heard]:
    """A sweep that ran to its end."""
    folder, heard = tmp_path_factory.mktemp("sweep") / "out", Heard()
    sweep = small_sweep(**TWO)
    return folder, run_sweep(sweep, request_for(sweep, folder), watcher=heard), heard


def test_a_sweep_runs_every_trial_and_compares_its_best(done: tuple[Path, Any, Heard]) -> None:
    _, outcome, heard = done
    results = outcome.results
    assert results.complete
    assert [trial.status for trial in results.trials] == ["finished"] * 4
    assert all(len(trial.scores) == 4 and trial.seeds == 2 for trial in results.trials)
    assert results.row_steps == 4 * 4 * 8 * 6
    metric = "trusted_delta_tc_k"
    best = max(results.trials, key=lambda trial: trial.mean(metric).value)
    assert results.best == best
    assert {name: len(scores) for name, scores in results.compared.items()} == {"best": 4, "default": 4}
    told = [each for each in results.differences if each.metric == metric]
    assert [(each.other, each.pairs, len(each.bases)) for each in told] == [("default", 4, 2)]
    assert sorted(heard.seeds) == [(number, seeds) for number in range(4) for seeds in (1, 2)]
    assert {trial.number for trial in heard.ended} == {0, 1, 2, 3}
    assert heard.compared[-1] == (8, 8)


def test_it_leaves_a_table_a_preset_and_a_page(done: tuple[Path, Any, Heard]) -> None:
    folder, outcome, _ = done
    rows = pq.read_table(folder / "trials.parquet").to_pylist()
    assert [row["field.alpha"] for row in rows] == [trial.point["alpha"] for trial in outcome.results.trials]
    preset = read_preset(folder / "best.yaml")
    spec = build_spec({"preset": preset})
    best = outcome.results.best
    assert spec == outcome.results.sweep.spec(best.point)
    assert (spec.alpha, spec.learning_rate) == (best.point["alpha"], (best.point["learning_rate"],) * 2)
    assert spec.model_copy(update={"alpha": 20.0, "learning_rate": (0.03, 0.03)}) == load_preset(
        "open", {"candidates": 8, "steps": [3, 3]}
    )
    assert propose("MgB2", overrides={"preset": preset}).spec.alpha == spec.alpha
    assert "<title>" in (folder / "report.html").read_text()
    assert yaml.safe_load((folder / "spec.yaml").read_text())["finished"] is True


def test_scores_are_those_of_the_same_search_alone(done: tuple[Path, Any, Heard]) -> None:
    from kiago_ray.models import load_models
    from kiago_ray.predictors.oracle import load_oracle
    from kiago_ray.predictors.weights import TUNING_ORACLE

    _, outcome, _ = done
    reporting = load_models(known="none")
    tuning = replace(reporting, oracle=load_oracle(kind=TUNING_ORACLE))
    trial = outcome.results.trials[1]
    for models, score, point in (
        (tuning, trial.scores[0], trial.point),
        (reporting, outcome.results.compared["best"][0], outcome.results.best.point),
        (reporting, outcome.results.compared["default"][-1], {}),
    ):
        alone = score_search(small_sweep(**TWO), point, score.base, score.seed, models)
        assert dict(alone.values) == pytest.approx(dict(score.values), rel=1e-6, nan_ok=True)


def test_the_same_call_again_finds_it_done(done: tuple[Path, Any, Heard]) -> None:
    folder, outcome, _ = done
    heard = Heard()
    again = run_sweep(small_sweep(**TWO), request_for(small_sweep(**TWO), folder), watcher=heard)
    assert again.found
    assert again.results == outcome.results
    assert not heard.began


def test_another_sweep_is_refused_there(done: tuple[Path, Any, Heard]) -> None:
    other = small_sweep(**TWO, trials=5)
    with pytest.raises(RunDirectoryError, match=r"sweep\.trials is 4 there, 5 here"):
        run_sweep(other, request_for(other, done[0]))


@pytest.mark.long
def test_a_stopped_sweep_goes_on_where_it_was(done: tuple[Path, Any, Heard], tmp_path: Path) -> None:
    """Stopped after the first seed, damaged, then run to its end: the same trials with the same scores."""
    sweep, folder, heard = small_sweep(**TWO), tmp_path / "out", Heard()
    stopped = run_sweep(
        sweep, request_for(sweep, folder), watcher=heard, should_stop=lambda: bool(heard.seeds)
    )
    assert stopped.stopped
    assert not stopped.results.complete
    kept = {path: path.read_bytes() for path in folder.glob("trials/*/seed-*.json")}
    assert kept
    going = Heard()
    ended = run_sweep(sweep, request_for(sweep, folder), watcher=going)
    assert ended.results.complete
    assert {path: path.read_bytes() for path in kept} == kept  # nothing was run twice
    begun = {trial.number: trial.point for trial in heard.began}
    assert begun.items() <= {trial.number: trial.point for trial in ended.results.trials}.items()
    first = {trial.number: trial for trial in done[1].results.trials}
    same = [trial for trial in ended.results.trials if trial.number in begun]
    for trial in same:
        assert trial.point == first[trial.number].point
        for score, other in zip(trial.scores, first[trial.number].scores, strict=True):
            assert dict(score.values) == dict(other.values)


@pytest.mark.long
def test_a_killed_worker_costs_its_search_alone(tmp_path: Path) -> None:
    sweep = small_sweep(
        trials=3, search={"preset": "open", "candidates": 8, "steps": [60, 60]}
    )  # long enough to be hit
    folder, heard, killed = tmp_path / "out", Heard(), threading.Event()

    def kill() -> None:
        """One worker at a time until one was hit at work; a trial survives losing two."""
        for _ in range(2):
            before = len(heard.seeds)
            while len(heard.seeds) == before:
                if killed.wait(0.02):
                    return
            for process in psutil.Process().children(
                recursive=True
            ):  # of this cluster, whoever else runs one
                if is_a_trial(process):
                    process.kill()
                    break
            for _ in range(300):
                if killed.wait(0.1) or any("tried again" in note for note in heard.notes):
                    return
                if len(heard.seeds) > before + 1:
                    break

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    outcome = run_sweep(sweep, request_for(sweep, folder), watcher=heard)
    killed.set()
    killer.join()
    assert outcome.results.complete
    assert not outcome.failures
    assert any("tried again" in note for note in heard.notes)
    assert [trial.status for trial in outcome.results.trials] == ["finished"] * 3


@pytest.mark.long
@pytest.mark.parametrize("scheduler", ["none", "asha"])
def test_a_trial_that_cannot_run_is_listed_and_the_others_go_on(scheduler: str, tmp_path: Path) -> None:
    # Each value can run with the other field's first, but not the last two together.
    space = {
        "max_elements": {"grid": [3, 7]},
        "n_unit": {"grid": [{"min": 1, "max": 25}, {"min": 1, "max": 5}]},
    }
    sweep = small_sweep(space=space, searcher={"kind": "grid"}, trials=None, scheduler={"kind": scheduler})
    outcome = run_sweep(sweep, request_for(sweep, tmp_path / "out"))
    ended = ["finished" if trial.status == "stopped" else trial.status for trial in outcome.results.trials]
    assert ended == [
        "finished",
        "finished",
        "finished",
        "failed",
    ]
    (cause,) = outcome.failures.values()
    assert "can't hold 7 elements" in cause
    assert "\n" not in cause
    assert {name: len(scores) for name, scores in outcome.results.compared.items()} == {
        "best": 2,
        "default": 2,
    }
    assert not outcome.results.complete  # the same call tries the one again
    assert "can't hold 7 elements" in html.unescape((tmp_path / "out" / "report.html").read_text())


@pytest.mark.long
def test_asha_ends_what_is_worse(tmp_path: Path) -> None:
    sweep = small_sweep(**TWO, seeds=[0, 1, 2], scheduler={"kind": "asha", "reduction": 3}, trials=6)
    outcome = run_sweep(sweep, request_for(sweep, tmp_path / "out"))
    metric = "trusted_delta_tc_k"
    first = [trial.mean(metric, 1).value for trial in outcome.results.trials]
    for place, trial in enumerate(outcome.results.trials[1:], 1):
        # The published rule: on with the best third of what this rung has seen.
        above = sorted(first[:place])
        cut = above[0] + (above[-1] - above[0]) * 2 / 3 if place == 2 else None
        if cut is not None:
            assert (trial.status == "finished") is (first[place] >= cut)
    assert {trial.status for trial in outcome.results.trials} == {"finished", "stopped"}
    assert all(trial.seeds == 1 for trial in outcome.results.trials if trial.status == "stopped")


def test_asha_remembers_earlier_trials() -> None:
    sweep = small_sweep(**TWO, seeds=[0, 1, 2], scheduler={"kind": "asha", "reduction": 3}, trials=6)
    metric = "trusted_delta_tc_k"

    def scored(number: int, value: float) -> Trial:
        scores = tuple(Score("MgB2", seed, dict.fromkeys(METRICS, value), 1, 1.0) for seed in (0,))
        return Trial(number, "stopped", {}, scores)

    scheduler = asha(sweep, [scored(number, float(number)) for number in range(10)])
    newcomer: Any = type("Newcomer", (), {"trial_id": "new"})()
    scheduler.on_trial_add(None, newcomer)
    assert scheduler.on_trial_result(None, newcomer, {"seeds": 1, metric: 5.0}) == "STOP"
    assert asha(small_sweep(), []) is None


def test_two_drivers_do_not_share_a_sweep(tmp_path: Path) -> None:
    sweep, folder = small_sweep(), tmp_path / "out"
    folder.mkdir()
    with Lease(Location.of(folder)), pytest.raises(LeaseError):
        run_sweep(sweep, request_for(sweep, folder))


@pytest.mark.parametrize(
    ("resources", "told"),
    [
        ({"cpus": 64}, "64 CPU"),
        ({"label_selector": {"market": "spot"}}, "1 node.s. have market absent; correct"),
    ],
)
def test_what_no_node_can_hold_is_refused_and_nothing_is_lost(
    tmp_path: Path, resources: dict[str, Any], told: str
) -> None:
    sweep = small_sweep(resources=resources)
    with pytest.raises(InputError, match=told):
        run_sweep(sweep, request_for(sweep, tmp_path / "out"))
    assert Ledger(Location.of(tmp_path / "out"), sweep).trials() == []


@pytest.mark.long
def test_what_would_go_wrong_in_every_trial_ends_the_sweep(tmp_path: Path) -> None:
    sweep = small_sweep()
    request = request_for(sweep, tmp_path / "other")
    other = replace(request.setup, code=replace(request.setup.code, sha256="0"))
    with pytest.raises(KiagoError, match="runs other code than the driver"):
        run_sweep(sweep, replace(request, setup=other))
    assert Ledger(Location.of(tmp_path / "other"), sweep).trials() == []

    class Breaks(Heard):
        """Puts a file where the first trial's folder has to be."""

        def begun(self, sweep: SweepSpec, before: Sequence[Trial]) -> None:
            (tmp_path / "out" / "trials").mkdir()
            (tmp_path / "out" / "trials" / "00000").write_text("")

    heard = Breaks()
    with pytest.raises(StorageError, match="trials/00000"):
        run_sweep(sweep, request_for(sweep, tmp_path / "out"), watcher=heard)
    assert sum("tried again" in note for note in heard.notes) == 2


@pytest.mark.long
def test_gpus_are_shared_by_fractions(tmp_path: Path) -> None:
    """The cluster is told of two GPUs; the trials compute on the CPU, and hold a quarter of one each."""
    sweep = small_sweep(trials=3, concurrency=None, resources={"cpus": 1, "gpus": 0.25, "device": "cpu"})
    outcome = run_sweep(sweep, request_for(sweep, tmp_path / "out"))
    assert outcome.results.complete


@pytest.mark.long
def test_searches_at_random_need_no_base(tmp_path: Path) -> None:
    sweep = small_sweep(
        bases=[],
        search={"preset": "open", "candidates": 8, "steps": [3, 3], "start": {"kind": "random"}},
        trials=2,
    )
    outcome = run_sweep(sweep, request_for(sweep, tmp_path / "out"))
    assert {score.base for trial in outcome.results.trials for score in trial.scores} == {"random"}
    place = Location.of(tmp_path / "out")
    assert set(Ledger(place, sweep).scores(trial_name(0), sweep.seeds)) == {0, 1}
