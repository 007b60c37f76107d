"""What a campaign shows while it runs: a live view on a terminal, plain lines elsewhere; both on stderr."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import IO, Any

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kiago_ray.distributed.watcher import Watcher
from kiago_ray.distributed.worker import WorkerInfo
from kiago_ray.runs.plan import Plan, Shard
from kiago_ray.runs.shards import Manifest, best_key

LINE_S = 15.0  # between two plain lines on the progress


@dataclass
class Tally(Watcher):
    """Counts what happens and says the rest in lines."""

    stream: IO[str]
    began: float = field(default_factory=time.monotonic)
    shards: int = 0
    rows: int = 0
    shards_done: int = 0
    rows_done: int = 0
    rows_before: int = 0  # done by an earlier run
    workers: int = 0
    lost: int = 0
    failed: int = 0
    best: dict[str, Any] | None = None

    def begun(self, plan: Plan, finished: list[Manifest], damaged: list[str]) -> None:
        self.shards, self.rows = plan.shard_count, plan.candidates
        for manifest in finished:
            self._take(manifest)
        self.rows_before = self.rows_done
        if finished:
            self.say(f"{len(finished):,} of {self.shards:,} shards are done already")
        for text in damaged:
            self.say(f"damaged, run again: {text}")

    def worker_started(self, info: WorkerInfo) -> None:
        self.workers += 1
        gpus = f", GPU {', '.join(info.gpus)}" if info.gpus else ""
        self.say(
            f"worker {self.workers} on {info.host} (process {info.pid}): {info.device_name}, {info.threads} "
            f"thread{'s' if info.threads != 1 else ''}{gpus}"
        )

    def worker_lost(self, shard: Shard | None, cause: str) -> None:
        self.lost += 1
        where = "before its first shard" if shard is None else f"at {shard.name}, which will be run again"
        self.say(f"lost a worker {where}: {cause}")

    def shard_done(self, manifest: Manifest) -> None:
        self._take(manifest)

    def shard_failed(self, shard: Shard, cause: str) -> None:
        self.failed += 1
        self.say(f"failed: {shard.name}: {cause}")

    def note(self, text: str) -> None:
        self.say(text)

    def say(self, text: str) -> None:
        """One line for a person."""
        print(f"kiago: {text}", file=self.stream, flush=True)

    def rate(self) -> float | None:
        """Rows a second of this run, None before the first result."""
        new = self.rows_done - self.rows_before
        return new / (time.monotonic() - self.began) if new else None

    def progress(self) -> str:
        """Shards, rows a second, time left, the best so far, failures."""
        parts = [f"shard {self.shards_done:,}/{self.shards:,}"]
        rate = self.rate()
        if rate is not None:
            parts += [f"{rate:,.1f} rows/s", f"{_duration((self.rows - self.rows_done) / rate)} left"]
        if self.best:
            parts.append(f"best {self.best['formula']} {self.best['tc_k']:.1f} K")
        if self.lost:
            parts.append(f"{self.lost} lost worker{'s' if self.lost > 1 else ''}")
        if self.failed:
            parts.append(f"{self.failed} failed")
        return ", ".join(parts)

    def _take(self, manifest: Manifest) -> None:
        self.shards_done += 1
        self.rows_done += manifest.rows
        best = manifest.best
        if best and (self.best is None or best_key(best) > best_key(self.best)):
            self.best = dict(best)


@dataclass
class Lines(Tally):
    """Plain lines: the progress at most every few seconds, and at the end."""

    said: float = float("-inf")

    def shard_done(self, manifest: Manifest) -> None:
        super().shard_done(manifest)
        now = time.monotonic()
        if now - self.said >= LINE_S or self.shards_done == self.shards:
            self.said = now
            self.say(self.progress())


class Screen(Tally):
    """A bar that stays at the bottom of the terminal, with the lines above it."""

    def __rich__(self) -> RenderableType:
        grid = Table.grid(padding=(0, 1))
        grid.add_row(
            ProgressBar(total=max(self.rows, 1), completed=self.rows_done, width=32), Text(self.progress())
        )
        return grid


@contextmanager
def watching() -> Iterator[Tally]:
    """A watcher for the time of the block. It tells of dead workers in a line; what Ray prints of them on stdout,
    long and a second time, goes nowhere.
    """
    console = Console(stderr=True)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        if not console.is_terminal:
            with redirect_stdout(nowhere):
                yield Lines(sys.stderr)
            return
        screen = Screen(sys.stderr)
        with Live(screen, console=console, refresh_per_second=4, transient=True, redirect_stdout=False):
            screen.stream = sys.stderr  # as the live view has it: lines appear above the bar
            with redirect_stdout(nowhere):
                yield screen


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
