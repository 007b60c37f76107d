"""SuperCon as the NIMS Materials Data Repository publishes it (`primary.tsv`): measured T_c.

Three header lines, the third with the column names; tab-separated, no quoting, UTF-8, T_c in K. The same
composition occurs up to 150 times: films, samples under pressure, poor samples, misprints. Its T_c is the
**median** of them: FeSe has 7 to 80 K around a median of 9.4, LaFePO0.9F0.1 three values near 5.8 K and one
of 62, YBa2Cu3O7 50 to 95.5 K around 91; a mean would follow the outlier, and a maximum would be one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from kiago_ray.datasets.files import PathLike, read_columns
from kiago_ray.datasets.report import LoadReport, Tally
from kiago_ray.datasets.table import compositions, finite, read_amounts

KIND = "supercon"
HEADER_LINE = 3
COLUMNS = ("element", "utc", "tc", "journal")

# LaH10 under 170–190 GPa reaches 250–260 K, the highest that was reproduced. SuperCon's higher entries are
# misprints (28.7 K as 287), a retracted paper (C–S–H, 287.7 K) and a claim that no one repeated (323 K).
MAX_TC_K = 260.0
# Of one formula as written. The largest real ones (clathrates such as Ba24Si100, alloys in per cent) have
# 124; above stand lost decimal points (O6050 for O6.050).
MAX_ATOMS = 150.0

TABLE_COLUMNS = ["formula", "tc_k", "tc_min_k", "tc_max_k", "n_merged", "chemical_system", "year", "journal"]

# `Y1Ba2Cu3OY`: oxygen whose amount was not measured, as OZ is elsewhere; SuperCon's own yttrium has an amount (Y1).
# `O7-Y` and `O-Y` need no such word: no formula holds a sign.
_UNDETERMINED_Y = "OY"

FIRST_YEAR = 1911  # superconductivity was discovered then
_YEAR_IN_BRACKETS = re.compile(r"\(\s*((?:19|20)\d\d)\s*\)")
_ARXIV = re.compile(r"(?:arxiv|cond-mat)[:/ ]*(\d\d)(?:0[1-9]|1[0-2])\.?\d{3}", re.IGNORECASE)
_BARE_YEAR = re.compile(r"(?<![\d.])((?:19|20)\d\d)(?![\d.])")


def load_supercon(path: PathLike) -> tuple[pd.DataFrame, LoadReport]:
    """One row a composition, sorted by formula, and the account of the file's rows.

    Columns: `formula` (canonical), `tc_k` (median), `tc_min_k`, `tc_max_k`, `n_merged`, `chemical_system`,
    `year` of the earliest report (nullable) and that report's `journal`. Raises DataError for a file that
    can't be used.
    """
    contents = read_columns(path, COLUMNS, tabs=True, header_line=HEADER_LINE)
    tally = Tally(KIND, contents)
    rows: list[dict[str, float]] = []
    tc_k: list[float] = []
    journals: list[str] = []
    for line, (formula, unit, tc, journal) in zip(contents.line_numbers, contents.rows, strict=True):
        if formula.endswith(_UNDETERMINED_Y):
            tally.drop("undetermined amount", line, formula)
            continue
        amounts = read_amounts(formula, line, tally)
        if amounts is None:
            continue
        value = finite(tc)
        if sum(amounts.values()) > MAX_ATOMS:
            tally.drop("implausible amount", line, formula)
        elif not tc:
            tally.drop("missing T_c", line, formula)
        elif value is None:
            tally.drop("T_c not a number", line, tc)
        elif unit.upper() != "K":
            tally.drop("unit of T_c not K", line, f"{tc} {unit}")
        elif value < 0:
            tally.drop("negative T_c", line, tc)
        elif value > MAX_TC_K:
            tally.drop("implausible T_c", line, f"{formula} {tc} K")
        else:
            rows.append(amounts)
            tc_k.append(value)
            journals.append(journal)
    table = _merged(rows, tc_k, journals)
    return table, tally.report(len(table))


def publication_year(journal: str) -> int | None:
    """The year in a reference such as `Jpn.J.Appl.Phys., 26(1987)L223`, the earlier of two, or None.

    A year in brackets comes first, then an arXiv number, then the only bare number that can be a year and not
    a page.
    """
    years = [int(year) for year in _YEAR_IN_BRACKETS.findall(journal)]
    if not years and (preprint := _ARXIV.search(journal)):
        short = int(preprint.group(1))
        years = [1900 + short if short >= 91 else 2000 + short]  # arXiv began in 1991
    if not years:
        bare = {int(year) for year in _BARE_YEAR.findall(journal)}
        years = list(bare) if len(bare) == 1 else []
    credible = [year for year in years if year >= FIRST_YEAR]
    return min(credible, default=None)


def _merged(rows: Sequence[dict[str, float]], tc_k: Sequence[float], journals: Sequence[str]) -> pd.DataFrame:
    formulas, systems = compositions(rows)
    table = pd.DataFrame(
        {
            "formula": pd.Series(formulas, dtype="str"),
            "chemical_system": pd.Series(systems, dtype="str"),
            "tc_k": pd.Series(tc_k, dtype="float64"),
            "year": pd.Series([publication_year(journal) for journal in journals], dtype="Int64"),
            "journal": pd.Series(journals, dtype="str"),
        }
    )
    merged = table.groupby("formula").agg(
        tc_k=("tc_k", "median"),
        tc_min_k=("tc_k", "min"),
        tc_max_k=("tc_k", "max"),
        n_merged=("tc_k", "size"),
        chemical_system=("chemical_system", "first"),
    )
    earliest = table.sort_values(["formula", "year", "journal"], na_position="last").drop_duplicates(
        "formula"
    )
    merged = merged.join(earliest.set_index("formula")[["year", "journal"]])
    return merged.reset_index()[TABLE_COLUMNS]
