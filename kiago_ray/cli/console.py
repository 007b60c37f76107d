"""What the commands share: options, lines for a person, tables, stopping by a signal, and how far something is.

Results go to stdout, everything else to stderr. Progress stays at the bottom of a terminal, and is said in lines
elsewhere.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic_core import to_json
from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from typer import Option

from kiago_ray.errors import InputError
from kiago_ray.report.terminal import RowTable

if TYPE_CHECKING:  # their imports take a second, which commands that need none of them would wait
    from kiago_ray.hull import EnergyHull
    from kiago_ray.screening.known import KnownMaterials, TriedMaterials
    from kiago_ray.search.stages import ShouldStop


def usable_device(device: str) -> str:
    """The device. Raises InputError where it isn't there."""
    try:
        if torch.device(device).type not in ("cpu", "cuda"):
            raise RuntimeError("only cpu and cuda are supported")
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device: {device!r} can't be used here ({str(error).splitlines()[0]})") from None
    return device


# Options of several commands.
Steps = Annotated[str | None, Option(help="Steps of stage 1 and 2, such as 200,200.")]
Known = Annotated[
    str | None,
    Option(
        help="Compositions to hold the rows against: a CSV file with formula and tc_k, SuperCon's primary.tsv, "
        "landmarks or none. By default what a campaign's or sweep's file says, else supercon: the shipped ones."
    ),
]
Tried = Annotated[
    str | None,
    Option(
        help="What was made and measured, which isn't proposed again and re-weighs what is near: a CSV file with "
        "formula, tc_k (0: none found) and maybe down_to_k, shipped (a survey of 2009) or none. By default what a "
        "campaign's file says, else none."
    ),
]
Phases = Annotated[
    str | None,
    Option(
        help="Competing phases, by which rows get their energy above the hull: a CSV or TSV file, or "
        "none. By default the shipped ones, of the Materials Project."
    ),
]
Weights = Annotated[
    Path | None, Option(exists=True, file_okay=False, help="Folder that `kiago train` wrote.")
]
Device = Annotated[str, Option(callback=usable_device, help="cpu, cuda, cuda:1, …")]
Threads = Annotated[int | None, Option(min=1, help="CPU threads; all cores without it.")]
Out = Annotated[str | None, Option(help="Directory or URI; by default below runs/.")]
Top = Annotated[int, Option(min=0, max=1000, help="Rows to print.")]
AsJson = Annotated[bool, Option("--json", help="One JSON object on stdout.")]

LINE_S = 15.0  # between two lines on the progress

# Of what runs on Ray.
NamedOut = Annotated[str | None, Option(help="Directory or URI; by default runs/NAME.")]
Address = Annotated[
    str | None, Option(help="Ray cluster, such as auto; by default RAY_ADDRESS, else this machine.")
]
DryRun = Annotated[bool, Option("--dry-run", help="Check the file, print the plan and stop.")]
Gpus = Annotated[float | None, Option(min=0, help="Instead of the file's resources.gpus, such as 0.25.")]
TrackingUri = Annotated[
    str | None, Option(help="MLflow store or server; by default MLFLOW_TRACKING_URI, else beside the output.")
]
NoTracking = Annotated[bool, Option("--no-tracking", help="Keep no MLflow record.")]


def say(text: str) -> None:
    """Say a line to a person, on stderr."""
    print(f"kiago: {text}", file=sys.stderr)


def tell_known(known: KnownMaterials | None, tried: TriedMaterials | None = None) -> None:
    """Say which known compositions the rows are held against, and what was tried, if anything was given."""
    if known is None:
        say("no known compositions to hold the rows against (--known none)")
    else:
        say(f"held against {len(known.compositions.names):,} known compositions: {known.source}")
    if tried is not None:
        found = int((tried.tc_k > 0).sum())
        say(f"{len(tried.tc_k):,} samples were tried, {found:,} of them superconduct: {tried.source}")


def tell_phases(hull: EnergyHull | None) -> None:
    """Say what the competing phases are, if there are any, and what was dropped of their file."""
    if hull is None:
        return
    report = hull.phases.report
    dropped = "".join(f"; dropped {count:,}: {reason}" for reason, count in report.dropped.items())
    predicted = int(hull.phases.predicted.sum())
    whose = "their source's energies" if not predicted else f"{predicted:,} of them with predicted energies"
    say(
        f"{report.rows_kept:,} competing phases of {report.rows_read:,} rows, {whose}: {report.file}{dropped}"
    )
    for warning in report.warnings:
        say(f"note: {report.file}: {warning}")


def print_json(value: Any) -> None:
    """One JSON object on stdout, in ASCII where that knows no Unicode; a number that isn't finite is null."""
    plain = not (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    print(to_json(value, indent=2, inf_nan_mode="null", fallback=str, ensure_ascii=plain).decode())


def plain_table(
    rows: Sequence[Mapping[str, object]], *, names: Collection[str] = (), texts: Collection[str] = ()
) -> RowTable:
    """A table of values for a person, as `RowTable` says."""
    told = [{header: cell_text(cell) for header, cell in row.items()} for row in rows]
    return RowTable(told, names=names, texts=texts)


def print_facts(facts: Mapping[str, object]) -> None:
    """For a person, a line for each name and value, or for each of the value's own."""
    for name, value in facts.items():
        for key, item in value.items() if isinstance(value, Mapping) else [("", value)]:
            print(f"{name} {key}".strip().ljust(24), cell_text(item))


def cell_text(value: object) -> str:
    """A value for a person: nothing for None and NaN, whole numbers with separators, four digits of others."""
    if value is None or value != value:
        return ""
    if isinstance(value, list | tuple):
        return "; ".join(map(cell_text, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (
        f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)
    )


@contextmanager
def stop_on_signal(notice: str) -> Iterator[ShouldStop]:
    """A `should_stop` that the first Ctrl-C or SIGTERM turns True, with a notice; the second interrupts."""
    asked: list[bool] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(True)
        print(f"\nkiago: {notice}", file=sys.stderr)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class View(ABC):
    """How far something is: `done` of `total`, `before` of them done by an earlier run."""

    done, before, total = 0, 0, 0
    on_terminal = False
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
        if not self.on_terminal and now - self.said >= at_most_each_s:
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
    """Show the view for the time of the block. What Ray and Tune print on stdout, which is long, goes nowhere."""
    console = Console(stderr=True)
    view.on_terminal = console.is_terminal
    # Live takes sys.stderr over, so that lines appear above the view.
    live = Live(view, console=console, refresh_per_second=4, transient=True, redirect_stdout=False)
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        live if view.on_terminal else nullcontext(),
        redirect_stdout(nowhere),
    ):
        yield


def duration(seconds: float) -> str:
    """Such as 2 min 05 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def plural(count: int, noun: str) -> str:
    """Such as 1 thread and 2 threads."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
