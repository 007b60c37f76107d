"""Beside the results: lines for a person, stopping by a signal, a search's progress bar. All on stderr."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from kiago_ray.search import Progress


def say(text: str) -> None:
    """A line for a person; on stderr, so that stdout keeps to results."""
    print(f"kiago: {text}", file=sys.stderr)


@contextmanager
def stop_on_signal(told: str) -> Iterator[Any]:
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
def progress_bar() -> Iterator[Any]:
    """A bar with the time left on a terminal's stderr; a line each tenth elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:

        def line(at: Progress) -> None:
            if at.step % max(1, at.total // 10) == 0:
                print(
                    f"step {at.step}/{at.total}: T_c best {at.best_tc_k:.1f} K, mean {at.mean_tc_k:.1f} K",
                    file=sys.stderr,
                )

        yield line
        return
    columns = (
        TextColumn("stage {task.fields[stage]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("T_c best {task.fields[best]:.1f} K, mean {task.fields[mean]:.1f} K"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None, stage=1, best=0.0, mean=0.0)

        def move(at: Progress) -> None:
            bar.update(
                task, completed=at.step, total=at.total, stage=at.stage, best=at.best_tc_k, mean=at.mean_tc_k
            )

        yield move
