"""`kiago predict`: T_c, the oracle's T_c and E_f of formulas, from arguments or a CSV file, rows kept in order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kiago_ray.cli.tables import end_of, formula_table, number, print_note, read_table, requested, write_table

if TYPE_CHECKING:
    import pandas as pd


def predict(
    formulas: Annotated[list[str] | None, typer.Argument(help="Formulas, such as YBa2Cu3O7.")] = None,
    input: Annotated[Path | None, typer.Option(help="CSV file with a column `formula`.")] = None,
    output: Annotated[Path | None, typer.Option(help="File to write: .csv or .parquet.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Folder that `kiago train` wrote.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Predict T_c (K), as the ensemble with its standard deviation and as the oracle sees it, and E_f (eV/atom).

    Above 1 the extrapolation says that a composition lies further out than 19 in 20 known superconductors. The
    oracle is the folder's, or the shipped one where the folder has none. A formula that can't be read gets an `error`
    and keeps its row.
    """
    from kiago_ray.scoring import VALUES

    requested(formulas, input, output)
    table = read_table(input, (*VALUES, "error")) if input is not None else formula_table(formulas or [])
    predicted = predict_table(table, weights)
    failed = int(predicted["error"].notna().sum())
    if output is not None:
        write_table(predicted, output)
        print_note(
            f"{len(predicted):,} rows, {failed:,} of them with an error, written to {output}",
            as_json,
            predicted,
        )
    elif as_json:
        print_json(predicted)
    else:
        print_rows(predicted)
    raise typer.Exit(end_of(predicted, "prediction", listed=input is not None))


def predict_table(table: pd.DataFrame, weights: Path | None = None) -> pd.DataFrame:
    """`table` with the columns VALUES and `error` added, in its order."""
    import pandas as pd
    import torch

    from kiago_ray.scoring import Scorer

    scores = Scorer.load(weights).score(table["formula"].tolist(), threads=torch.get_num_threads())
    return table.assign(**scores.values, error=pd.Series(scores.errors, index=table.index, dtype=object))


def print_json(table: pd.DataFrame) -> None:
    """All rows as one JSON object; missing values are null."""
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    print(json.dumps({"predictions": rows}, indent=2, ensure_ascii=False))


def print_rows(table: pd.DataFrame) -> None:
    """A small table for a person."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table("formula", "T_c (K)", "oracle (K)", "extrapolation", "E_f (eV/atom)", "")
    for row in table.to_dict("records"):
        values = ["", "", "", ""]
        if not row["error"]:
            t_c, far = number(row, "tc_k", 1), number(row, "extrapolation", 2)
            spread = f" ± {number(row, 'tc_std_k', 1)}" if far else ""  # without an ensemble both are unknown
            oracle = f"{number(row, 'tc_oracle_k', 1)} ± {number(row, 'tc_oracle_std_k', 1)}"
            values = [t_c + spread, oracle, far, number(row, "ef_ev_per_atom", 3)]
        shown.add_row(Text(str(row["formula"])), *values, Text(str(row["error"] or "")))
    Console().print(shown)
