"""`kiago data`: raw public files checked, counted, and packed into the tables that ship."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kiago_ray.data.element_counts import write_element_counts
from kiago_ray.data.files import LoadReport
from kiago_ray.data.formats import load
from kiago_ray.data.pack import PhaseEnergies, RawFiles
from kiago_ray.data.pack import pack as write_tables
from kiago_ray.errors import InputError
from kiago_ray.hull.phases import predicted_energies
from kiago_ray.predictors import load_card
from kiago_ray.predictors.weights import load_ef

app = typer.Typer(
    add_completion=False,
    help="Raw public files: check them, count what they hold, pack them.",
    no_args_is_help=True,
)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object.")]


@app.callback()
def data() -> None:
    """Raw public files: check them, count what they hold, pack them."""


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(help="SuperCon, OQMD, Materials Project or COD tables.")],
    as_json: AsJson = False,
) -> None:
    """Read files as training would, and say what was kept, merged and dropped, and why."""
    reports = [load(file)[1] for file in files]
    if as_json:
        print(json.dumps({"files": [report.to_dict() for report in reports]}, indent=2, ensure_ascii=False))
        return
    for report in reports:
        show(report)


@app.command("count-elements")
def count_elements(
    supercon: Annotated[Path, typer.Option(help="SuperCon's primary.tsv.")],
    materials_project: Annotated[Path, typer.Option(help="The Materials Project's ground states.")],
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
) -> None:
    """Count how many compositions hold each element: the frequencies that a search substitutes by."""
    if out.exists():
        raise InputError(f"--out: {out} exists; remove it or name another file")
    if not out.parent.is_dir():
        raise InputError(f"--out: there is no folder {out.parent}; make it first")
    try:
        counts = write_element_counts(out, supercon, materials_project)
    except OSError as error:
        raise InputError(f"--out: can't write {out} ({error.strerror}); choose another place") from None
    print(f"{out}: {counts.supercon.compositions} and {counts.non_superconductors.compositions} compositions")


@app.command()
def pack(
    supercon: Annotated[Path, typer.Option(help="SuperCon's primary.tsv.")],
    phases: Annotated[Path, typer.Option(help="The Materials Project's ground states.")],
    made: Annotated[Path, typer.Option(help="COD's formulas: formula,code,spacegroup,e_hull_ev_per_atom.")],
    made_2007: Annotated[Path, typer.Option(help="COD's formulas of 2007, one a line.")],
    tried: Annotated[Path, typer.Option(help="What was made and measured: matter,Tc.")],
    out: Annotated[Path, typer.Option(help="Folder to write the tables into.")],
) -> None:
    """Write the tables that ship: superconductors, competing phases, compounds that exist, what was tried.

    Phases also get the energy that the shipped ElemNet predicts.
    """
    if not out.is_dir():
        raise InputError(f"--out: there is no folder {out}; make it first")
    ef = load_ef(None)
    energies = PhaseEnergies(
        lambda formulas: predicted_energies(ef, formulas), load_card("ef", None)["sha256"]
    )
    for name, rows in write_tables(RawFiles(supercon, phases, made, made_2007, tried), out, energies).items():
        print(f"{out / name}: {rows:,} rows, {(out / name).stat().st_size:,} bytes")


def show(report: LoadReport) -> None:
    """One file's account as a table."""
    console = Console()
    table = Table(title=Text(f"{report.file} ({report.kind})"), title_justify="left", show_header=False)
    table.add_column(justify="left")
    table.add_column(justify="right")
    table.add_column(style="dim", overflow="fold")
    table.add_row("rows read", f"{report.rows_read:,}")
    for reason, count in report.dropped.items():
        table.add_row(f"dropped: {reason}", f"{count:,}", Text("; ".join(report.examples[reason][:3])))
    table.add_row("merged into another row", f"{report.duplicates_merged:,}")
    table.add_row("compositions kept", f"{report.rows_kept:,}")
    table.add_row("SHA-256", "", report.sha256)
    console.print(table)
    for warning in report.warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False)
