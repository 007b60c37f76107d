"""`kiago paper`: the paper's tables and figures run on this machine, ours beside what is printed."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kiago_ray import __version__
from kiago_ray.baselines.superdiff import load_superdiff
from kiago_ray.cli.console import say
from kiago_ray.cli.hull import tell_phases
from kiago_ray.cli.options import two_numbers
from kiago_ray.cli.search import check_device
from kiago_ray.cli.version import provenance
from kiago_ray.data import NONE
from kiago_ray.errors import InputError
from kiago_ray.models import load_models
from kiago_ray.paper.declarations import Size, comparison
from kiago_ray.paper.lab import Lab, Store
from kiago_ray.paper.run import PAGE, measure, write_report, write_table
from kiago_ray.paper.tables import PaperTable

ALL = "all"

app = typer.Typer(add_completion=False)


TableName = Annotated[
    str, typer.Argument(help="table1 to table11, fig2, fig3, seeds (S.4), screens (S.6), or all.")
]
Quick = Annotated[
    bool,
    typer.Option("--quick", help="Sizes for two cores and minutes, instead of the paper's 4,096 × 1,000."),
]
Candidates = Annotated[int | None, typer.Option(help="Formulas of each method from each base.")]
Steps = Annotated[str | None, typer.Option(help="Steps of stage 1 and 2, such as 500,500.")]
Seeds = Annotated[str | None, typer.Option(help="Seeds, such as 0,1,2; figures are means over them.")]
Out = Annotated[
    str | None, typer.Option(help="Directory or URI; by default runs/paper, with --quick runs/paper-quick.")
]
Known = Annotated[
    str | None,
    typer.Option(
        help="Known compounds for tables 8 and 11: SuperCon's primary.tsv, a CSV file, landmarks or none. "
        "By default supercon: the shipped ones."
    ),
]
Phases = Annotated[
    Path | None, typer.Option(help="File of competing phases: ΔE_hull in tables 3 and 8 (see kiago hull).")
]
Weights = Annotated[Path | None, typer.Option(help="Predictors: a folder that `kiago train` wrote.")]
SuperDiffWeights = Annotated[
    Path | None, typer.Option(help="SuperDiff: a folder that `kiago train superdiff` wrote.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@app.command()
def paper(
    table: TableName,
    quick: Quick = False,
    candidates: Candidates = None,
    steps: Steps = None,
    seeds: Seeds = None,
    out: Out = None,
    known: Known = None,
    phases: Phases = None,
    weights: Weights = None,
    superdiff_weights: SuperDiffWeights = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Run what TABLE needs and print ours beside the paper's; write CSV, Markdown and plots, and for `all` one page.

    What is done is kept in the directory: the same command again, or another table, computes only what is missing.
    """
    names = [*comparison().tables]
    if table not in (*names, ALL):
        raise InputError(f"{table!r} is no table; choose one of {', '.join(names)}, {ALL}")
    size = (
        comparison()
        .sizes["quick" if quick else "full"]
        .changed(
            candidates=candidates,
            steps=None if steps is None else two_numbers(steps),
            seeds=None if seeds is None else whole_numbers(seeds),
        )
    )
    where = out if out is not None else ("runs/paper-quick" if quick else "runs/paper")
    lab, facts = open_lab(size, where, known, phases, weights, superdiff_weights, device)
    try:
        tables = run_tables(lab, names if table == ALL else [table])
    except KeyboardInterrupt:
        say(f"stopped; what was done is in {where}, and the same command goes on")
        raise typer.Exit(1) from None
    raise typer.Exit(finish(lab, tables, facts, where, table == ALL, as_json))


def whole_numbers(text: str) -> tuple[int, ...]:
    """Such as 0,1,2. Raises InputError."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--seeds: {text!r} is not whole numbers such as 0,1,2") from None


def open_lab(
    size: Size,
    where: str,
    known: str | None,
    phases: Path | None,
    weights: Path | None,
    superdiff_weights: Path | None,
    device: str,
) -> tuple[Lab, list[tuple[str, str]]]:
    """Models, data and the directory, and in words what results rest on. Raises the input errors of all of them."""
    check_device(device)
    made = provenance(weights)
    models = load_models(weights, known=known, phases=NONE if phases is None else phases, device=device)
    kind = torch.device(device).type
    known_id = models.identity["known"]
    identity = {"kiago_ray": __version__, "weights": made["weights"], "known": known_id, "device": kind}
    superdiff = None if superdiff_weights is None else load_superdiff(superdiff_weights)
    if (hull := models.hull) is not None:
        tell_phases(hull, phases)
    lab = Lab(
        models=models,
        store=Store.open(where, identity),
        size=size,
        device=device,
        diffusion=superdiff,
        say=say,
    )
    name = torch.cuda.get_device_name(torch.device(device)) if kind == "cuda" else made["cpu"]
    threads = torch.get_num_threads()
    facts = [
        ("size", size.name),
        ("kiago-ray", f"{__version__} ({made['git'] or 'no commit known'})"),
        ("PyTorch", f"{torch.__version__} on {name}, {threads} thread{'s' if threads > 1 else ''}"),
        ("known compounds", "none" if models.known is None else models.known.source),
        ("competing phases", "none" if hull is None else f"{hull.phases.report.rows_kept:,} of {phases}"),
        ("weights", ", ".join(f"{key} {value[:12]}" for key, value in made["weights"].items())),
    ]
    return lab, facts


def run_tables(lab: Lab, names: Sequence[str]) -> list[tuple[PaperTable, float]]:
    """The tables and the seconds that each took beyond what earlier ones left."""
    done = []
    for name in names:
        began = time.perf_counter()
        table = measure(name, lab)
        write_table(table, lab.store.location)
        done.append((table, time.perf_counter() - began))
        say(f"{table.heading}: {done[-1][1]:.0f} s")
    return done


def finish(
    lab: Lab,
    done: Sequence[tuple[PaperTable, float]],
    facts: Sequence[tuple[str, str]],
    where: str,
    everything: bool,
    as_json: bool,
) -> int:
    """Write the page, show the tables, return the exit code."""
    failures = by_cause(lab.failures)
    if everything:
        seconds = sum(spent for _, spent in done)
        all_facts = [*facts, ("wall clock of this run", f"{seconds / 60:.1f} min")]
        write_report([table for table, _ in done], lab.store.location, all_facts, failures)
    if as_json:
        tables = {table.name: {**table.as_plain(), "seconds": round(spent, 1)} for table, spent in done}
        content = {"out": where, "tables": tables, "failures": failures}
        print(json.dumps(content, ensure_ascii=False, allow_nan=False))
    else:
        show(done)
        page = f" ({PAGE} has all of them)" if everything else ""
        say(f"CSV, Markdown and plots are in {where}/{page}")
    for line in failures:
        say(f"failed: {line}")
    if failures:
        say(f"{len(lab.failures)} experiments failed; the same command tries them again")
    return 3 if failures else 0


def by_cause(failures: Mapping[str, str]) -> list[str]:
    """A line for each cause, with the experiments that it stopped."""
    named: dict[str, list[str]] = {}
    for name, cause in failures.items():
        named.setdefault(cause, []).append(name)
    return [
        f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {cause}"
        for cause, names in named.items()
    ]


def show(done: Sequence[tuple[PaperTable, float]]) -> None:
    """The tables for a person."""
    console = Console()
    for table, _ in done:
        console.print(f"\n[bold]{table.heading}[/bold]", highlight=False)
        console.print(Text(table.size, style="dim"))
        for panel in table.panels:
            grid = Table(
                title=panel.title or None,
                title_justify="left",
                box=None,
                padding=(0, 1, 0, 0),
                pad_edge=False,
            )
            grid.add_column(panel.head, overflow="fold")
            for column in panel.columns:
                style = "dim" if column.source == "paper" else ""
                right = not any(isinstance(values[len(grid.columns) - 1], str) for _, values in panel.rows)
                grid.add_column(
                    column.label, justify="right" if right else "left", style=style, overflow="fold"
                )
            for label, values in panel.rows:
                cells = (
                    Text(column.text(value)) for column, value in zip(panel.columns, values, strict=True)
                )
                grid.add_row(Text(label), *cells)
            console.print(grid)
        for line in (*table.verdicts, *table.notes):
            console.print(Text(f"- {line}"))
