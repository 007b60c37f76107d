"""What the commands share: options, lines for a person, tables, stopping by a signal.

Results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic_core import to_json
from typer import Option

from kiago_ray.errors import InputError
from kiago_ray.progress import say as say  # the commands have it from here
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

# Of what runs on Ray.
NamedOut = Annotated[str | None, Option(help="Directory or URI; by default runs/NAME.")]
Address = Annotated[
    str | None,
    Option(
        help="Ray cluster: auto, HOST:PORT, or local for this machine alone; by default RAY_ADDRESS, else local."
    ),
]
DryRun = Annotated[bool, Option("--dry-run", help="Check the file, print the plan and stop.")]
Gpus = Annotated[float | None, Option(min=0, help="Instead of the file's resources.gpus, such as 0.25.")]
TrackingUri = Annotated[
    str | None, Option(help="MLflow store or server; by default MLFLOW_TRACKING_URI, else beside the output.")
]
NoTracking = Annotated[bool, Option("--no-tracking", help="Keep no MLflow record.")]


def check_local(option: str, path: Path) -> None:
    """Raise InputError for s3://bucket/x where only files of this machine are written."""
    if path.parts and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]+:", path.parts[0]):
        raise InputError(
            f"{option}: {path} looks like a place on a storage; name a local path, and copy it there"
        )


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


def plural(count: int, noun: str) -> str:
    """Such as 1 thread and 2 threads."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
