from __future__ import annotations

import io
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from kiago_ray.cli.live import Lines, Screen, _duration
from kiago_ray.distributed.worker import WorkerInfo
from kiago_ray.runs.shards import Manifest

PLAN: Any = SimpleNamespace(shard_count=3, candidates=24)


def manifest(number: int, best_tc_k: float | None) -> Manifest:
    best = None if best_tc_k is None else {"formula": f"MgB{number}", "tc_k": best_tc_k, "delta_tc_k": 0.0}
    return Manifest("MgB2-s0", number, 8 * number, 8, 5, {"ok": 8}, None, best, "", 0, "", 1.0, {})


def test_lines_tell_what_happened() -> None:
    stream = io.StringIO()
    view = Lines(stream)
    view.begun(PLAN, [manifest(0, 39.0)], ["shards/MgB2-s0/00001.parquet was cut off"])
    view.worker_started(WorkerInfo("node1", 42, "cuda", "H100", 2, ("0",)))
    view.worker_lost(None, "the worker process died")
    view.shard_failed(SimpleNamespace(name="MgB2-s0/00001"), "ValueError: no")  # type: ignore[arg-type]
    view.shard_done(manifest(2, 41.0))
    assert stream.getvalue().splitlines()[:-1] == [
        "kiago: 1 of 3 shards are done already",
        "kiago: damaged, run again: shards/MgB2-s0/00001.parquet was cut off",
        "kiago: worker 1 on node1 (process 42): H100, 2 threads, GPU 0",
        "kiago: lost a worker before its first shard: the worker process died",
        "kiago: failed: MgB2-s0/00001: ValueError: no",
    ]
    last = stream.getvalue().splitlines()[-1]
    assert last.startswith("kiago: shard 2/3, ")
    assert last.endswith(" left, best MgB2 41.0 K, 1 lost worker, 1 failed")


def test_the_pace_is_of_this_run_alone() -> None:
    view = Lines(io.StringIO())
    view.begun(PLAN, [manifest(0, None)], [])
    assert view.rate() is None
    view.began -= 4  # as if four seconds had passed
    view.shard_done(manifest(1, None))
    rate = view.rate()
    assert rate == pytest.approx(2.0, rel=0.05)
    assert "best" not in view.progress()


def test_lines_keep_quiet_between_the_times() -> None:
    stream = io.StringIO()
    view = Lines(stream)
    view.begun(SimpleNamespace(shard_count=100, candidates=800), [], [])  # type: ignore[arg-type]
    for number in range(99):
        view.shard_done(replace(manifest(number, 39.0), number=number))
    assert len(stream.getvalue().splitlines()) == 1
    view.shard_done(manifest(99, 39.0))
    assert len(stream.getvalue().splitlines()) == 2


def test_the_bar_shows_rows_done() -> None:
    from rich.console import Console

    view = Screen(io.StringIO())
    view.begun(PLAN, [manifest(0, 39.0), manifest(1, 38.0)], [])
    console = Console(file=io.StringIO(), width=100, force_terminal=False)
    console.print(view)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "shard 2/3" in shown
    assert "best MgB0 39.0 K" in shown


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (125, "2 min 05 s"), (3725, "1 h 02 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert _duration(seconds) == text
