"""`kiago sweep`: many trials of a search's fields on Ray Tune, from a file; the best as a preset."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console, Group, RenderableType
from typer import Argument, Option

from kiago_ray.cli import console
from kiago_ray.cli.campaign import drive, requested
from kiago_ray.cli.console import plain_table, plural, print_facts, print_json, say
from kiago_ray.data import NONE
from kiago_ray.distributed.drivers import run_sweep
from kiago_ray.models import Models, load_models
from kiago_ray.progress import View, duration
from kiago_ray.report.terminal import RowTable
from kiago_ray.sweep.metrics import METRICS
from kiago_ray.sweep.plots import value_text
from kiago_ray.sweep.results import SweepResults, verdict
from kiago_ray.sweep.spec import SweepSpec
from kiago_ray.sweep.trials import STATUSES, SweepWatcher, Trial

SHOWN = 12  # rows of the table while it runs
RUNNING = "running"
Row = dict[str, Any]


def sweep(
    file: Annotated[Path, Argument(help="YAML file with the sweep; see tune_configs/.")],
    out: console.NamedOut = None,
    address: console.Address = None,
    concurrency: Annotated[
        int | None, Option(min=1, max=10_000, help="Trials at a time, instead of the file's.")
    ] = None,
    gpus_per_trial: console.Gpus = None,
    known: console.Known = None,
    wait: Annotated[
        bool, Option("--wait", help="Wait for nodes that an autoscaler adds, where none fits yet.")
    ] = False,
    tracking_uri: console.TrackingUri = None,
    no_tracking: console.NoTracking = False,
    dry_run: console.DryRun = False,
    top: Annotated[int, Option(min=0, max=1000, help="Trials to print.")] = 10,
    as_json: console.AsJson = False,
) -> int:
    """Run the sweep in FILE; the same command again runs only what is missing."""
    chosen = SweepSpec.read(file).overridden(gpus_per_trial, known=known, concurrency=concurrency)
    where = out if out is not None else f"runs/{chosen.name}"
    models = checked_models(chosen)
    if dry_run:
        (print_json if as_json else print_facts)(plan(chosen, where))
        say("nothing was started")
        return 0
    how = {"address": address, "wait_s": math.inf if wait else 0.0}
    request = requested(chosen, models, where, tracking_uri, no_tracking, **how)
    outcome = drive(run_sweep, chosen, request, SweepView(chosen), "seeds", "the same command")
    show_results(outcome.results, where, top, as_json)
    return 1 if outcome.stopped else 3 if outcome.failures else 0 if outcome.results.complete else 1


def checked_models(sweep: SweepSpec) -> Models:
    """The models of a sweep. Raises SpecError where they can't run one of its searches."""
    models = load_models(sweep.weights, known=sweep.known, phases=NONE)
    for base in dict.fromkeys((*sweep.trial_bases, *sweep.compare_bases)):
        models.check(sweep.spec({}, base, 0))
    return models


def plan(sweep: SweepSpec, where: str) -> dict[str, object]:
    """What would be run."""
    searches, spec = len(sweep.trial_bases) * len(sweep.seeds), sweep.spec({})
    compared = len(sweep.compare_bases) * len(sweep.compare.seeds)
    return {
        "sweep": sweep.name,
        "trials": sweep.points,
        "searches_a_trial": searches,
        "searches_at_most": sweep.points * searches,
        "comparison_searches": (1 + len(sweep.compare.against)) * compared,
        "candidates_a_search": spec.row_count,
        "steps_a_search": sum(spec.steps),
        "output": where,
    }


class SweepView(View, SweepWatcher):
    """Keeps the standing of every trial of a sweep, a row each."""

    def __init__(self, sweep: SweepSpec) -> None:
        super().__init__()
        self.sweep, self.metric = sweep, sweep.metrics[0]
        self.rows: dict[int, Row] = {}
        self.comparison = False

    def begun(self, sweep: SweepSpec, before: Sequence[Trial]) -> None:
        self.rows = {trial.number: trial_row(trial, sweep) for trial in before if trial.ended}
        self.done = self.before = len(self.rows)
        self.total = sweep.points
        if before:
            say(f"{self.done} of {self.total} trials are done already, {len(before) - self.done} go on")

    def trial_began(self, trial: Trial) -> None:
        self.rows[trial.number] = trial_row(trial, self.sweep) | {"": RUNNING}

    def seed_done(self, number: int, seeds: int, values: Mapping[str, float]) -> None:
        self.rows[number] |= {"seeds": seeds, self.metric: values[self.metric]}

    def trial_ended(self, trial: Trial) -> None:
        self.rows[trial.number] = trial_row(trial, self.sweep)
        self.done += 1
        if trial.status == "failed":
            say(f"failed: trial {trial.number}: {trial.cause}")
        elif not self.on_terminal:
            point = ", ".join(f"{name} {value_text(value)}" for name, value in trial.point.items())
            say(
                f"trial {trial.number} {trial.status} after {plural(trial.seeds, 'seed')}: {self.metric} "
                f"{trial.mean(self.metric).value:.2f} ({point})"
            )
        self.moved()

    def comparing(self, done: int, total: int) -> None:
        self.comparison, self.done, self.total = True, done, total
        if done % max(1, total // 5) == 0:
            self.moved()

    def progress(self) -> str:
        """Trials by how they stand, the best, the time since the start; or how far the comparison is."""
        if self.comparison:
            return f"comparing the best: search {self.done} of {self.total}"
        rows = in_order(self.rows.values(), self.sweep)
        counts = Counter(row[""] for row in rows)
        named = ", ".join(f"{counts[each]} {each}" for each in (*STATUSES, RUNNING) if counts[each])
        best = [row for row in rows if row[""] == "finished" and not math.isnan(row[self.metric])]
        leads = f"; best trial {best[0]['trial']}: {best[0][self.metric]:.2f}" if best else ""
        spent = duration(time.monotonic() - self.began)
        return f"{len(rows)} of {self.sweep.points} trials: {named or 'none yet'}{leads}; {spent}"

    def __rich__(self) -> RenderableType:
        return Group(trials_table(self.rows.values(), self.sweep, SHOWN), super().__rich__())


def trial_row(trial: Trial, sweep: SweepSpec) -> Row:
    """What is shown of a trial, header → cell: how it stands, its seeds, its mean by the first metric, its point."""
    metric = sweep.metrics[0]
    row = {"trial": trial.number, "": trial.status, "seeds": trial.seeds, metric: trial.mean(metric).value}
    return row | {name: f"{value_text(trial.point.get(name, '–'))}" for name in sweep.space}


def in_order(rows: Iterable[Row], sweep: SweepSpec) -> list[Row]:
    """The running trials, then the finished ones and the others, the best first."""
    metric = sweep.metrics[0]

    def key(row: Row) -> tuple[bool, bool, float]:
        worth = -math.inf if math.isnan(row[metric]) else METRICS[metric].sign * row[metric]
        return row[""] != RUNNING, row[""] != "finished", -worth

    return sorted(rows, key=key)


def trials_table(rows: Iterable[Row], sweep: SweepSpec, most: int) -> RowTable:
    """The first of the rows in their order."""
    return plain_table(in_order(rows, sweep)[:most], names=("", *sweep.space))


def show_results(results: SweepResults, where: str, top: int, as_json: bool) -> None:
    """What came of a sweep: the best trials, and what they were held against."""
    sweep = results.sweep
    if as_json:
        print_json({**results.to_dict(), "output": where})
        return
    if results.trials and top:
        Console().print(trials_table([trial_row(each, sweep) for each in results.trials], sweep, top))
    for each in results.differences:
        if each.metric == sweep.metrics[0] and each.pairs:
            print(f"on seeds that no trial saw, by {each.metric}: the best {verdict(each)}")
    for name in ("report.html", *(["best.yaml"] if results.best is not None else [])):
        print(f"{where.rstrip('/')}/{name}")
