"""SuperCon as the NIMS Materials Data Repository publishes it (`primary.tsv`): measured T_c.

Three header lines, the third with the column names; tab-separated, no quoting, UTF-8, T_c in K. The same
composition occurs up to 150 times: films, samples under pressure, poor samples, misprints. Its T_c is the
**median** of them: FeSe has 7 to 80 K around a median of 9.4, LaFePO0.9F0.1 three values near 5.8 K and one
of 62, YBa2Cu3O7 50 to 95.5 K around 91; a mean would follow the outlier, and a maximum would be one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

import pandas as pd

from kiago_ray.data.compositions import compositions
from kiago_ray.data.files import (
    LoadReport,
    PathLike,
    leave_out,
    read_amounts,
    read_columns,
    read_number,
    usable_rows,
)

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

TABLE_COLUMNS = [
    *("formula", "oxygen", "tc_k", "reports", "tc_min_k", "tc_max_k", "tc_spread_k"),
    *("year_first", "journal_first", "year_highest", "journal_highest", "structure", "chemical_system"),
]

Oxygen = Literal["stated", "nominal", "any"]
OXYGEN: tuple[Oxygen, ...] = ("stated", "nominal", "any")  # and the order of the rows
# SuperCon's unknowns at the end of a formula, in either case; D is δ. A letter without a sign before it, as in
# `Y1Ba2Cu3OY`, stands for all of the oxygen: SuperCon's own yttrium has an amount (Y1).
_NOMINAL_OXYGEN = re.compile(r"(.*O[0-9.]+)[-+=]+[XYZDxyzd]")
_ANY_OXYGEN = re.compile(r"(.*O)[XYZxyz](?:[-+][0-9.]+)?")

FIRST_YEAR = 1911  # superconductivity was discovered then
_YEAR_IN_BRACKETS = re.compile(r"\(\s*((?:19|20)\d\d)\s*\)")
_ARXIV = re.compile(r"(?:arxiv|cond-mat)[:/ ]*(\d\d)(?:0[1-9]|1[0-2])\.?\d{3}", re.IGNORECASE)
_BARE_YEAR = re.compile(r"(?<![\d.])((?:19|20)\d\d)(?![\d.])")


class Measurement(NamedTuple):
    """One row of the file: how its formula gives oxygen (see `oxygen_of`), amounts (without oxygen where that is any),
    T_c in K, year (None where unknown), reference, and the name of its structure ("" for none).
    """

    oxygen: Oxygen
    amounts: dict[str, float]
    tc_k: float
    year: int | None
    journal: str
    structure: str


def load_supercon(
    path: PathLike, *, undetermined_oxygen: bool = False, before: int | None = None
) -> tuple[pd.DataFrame, LoadReport]:
    """One row a composition, as `tables.superconductors` has them and with their `chemical_system`, and the account of
    the file's rows.

    undetermined_oxygen: take rows whose oxygen alone is undetermined too. before: take only what a journal printed
    before this year, and nothing without a date. Raises DataError for a file that can't be used.
    """

    def read(formula: str, unit: str, tc: str, journal: str, structure: str) -> Measurement:
        oxygen, text = oxygen_of(formula)
        if oxygen != "stated" and not undetermined_oxygen:
            read_amounts(formula)  # OY, which can be read as yttrium
            leave_out(True, "undetermined amount", formula)
        amounts, year = read_amounts(text), publication_year(journal)
        if oxygen == "any":
            del amounts["O"]
        leave_out(not amounts, "undetermined amount", formula)
        leave_out(sum(amounts.values()) > MAX_ATOMS, "implausible amount", formula)
        leave_out(not tc, "missing T_c", formula)
        tc_k = read_number(tc, "T_c not a number", tc)
        leave_out(unit.upper() != "K", "unit of T_c not K", f"{tc} {unit}")
        leave_out(tc_k < 0, "negative T_c", tc)
        leave_out(tc_k > MAX_TC_K, "implausible T_c", f"{formula} {tc} K")
        if before is not None:
            leave_out((year or before) >= before, f"not printed before {before}", journal)
        return Measurement(oxygen, amounts, tc_k, year, journal, structure)

    contents = read_columns(path, COLUMNS, OPTIONAL_COLUMNS, tabs=True, header_line=HEADER_LINE)
    found, report = usable_rows(contents, KIND, read)
    parts = [_merged([each for each in found if each.oxygen == oxygen], oxygen) for oxygen in OXYGEN]
    table = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)[TABLE_COLUMNS]
    return table, report(len(table))


def is_header(lines: Sequence[str]) -> bool:
    """Whether a file that begins with these lines is of SuperCon's form."""
    return len(lines) >= HEADER_LINE and {*lines[HEADER_LINE - 1].rstrip("\r\n").split("\t")} >= {*COLUMNS}


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


def _merged(found: Sequence[Measurement], oxygen: Oxygen) -> pd.DataFrame:
    """One row a composition, sorted by formula."""
    rows = pd.DataFrame(found, columns=Measurement._fields).astype(
        {"tc_k": "float64", "year": "Int64", "journal": "str", "structure": "str"}
    )
    formulas, systems = compositions([each.amounts for each in found])
    rows["formula"], rows["chemical_system"] = (
        pd.Series(formulas, dtype="str"),
        pd.Series(systems, dtype="str"),
    )
    by_formula = rows.groupby("formula")
    table = by_formula.agg(
        tc_k=("tc_k", "median"),
        reports=("tc_k", "size"),
        tc_min_k=("tc_k", "min"),
        tc_max_k=("tc_k", "max"),
        chemical_system=("chemical_system", "first"),
    )
    table["tc_spread_k"] = by_formula["tc_k"].quantile(0.75) - by_formula["tc_k"].quantile(0.25)
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
