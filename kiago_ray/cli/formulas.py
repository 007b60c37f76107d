"""`kiago predict` and `kiago hull`: what is known of formulas, from arguments or a CSV file, rows kept in order, with
an `error` where a formula came to nothing.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import islice
from math import isnan
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from rich.console import Console

from kiago_ray.cli.console import (
    AsJson,
    Formulas,
    Known,
    Output,
    Weights,
    plain_table,
    print_json,
    say,
    tell_phases,
)
from kiago_ray.data.files import MAX_ROWS, finite, read_lines
from kiago_ray.errors import InputError
from kiago_ray.hull.energy_hull import EnergyHull, judge
from kiago_ray.models import Models
from kiago_ray.storage.table import PREDICTED

COMPUTED = ("ef_ev_per_atom", "e_hull_ev_per_atom")
FILLED = ("e_decomposition_ev_per_atom", "decomposition", "n_phases", "is_phase", "error")

app = typer.Typer(add_completion=False)


@app.command()
def predict(
    formulas: Formulas = None,
    input: Annotated[Path | None, typer.Option(help="CSV file with a column `formula`.")] = None,
    output: Output = None,
    known: Known = None,
    phases: Annotated[
        str | None,
        typer.Option(
            help="Competing phases, by which the first 1,000 rows get their energy above the hull: a CSV or TSV file, "
            "or none. By default the shipped ones, of the Materials Project."
        ),
    ] = None,
    weights: Weights = None,
    as_json: AsJson = False,
) -> None:
    """Say of formulas what a search says of its rows.

    T_c (K), as the ensemble with its standard deviation and as the oracle sees it, E_f and the energy above the hull
    (eV/atom), how plausible such a composition is and why, what it is expected to gain over the best known nearby,
    its oxidation states, the nearest known composition with its reference, whether it is known or made, and whether it
    passes the screens of `default`. A formula that can't be read gets an `error` and keeps its row; the T_c of all
    others stands, whatever the screens say.
    """
    table = requested(formulas, input, output, (*PREDICTED, "error"))
    from kiago_ray.models import load_models  # see predict_table

    predicted = predict_table(table, load_models(weights, known=known, phases=phases))
    hand_over(predicted, "predictions", shown_prediction, output, as_json)
    end(predicted, "prediction", listed=input is not None)


@app.command()
def hull(
    formulas: Formulas = None,
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
    output: Output = None,
    weights: Weights = None,
    as_json: AsJson = False,
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
    found = EnergyHull.of(phases, energies="file" if energies == "file" else "elemnet", weights=weights)
    tell_phases(found, phases)
    anew = [name for name in (COMPUTED if energies == "elemnet" else COMPUTED[1:]) if name in table]
    if anew:
        say(f"computed anew, in place of the input's: {', '.join(anew)}")
    placed = hull_table(table, found)
    about = {"phases": found.phases.report.to_dict(), "energies": energies}
    hand_over(placed, "hull", shown_place, output, as_json, title="eV/atom", about=about)
    end(placed, "place against the hull", listed=input is not None)


def predict_table(table: pd.DataFrame, models: Models) -> pd.DataFrame:
    """`table` with the columns of `storage.table.PREDICTED` and `error` added, in its order."""
    from kiago_ray.api import score  # a second to import, which `kiago hull` needn't wait

    scores = score(table["formula"].tolist(), models, threads=torch.get_num_threads())
    found: pd.DataFrame = scores.select(PREDICTED).to_pandas().set_index(table.index)
    errors = pd.Series(scores["error"].to_pylist(), index=table.index, dtype=object)
    return pd.concat([table, found], axis=1).assign(error=errors)


def hull_table(table: pd.DataFrame, hull: EnergyHull) -> pd.DataFrame:
    """`table` with the columns COMPUTED and FILLED, in its order; with the file's energies, its own
    `ef_ev_per_atom` counts where it has one.
    """
    energies = np.full(len(table), np.nan)
    wrong: dict[int, str] = {}
    if hull.ef is None and "ef_ev_per_atom" in table:
        for row, text in enumerate(table["ef_ev_per_atom"]):
            value = finite(text) if text.strip() else np.nan
            if value is None:
                wrong[row] = f"ef_ev_per_atom: {text[:40]!r} is not a number"
            else:
                energies[row] = value
    energies, found, reasons = judge(hull, table["formula"].tolist(), energies)
    errors = [wrong.get(row, reason) for row, reason in enumerate(reasons)]
    places = [None if error else place for error, place in zip(errors, found, strict=True)]

    def column(name: str, kind: str) -> pd.Series[Any]:
        values = [None if place is None else getattr(place, name) for place in places]
        return pd.Series(values, index=table.index, dtype=kind)

    return table.drop(columns=[name for name in COMPUTED if name in table]).assign(
        ef_ev_per_atom=np.where([place is None for place in places], np.nan, energies),
        e_hull_ev_per_atom=column("e_hull_ev_per_atom", "float64"),
        e_decomposition_ev_per_atom=column("e_decomposition_ev_per_atom", "float64"),
        decomposition=column("decomposition_text", "object"),
        n_phases=column("n_phases", "Int64"),
        is_phase=column("is_phase", "boolean"),
        error=pd.Series(errors, index=table.index, dtype="object"),
    )


Row = Mapping[Hashable, Any]


def shown_prediction(row: Row) -> dict[str, str]:
    """What a person sees of a formula's prediction, header → cell."""
    bad, spread = row["error"], number(row, "tc_std_k", 1)
    states = str(row["oxidation_states"] or "") + (", undoped" if row["undoped"] is True else "")
    return {
        "formula": str(row["formula"]),
        "T_c (K)": number(row, "tc_k", 1) + (f" ± {spread}" if spread else ""),
        "oracle": number(row, "tc_oracle_k", 1),
        "exists": number(row, "existence", 2),
        "gain": number(row, "expected_improvement_k", 1),
        "ΔE_hull": number(row, "e_hull_ev_per_atom", 3),
        "passed": "" if bad else "yes" if row["passed"] else "no",
        "charges": str(bad) if bad else states,
        "known": "" if bad else str(row["known"] or ""),
    }


def shown_place(row: Row) -> dict[str, str]:
    """What a person sees of a formula's place against the hull, header → cell."""
    bad = row["error"]
    return {
        "formula": str(row["formula"]),
        "ΔE_hull": number(row, "e_hull_ev_per_atom", 3),
        "to the others": number(row, "e_decomposition_ev_per_atom", 3),
        "E_f": number(row, "ef_ev_per_atom", 3),
        "phases": "" if bad else str(row["n_phases"]),
        "would decompose into (shares of atoms)": str(bad or row["decomposition"]),
    }


TEXTS = ("formula", "charges", "known", "would decompose into (shares of atoms)")


def number(row: Row, name: str, digits: int) -> str:
    """A value of a row, "" where it isn't known."""
    value = float(row[name])
    return "" if isnan(value) else f"{value:.{digits}f}"


def requested(
    formulas: list[str] | None, input: Path | None, output: Path | None, fills: Sequence[str]
) -> pd.DataFrame:
    """The formulas that a command was given, as arguments or as a file. fills: the columns that the command adds.

    Refuses, before any work, both at once, neither of them, and an output that can't be written or would overwrite
    something. Raises InputError.
    """
    if bool(formulas) == (input is not None):
        raise InputError("give formulas or --input FILE.csv, one of the two")
    if output is not None:
        if output.suffix not in (".csv", ".parquet"):
            raise InputError(f"--output: {output} must end in .csv or .parquet")
        if output.exists():
            raise InputError(f"--output: {output} exists; remove it or name another file")
        if not output.parent.is_dir():
            raise InputError(f"--output: there is no folder {output.parent}; make it first")
    return pd.DataFrame({"formula": formulas}) if input is None else read_table(input, fills)


def read_table(path: Path, fills: Sequence[str]) -> pd.DataFrame:
    """A CSV file as texts, whose short rows are filled up. Raises InputError where it is none, lacks `formula`, or has
    a column that the command `fills`.
    """
    try:
        lines = list(islice(csv.reader(read_lines(path), strict=True), MAX_ROWS + 2))
    except csv.Error as error:
        raise InputError(f"--input: {path} is not a CSV file ({error}); export it again") from None
    if not lines:
        raise InputError(f"--input: {path} is empty; give a CSV file with a column `formula`")
    header, rows = lines[0], lines[1:]
    if header.count("formula") != 1:
        raise InputError(
            f"--input: {path} has no single column `formula` (its columns: {', '.join(header)[:200]})"
        )
    taken = [name for name in header if name in fills or header.count(name) > 1]
    if taken:
        raise InputError(f"--input: {path} already has {taken[0]!r}, or has it twice; rename or remove it")
    if len(rows) > MAX_ROWS:
        raise InputError(f"--input: {path} has more than {MAX_ROWS:,} rows; split it")
    for at, row in enumerate(rows, start=1):
        if len(row) > len(header):
            raise InputError(
                f"--input: {path}, row {at}: {len(row)} fields under {len(header)} names; correct it"
            )
    padded = [row + [""] * (len(header) - len(row)) for row in rows]
    return pd.DataFrame(padded, columns=header, dtype=object)


def hand_over(
    table: pd.DataFrame,
    key: str,
    shown: Callable[[Row], dict[str, str]],
    output: Path | None,
    as_json: bool,
    *,
    title: str = "",
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write the rows to `output`; or print them as one JSON object, under `key` beside `about`; or as a table, of each
    row what `shown` gives.
    """
    failed = int(table["error"].notna().sum())
    if output is not None:
        try:
            if output.suffix == ".csv":
                table.to_csv(output, index=False, float_format="%.4f")
            else:
                table.to_parquet(output, index=False)
        except OSError as error:
            raise InputError(f"--output: can't write {output} ({error.strerror})") from None
        if as_json:
            print_json({"rows": len(table), "errors": failed})
        else:
            say(f"{len(table):,} rows, {failed:,} of them with an error, written to {output}")
    elif as_json:
        rows = table.astype(object).where(table.notna(), None).to_dict("records")
        print_json({**(about or {}), key: rows})
    else:
        cells = [shown(row) for row in table.to_dict("records")]
        Console().print(plain_table(cells, texts=TEXTS, title=title))


def end(table: pd.DataFrame, what: str, *, listed: bool) -> None:
    """Say how many formulas have no `what`, and end with 3 where some haven't, with 2 where none of those that were
    given as arguments has one. listed: they came from a file.
    """
    errors = table["error"].dropna()
    if not errors.empty:
        say(f"{len(errors):,} of {len(table):,} formulas have no {what}; the first: {errors.iloc[0]}")
        raise typer.Exit(3 if listed or len(errors) < len(table) else 2)
