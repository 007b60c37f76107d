"""SuperCon as the NIMS Materials Data Repository publishes it (`primary.tsv`): measured T_c.

Three header lines, the third with the column names; tab-separated, no quoting, UTF-8, T_c in K. The same
composition occurs up to 150 times: films, samples under pressure, poor samples, misprints. Its T_c is the
**median** of them: FeSe has 7 to 80 K around a median of 9.4, LaFePO0.9F0.1 three values near 5.8 K and one
of 62, YBa2Cu3O7 50 to 95.5 K around 91; a mean would follow the outlier, and a maximum would be one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from kiago_ray.data.compositions import compositions, finite, read_amounts
from kiago_ray.data.files import LoadReport, PathLike, Tally, read_columns

KIND = "supercon"
HEADER_LINE = 3
COLUMNS = ("element", "utc", "tc", "journal")
OPTIONAL_COLUMNS = ("str3",)

# LaH10 under 170–190 GPa reaches 250–260 K, the highest that was reproduced. SuperCon's higher entries are
# misprints (28.7 K as 287), a retracted paper (C–S–H, 287.7 K) and a claim that no one repeated (323 K).
MAX_TC_K = 260.0
# Of one formula as written. The largest real ones (clathrates such as Ba24Si100, alloys in per cent) have
# 124; above stand lost decimal points (O6050 for O6.050).
MAX_ATOMS = 150.0

TABLE_COLUMNS = ["formula", "tc_k", "tc_min_k", "tc_max_k", "n_merged", "chemical_system", "year", "journal"]

Oxygen = Literal["stated", "nominal", "any"]
# SuperCon's unknowns at the end of a formula, in either case; D is δ. A letter without a sign before it, as in
# `Y1Ba2Cu3OY`, stands for all of the oxygen: SuperCon's own yttrium has an amount (Y1).
_NOMINAL_OXYGEN = re.compile(r"(.*O[0-9.]+)[-+=]+[XYZDxyzd]")
_ANY_OXYGEN = re.compile(r"(.*O)[XYZxyz](?:[-+][0-9.]+)?")

FIRST_YEAR = 1911  # superconductivity was discovered then
_YEAR_IN_BRACKETS = re.compile(r"\(\s*((?:19|20)\d\d)\s*\)")
_ARXIV = re.compile(r"(?:arxiv|cond-mat)[:/ ]*(\d\d)(?:0[1-9]|1[0-2])\.?\d{3}", re.IGNORECASE)
_BARE_YEAR = re.compile(r"(?<![\d.])((?:19|20)\d\d)(?![\d.])")


@dataclass(frozen=True)
class Measurement:
    """One row of the file: a composition, its T_c in K, its reference, and the name of its structure ("" for none).

    oxygen: "stated"; "nominal" where the formula gives oxygen up to an unknown rest (`O7-X`, read as O7); "any" where
    it gives none (`OZ`), and then `amounts` are those of the other elements.
    """

    amounts: dict[str, float]
    tc_k: float
    journal: str
    structure: str
    oxygen: Oxygen = "stated"


def load_supercon(path: PathLike) -> tuple[pd.DataFrame, LoadReport]:
    """One row a composition, sorted by formula, and the account of the file's rows.

    Columns: `formula` (canonical), `tc_k` (median), `tc_min_k`, `tc_max_k`, `n_merged`, `chemical_system`,
    `year` of the earliest report (nullable) and that report's `journal`. Raises DataError for a file that
    can't be used.
    """
    found, tally = measurements(path)
    table = _merged(_frame(found))
    return table, tally.report(len(table))


def measurements(
    path: PathLike, *, undetermined_oxygen: bool = False, before: int | None = None
) -> tuple[list[Measurement], Tally]:
    """Every usable row of the file in its order, and the count of those that aren't.

    undetermined_oxygen: take rows whose oxygen alone is undetermined too. before: take only what a journal printed
    before this year, and nothing without a date. Raises DataError as `load_supercon` does.
    """
    contents = read_columns(path, COLUMNS, OPTIONAL_COLUMNS, tabs=True, header_line=HEADER_LINE)
    tally = Tally(KIND, contents)
    found: list[Measurement] = []
    for line, (formula, unit, tc, journal, structure) in contents:
        oxygen, text = oxygen_of(formula)
        if oxygen != "stated" and not undetermined_oxygen:
            if read_amounts(formula, line, tally) is not None:  # OY, which can be read as yttrium
                tally.drop("undetermined amount", line, formula)
            continue
        amounts = read_amounts(text, line, tally)
        if amounts is None:
            continue
        if oxygen == "any":
            amounts = {symbol: amount for symbol, amount in amounts.items() if symbol != "O"}
        value = finite(tc)
        if not amounts:
            tally.drop("undetermined amount", line, formula)
        elif sum(amounts.values()) > MAX_ATOMS:
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
        elif before is not None and (publication_year(journal) or before) >= before:
            tally.drop(f"not printed before {before}", line, journal)
        else:
            found.append(Measurement(amounts, value, journal, structure, oxygen))
    return found, tally


def oxygen_of(formula: str) -> tuple[Oxygen, str]:
    """How a formula gives its oxygen, and the formula without what is unknown of it.

    `Y1Ba2Cu3O7-X` is nominal and `Y1Ba2Cu3O7`, `Y1Ba2Cu3OZ` is any and `Y1Ba2Cu3O`; anything else stays as it is.
    """
    nominal = _NOMINAL_OXYGEN.fullmatch(formula)
    if nominal is not None:
        return "nominal", nominal[1]
    undetermined = _ANY_OXYGEN.fullmatch(formula)
    return ("stated", formula) if undetermined is None else ("any", undetermined[1])


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


def _frame(found: Sequence[Measurement]) -> pd.DataFrame:
    """One row a measurement, `formula` the same for all of one composition."""
    formulas, systems = compositions([each.amounts for each in found])
    return pd.DataFrame(
        {
            "formula": pd.Series(formulas, dtype="str"),
            "chemical_system": pd.Series(systems, dtype="str"),
            "tc_k": pd.Series([each.tc_k for each in found], dtype="float64"),
            "year": pd.Series([publication_year(each.journal) for each in found], dtype="Int64"),
            "journal": pd.Series([each.journal for each in found], dtype="str"),
            "structure": pd.Series([each.structure for each in found], dtype="str"),
        }
    )


def _merged(table: pd.DataFrame) -> pd.DataFrame:
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


MERGED_COLUMNS = (
    "formula oxygen tc_k reports tc_min_k tc_max_k tc_spread_k "
    "year_first journal_first year_highest journal_highest structure"
)
OXYGEN = ("stated", "nominal", "any")  # and the order of the rows


def merged_superconductors(path: PathLike, *, before: int | None = None) -> tuple[pd.DataFrame, LoadReport]:
    """The table of `tables.superconductors` from SuperCon's primary.tsv, and the account of its rows.

    before: only what was printed before this year (see `measurements`). Raises DataError.
    """
    found, tally = measurements(path, undetermined_oxygen=True, before=before)
    parts = [_merged_part([each for each in found if each.oxygen == oxygen], oxygen) for oxygen in OXYGEN]
    table = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)[
        MERGED_COLUMNS.split()
    ]
    return table, tally.report(len(table))


def _merged_part(found: Sequence[Measurement], oxygen: str) -> pd.DataFrame:
    """One row a composition, sorted by formula."""
    rows = _frame(found)
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


_USUAL = re.compile(
    r"(?P<name>[^\d(]*[^\d(\s,.])(?P<end>[\s,.]*)"
    r"(?P<volume>[A-Z]?\d[\w-]*)[\s,.]*\(\s*(?P<year>\d{4})\s*\)[\s,.]*(?P<page>\S+)"
)
_CLOSE = re.compile(r"(?<=[.,:])(?=[A-Za-z])")  # a word that ends and the next without a space
_SECTION = re.compile(r"\.?\s+([A-Z])$")  # Phys. Rev. B, Physica C


def written_reference(journal: str) -> str:
    """A reference as a person cites it: `Phys.Rev.B, 63(2001)104508` is `Phys. Rev. B 63 (2001) 104508`. One of
    another form stays as it is, "" too.
    """
    text = " ".join(journal.split())
    match = _USUAL.fullmatch(text)
    if match is None:
        return text
    name = _CLOSE.sub(" ", match["name"])
    if name.isupper() and len(name) > 3:
        name = name.title()
    section = _SECTION.search(name)
    dot = "." if "." in match["end"] and section is None else ""
    if section is not None:
        head = name[: section.start()]
        name = f"{head}{'.' if '.' in head else ''} {section[1]}"
    return f"{name}{dot} {match['volume']} ({match['year']}) {match['page'].rstrip('.,')}"
