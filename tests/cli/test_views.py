from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from kiago_ray.cli.campaign import CampaignView
from kiago_ray.cli.sweep import RUNNING, SweepView, in_order, trial_row
from kiago_ray.distributed.dispatch import WorkerInfo
from kiago_ray.progress import duration
from kiago_ray.runs.shards import Manifest
from kiago_ray.sweep.metrics import METRICS

PLAN: Any = SimpleNamespace(shard_count=3, candidates=24)


def manifest(number: int, best_tc_k: float | None) -> Manifest:
    best = None if best_tc_k is None else {"formula": f"MgB{number}", "trusted_tc_k": None, "tc_k": best_tc_k}
    return Manifest("MgB2-s0", number, 8 * number, 8, 5, {"ok": 8}, None, best, "", 0, "", 0, 1.0, {})


def test_lines_tell_what_happened(capsys: pytest.CaptureFixture[str]) -> None:
    view = CampaignView()
    view.begun(PLAN, [manifest(0, 39.0)], ["shards/MgB2-s0/00001.parquet was cut off"])
    view.worker_started(WorkerInfo("node1", 42, "cuda", "H100", 2, ("0",)))
    view.worker_lost(None, "the worker process died")
    view.shard_failed(SimpleNamespace(name="MgB2-s0/00001"), "ValueError: no")  # type: ignore[arg-type]
    view.shard_done(manifest(2, 41.0))
    *lines, last = capsys.readouterr().err.splitlines()
    assert lines == [
        "kiago: 1 of 3 shards are done already",
        "kiago: damaged, run again: shards/MgB2-s0/00001.parquet was cut off",
        "kiago: worker 1 on node1 (process 42): H100, 2 threads, GPU 0",
        "kiago: lost a worker before its first shard: the worker process died",
        "kiago: failed: MgB2-s0/00001: ValueError: no",
    ]
    assert last.startswith("kiago: shard 2/3, ")
    assert last.endswith(" left, best MgB2 41.0 K, 1 lost worker, 1 failed")


def test_the_pace_is_of_this_run_alone() -> None:
    view = CampaignView()
    view.begun(PLAN, [manifest(0, None)], [])
    assert view.rate() is None
    view.began -= 4  # as if four seconds had passed
    view.shard_done(manifest(1, None))
    rate = view.rate()
    assert rate == pytest.approx(2.0, rel=0.05)
    assert "best" not in view.progress()


def test_a_look_reads_no_shard_again() -> None:
    read = []

    class Counted(Manifest):
        def __getattribute__(self, name: str) -> Any:
            if name == "best":
                read.append(self.number)
            return super().__getattribute__(name)

    view = CampaignView()
    finished = [Counted(**vars(manifest(number, 30.0 + number))) for number in range(2)]
    view.begun(PLAN, [*finished], [])
    read.clear()
    assert "best MgB1 31.0 K" in view.progress()
    view.shard_done(Counted(**vars(manifest(2, 30.5))))
    assert "shard 3/3" in view.progress()
    assert "best MgB1 31.0 K" in view.progress()
    assert read == [2]


def test_lines_keep_quiet_between_the_times(capsys: pytest.CaptureFixture[str]) -> None:
    view = CampaignView()
    view.begun(SimpleNamespace(shard_count=100, candidates=800), [], [])  # type: ignore[arg-type]
    for number in range(99):
        view.shard_done(replace(manifest(number, 39.0), number=number))
    assert len(capsys.readouterr().err.splitlines()) == 1
    view.shard_done(manifest(99, 39.0))
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_terminal_shows_the_progress_without_lines(capsys: pytest.CaptureFixture[str]) -> None:
    view = CampaignView()
    view.on_terminal = True
    view.begun(PLAN, [], [])
    view.shard_done(manifest(0, 39.0))
    assert capsys.readouterr().err == ""


def test_the_bar_shows_rows_done() -> None:
    view = CampaignView()
    view.begun(PLAN, [manifest(0, 39.0), manifest(1, 38.0)], [])
    console = Console(width=100, force_terminal=False)
    with console.capture() as printed:
        console.print(view)
    shown = printed.get()
    assert "shard 2/3" in shown
    assert "best MgB0 39.0 K" in shown


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (125, "2 min 05 s"), (3725, "1 h 02 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def trial(number: int, status: str, value: float, seeds: int = 2) -> Any:
    mean = SimpleNamespace(value=value)
    return SimpleNamespace(
        number=number,
        status=status,
        ended=status in ("finished", "stopped", "failed"),
        seeds=seeds,
        cause="ValueError: no",
        point={"alpha": number / 3},
        mean=lambda metric: mean,
    )


METRIC = next(name for name, metric in METRICS.items() if metric.sign > 0)
SWEEP: Any = SimpleNamespace(metrics=(METRIC,), points=4, space={"alpha": None}, seeds=(0, 1))


def test_a_sweep_tells_of_each_trial_and_of_the_best(capsys: pytest.CaptureFixture[str]) -> None:
    view = SweepView(SWEEP)
    view.begun(SWEEP, [trial(0, "finished", 30.0), trial(1, "unfinished", math.nan, 0)])
    view.trial_began(trial(1, "unfinished", math.nan, 0))
    view.seed_done(1, 1, {METRIC: 41.0})
    view.trial_ended(trial(1, "finished", 40.0))
    view.trial_ended(trial(2, "failed", math.nan, 0))
    view.comparing(5, 10)
    view.comparing(6, 10)
    first, second, *lines = capsys.readouterr().err.splitlines()
    assert first == "kiago: 1 of 4 trials are done already, 1 go on"
    assert second == f"kiago: trial 1 finished after 2 seeds: {METRIC} 40.00 (alpha 0.333)"
    assert "2 of 4 trials: 2 finished; best trial 1: 40.00; " in lines[0]
    assert lines[1] == "kiago: failed: trial 2: ValueError: no"
    assert "3 of 4 trials: 2 finished, 1 failed; best trial 1" in lines[2]
    assert lines[3:] == ["kiago: comparing the best: search 6 of 10"]  # each fifth is said


def test_running_trials_come_first_and_then_the_best() -> None:
    trials = (0, "finished", 30.0), (1, "failed", math.nan), (2, "finished", 40.0), (3, RUNNING, math.nan)
    rows = [trial_row(trial(*each), SWEEP) for each in trials]
    assert [row["trial"] for row in in_order(rows, SWEEP)] == [3, 2, 0, 1]
