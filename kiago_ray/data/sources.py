"""Readers of public tables of compounds, one row a composition, and which of them a file is.

- SuperCon as the NIMS Materials Data Repository publishes it (`primary.tsv`): tab-separated without quoting, the third
  line names the columns, T_c in K. A composition occurs up to 150 times: films, samples under pressure, misprints. Its
  T_c is the **median** of them: FeSe has 7 to 80 K around 9.4, LaFePO0.9F0.1 three values near 5.8 K and one of 62; a
  mean would follow the outlier, and a maximum would be one.
- OQMD and the Materials Project: formation energies, comma-separated with a header.
- A file of competing phases: any table of formulas, comma- or tab-separated, any source mixed.
- The Crystallography Open Database's search export (`result?format=csv`), quoted where needed (titles hold commas and
  line ends). `formula` is Hill-ordered between dashes, `- C2 H6 O -`; `?` or nothing where the authors gave none.

All may be gzipped; energies are in eV/atom against the elements, and the lowest of a composition is kept.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from kiago_ray.chemistry.elements import ELEMNET_SYMBOLS
from kiago_ray.chemistry.formula import FormulaError, parse
from kiago_ray.data import files
from kiago_ray.data.compositions import canonical, composition_key, compositions, merged
from kiago_ray.data.files import Contents, LoadReport, PathLike, fail, leave_out, read_columns
from kiago_ray.data.names import MAX_ATOMS, read

COD_COLUMNS = ("file", "formula", "calcformula")
OQMD_COLUMNS = ("formula", "formation_energy_ev_per_atom")
MATERIALS_PROJECT_COLUMNS = (*OQMD_COLUMNS, "decomposition_energy_ev_per_atom")
ENERGY_COLUMNS = ("ef_ev_per_atom", "decomposition_ev_per_atom")

# Nothing binds more strongly than the fluorides and oxides of thorium and the lanthanides (-4.6); the most
# unfavourable alloys reach +4. OQMD's next value is +6.6 and its last +43: calculations that did not converge.
MIN_EF_EV_PER_ATOM, MAX_EF_EV_PER_ATOM = -5.0, 5.0

MAX_BYTES = 1 << 30  # of a file of phases on the disk
MAX_PHASES = 1_000_000  # compounds read; all of OQMD's fit
MAX_OWN = 100_000  # rows of a table of one's own

# As the exports name them, without case, units in brackets and signs; the first that is there counts. `name` is
# OQMD's, whose `composition` comes before.
FORMULA_NAMES = (
    *("formula", "formula_pretty", "pretty_formula", "reduced_formula"),
    *("composition", "full_formula", "name"),
)
ENERGY_NAMES = (
    *("ef_ev_per_atom", "formation_energy_ev_per_atom", "formation_energy_per_atom"),
    *("formation_energy_peratom", "e_form", "delta_e", "formation_energy"),
)

HEADER_LINE = 3
SUPERCON_COLUMNS = ("element", "utc", "tc", "journal")

# LaH10 under 170–190 GPa reaches 250–260 K, the highest that was reproduced. SuperCon's higher entries are
# misprints (28.7 K as 287), a retracted paper (C–S–H, 287.7 K) and a claim that no one repeated (323 K).
MAX_TC_K = 260.0

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
    """One row a composition, as `tables.superconductors` has them and with their `chemical_system`. Raises DataError.
    undetermined_oxygen: take rows whose oxygen alone is undetermined too. before: only dated ones before this year.
    """

    def read(formula: str, unit: str, tc: str, journal: str, structure: str) -> Measurement:
        oxygen, text = oxygen_of(formula)
        if oxygen != "stated" and not undetermined_oxygen:
            files.read_amounts(formula)  # OY, which can be read as yttrium
            leave_out(True, "undetermined amount", formula)
        amounts, year = files.read_amounts(text), publication_year(journal)
        if oxygen == "any":
            del amounts["O"]
        leave_out(not amounts, "undetermined amount", formula)
        leave_out(sum(amounts.values()) > MAX_ATOMS, "implausible amount", formula)
        leave_out(not tc, "missing T_c", formula)
        tc_k = files.read_number(tc, "T_c not a number", tc)
        leave_out(unit.upper() != "K", "unit of T_c not K", f"{tc} {unit}")
        leave_out(tc_k < 0, "negative T_c", tc)
        leave_out(tc_k > MAX_TC_K, "implausible T_c", f"{formula} {tc} K")
        if before is not None:
            leave_out((year or before) >= before, f"not printed before {before}", journal)
        return Measurement(oxygen, amounts, tc_k, year, journal, structure)

    def merge(found: list[Measurement]) -> pd.DataFrame:
        parts = [_of_oxygen([each for each in found if each.oxygen == oxygen], oxygen) for oxygen in OXYGEN]
        return pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)[TABLE_COLUMNS]

    contents = read_columns(path, SUPERCON_COLUMNS, ("str3",), tabs=True, header_line=HEADER_LINE)
    return files.load_rows(contents, "supercon", read, merge)


def is_supercon(path: PathLike) -> bool:
    """Whether a file is of SuperCon's form. Raises DataError for one that can't be read."""
    line = next(islice(files.read_lines(path), HEADER_LINE - 1, None), "")
    return {*line.rstrip("\r\n").split("\t")} >= {*SUPERCON_COLUMNS}


def oxygen_of(formula: str) -> tuple[Oxygen, str]:
    """How a formula gives its oxygen, and the formula without what is unknown of it: `Y1Ba2Cu3O7-X` is nominal and
    `Y1Ba2Cu3O7`, `Y1Ba2Cu3OZ` is any and `Y1Ba2Cu3O`; anything else stays as it is.
    """
    nominal = _NOMINAL_OXYGEN.fullmatch(formula)
    if nominal is not None:
        return "nominal", nominal[1]
    undetermined = _ANY_OXYGEN.fullmatch(formula)
    return ("stated", formula) if undetermined is None else ("any", undetermined[1])


def publication_year(journal: str) -> int | None:
    """The year in a reference such as `Jpn.J.Appl.Phys., 26(1987)L223`, the earlier of two, or None. One in brackets
    goes before an arXiv number, and that before the only bare number that can be a year and not a page.
    """
    years = [int(year) for year in _YEAR_IN_BRACKETS.findall(journal)]
    if not years and (preprint := _ARXIV.search(journal)):
        short = int(preprint.group(1))
        years = [1900 + short if short >= 91 else 2000 + short]  # arXiv began in 1991
    if not years:
        bare = {int(year) for year in _BARE_YEAR.findall(journal)}
        years = list(bare) if len(bare) == 1 else []
    return min((year for year in years if year >= FIRST_YEAR), default=None)


def _of_oxygen(found: Sequence[Measurement], oxygen: Oxygen) -> pd.DataFrame:
    """One row a composition, sorted by formula."""
    rows = pd.DataFrame(found, columns=Measurement._fields)
    rows["formula"], rows["chemical_system"] = compositions([each.amounts for each in found])
    types = {"tc_k": "float64", "year": "Int64"}
    rows = rows.astype(types | dict.fromkeys(("journal", "structure", "formula", "chemical_system"), "str"))
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
    # The structure that most reports name, the first in the alphabet among equals.
    named = rows[rows["structure"] != ""].value_counts(["formula", "structure"]).reset_index()
    most = named.sort_values(["count", "structure"], ascending=[False, True]).drop_duplicates("formula")
    table["structure"] = most.set_index("formula")["structure"].reindex(table.index).fillna("").astype("str")
    return table.reset_index().assign(oxygen=oxygen)


def load_oqmd(path: PathLike) -> tuple[pd.DataFrame, LoadReport]:
    """OQMD for training E_f, sorted by formula: compositions of ElemNet's 86 elements only. Columns: `formula`
    (canonical), `ef_ev_per_atom` (the lowest), `n_merged`, `chemical_system`. Raises DataError.
    """
    contents = read_columns(path, OQMD_COLUMNS)
    return _energies(contents, "oqmd", 1, ELEMNET_SYMBOLS, "outside ElemNet's 86 elements")


def load_materials_project(path: PathLike) -> tuple[pd.DataFrame, LoadReport]:
    """The Materials Project's ground states, sorted by formula. Columns: `formula` (canonical), `ef_ev_per_atom` (the
    lowest) and the `decomposition_ev_per_atom` of that entry (≤ 0: stable, by how much; > 0: the distance above the
    hull of the others), `n_merged`, `chemical_system`. Raises DataError.
    """
    return _energies(read_columns(path, MATERIALS_PROJECT_COLUMNS), "materials_project", 2)


def load_phases(
    path: PathLike, *, energies: bool, elements: Collection[str] | None = None
) -> tuple[pd.DataFrame, LoadReport]:
    """The compounds of a file of phases, sorted by formula, without elements, which a hull has at 0 eV/atom. Columns:
    `formula` (canonical), `n_merged` and, with `energies`, `ef_ev_per_atom`, the lowest of the file's own. elements:
    compounds of others are dropped. Raises DataError, also where no compound is left.
    """
    path = Path(path)
    columns, tabs = _phase_columns(path, energies)
    contents = read_columns(path, columns, tabs=tabs)
    if len(contents.rows) > MAX_PHASES:
        fail(path, None, f"more than {MAX_PHASES:,} compounds", "leave out those that don't matter")
    table, report = _energies(contents, "phases", int(energies), elements, files.FOREIGN, compounds=True)
    if table.empty:
        why = ", ".join(f"{count:,} {reason}" for reason, count in report.dropped.items())
        fail(path, None, f"no compound is left of {report.rows_read:,} rows ({why})", "check the file")
    return table.drop(columns="chemical_system"), report


def energies_of_phases(path: PathLike) -> dict[str, float]:
    """The energies that a file of phases has, eV/atom by canonical formula, {} where it has none; a blank is none.
    Raises DataError.
    """
    path = Path(path)
    header, _ = _phase_header(path)
    if not any(_plain(name) in ENERGY_NAMES for name in header):
        return {}
    columns, tabs = _phase_columns(path, energies=True)
    table, _ = _energies(read_columns(path, columns, tabs=tabs), "phases", 1, compounds=True)
    return dict(zip(table["formula"], table["ef_ev_per_atom"], strict=True))


def _energies(
    contents: Contents,
    kind: str,
    count: int,
    elements: Collection[str] | None = None,
    foreign: str = "",
    compounds: bool = False,
) -> tuple[pd.DataFrame, LoadReport]:
    """One row a composition with the first `count` of ENERGY_COLUMNS, and what was dropped: rows of others than
    `elements` for the reason `foreign` and, of `compounds`, elements alone.
    """

    def read(formula: str, *texts: str) -> tuple[dict[str, float], *tuple[float, ...]]:
        amounts = files.read_amounts(formula)
        leave_out(compounds and len(amounts) == 1, files.AN_ELEMENT, formula)
        leave_out(not all(texts), "missing energy", formula)
        values = [files.read_number(text, "energy not a number", ", ".join(texts)) for text in texts]
        plausible = not values or MIN_EF_EV_PER_ATOM <= values[0] <= MAX_EF_EV_PER_ATOM
        leave_out(not plausible, "implausible formation energy", f"{formula} {''.join(texts[:1])} eV/atom")
        others = [] if elements is None else [symbol for symbol in amounts if symbol not in elements]
        leave_out(bool(others), foreign, f"{formula}: {', '.join(others)}")
        return amounts, *values

    return files.load_rows(contents, kind, read, lambda rows: merged(rows, ENERGY_COLUMNS[:count]))


def _phase_header(path: Path) -> tuple[list[str], bool]:
    """The names of a file's columns, and whether tabs part them."""
    line = next(files.read_lines(path), None)
    if line is None:
        fail(path, None, "the file is empty", "fetch or export it again")
    if os.path.getsize(path) > MAX_BYTES:
        fail(path, None, f"the file is larger than {MAX_BYTES >> 20} MiB", "keep formulas and energies alone")
    tabs = "\t" in line
    return line.rstrip("\r\n").split("\t") if tabs else next(csv.reader([line]), []), tabs


def _phase_columns(path: Path, energies: bool) -> tuple[list[str], bool]:
    """The header's own names of the formula and, with `energies`, of the energy; whether tabs part the columns."""
    header, tabs = _phase_header(path)
    plain = {_plain(name): name.strip() for name in reversed(header)}
    names = []
    for what, known in (("formulas", FORMULA_NAMES), ("formation energies", ENERGY_NAMES))[: 1 + energies]:
        name = next((plain[each] for each in known if each in plain), None)
        if name is None:
            problem = f"no column of {what} among {', '.join(map(repr, header))[:200]}"
            fail(path, 1, problem, f"name it {known[0]}, or one of {', '.join(known[1:])}")
        names.append(name)
    return names, tabs


def _plain(name: str) -> str:
    """As in Formation Energy (eV/atom) → formation_energy."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"[(\[].*", "", name.lower())).strip("_")


def load_cod(path: PathLike) -> tuple[pd.DataFrame, LoadReport]:
    """What has been crystallised, one row a composition, sorted by formula. Columns: `formula` (canonical), `cod_id`
    (the first entry's number, text), `n_merged`, `chemical_system`. Entries without the authors' formula are dropped:
    `calcformula` is summed over the atoms that were located, and often lacks the hydrogen. Raises DataError.
    """

    def read(number: str, formula: str, calculated: str, status: str) -> tuple[dict[str, float], str]:
        text = formula.strip("-?. ")  # `- D H O -`; `?` for none
        leave_out(status == "retracted", "retracted", f"COD {number}")
        leave_out(not text, "missing formula", f"COD {number}, calcformula {calculated}")
        return files.read_amounts(text), number

    contents = read_columns(path, COD_COLUMNS, ("status",))
    return files.load_rows(contents, "cod", read, lambda rows: merged(rows, ("cod_id",), "str"))


def load_own(
    path: PathLike, optional: Sequence[str], highest_tc_k: float = np.inf
) -> tuple[pd.DataFrame, str]:
    """A CSV file of one's own with the columns formula (canonical here), tc_k and some optional ones, in the file's
    order, and its SHA-256. Numbers aren't negative, NaN where not given. Raises DataError.
    """
    contents = read_columns(path, ("formula", "tc_k"), optional)
    if len(contents.rows) > MAX_OWN:
        fail(path, None, f"more than {MAX_OWN:,} rows", "leave out those that don't matter")
    rows = []
    for line, (text, tc, *fields) in contents.rows:
        try:
            formula = canonical(read(text))
        except FormulaError as error:
            advice = "correct it, or name a file of SuperCon's form"
            fail(path, line, f"the formula {text[:80]!r} can't be read ({error})", advice)
        tc_k = files.finite(tc)
        if tc_k is None or not 0 <= tc_k <= highest_tc_k:
            limit = "" if np.isinf(highest_tc_k) else f" and no more than {highest_tc_k:g}"
            fail(path, line, f"tc_k is {tc[:40]!r}", f"give the T_c in K{limit}, 0 where none was found")
        values = [_value(path, line, *each) for each in zip(optional, fields, strict=True)]
        rows.append((formula, tc_k, *values))
    return pd.DataFrame(rows, columns=["formula", "tc_k", *optional]), contents.sha256


def _value(path: PathLike, line: int, name: str, text: str) -> Any:
    """A text, or a number that isn't negative, whole where it counts something; NaN for an empty one."""
    if name in ("reference", "structure"):
        return text
    value = files.finite(text) if text else np.nan
    if value is None or value < 0 or (name in ("reports", "year") and text and not value.is_integer()):
        fail(path, line, f"{name} is {text[:40]!r}", "give a number, not negative, or leave the field empty")
    return value


# The Materials Project before OQMD, whose columns it has too.
LOADERS: Mapping[str, tuple[Callable[[PathLike], tuple[pd.DataFrame, LoadReport]], Sequence[str]]] = {
    "supercon": (load_supercon, ()),
    "cod": (load_cod, COD_COLUMNS),
    "materials_project": (load_materials_project, MATERIALS_PROJECT_COLUMNS),
    "oqmd": (load_oqmd, OQMD_COLUMNS),
}
"""Kind → loader, and the columns by which a comma-separated file is recognised."""
UNDERSTOOD = (
    "understood are: SuperCon's primary.tsv (third line: num name element str3 utc tc journal), "
    "OQMD (formula,formation_energy_ev_per_atom), "
    "the Materials Project (the same and decomposition_energy_ev_per_atom), "
    "COD's search export (file,…,formula,calcformula,…)"
)


def detect(path: PathLike) -> str:
    """One of `LOADERS`, from the first three lines. Raises DataError for anything else."""
    line = next(files.read_lines(path), None)
    if line is None:
        fail(path, None, "the file is empty", "fetch it again")
    if is_supercon(path):
        return "supercon"
    names = {name.strip() for name in next(csv.reader([line]), [])}
    kind = next((kind for kind, (_, columns) in LOADERS.items() if columns and names >= {*columns}), None)
    if kind is None:
        fail(path, 1, f"the header {line.strip()[:60]!r} is not one of a known table", UNDERSTOOD)
    return kind


def load(path: PathLike) -> tuple[pd.DataFrame, LoadReport]:
    """The file's table, one row a composition, and its report, whichever kind it is. Raises DataError."""
    loader, _ = LOADERS[detect(path)]
    return loader(path)


def non_superconductors(
    known: pd.DataFrame, measured: pd.DataFrame, by: Literal["composition", "chemical_system"] = "composition"
) -> pd.DataFrame:
    """Rows of `known` (Materials Project or COD) that are not among the `measured`, with a `tc_k` of 0 K: an
    assumption, as most were never cooled down. `by="chemical_system"` leaves out all of a chemical system that was
    measured: fewer wrong labels, since neighbours of superconductors are often superconductors.
    """
    if by == "composition":
        new = without(known, measured)
    else:
        new = known[~known["chemical_system"].isin(measured["chemical_system"])]
    return new[["formula", "chemical_system"]].reset_index(drop=True).assign(tc_k=0.0)


def without(table: pd.DataFrame, held: pd.DataFrame) -> pd.DataFrame:
    """`table` less every composition that `held` has."""
    keys = {composition_key(parse(text)) for text in held["formula"]}
    return table[[composition_key(parse(text)) not in keys for text in table["formula"]]]
