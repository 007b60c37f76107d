"""`kiago hull`: ΔE_hull of formulas against competing phases, rows kept in order."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from rich.console import Console
from rich.text import Text

from kiago_ray.cli import options
from kiago_ray.cli.console import plain_table, say
from kiago_ray.cli.tables import end_of, hand_over, number, requested
from kiago_ray.data.compositions import finite
from kiago_ray.errors import InputError
from kiago_ray.hull import EnergyHull, judge

COMPUTED = ("ef_ev_per_atom", "e_hull_ev_per_atom")
FILLED = ("e_decomposition_ev_per_atom", "decomposition", "n_phases", "is_phase", "error")

app = typer.Typer(add_completion=False)


@app.command()
def hull(
    formulas: Annotated[list[str] | None, typer.Argument(help="Formulas, such as YBa2Cu3O7.")] = None,
    phases: Annotated[
        Path | None,
        typer.Option(
            help="CSV or TSV file of competing phases, plain or .gz: a column of formulas, as Materials Project, "
            "Alexandria and OQMD export it. By default the shipped ones, of the Materials Project."
        ),
    ] = None,
    energies: Annotated[
        str, typer.Option(help="elemnet: predicted, for phases and formulas alike. file: the file's own.")
    ] = "elemnet",
    input: Annotated[
        Path | None, typer.Option(help="CSV file with a column `formula`, such as a run's top.csv.")
    ] = None,
    output: options.Output = None,
    weights: options.Weights = None,
    as_json: options.AsJson = False,
) -> None:
    """Energy above the convex hull of competing phases (eV/atom), and what a formula would decompose into.

    Elements are at 0 eV/atom. `e_hull_ev_per_atom` is at least 0; `e_decomposition_ev_per_atom` is held against the
    other phases alone and is negative below their hull. With --energies file, a formula's energy is the input's column
    `ef_ev_per_atom`, of the same kind as the file's, or where it has none that of its phase. A formula without a
    result gets an `error` and keeps its row.
    """
    if energies not in ("elemnet", "file"):
        raise InputError(f"--energies: {energies!r} is not known; choose elemnet or file")
    if energies == "file" and weights is not None:
        raise InputError("--weights: with --energies file no predictor is asked; leave one of them out")
    table = requested(formulas, input, output, FILLED)
    if energies == "file" and "ef_ev_per_atom" in table and "tc_k" in table:
        raise InputError(
            f"--energies file: ef_ev_per_atom of {input} is predicted and not to be held against the file's energies; "
            "choose --energies elemnet, or drop the column"
        )
    found = read_hull(phases, energies, weights)
    tell_phases(found, phases)
    again = [name for name in COMPUTED if name in table and not (name in COMPUTED[:1] and energies == "file")]
    if again:
        say(f"computed anew, in place of the input's: {', '.join(again)}")
    placed = hull_table(table, found)
    about = {"phases": found.phases.report.to_dict(), "energies": energies}
    hand_over(placed, "hull", print_rows, output, as_json, about)
    raise typer.Exit(end_of(placed, "place against the hull", listed=input is not None))


def read_hull(phases: Path | None, energies: str = "elemnet", weights: Path | None = None) -> EnergyHull:
    """The hull of a file's phases, or of the shipped ones."""
    return EnergyHull.of(phases, energies="file" if energies == "file" else "elemnet", weights=weights)


def tell_phases(found: EnergyHull, phases: Path | None) -> None:
    """Say on stderr what the phases are, and what was dropped of their file."""
    report = found.phases.report
    dropped = "".join(f"; dropped {count:,}: {reason}" for reason, count in report.dropped.items())
    source = report.file if phases is None else phases
    whose = "the file's energies" if found.ef is None else "energies by ElemNet"
    say(f"{report.rows_kept:,} competing phases of {report.rows_read:,} rows, {whose}: {source}{dropped}")
    for warning in report.warnings:
        say(f"note: {source}: {warning}")


def hull_table(table: pd.DataFrame, hull: EnergyHull) -> pd.DataFrame:
    """`table` with the columns COMPUTED and FILLED, in its order; with the file's energies, its own
    `ef_ev_per_atom` counts where it has one.
    """
    given = np.full(len(table), np.nan)
    wrong: dict[int, str] = {}
    if hull.ef is None and "ef_ev_per_atom" in table:
        for row, text in enumerate(table["ef_ev_per_atom"]):
            value = finite(text) if text.strip() else np.nan
            if value is None:
                wrong[row] = f"ef_ev_per_atom: {text[:40]!r} is not a number"
            else:
                given[row] = value
    scores = judge(hull, table["formula"].tolist(), given)
    errors = [wrong.get(row, error) for row, error in enumerate(scores.errors)]
    places = [None if error else place for error, place in zip(errors, scores.places, strict=True)]

    def column(of: Any, kind: str) -> pd.Series[Any]:
        values = [None if place is None else of(place) for place in places]
        return pd.Series(values, index=table.index, dtype=kind)

    ef = np.where([place is None for place in places], np.nan, scores.ef_ev_per_atom)
    return table.drop(columns=[name for name in COMPUTED if name in table]).assign(
        ef_ev_per_atom=ef,
        e_hull_ev_per_atom=column(lambda place: place.e_hull_ev_per_atom, "float64"),
        e_decomposition_ev_per_atom=column(lambda place: place.e_decomposition_ev_per_atom, "float64"),
        decomposition=column(lambda place: place.decomposition_text, "object"),
        n_phases=column(lambda place: place.n_phases, "Int64"),
        is_phase=column(lambda place: place.is_phase, "boolean"),
        error=pd.Series(errors, index=table.index, dtype="object"),
    )


def print_rows(table: pd.DataFrame) -> None:
    """A small table for a person."""
    shown = plain_table("eV/atom")
    shown.add_column("formula", overflow="fold")
    for header in ("ΔE_hull", "to the others", "E_f", "phases"):
        shown.add_column(header, justify="right", no_wrap=True)
    shown.add_column("would decompose into (shares of atoms)", overflow="fold")
    names = ("e_hull_ev_per_atom", "e_decomposition_ev_per_atom", "ef_ev_per_atom")
    for row in table.to_dict("records"):
        values = [number(row, name, 3) for name in names]
        bad = row["error"]
        rest = ["", str(bad)] if bad else [str(row["n_phases"]), str(row["decomposition"])]
        shown.add_row(Text(str(row["formula"])), *values, rest[0], Text(rest[1]))
    Console().print(shown)
