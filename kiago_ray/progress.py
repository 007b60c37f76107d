"""How far something is: at the bottom of a terminal, in a line of a notebook that is written again and again, and in
lines of stderr elsewhere.
"""

from __future__ import annotations

import math
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from kiago_ray.search.stages import Progress

LINE_S = 15.0  # between two lines on the progress


def say(text: str) -> None:
    """Say a line to a person, on stderr."""
    print(f"kiago: {text}", file=sys.stderr)


class View(ABC):
    """How far something is: `done` of `total`, `before` of them done by an earlier run."""

    done, before, total = 0, 0, 0
    on_terminal = in_place = False
    said = -math.inf  # when the last line on the progress was

    def __init__(self) -> None:
        self.began = time.monotonic()

    @abstractmethod
    def progress(self) -> str:
        """How far it is, in a line."""

    def note(self, text: str) -> None:
        """Say something that a person should know."""
        say(text)

    def rate(self) -> float | None:
        """What this run has done a second, None before it has done something."""
        new = self.done - self.before
        return new / (time.monotonic() - self.began) if new > 0 else None

    def left(self) -> str:
        """The time left at this rate, "" before it is known."""
        rate = self.rate()
        return "" if rate is None else f"{duration((self.total - self.done) / rate)} left"

    def moved(self, *, at_most_each_s: float = 0.0) -> None:
        """Say the progress in a line, where no terminal shows it."""
        now = time.monotonic()
        if self.in_place:
            print(f"\r{self.progress():<100}", end="", file=sys.stderr, flush=True)
        elif not self.on_terminal and now - self.said >= at_most_each_s:
            self.said = now
            say(self.progress())

    def __rich__(self) -> RenderableType:
        """What a terminal shows, drawn again and again."""
        grid = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(self.total, 1), completed=self.done, width=32)
        grid.add_row(bar, Text(self.progress()))
        return grid


class Counted(View):
    """Counts `what` is done of `total`."""

    def __init__(self, what: str, total: int) -> None:
        super().__init__()
        self.what, self.total = what, total

    def __call__(self, done: int, total: int) -> None:
        self.done, self.total = done, total
        self.moved(at_most_each_s=0.0 if done == total else LINE_S)

    def progress(self) -> str:
        """Such as 512 of 3,000 formulas, 14 s left."""
        return ", ".join(filter(None, (f"{self.done:,} of {self.total:,} {self.what}", self.left())))


def parts(total: int, what: str, size: int) -> Iterator[slice]:
    """Slices of `total` things, `size` each, with the progress on screen where there are several."""
    view = Counted(what, total)
    with watching(view) if total > size else nullcontext():
        for at in range(0, max(total, 1), size):
            yield slice(at, at + size)
            if total > size:
                view(min(at + size, total), total)


@contextmanager
def watching(view: View) -> Iterator[None]:
    """Show the view for the time of the block."""
    console = Console(stderr=True)
    view.on_terminal, view.in_place = console.is_terminal, not console.is_terminal and interactive()
    # Live takes sys.stderr over, so that lines appear above the view.
    live = Live(view, console=console, refresh_per_second=4, transient=True, redirect_stdout=False)
    with live if view.on_terminal else nullcontext():
        yield
    if view.in_place:
        print(file=sys.stderr)


def interactive() -> bool:
    """Whether a person is there who types: in a notebook, or at Python's own prompt."""
    return hasattr(sys, "ps1")


def duration(seconds: float) -> str:
    """Such as 2 min 05 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class SearchView(View):
    """A search's steps and its best T_c; to be called with each step."""

    at: Progress | None = None

    def __call__(self, at: Progress) -> None:
        self.at, self.done, self.total = at, at.step, at.total
        if self.in_place or at.step % max(1, at.total // 10) == 0:
            self.moved()

    def progress(self) -> str:
        """Such as step 20/200 of stage 1: T_c best 31.4 K, mean 12.0 K, its lower bound, which is climbed, mean 8.1 K,
        25 s left.
        """
        if self.at is None:
            return "starting"
        climbed = self.at.mean_climbed_k
        return (
            f"step {self.done}/{self.total}, stage {self.at.stage}: T_c best {self.at.best_tc_k:.1f} K, mean "
            f"{self.at.mean_tc_k:.1f} K, "
            + ("" if climbed is None else f"lower bound, which it climbs, mean {climbed:.1f} K, ")
            + self.left()
        )
