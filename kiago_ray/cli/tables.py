"""Tables of formulas that a command reads and writes: rows in order, an `error` where one came to nothing."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import islice
from math import isnan
from pathlib import Path
from typing import Any

import pandas as pd
import typer

from kiago_ray.errors import InputError

MAX_ROWS = 5_000_000


def requested(
    formulas: list[str] | None, input: Path | None, output: Path | None, fills: Sequence[str]
) -> pd.DataFrame:
    """The formulas that a command was given, as arguments or as a file. fills: the columns that the command adds.

    Refuses, before any work, both at once, neither of them, and an output that can't be written.
    """
    if bool(formulas) == (input is not None):
        raise InputError("give formulas or --input FILE.csv, one of the two")
    if output is not None:
        check_output(output)
    return pd.DataFrame({"formula": formulas}) if input is None else read_table(input, fills)


def read_table(path: Path, fills: Sequence[str]) -> pd.DataFrame:
    """A CSV file as texts; InputError where it is none, lacks `formula`, or has a column that the command `fills`."""
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
    taken = [name for name in header if name in fills or header.count(name) > 1]
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
    if path.suffix not in (".csv", ".parquet"):
        raise InputError(f"--output: {path} must end in .csv or .parquet")
    if path.exists():
        raise InputError(f"--output: {path} exists; remove it or name another file")
    if not path.parent.is_dir():
        raise InputError(f"--output: there is no folder {path.parent}; make it first")


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write the rows as CSV or Parquet, by the file's ending."""

    try:
        if path.suffix == ".csv":
            table.to_csv(path, index=False, float_format="%.4f")
        else:
            table.to_parquet(path, index=False)
    except OSError as error:
        raise InputError(f"--output: can't write {path} ({error.strerror})") from None


def hand_over(
    table: pd.DataFrame,
    key: str,
    show: Callable[[pd.DataFrame], None],
    output: Path | None,
    as_json: bool,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write the rows to `output`; or print them as one JSON object, under `key` beside `about`; or show them."""
    failed = int(table["error"].notna().sum())
    if output is not None:
        write_table(table, output)
        if as_json:
            print(json.dumps({"rows": len(table), "errors": failed}))
        else:
            typer.echo(
                f"{len(table):,} rows, {failed:,} of them with an error, written to {output}", err=True
            )
    elif as_json:
        rows = table.astype(object).where(table.notna(), None).to_dict("records")
        print(json.dumps({**(about or {}), key: rows}, indent=2, ensure_ascii=False))
    else:
        show(table)


def number(row: Mapping[Hashable, Any], name: str, digits: int) -> str:
    """A value of a row, "" where it isn't known."""
    value = float(row[name])
    return "" if isnan(value) else f"{value:.{digits}f}"


def end_of(table: pd.DataFrame, what: str, *, listed: bool) -> int:
    """The exit code, with a line on stderr where formulas have no `what`: 3, and 2 where none of those that were given
    as arguments has one. listed: they came from a file.
    """
    failed = int(table["error"].notna().sum())
    if not failed:
        return 0
    bad = table.loc[table["error"].notna(), "error"].iloc[0]
    typer.echo(f"kiago: {failed:,} of {len(table):,} formulas have no {what}; the first: {bad}", err=True)
    return 3 if listed or failed < len(table) else 2
