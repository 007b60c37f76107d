"""`kiago sweep`: many trials of a search's fields on Ray Tune, from a file; the best as a preset."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table

from kiago_ray.cli import console
from kiago_ray.cli.console import NO_RECORD, View, plain_table, plural, print_json, say
from kiago_ray.distributed.cluster import WorkerSetup
from kiago_ray.distributed.dispatch import DispatchPolicy
from kiago_ray.distributed.drivers import RunRequest, SweepOutcome, run_sweep, sweep_identity
from kiago_ray.machine import versions
from kiago_ray.models import Models, load_models
from kiago_ray.predictors.weights import TUNING_ORACLE, load_card
from kiago_ray.report.page import card_notes
from kiago_ray.runs.spec import overridden
from kiago_ray.storage.location import Location
from kiago_ray.sweep.metrics import METRICS
from kiago_ray.sweep.results import verdict
from kiago_ray.sweep.spec import SweepSpec, read_sweep
from kiago_ray.sweep.trials import SweepWatcher, Trial
from kiago_ray.tracking import TrackingTarget, tracking_target

SHOWN = 12  # rows of the table while it runs
_VALUE_LENGTH = 18

app = typer.Typer(add_completion=False)


@app.command()
def sweep(
    file: Annotated[Path, typer.Argument(help="YAML file with the sweep; see tune_configs/.")],
    out: console.NamedOut = None,
    address: console.Address = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Trials at a time, instead of the file's.")
    ] = None,
    gpus_per_trial: Annotated[
        float | None, typer.Option(min=0, help="Instead of the file's resources.gpus, such as 0.25.")
    ] = None,
    known: console.KnownInstead = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for nodes that an autoscaler adds, where none fits yet.")
    ] = False,
    tracking_uri: console.TrackingUri = None,
    no_tracking: console.NoTracking = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the file, print the plan and stop.")
    ] = False,
    top: Annotated[int, typer.Option(min=0, max=1000, help="Trials to print.")] = 10,
    as_json: console.AsJson = False,
) -> None:
    """Run the sweep in FILE; the same command again runs only what is missing."""
    chosen = overridden(read_sweep(file), gpus_per_trial, known=known, concurrency=concurrency)
    where = out if out is not None else f"runs/{chosen.name}"
    models = checked_models(chosen)
    if dry_run:
        show_plan(chosen, where, as_json)
        raise typer.Exit(0)
    target = tracking_target(Location.of(where), tracking_uri, chosen.name, none=no_tracking)
    if target is None and not no_tracking:
        say(NO_RECORD)
    policy = DispatchPolicy(wait_s=math.inf if wait else 0.0)
    request = replace(make_request(chosen, models, where, target), address=address, policy=policy)
    raise typer.Exit(drive(chosen, request, where, top, as_json))


def checked_models(sweep: SweepSpec) -> Models:
    """The models of a sweep. Raises SpecError where they can't run one of its searches."""
    models = load_models(sweep.weights, known=sweep.known)
    for base in dict.fromkeys((*sweep.trial_bases, *sweep.compare_bases)):
        models.check(sweep.spec({}, base, 0))
    return models


def show_plan(sweep: SweepSpec, where: str, as_json: bool) -> None:
    """What would be run."""
    searches = len(sweep.trial_bases) * len(sweep.seeds)
    compared = (1 + len(sweep.compare.against)) * len(sweep.compare_bases) * len(sweep.compare.seeds)
    plan = {
        "sweep": sweep.name,
        "trials": sweep.points,
        "searches_a_trial": searches,
        "searches_at_most": sweep.points * searches,
        "comparison_searches": compared,
        "candidates_a_search": sweep.spec({}).row_count,
        "steps_a_search": sum(sweep.spec({}).steps),
        "output": where,
    }
    if as_json:
        print_json(plan)
        return
    for name, value in plan.items():
        print(f"{name.replace('_', ' ')}".ljust(24), console.cell_text(value))


def make_request(sweep: SweepSpec, models: Models, where: str, tracking: TrackingTarget | None) -> RunRequest:
    """What a sweep is run with, but for the cluster."""
    weights = None if sweep.weights is None else Path(sweep.weights)
    hashes = {**models.hashes, TUNING_ORACLE: load_card(TUNING_ORACLE)["sha256"]}
    return RunRequest(
        where=where,
        identity=sweep_identity(sweep, hashes, models.identity["known"]),
        about={**versions(), "resources": sweep.resources.model_dump(mode="json")},
        setup=WorkerSetup.of(where, sweep.resources, models, weights),
        tracking=tracking,
        model_notes=card_notes(models.cards),
    )


def drive(sweep: SweepSpec, request: RunRequest, where: str, top: int, as_json: bool) -> int:
    """Run it under a live view, show what came of it, return the exit code."""
    again = "finished seeds are kept; the same command goes on"
    with console.stop_on_signal(f"stopping; {again}") as stopper, console.watching(SweepView(sweep)) as view:
        outcome = run_sweep(sweep, request, watcher=view, should_stop=stopper)
    if outcome.found:
        say(f"{where} already holds this sweep, done; shown as it is")
    else:
        console.tell_known(request.setup.known)
    show_outcome(outcome, where, top, as_json)
    if outcome.tracking is not None:
        say(outcome.tracking.in_words("the same command"))
    for what, cause in outcome.failures.items():
        say(f"failed: {what}: {cause}")
    if outcome.failures:
        say(f"{len(outcome.failures)} failed; the same command tries them again")
    if outcome.stopped and not outcome.results.complete:
        say(f"stopped; {again}")
        return 1
    if outcome.failures:
        return 3
    return 0 if outcome.results.complete else 1


@dataclass
class TrialRow:
    """A trial as it stands. value: the mean of the sweep's first metric over its seeds so far."""

    trial: Trial
    seeds: int = 0
    value: float = math.nan
    status: str = "running"


class SweepView(View, SweepWatcher):
    """Keeps the standing of every trial of a sweep."""

    def __init__(self, sweep: SweepSpec) -> None:
        super().__init__()
        self.sweep = sweep
        self.trials: dict[int, TrialRow] = {}
        self.compared: tuple[int, int] | None = None

    def begun(self, sweep: SweepSpec, before: Sequence[Trial]) -> None:
        ended = [trial for trial in before if trial.ended]
        self.trials = {trial.number: ended_row(trial, sweep) for trial in ended}
        self.done = self.before = len(ended)
        self.total = sweep.points
        if before:
            say(f"{len(ended)} of {sweep.points} trials are done already, {len(before) - len(ended)} go on")

    def trial_began(self, trial: Trial) -> None:
        self.trials[trial.number] = TrialRow(trial)

    def seed_done(self, number: int, seeds: int, values: Mapping[str, float]) -> None:
        row = self.trials[number]
        row.seeds, row.value = seeds, values[self.sweep.metrics[0]]

    def trial_ended(self, trial: Trial) -> None:
        row = self.trials.setdefault(trial.number, TrialRow(trial))
        row.trial, row.status = trial, trial.status
        self.done += 1
        if trial.status == "failed":
            say(f"failed: trial {trial.number}: {trial.cause}")
        elif not self.on_terminal:
            metric = self.sweep.metrics[0]
            point = ", ".join(f"{name} {short_value(value)}" for name, value in trial.point.items())
            say(
                f"trial {trial.number} {trial.status} after {plural(trial.seeds, 'seed')}: {metric} "
                f"{trial.mean(metric).value:.2f} ({point})"
            )
        self.moved()

    def comparing(self, done: int, total: int) -> None:
        self.compared = self.done, self.total = done, total
        if done % max(1, total // 5) == 0:
            self.moved()

    def note(self, text: str) -> None:
        say(text)

    def progress(self) -> str:
        """Trials by how they stand, the best, the time since the start; or how far the comparison is."""
        if self.compared is not None:
            return f"comparing the best: search {self.compared[0]} of {self.compared[1]}"
        rows = in_order(self.trials.values(), self.sweep)
        counts = {
            status: sum(row.status == status for row in rows)
            for status in ("finished", "stopped", "failed", "running")
        }
        named = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        minutes, seconds = divmod(round(time.monotonic() - self.began), 60)
        best = [row for row in rows if row.status == "finished" and not math.isnan(row.value)]
        leads = f"; best trial {best[0].trial.number}: {best[0].value:.2f}" if best else ""
        return f"{len(rows)} of {self.sweep.points} trials: {named or 'none yet'}{leads}; {minutes}:{seconds:02d}"

    def __rich__(self) -> RenderableType:
        shown = in_order(self.trials.values(), self.sweep)[:SHOWN]
        return Group(trials_table(shown, self.sweep), super().__rich__())


def ended_row(trial: Trial, sweep: SweepSpec) -> TrialRow:
    """A trial that has ended."""
    return TrialRow(trial, trial.seeds, trial.mean(sweep.metrics[0]).value, trial.status)


def in_order(rows: Iterable[TrialRow], sweep: SweepSpec) -> list[TrialRow]:
    """The running trials, then the finished ones and the others, the best first."""
    sign = METRICS[sweep.metrics[0]].sign

    def key(row: TrialRow) -> tuple[bool, bool, float]:
        worth = -math.inf if math.isnan(row.value) else sign * row.value
        return row.status != "running", row.status != "finished", -worth

    return sorted(rows, key=key)


def trials_table(rows: Sequence[TrialRow], sweep: SweepSpec) -> Table:
    """A row for each trial: its seeds, its value, its point."""
    cells = []
    for row in rows:
        point = row.trial.point
        cells.append(
            {
                "trial": row.trial.number,
                "": row.status,
                "seeds": f"{row.seeds}/{len(sweep.seeds)}",
                sweep.metrics[0]: "" if math.isnan(row.value) else f"{row.value:.2f}",
                **{name: short_value(point[name]) if name in point else "–" for name in sweep.space},
            }
        )
    return plain_table(cells, names=("", *sweep.space))


def short_value(value: Any) -> str:
    """A field's value in a few characters."""
    if isinstance(value, float):
        return f"{value:.3g}"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _VALUE_LENGTH else text[: _VALUE_LENGTH - 1] + "…"


def show_outcome(outcome: SweepOutcome, where: str, top: int, as_json: bool) -> None:
    """What came of a sweep: the best trials, and what they were held against."""
    results = outcome.results
    sweep = results.sweep
    if as_json:
        print_json({**results.to_dict(), "output": where})
        return
    rows = in_order((ended_row(trial, sweep) for trial in results.trials), sweep)
    if rows and top:
        Console().print(trials_table(rows[:top], sweep))
    for each in results.differences:
        if each.metric == sweep.metrics[0] and each.pairs:
            print(f"on seeds that no trial saw, by {each.metric}: the best {verdict(each)}")
    for name in ("report.html", "best.yaml"):
        if results.best is not None or name == "report.html":
            print(f"{where.rstrip('/')}/{name}")
