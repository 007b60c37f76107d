"""The Crystallography Open Database's search export (`result?format=csv`): what has been crystallised.

The columns are those of COD's MySQL table: `file` (the COD number), cell parameters, `sg`, …, `formula`,
`calcformula`, …, `status`, …; comma-separated, quoted where needed (titles hold commas and line ends), null
as an empty field. `formula` is Hill-ordered between dashes: `- C2 H6 O -`; `?` or nothing where the authors
gave none.
"""

from __future__ import annotations

import pandas as pd

from kiago_ray.datasets.files import PathLike, read_columns
from kiago_ray.datasets.report import LoadReport, Tally
from kiago_ray.datasets.table import compositions, read_amounts

KIND = "cod"
COLUMNS = ("file", "formula", "calcformula")
OPTIONAL_COLUMNS = ("status",)


def load_cod(path: PathLike) -> tuple[pd.DataFrame, LoadReport]:
    """One row a composition, sorted by formula.

    Columns: `formula` (canonical), `cod_id` (the first entry's number, text), `n_merged`, `chemical_system`.
    Deuterium counts as hydrogen. Entries without the authors' formula are dropped: `calcformula` is summed
    over the atoms that were located, and often lacks the hydrogen. Raises DataError.
    """
    contents = read_columns(path, COLUMNS, OPTIONAL_COLUMNS)
    tally = Tally(KIND, contents)
    rows: list[dict[str, float]] = []
    numbers: list[str] = []
    for line, (number, formula, calculated, status) in zip(contents.line_numbers, contents.rows, strict=True):
        text = bare_formula(formula)
        if status == "retracted":
            tally.drop("retracted", line, f"COD {number}")
        elif not text:
            tally.drop("missing formula", line, f"COD {number}, calcformula {calculated}")
        elif (amounts := read_amounts(text, line, tally)) is not None:
            rows.append(amounts)
            numbers.append(number)
    formulas, systems = compositions(rows)
    table = pd.DataFrame(
        {"formula": pd.Series(formulas, dtype="str"), "cod_id": pd.Series(numbers, dtype="str")}
    )
    table["n_merged"] = table.groupby("formula")["formula"].transform("size").astype("int64")
    table["chemical_system"] = pd.Series(systems, dtype="str")
    table = table.sort_values(["formula", "cod_id"]).drop_duplicates("formula").reset_index(drop=True)
    return table, tally.report(len(table))


def bare_formula(text: str) -> str:
    """`- C2 H6 O -` → `C2 H6 O`; `?` → nothing; a single D or T is H (`read_amounts` knows `D2`)."""
    tokens = text.strip("-?. ").split()
    return " ".join("H" if token in ("D", "T") else token for token in tokens)
