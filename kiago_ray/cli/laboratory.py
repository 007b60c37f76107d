"""`kiago shortlist`, `kiago runs` and `kiago compare`: what comes after a run, from its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import pyarrow as pa
from rich.console import Console
from rich.markdown import Markdown
from typer import Argument, Option

from kiago_ray.chemistry.synthesis import Batch
from kiago_ray.cli import console
from kiago_ray.cli.console import plain_table, print_json, say
from kiago_ray.cli.formulas import check_new, predict_table, read_table, records
from kiago_ray.data.precursors import load_hazards, load_precursors
from kiago_ray.errors import InputError
from kiago_ray.models import load_models
from kiago_ray.predictors.weights import load_cards
from kiago_ray.report.reasons import Row, ef_error
from kiago_ray.report.shortlist import WRITERS, entry_of, markdown_of
from kiago_ray.report.tables import percent
from kiago_ray.runs.listing import Comparison, RunLine, compared, listed
from kiago_ray.storage.location import Location
from kiago_ray.storage.run_directory import CANDIDATES, read_run
from kiago_ray.storage.table import columns, first_rows, read_parquet

_LONGEST_VALUE = 60
_YES_NO = {"yes": True, "no": False, "true": True, "false": False}


def shortlist(
    run: Annotated[
        str,
        Argument(
            metavar="RUN",
            help="Directory or URI of a search or a campaign, or a CSV or Parquet file with a column `formula`.",
        ),
    ],
    top: Annotated[int, Option(min=1, max=1000, help="Rows to take, the first of the table.")] = 20,
    batch: Annotated[
        str, Option(help="How much to weigh for: mg, g, kg, mmol or mol of the formula.")
    ] = "5g",
    output: Annotated[Path | None, Option(help="File to write: .xlsx, .csv, .md or .html.")] = None,
    precursors: Annotated[
        Path | None,
        Option(
            help="CSV file of what there is to weigh, instead of the shipped table: columns formula, route (air, "
            "closed or any), and maybe name, rank (the lowest is taken first) and note."
        ),
    ] = None,
    as_json: console.AsJson = False,
) -> int:
    """A list for the laboratory of a run's best: precursors with masses, reactions, hazards, references.

    Of each candidate there is also the nearest known composition, and why to believe it or not. A row that can't be
    made from the precursors says why and stays. Formulas without predictions get them first. Reactions are a balance
    of atoms and no protocol; hazards replace no safety data sheet.
    """
    amount, table = Batch.read(batch), load_precursors(precursors)
    check_new("--output", output, tuple(WRITERS))
    rows = candidates(run, top)
    if not rows:
        raise InputError(f"{run}: there are no candidates in it")
    error, hazards = ef_error(load_cards()), load_hazards()
    entries = [entry_of(at, row, amount, table, hazards, error) for at, row in enumerate(rows, start=1)]
    title = f"Shortlist of {run.rstrip('/')}"
    without = [entry for entry in entries if entry.recipe is None]
    if output is not None:
        Location.of(output).write_bytes(WRITERS[output.suffix](entries, title))
        say(f"{len(entries)} candidates, {len(entries) - len(without)} with a recipe, written to {output}")
    if as_json:
        print_json({"run": run, "batch": batch, "candidates": [entry.flat for entry in entries]})
    elif output is None:
        text, terminal = markdown_of(entries, title).decode(), Console()
        terminal.print(Markdown(text)) if terminal.is_terminal else print(text, end="")
    if without:
        say(
            f"{len(without)} of {len(entries)} have no recipe; the first, {without[0].formula}: {without[0].problem}"
        )
    return 0


def candidates(run: str, top: int) -> list[Row]:
    """The first rows of what a person names. Raises InputError, StorageError."""
    place = Location.of(run)
    kind = place.kind()
    if kind == "directory":
        if (place / CANDIDATES).kind() != "file":
            read_run(place)
            raise InputError(f"{run} has no {CANDIDATES}: it isn't done, or is no search or campaign")
        found: list[Row] = first_rows(place / CANDIDATES, top).to_pylist()
        return found
    if kind == "nothing":
        raise InputError(f"{run}: there is no such file or directory; check the path")
    if place.name.endswith(".parquet"):
        table = read_parquet(place)
        if "formula" not in table.column_names:
            raise InputError(
                f"{run} has no column `formula` (its columns: {', '.join(table.column_names)[:200]})"
            )
        rows: list[Row] = table.slice(0, top).to_pylist()
    else:
        if place.filesystem.type_name != "local":
            raise InputError(f"{run}: a CSV file is read from this machine alone; copy it here")
        rows = [typed(row, run) for row in records(read_table(Path(place.path), ()).head(top))]
    if any(row.get("tc_k") is not None for row in rows):
        return rows
    say(f"{run} has no predictions; they are made now")
    asked = pd.DataFrame({"formula": [str(row["formula"] or "") for row in rows]})
    return list(records(predict_table(asked, load_models())))


def typed(row: Mapping[Any, Any], run: str) -> dict[str, Any]:
    """A CSV file's texts as the values of a table of candidates; other columns stay. Raises InputError."""
    found: dict[str, Any] = {}
    for name, text in row.items():
        kind = columns()[name].type if name in columns() else pa.string()
        try:
            if not text:
                found[name] = None
            elif pa.types.is_boolean(kind):
                found[name] = _YES_NO[text.lower()]
            elif pa.types.is_string(kind):
                found[name] = text
            else:
                found[name] = float(text)
        except (ValueError, KeyError):
            raise InputError(f"{run}: {name} is {text[:40]!r}, which is not what that column holds") from None
    return found


def runs(
    where: Annotated[
        str, Argument(metavar="DIR", help="Directory or URI that holds runs, or is one.")
    ] = "runs",
    as_json: console.AsJson = False,
) -> None:
    """List the runs in a directory with what they were, the latest first.

    They are searches, campaigns, sweeps, baselines and the paper's tables. Of a campaign's own directory, the campaign
    and its searches.
    """
    lines, more = listed(where)
    if as_json:
        print_json({"directory": where, "runs": [asdict(line) for line in lines], "not_listed": more})
        return
    Console().print(
        plain_table(
            [shown_run(line) for line in lines],
            names=("run", "kind", "date", "preset"),
            texts=("state", "base"),
        )
    )
    if more:
        say(f"{more:,} more directories are not listed")


def shown_run(line: RunLine) -> dict[str, object]:
    """What a person sees of a run, header → cell."""
    date = (
        None
        if line.changed_at is None
        else datetime.fromtimestamp(line.changed_at).strftime("%Y-%m-%d %H:%M")
    )
    return {
        "run": line.name,
        "state": line.state,
        "kind": line.kind,
        "base": line.base,
        "best T_c (K)": None if line.best_tc_k is None else f"{line.best_tc_k:.1f}",
        "rows": line.rows,
        "date": date,
        "preset": line.preset,
    }


def compare(
    first: Annotated[str, Argument(metavar="A", help="Directory or URI of a run.")],
    second: Annotated[str, Argument(metavar="B", help="Directory or URI of another.")],
    as_json: console.AsJson = False,
) -> None:
    """Say what two runs differ in: specification and results.

    These are the fields of their specifications that differ, with the versions and weights behind them, and their
    candidates: in both, only in A, only in B, the best T_c, the share that passed.
    """
    found = compared(first, second)
    if as_json:
        print_json(asdict(found))
        return
    terminal = Console()
    if found.fields:
        rows = [{"field": name, "A": short(a), "B": short(b)} for name, (a, b) in found.fields.items()]
        terminal.print(plain_table(rows, texts=("field", "A", "B")))
    else:
        terminal.print("Their specifications are the same.")
    if found.sides is None:
        say("one of them has no table of candidates; there are no results to compare")
        return
    terminal.print("", plain_table(shown_results(found), texts=("results",)), sep="\n")
    for name, side in zip("AB", found.sides, strict=True):
        if side.only_first:
            terminal.print(f"\nFirst that only {name} has: {', '.join(side.only_first)}", highlight=False)


def shown_results(found: Comparison) -> list[dict[str, object]]:
    """What came of two runs, a row a figure."""
    assert found.sides is not None
    a, b = found.sides
    facts = {
        "kind": (a.kind, b.kind),
        "unique formulas": (a.rows, b.rows),
        "in both": (found.both, found.both),
        "of these T_c differs by over 1 K": (found.changed_tc, found.changed_tc),
        "only here": (a.only, b.only),
        "best T_c of what passed (K)": tuple(
            None if each.best_tc_k is None else round(each.best_tc_k, 1) for each in (a, b)
        ),
        "passed": (percent(a.passed_share), percent(b.passed_share)),
    }
    return [{"results": name, "A": pair[0], "B": pair[1]} for name, pair in facts.items()]


def short(value: Any) -> str:
    """A value of a specification in a few words."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"
