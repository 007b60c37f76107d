"""Formation energies from first principles: OQMD's and the Materials Project's tables, one row a composition.

Both are comma-separated with a header, plain or gzipped, energies in eV/atom against the elements. Of several
entries of one composition the lowest in energy is its ground state, and the others are polymorphs: the lowest
is kept.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from kiago_ray.chemistry.elements import ELEMNET_SYMBOLS
from kiago_ray.data.compositions import compositions, finite, read_amounts
from kiago_ray.data.files import LoadReport, PathLike, Tally, fail, read_columns, read_lines

OQMD_KIND = "oqmd"
MATERIALS_PROJECT_KIND = "materials_project"
OQMD_COLUMNS = ("formula", "formation_energy_ev_per_atom")
MATERIALS_PROJECT_COLUMNS = (*OQMD_COLUMNS, "decomposition_energy_ev_per_atom")

# Nothing binds more strongly than the fluorides and oxides of thorium and the lanthanides (-4.6); the most
# unfavourable alloys reach +4. OQMD's next value is +6.6 and its last +43: calculations that did not
# converge.
MIN_EF_EV_PER_ATOM, MAX_EF_EV_PER_ATOM = -5.0, 5.0

_ELEMNET = frozenset(ELEMNET_SYMBOLS)


def load_oqmd(path: PathLike) -> tuple[pd.DataFrame, LoadReport]:
    """OQMD for training ElemNet, sorted by formula: compositions of ElemNet's 86 elements only.

    Columns: `formula` (canonical), `ef_ev_per_atom` (the lowest), `n_merged`, `chemical_system`. Raises
    DataError.
    """
    return _load(path, OQMD_KIND, OQMD_COLUMNS, ("ef_ev_per_atom",), elemnet_only=True)


def load_materials_project(path: PathLike) -> tuple[pd.DataFrame, LoadReport]:
    """The Materials Project's ground states, sorted by formula.

    Columns: `formula` (canonical), `ef_ev_per_atom` (the lowest) and the `decomposition_ev_per_atom` of that
    entry (≤ 0: stable, by how much; > 0: the distance above the hull of the others), `n_merged`,
    `chemical_system`. Raises DataError.
    """
    names = ("ef_ev_per_atom", "decomposition_ev_per_atom")
    return _load(path, MATERIALS_PROJECT_KIND, MATERIALS_PROJECT_COLUMNS, names, elemnet_only=False)


def _load(
    path: PathLike, kind: str, columns: Sequence[str], names: Sequence[str], *, elemnet_only: bool
) -> tuple[pd.DataFrame, LoadReport]:
    contents = read_columns(path, columns)
    tally = Tally(kind, contents)
    rows: list[dict[str, float]] = []
    energies: list[list[float]] = []
    for line, (formula, *texts) in zip(contents.line_numbers, contents.rows, strict=True):
        amounts = read_amounts(formula, line, tally)
        if amounts is None:
            continue
        values = [value for text in texts if (value := finite(text)) is not None]
        if not all(texts):
            tally.drop("missing energy", line, formula)
        elif len(values) < len(texts):
            tally.drop("energy not a number", line, ", ".join(texts))
        elif not MIN_EF_EV_PER_ATOM <= values[0] <= MAX_EF_EV_PER_ATOM:
            tally.drop("implausible formation energy", line, f"{formula} {texts[0]} eV/atom")
        elif elemnet_only and not _ELEMNET.issuperset(amounts):
            tally.drop("outside ElemNet's 86 elements", line, formula)
        else:
            rows.append(amounts)
            energies.append(values)
    table = _merged(rows, energies, names)
    return table, tally.report(len(table))


def _merged(
    rows: Sequence[dict[str, float]], energies: Sequence[Sequence[float]], names: Sequence[str]
) -> pd.DataFrame:
    formulas, systems = compositions(rows)
    table = pd.DataFrame({"formula": pd.Series(formulas, dtype="str")})
    for column, name in enumerate(names):
        table[name] = pd.Series([values[column] for values in energies], dtype="float64")
    table["n_merged"] = table.groupby("formula")["formula"].transform("size").astype("int64")
    table["chemical_system"] = pd.Series(systems, dtype="str")
    # Equal formation energies are ordered by the other one, so that the file's order decides nothing.
    return table.sort_values(["formula", *names]).drop_duplicates("formula").reset_index(drop=True)


PHASES_KIND = "phases"
MAX_BYTES = 1 << 30  # on the disk
MAX_PHASES = 1_000_000  # compounds read; all of OQMD's fit

# As the exports name them, without case, units in brackets and signs; the first that is there counts.
FORMULA_NAMES = (
    "formula",
    "formula_pretty",
    "pretty_formula",
    "reduced_formula",
    "composition",
    "full_formula",
    "name",  # OQMD's, whose `composition` comes before
)
ENERGY_NAMES = (
    "ef_ev_per_atom",
    "formation_energy_ev_per_atom",
    "formation_energy_per_atom",
    "formation_energy_peratom",
    "e_form",
    "delta_e",
    "formation_energy",
)


def load_phases(
    path: PathLike, *, energies: bool, elements: Collection[str] | None = None
) -> tuple[pd.DataFrame, LoadReport]:
    """The compounds of a file, one row a composition, sorted by formula.

    Columns: `formula` (canonical), `n_merged` and, with `energies`, `ef_ev_per_atom`, the lowest of the file's own.
    elements: compounds of others are dropped. Raises DataError, also where no compound is left.
    """
    path = Path(path)
    names, tabs = _columns(path, energies)
    contents = read_columns(path, names, tabs=tabs)
    tally = Tally(PHASES_KIND, contents)
    rows: list[dict[str, float]] = []
    found: list[float] = []
    for line, (formula, *texts) in zip(contents.line_numbers, contents.rows, strict=True):
        amounts = read_amounts(formula, line, tally)
        if amounts is None:
            continue
        value = finite(texts[0]) if texts else 0.0
        if len(amounts) == 1:
            tally.drop("an element, at 0 eV/atom by definition", line, formula)
        elif elements is not None and (foreign := [s for s in amounts if s not in elements]):
            tally.drop("an element that the predictor doesn't know", line, f"{formula}: {', '.join(foreign)}")
        elif texts and not texts[0]:
            tally.drop("missing energy", line, formula)
        elif value is None:
            tally.drop("energy not a number", line, f"{formula}: {texts[0]}")
        elif not MIN_EF_EV_PER_ATOM <= value <= MAX_EF_EV_PER_ATOM:
            tally.drop("implausible formation energy", line, f"{formula} {texts[0]} eV/atom")
        elif len(rows) == MAX_PHASES:
            fail(path, line, f"more than {MAX_PHASES:,} compounds", "leave out those that don't matter")
        else:
            rows.append(amounts)
            found.append(value)
    table = _merged_phases(rows, found if energies else None)
    report = tally.report(len(table))
    if table.empty:
        why = ", ".join(f"{count:,} {reason}" for reason, count in report.dropped.items())
        fail(path, None, f"no compound is left of {report.rows_read:,} rows ({why})", "check the file")
    return table, report


def _columns(path: Path, energies: bool) -> tuple[list[str], bool]:
    """The header's own names of the formula and, with `energies`, of the energy; whether tabs part the columns."""
    try:
        size = os.path.getsize(path)
    except OSError:
        size = 0  # read_lines says what is wrong
    if size > MAX_BYTES:
        fail(path, None, f"the file is larger than {MAX_BYTES >> 20} MiB", "keep formulas and energies alone")
    line = next(iter(read_lines(path)), None)
    if line is None:
        fail(path, None, "the file is empty", "fetch or export it again")
    tabs = "\t" in line
    header = line.rstrip("\r\n").split("\t") if tabs else next(csv.reader([line]), [])
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


def _merged_phases(rows: Sequence[dict[str, float]], energies: Sequence[float] | None) -> pd.DataFrame:
    formulas, _ = compositions(rows)
    table = pd.DataFrame({"formula": pd.Series(formulas, dtype="str")})
    table["n_merged"] = table.groupby("formula")["formula"].transform("size").astype("int64")
    order = ["formula"]
    if energies is not None:
        table["ef_ev_per_atom"] = pd.Series(energies, dtype="float64")
        order.append("ef_ev_per_atom")
    return table.sort_values(order).drop_duplicates("formula").reset_index(drop=True)
