"""What a sweep costs beside its searches, and what early stopping saves.

    python benchmarks/sweep.py overhead
    python benchmarks/sweep.py asha tune_configs/alpha_beta_lr.yaml --out /tmp/asha

overhead: trials of few steps, one after another; the wall time of each from its beginning to the next one's, less what
its searches took. The first, in which an actor starts and loads the predictors, stands alone.

asha: the sweep of a file twice with points drawn at random, the same ones: to the end of every trial, and with ASHA as
the file has it. Told are row-steps, the best by each, what the best of each is worth on all seeds (the run to the end
knows it for every point) and the standard error of that, which is the noise.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kiago_ray.cli.campaign import requested
from kiago_ray.cli.sweep import checked_models
from kiago_ray.distributed.drivers import run_sweep
from kiago_ray.search.sections import validated
from kiago_ray.sweep.results import SweepResults
from kiago_ray.sweep.spec import SweepSpec
from kiago_ray.sweep.trials import SweepWatcher, Trial

OVERHEAD = {
    "name": "overhead",
    "bases": ["LaNiAsO"],
    "seeds": [0, 1],
    "search": {"preset": "open", "candidates": 16, "steps": [30, 30]},
    "space": {"alpha": {"loguniform": [0.5, 100]}},
    "trials": 12,
    "concurrency": 1,
    "scheduler": {"kind": "none"},
    "searcher": {"kind": "random"},
    "compare": {"seeds": [10, 11]},
    "known": "none",
}


class Clock(SweepWatcher):
    """When each trial ended."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.ends: list[tuple[Trial, float]] = []

    def trial_ended(self, trial: Trial) -> None:
        self.ends.append((trial, time.perf_counter()))


def run(sweep: SweepSpec, folder: Path) -> tuple[SweepResults, Clock, float]:
    """A sweep to its end: what came of it, when its trials ended, its wall time in s."""
    clock = Clock()
    began = time.perf_counter()
    request = requested(sweep, checked_models(sweep), str(folder), None, True)
    outcome = run_sweep(sweep, request, watcher=clock)
    return outcome.results, clock, time.perf_counter() - began


def overhead() -> None:
    """Print what a trial takes beside its searches."""
    with tempfile.TemporaryDirectory() as folder:
        _, clock, _ = run(validated(SweepSpec, OVERHEAD), Path(folder, "out"))
    beside, before = [], clock.began
    for trial, end in clock.ends:
        beside.append(end - before - trial.seconds)
        before = end
    searches = [trial.seconds for trial, _ in clock.ends]
    print(f"first trial, with Ray's start and the predictors: {beside[0]:.1f} s beside its searches")
    median, most = statistics.median(beside[1:]), max(beside[1:])
    print(
        f"the other {len(beside) - 1}: median {median:.2f} s, at most {most:.2f} s beside their searches of "
        f"{statistics.median(searches):.1f} s"
    )


def asha(file: Path, out: Path) -> None:
    """Print steps and best of the sweep with and without ASHA."""
    values = SweepSpec.read(file).model_dump(mode="json", exclude_defaults=True)
    searcher = {"kind": "random", "seed": 0}
    schedulers: Mapping[str, Any] = {
        "none": {"kind": "none"},
        "asha": {**values.get("scheduler", {}), "kind": "asha"},
    }
    compare = {"bases": values["bases"][:1], "seeds": [1000, 1001]}  # which isn't what is asked here
    runs = {}
    for place, (name, scheduler) in enumerate(schedulers.items()):
        sweep = validated(
            SweepSpec, {**values, "scheduler": scheduler, "searcher": searcher, "compare": compare}
        )
        runs[name] = run(sweep, out / str(place))
        print(f"{name}: done in {runs[name][2]:.0f} s", flush=True)
    metric = values.get("metrics", ["trusted_delta_tc_k"])[0]
    whole = {trial.number: trial for trial in runs["none"][0].trials}
    print(
        f"\n| scheduler | row-steps | of none's | best trial | its {metric} on all seeds | trials ended early |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for name, (results, _, _) in runs.items():
        assert results.best is not None
        best = whole[results.best.number].mean(metric)
        stopped = sum(trial.status == "stopped" for trial in results.trials)
        share = results.row_steps / runs["none"][0].row_steps
        error = "" if best.error is None else f" ± {best.error:.2f}"
        worth = f"{best.value:.2f}{error}"
        print(
            f"| {name} | {results.row_steps:,} | {share:.2f} | {results.best.number} | {worth} | {stopped} |"
        )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("overhead", "asha"))
    parser.add_argument("file", nargs="?", type=Path, default=Path("tune_configs/alpha_beta_lr.yaml"))
    parser.add_argument("--out", type=Path, help="where asha's three sweeps go, and go on from")
    options = parser.parse_args()
    if options.what == "overhead":
        overhead()
    elif options.out is None:
        parser.error("asha needs --out")
    else:
        asha(options.file, options.out)


if __name__ == "__main__":
    main()
