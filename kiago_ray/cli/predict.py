"""`kiago predict`: T_c, the oracle's T_c and E_f of formulas, from arguments or a CSV file, rows kept in order."""

from __future__ import annotations

import csv
import json
from collections.abc import Hashable, Mapping
from itertools import islice
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pandas as pd

MAX_ROWS = 5_000_000


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
    from kiago_ray.cli.failures import InputError

    if bool(formulas) == (input is not None):
        raise InputError("give formulas or --input FILE.csv, one of the two")
    if output is not None:
        check_output(output)
    table = read_table(input) if input is not None else formula_table(formulas or [])
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
    if failed:
        bad = predicted.loc[predicted["error"].notna(), "error"].iloc[0]
        typer.echo(
            f"kiago: {failed:,} of {len(predicted):,} formulas have no prediction; the first: {bad}", err=True
        )
        raise typer.Exit(3 if input is not None or failed < len(predicted) else 2)


def predict_table(table: pd.DataFrame, weights: Path | None = None) -> pd.DataFrame:
    """`table` with the columns VALUES and `error` added, in its order."""
    import pandas as pd
    import torch

    from kiago_ray.scoring import Scorer

    scores = Scorer.load(weights).score(table["formula"].tolist(), threads=torch.get_num_threads())
    return table.assign(**scores.values, error=pd.Series(scores.errors, index=table.index, dtype=object))


def formula_table(formulas: list[str]) -> pd.DataFrame:
    """Formulas as a table of one column."""
    import pandas as pd

    return pd.DataFrame({"formula": formulas})


def read_table(path: Path) -> pd.DataFrame:
    """A CSV file as texts; InputError where it is none or has no column `formula`."""
    import pandas as pd

    from kiago_ray.cli.failures import InputError
    from kiago_ray.scoring import VALUES

    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(islice(csv.reader(file, strict=True), MAX_ROWS + 2))
    except OSError as error:
        raise InputError(f"--input: can't read {path} ({error.strerror}); check the path") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"--input: {path} is not a CSV file in UTF-8 ({error}); export it again") from None
    if not lines:
        raise InputError(f"--input: {path} is empty; give a CSV file with a column `formula`")
    header, rows = lines[0], lines[1:]
    if header.count("formula") != 1:
        raise InputError(
            f"--input: {path} has no single column `formula` (its columns: {', '.join(header)[:200]})"
        )
    taken = [name for name in header if name in (*VALUES, "error") or header.count(name) > 1]
    if taken:
        raise InputError(f"--input: {path} already has {taken[0]!r}, or has it twice; rename or remove it")
    if len(rows) > MAX_ROWS:
        raise InputError(f"--input: {path} has more than {MAX_ROWS:,} rows; split it")
    for number, row in enumerate(rows, start=1):
        if len(row) > len(header):
            raise InputError(
                f"--input: {path}, row {number}: {len(row)} fields under {len(header)} names; correct it"
            )
    padded = [row + [""] * (len(header) - len(row)) for row in rows]
    return pd.DataFrame(padded, columns=header, dtype=object)


def check_output(path: Path) -> None:
    """Refuse, before any work, what can't be written or would overwrite something."""
    from kiago_ray.cli.failures import InputError

    if path.suffix not in (".csv", ".parquet"):
        raise InputError(f"--output: {path} must end in .csv or .parquet")
    if path.exists():
        raise InputError(f"--output: {path} exists; remove it or name another file")
    if not path.parent.is_dir():
        raise InputError(f"--output: there is no folder {path.parent}; make it first")


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write the rows as CSV or Parquet, by the file's ending."""
    from kiago_ray.cli.failures import InputError

    try:
        if path.suffix == ".csv":
            table.to_csv(path, index=False, float_format="%.4f")
        else:
            table.to_parquet(path, index=False)
    except OSError as error:
        raise InputError(f"--output: can't write {path} ({error.strerror})") from None


def print_note(text: str, as_json: bool, table: pd.DataFrame) -> None:
    """What was done: a line on stderr, or a JSON object on stdout."""
    if as_json:
        print(json.dumps({"rows": len(table), "errors": int(table["error"].notna().sum())}))
    else:
        typer.echo(text, err=True)


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


def number(row: Mapping[Hashable, Any], name: str, digits: int) -> str:
    """A value of a row, "" where it isn't known."""
    value = float(row[name])
    return "" if isnan(value) else f"{value:.{digits}f}"
