"""SuperCon's measurements merged for the package: one row a composition, with how often it was measured."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from kiago_ray.datasets.files import PathLike
from kiago_ray.datasets.report import LoadReport
from kiago_ray.datasets.supercon import Measurement, measurements, publication_year
from kiago_ray.datasets.table import compositions

COLUMNS = [
    "formula",
    "oxygen",
    "tc_k",
    "reports",
    "tc_min_k",
    "tc_max_k",
    "tc_spread_k",
    "year_first",
    "journal_first",
    "year_highest",
    "journal_highest",
    "structure",
]
OXYGEN = ("stated", "nominal", "any")  # and the order of the rows


def merged_superconductors(path: PathLike, *, before: int | None = None) -> tuple[pd.DataFrame, LoadReport]:
    """The table of `knowledge.tables.superconductors` from SuperCon's primary.tsv, and the account of its rows.

    before: only what was printed before this year (see `measurements`). Raises DataError.
    """
    found, tally = measurements(path, undetermined_oxygen=True, before=before)
    parts = [_merged([each for each in found if each.oxygen == oxygen], oxygen) for oxygen in OXYGEN]
    table = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)[COLUMNS]
    return table, tally.report(len(table))


def _merged(found: Sequence[Measurement], oxygen: str) -> pd.DataFrame:
    """One row a composition, sorted by formula."""
    formulas, _ = compositions([each.amounts for each in found])
    rows = pd.DataFrame(
        {
            "formula": pd.Series(formulas, dtype="str"),
            "tc_k": pd.Series([each.tc_k for each in found], dtype="float64"),
            "year": pd.Series([publication_year(each.journal) for each in found], dtype="Int64"),
            "journal": pd.Series([each.journal for each in found], dtype="str"),
            "structure": pd.Series([each.structure for each in found], dtype="str"),
        }
    )
    by_formula = rows.groupby("formula")
    table = by_formula.agg(
        tc_k=("tc_k", "median"),
        reports=("tc_k", "size"),
        tc_min_k=("tc_k", "min"),
        tc_max_k=("tc_k", "max"),
    )
    quartiles = by_formula["tc_k"].quantile(0.75) - by_formula["tc_k"].quantile(0.25)
    table["tc_spread_k"] = quartiles
    # Of equals the first in the file, whose rows are numbered as they were entered.
    first = rows.sort_values("year", na_position="last", kind="stable")
    highest = first.sort_values("tc_k", ascending=False, kind="stable")
    for name, ordered in (("first", first), ("highest", highest)):
        one = ordered.drop_duplicates("formula").set_index("formula")
        table[f"year_{name}"], table[f"journal_{name}"] = one["year"], one["journal"]
    table["structure"] = _most_frequent(rows).reindex(table.index).fillna("").astype("str")
    return table.reset_index().assign(oxygen=oxygen)


def _most_frequent(rows: pd.DataFrame) -> pd.Series[str]:
    """The structure that most reports of a formula name, the first in the alphabet among equals."""
    named = rows[rows["structure"] != ""]
    counts = named.groupby(["formula", "structure"]).size().rename("n").reset_index()
    ordered = counts.sort_values(["formula", "n", "structure"], ascending=[True, False, True])
    return ordered.drop_duplicates("formula").set_index("formula")["structure"]
