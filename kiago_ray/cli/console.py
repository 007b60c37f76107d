"""Beside the results, on stderr: lines for a person, stopping by a signal, and how far something is. That stays at the
bottom of a terminal, and is said in lines elsewhere.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from types import FrameType
from typing import Any, TypeVar

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from kiago_ray.search.stages import Progress, ProgressCallback, ShouldStop


def say(text: str) -> None:
    """A line for a person; on stderr, so that stdout keeps to results."""
    print(f"kiago: {text}", file=sys.stderr)


def plain_table(title: str | None = None) -> Table:
    """A table without lines, to be filled."""
    return Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), pad_edge=False)


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


@contextmanager
def stop_on_signal(told: str) -> Iterator[ShouldStop]:
    """A `should_stop` that turns True at the first Ctrl-C or SIGTERM, which says `told`; the second one interrupts."""
    asked: list[bool] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(True)
        print(f"\nkiago: {told}", file=sys.stderr)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def progress_bar() -> Iterator[ProgressCallback]:
    """A search's progress: a bar with the time left on a terminal; a line each tenth elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:

        def line(at: Progress) -> None:
            if at.step % max(1, at.total // 10) == 0:
                told = f"step {at.step}/{at.total}: T_c best {at.best_tc_k:.1f} K, mean {at.mean_tc_k:.1f} K"
                print(told, file=sys.stderr)

        yield line
        return
    columns = (
        TextColumn("stage {task.fields[at].stage}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("T_c best {task.fields[at].best_tc_k:.1f} K, mean {task.fields[at].mean_tc_k:.1f} K"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None, at=Progress(0, 0, 1, 0.0, 0.0))
        yield lambda at: bar.update(task, completed=at.step, total=at.total, at=at)


class View:
    """How far something is. On a terminal `__rich__` is drawn again and again; elsewhere `moved` says it in lines."""

    on_terminal = False
    said = -math.inf  # when the last line on the progress was

    def __init__(self) -> None:
        self.began = time.monotonic()

    def progress(self) -> str:
        """How far it is, in a line."""
        raise NotImplementedError

    def __rich__(self) -> RenderableType:
        return Text(self.progress())

    def moved(self, *, at_most_each_s: float = 0.0) -> None:
        """Say the progress in a line, where no terminal shows it."""
        now = time.monotonic()
        if not self.on_terminal and now - self.said >= at_most_each_s:
            self.said = now
            say(self.progress())


AnyView = TypeVar("AnyView", bound=View)


@contextmanager
def watching(view: AnyView) -> Iterator[AnyView]:
    """Show the view for the time of the block. What Ray and Tune print on stdout goes nowhere: it is long, and the
    view says what matters of it.
    """
    console = Console(stderr=True)
    view.on_terminal = console.is_terminal
    # Live takes sys.stderr over, so that lines appear above the view.
    live = Live(view, console=console, refresh_per_second=4, transient=True, redirect_stdout=False)
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        live if view.on_terminal else nullcontext(),
        redirect_stdout(nowhere),
    ):
        yield view
