"""What a sweep shows: its trials while it runs, and what came of them."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from kiago_ray.cli.console import View, say
from kiago_ray.distributed.sweep import SweepOutcome
from kiago_ray.sweep.metrics import METRICS
from kiago_ray.sweep.page import verdict
from kiago_ray.sweep.spec import SweepSpec
from kiago_ray.sweep.trials import SweepWatcher, Trial

SHOWN = 12  # rows of the table while it runs
_VALUE_LENGTH = 18


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
        if trial.status == "failed":
            say(f"failed: trial {trial.number}: {trial.cause}")
        elif not self.on_terminal:
            metric = self.sweep.metrics[0]
            seeds = f"{trial.seeds} seed{'s' if trial.seeds != 1 else ''}"
            say(
                f"trial {trial.number} {trial.status} after {seeds}: {metric} {trial.mean(metric).value:.2f} "
                f"({short_point(trial.point)})"
            )
        self.moved()

    def comparing(self, done: int, total: int) -> None:
        self.compared = done, total
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
        if not self.trials:
            return Text(self.progress())
        shown = in_order(self.trials.values(), self.sweep)[:SHOWN]
        return Group(trials_table(shown, self.sweep), Text(self.progress()))


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
    table = Table(box=SIMPLE, pad_edge=False)
    for heading in ("trial", "", "seeds", sweep.metrics[0]):
        table.add_column(heading, justify="left" if heading == "" else "right")
    for name in sweep.space:
        table.add_column(name, overflow="ellipsis", max_width=_VALUE_LENGTH)
    for row in rows:
        point = row.trial.point
        table.add_row(
            str(row.trial.number),
            row.status,
            f"{row.seeds}/{len(sweep.seeds)}",
            "" if math.isnan(row.value) else f"{row.value:.2f}",
            *(short_value(point[name]) if name in point else "–" for name in sweep.space),
        )
    return table


def short_value(value: Any) -> str:
    """A field's value in a few characters."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return value if isinstance(value, str) else json.dumps(value)


def short_point(point: Mapping[str, Any]) -> str:
    """A point in a line."""
    return ", ".join(f"{name} {short_value(value)}" for name, value in point.items())


def show_outcome(outcome: SweepOutcome, where: str, top: int, as_json: bool) -> None:
    """What came of a sweep: the best trials, and what they were held against."""
    results = outcome.results
    sweep = results.sweep
    if as_json:
        found = {**_without_nan(results.to_dict()), "output": where}
        print(json.dumps(found, ensure_ascii=False, allow_nan=False))
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


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
