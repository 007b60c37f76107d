"""`kiago predict`: what is known of formulas, from arguments or a CSV file, rows kept in order."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer
from rich.console import Console
from rich.text import Text

from kiago_ray.cli import options
from kiago_ray.cli.console import plain_table
from kiago_ray.cli.tables import end_of, hand_over, number, requested
from kiago_ray.models import Models, load_models
from kiago_ray.scoring import score
from kiago_ray.storage.columns import PREDICTED

app = typer.Typer(add_completion=False)


@app.command()
def predict(
    formulas: Annotated[list[str] | None, typer.Argument(help="Formulas, such as YBa2Cu3O7.")] = None,
    input: Annotated[Path | None, typer.Option(help="CSV file with a column `formula`.")] = None,
    output: options.Output = None,
    known: options.Known = None,
    phases: Annotated[
        str | None,
        typer.Option(
            help="Competing phases, by which the first 1,000 rows get their energy above the hull: a CSV or TSV file, "
            "or none. By default the shipped ones, of the Materials Project."
        ),
    ] = None,
    weights: options.Weights = None,
    as_json: options.AsJson = False,
) -> None:
    """Say of formulas what a search says of its rows.

    T_c (K), as the ensemble with its standard deviation and as the oracle sees it, E_f and the energy above the hull
    (eV/atom), how plausible such a composition is and why, what it is expected to gain over the best known nearby,
    its oxidation states, the nearest known composition with its reference, whether it is known or made, and whether it
    passes the screens of `default`. A formula that can't be read gets an `error` and keeps its row; the T_c of all
    others stands, whatever the screens say.
    """
    table = requested(formulas, input, output, (*PREDICTED, "error"))
    predicted = predict_table(table, load_models(weights, known=known, phases=phases))
    hand_over(predicted, "predictions", print_rows, output, as_json)
    raise typer.Exit(end_of(predicted, "prediction", listed=input is not None))


def predict_table(table: pd.DataFrame, models: Models) -> pd.DataFrame:
    """`table` with the columns of `storage.columns.PREDICTED` and `error` added, in its order."""
    scores = score(table["formula"].tolist(), models, threads=torch.get_num_threads())
    found: pd.DataFrame = scores.table.to_pandas().set_index(table.index)
    errors = pd.Series(scores.errors, index=table.index, dtype=object)
    return pd.concat([table, found], axis=1).assign(error=errors)


def print_rows(table: pd.DataFrame) -> None:
    """A small table for a person."""
    shown = plain_table()
    shown.add_column("formula", overflow="fold")
    for header in ("T_c (K)", "oracle", "exists", "gain", "ΔE_hull", "passed"):
        shown.add_column(header, justify="right", no_wrap=True)
    shown.add_column("charges", overflow="fold")
    shown.add_column("known", overflow="fold")
    for row in table.to_dict("records"):
        if row["error"]:
            shown.add_row(Text(str(row["formula"])), *[""] * 6, Text(str(row["error"])), "")
            continue
        t_c, spread, oracle = (number(row, name, 1) for name in ("tc_k", "tc_std_k", "tc_oracle_k"))
        shown.add_row(
            Text(str(row["formula"])),
            t_c + (f" ± {spread}" if spread else ""),  # without an ensemble the spread is unknown
            oracle,
            number(row, "existence", 2),
            number(row, "expected_improvement_k", 1),
            number(row, "e_hull_ev_per_atom", 3),
            "yes" if row["passed"] else "no",
            Text(str(row["oxidation_states"] or "") + (", undoped" if row["undoped"] is True else "")),
            Text(str(row["known"] or "")),
        )
    Console().print(shown)
