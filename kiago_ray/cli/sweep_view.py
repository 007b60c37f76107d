"""What a sweep shows: a live table on a terminal, plain lines elsewhere, both on stderr; and what came of it."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import IO, Any

from rich.box import SIMPLE
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kiago_ray.distributed.sweep import SweepOutcome
from kiago_ray.distributed.sweep_watcher import SweepWatcher
from kiago_ray.sweep.metrics import METRICS
from kiago_ray.sweep.page import verdict
from kiago_ray.sweep.spec import SweepSpec
from kiago_ray.sweep.trials import Trial

SHOWN = 12  # rows of the live table
_VALUE_LENGTH = 18


@dataclass
class _Row:
    trial: Trial
    seeds: int = 0
    value: float = math.nan
    status: str = "running"


@dataclass
class Board(SweepWatcher):
    """Keeps the standing of every trial and says the rest in lines."""

    stream: IO[str]
    sweep: SweepSpec | None = None
    rows: dict[int, _Row] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    compared: tuple[int, int] | None = None

    def begun(self, sweep: SweepSpec, before: Sequence[Trial]) -> None:
        self.sweep = sweep
        for trial in before:
            if trial.ended:
                mean = trial.mean(sweep.metrics[0]).value
                self.rows[trial.number] = _Row(trial, trial.seeds, mean, trial.status)
        if before:
            ended = sum(trial.ended for trial in before)
            self.say(f"{ended} of {sweep.points} trials are done already, {len(before) - ended} go on")

    def trial_began(self, trial: Trial) -> None:
        self.rows[trial.number] = _Row(trial)

    def seed_done(self, number: int, seeds: int, values: Mapping[str, float]) -> None:
        assert self.sweep is not None
        row = self.rows[number]
        row.seeds, row.value = seeds, values[self.sweep.metrics[0]]

    def trial_ended(self, trial: Trial) -> None:
        row = self.rows.setdefault(trial.number, _Row(trial))
        row.trial, row.status = trial, trial.status
        if trial.status == "failed":
            self.say(f"failed: trial {trial.number}: {trial.cause}")

    def comparing(self, done: int, total: int) -> None:
        self.compared = done, total

    def note(self, text: str) -> None:
        self.say(text)

    def say(self, text: str) -> None:
        """One line for a person."""
        print(f"kiago: {text}", file=self.stream, flush=True)

    def standing(self) -> list[_Row]:
        """The running trials, then the others, the best first."""
        assert self.sweep is not None
        sign = METRICS[self.sweep.metrics[0]].sign

        def key(row: _Row) -> tuple[bool, bool, float]:
            value = -math.inf if math.isnan(row.value) else sign * row.value
            return row.status != "running", row.status != "finished", -value

        return sorted(self.rows.values(), key=key)

    def progress(self) -> str:
        """How far it is, in a line."""
        if self.sweep is None:
            return "starting"
        if self.compared is not None:
            return f"comparing the best: search {self.compared[0]} of {self.compared[1]}"
        counts = {
            status: sum(row.status == status for row in self.rows.values())
            for status in ("finished", "stopped", "failed", "running")
        }
        named = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        minutes, seconds = divmod(round(time.monotonic() - self.began), 60)
        best = [row for row in self.standing() if row.status == "finished" and not math.isnan(row.value)]
        told = f"; best trial {best[0].trial.number}: {best[0].value:.2f}" if best else ""
        return f"{len(self.rows)} of {self.sweep.points} trials: {named or 'none yet'}{told}; {minutes}:{seconds:02d}"


@dataclass
class Lines(Board):
    """Plain lines: each trial as it ends, and the comparison now and then."""

    def trial_ended(self, trial: Trial) -> None:
        super().trial_ended(trial)
        assert self.sweep is not None
        if trial.status != "failed":
            mean = trial.mean(self.sweep.metrics[0])
            seeds = f"{trial.seeds} seed{'s' if trial.seeds != 1 else ''}"
            self.say(
                f"trial {trial.number} {trial.status} after {seeds}: {self.sweep.metrics[0]} {mean.value:.2f} "
                f"({short_point(trial.point)})"
            )
        self.say(self.progress())

    def comparing(self, done: int, total: int) -> None:
        super().comparing(done, total)
        if done % max(1, total // 5) == 0:
            self.say(self.progress())


class Screen(Board):
    """A table that stays at the bottom of the terminal, with the lines above it."""

    def __rich__(self) -> RenderableType:
        if self.sweep is None or not self.rows:
            return Text(self.progress())
        table = trials_table(self.sweep)
        for row in self.standing()[:SHOWN]:
            table.add_row(*_cells(self.sweep, row))
        return Group(table, Text(self.progress()))


@contextmanager
def watching() -> Iterator[Board]:
    """A watcher for the time of the block. What Ray and Tune print on stdout goes nowhere."""
    console = Console(stderr=True)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        if not console.is_terminal:
            with redirect_stdout(nowhere):
                yield Lines(sys.stderr)
            return
        screen = Screen(sys.stderr)
        with Live(screen, console=console, refresh_per_second=4, transient=True, redirect_stdout=False):
            screen.stream = sys.stderr
            with redirect_stdout(nowhere):
                yield screen


def trials_table(sweep: SweepSpec) -> Table:
    """An empty table of trials."""
    table = Table(box=SIMPLE, pad_edge=False)
    for heading in ("trial", "", "seeds", sweep.metrics[0]):
        table.add_column(heading, justify="left" if heading == "" else "right")
    for name in sweep.space:
        table.add_column(name, overflow="ellipsis", max_width=_VALUE_LENGTH)
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
    if as_json:
        print(
            json.dumps(
                {**_without_nan(results.to_dict()), "output": where}, ensure_ascii=False, allow_nan=False
            )
        )
        return
    console, sweep = Console(), results.sweep
    table = trials_table(sweep)
    rows = [
        _Row(trial, trial.seeds, trial.mean(sweep.metrics[0]).value, trial.status) for trial in results.trials
    ]
    board = Board(sys.stderr, sweep, {row.trial.number: row for row in rows})
    for row in board.standing()[:top]:
        table.add_row(*_cells(sweep, row))
    if rows and top:
        console.print(table)
    for each in results.differences:
        if each.metric == sweep.metrics[0] and each.pairs:
            print(f"on seeds that no trial saw, by {each.metric}: the best {verdict(each)}")
    for name in ("report.html", "best.yaml"):
        if results.best is not None or name == "report.html":
            print(f"{where.rstrip('/')}/{name}")


def _cells(sweep: SweepSpec, row: _Row) -> list[str]:
    value = "" if math.isnan(row.value) else f"{row.value:.2f}"
    fields = [short_value(row.trial.point[name]) if name in row.trial.point else "–" for name in sweep.space]
    return [str(row.trial.number), row.status, f"{row.seeds}/{len(sweep.seeds)}", value, *fields]


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
