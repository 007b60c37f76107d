"""Formation energies: OQMD's and the Materials Project's tables, and files of competing phases, one row a composition.

OQMD and the Materials Project are comma-separated with a header; a file of phases is any table of formulas, such as
the Materials Project, Alexandria and OQMD export, comma- or tab-separated, any source mixed. All may be gzipped;
energies are in eV/atom against the elements. Of several entries of one composition the lowest in energy is its ground
state, and the others are polymorphs: the lowest is kept.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from kiago_ray.chemistry.elements import ELEMNET_SYMBOLS
from kiago_ray.data.compositions import finite, merged, read_amounts
from kiago_ray.data.files import Contents, LoadReport, PathLike, Tally, fail, read_columns, read_lines

OQMD_KIND = "oqmd"
MATERIALS_PROJECT_KIND = "materials_project"
PHASES_KIND = "phases"
OQMD_COLUMNS = ("formula", "formation_energy_ev_per_atom")
MATERIALS_PROJECT_COLUMNS = (*OQMD_COLUMNS, "decomposition_energy_ev_per_atom")

# Nothing binds more strongly than the fluorides and oxides of thorium and the lanthanides (-4.6); the most
# unfavourable alloys reach +4. OQMD's next value is +6.6 and its last +43: calculations that did not
# converge.
MIN_EF_EV_PER_ATOM, MAX_EF_EV_PER_ATOM = -5.0, 5.0

MAX_BYTES = 1 << 30  # on the disk
MAX_PHASES = 1_000_000  # compounds read; all of OQMD's fit

# As the exports name them, without case, units in brackets and signs; the first that is there counts. `name` is
# OQMD's, whose `composition` comes before.
FORMULA_NAMES = tuple(
    "formula formula_pretty pretty_formula reduced_formula composition full_formula name".split()  # noqa: SIM905
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


def load_oqmd(path: PathLike) -> tuple[pd.DataFrame, LoadReport]:
    """OQMD for training ElemNet, sorted by formula: compositions of ElemNet's 86 elements only.

    Columns: `formula` (canonical), `ef_ev_per_atom` (the lowest), `n_merged`, `chemical_system`. Raises
    DataError.
    """
    contents, names = read_columns(path, OQMD_COLUMNS), ("ef_ev_per_atom",)
    return _load(contents, OQMD_KIND, names, ELEMNET_SYMBOLS, "outside ElemNet's 86 elements")


def load_materials_project(path: PathLike) -> tuple[pd.DataFrame, LoadReport]:
    """The Materials Project's ground states, sorted by formula.

    Columns: `formula` (canonical), `ef_ev_per_atom` (the lowest) and the `decomposition_ev_per_atom` of that
    entry (≤ 0: stable, by how much; > 0: the distance above the hull of the others), `n_merged`,
    `chemical_system`. Raises DataError.
    """
    names = ("ef_ev_per_atom", "decomposition_ev_per_atom")
    return _load(read_columns(path, MATERIALS_PROJECT_COLUMNS), MATERIALS_PROJECT_KIND, names)


def load_phases(
    path: PathLike, *, energies: bool, elements: Collection[str] | None = None
) -> tuple[pd.DataFrame, LoadReport]:
    """The compounds of a file of phases, sorted by formula. Elements are left out, because a hull has them at 0
    eV/atom by definition.

    Columns: `formula` (canonical), `n_merged` and, with `energies`, `ef_ev_per_atom`, the lowest of the file's own.
    elements: compounds of others are dropped. Raises DataError, also where no compound is left.
    """
    path = Path(path)
    columns, tabs = _columns(path, energies)
    contents, names = read_columns(path, columns, tabs=tabs), ("ef_ev_per_atom",)[: int(energies)]
    foreign = "an element that the predictor doesn't know"
    table, report = _load(contents, PHASES_KIND, names, elements, foreign, compounds_of=path)
    if table.empty:
        why = ", ".join(f"{count:,} {reason}" for reason, count in report.dropped.items())
        fail(path, None, f"no compound is left of {report.rows_read:,} rows ({why})", "check the file")
    return table.drop(columns="chemical_system"), report


def _load(
    contents: Contents,
    kind: str,
    names: Sequence[str],
    elements: Collection[str] | None = None,
    foreign: str = "",
    compounds_of: Path | None = None,
) -> tuple[pd.DataFrame, LoadReport]:
    """One row a composition, its energies under `names`, and what was dropped: rows of others than `elements` for the
    reason `foreign` and, where the file `compounds_of` is given, elements alone.
    """
    tally = Tally(kind, contents)
    rows: list[dict[str, float]] = []
    energies: list[list[float]] = []
    for line, (formula, *texts) in contents:
        amounts = read_amounts(formula, line, tally)
        if amounts is None:
            continue
        values = [value for text in texts if (value := finite(text)) is not None]
        others = [] if elements is None else [symbol for symbol in amounts if symbol not in elements]
        if compounds_of is not None and len(amounts) == 1:
            tally.drop("an element, at 0 eV/atom by definition", line, formula)
        elif not all(texts):
            tally.drop("missing energy", line, formula)
        elif len(values) < len(texts):
            tally.drop("energy not a number", line, ", ".join(texts))
        elif values and not MIN_EF_EV_PER_ATOM <= values[0] <= MAX_EF_EV_PER_ATOM:
            tally.drop("implausible formation energy", line, f"{formula} {texts[0]} eV/atom")
        elif others:
            tally.drop(foreign, line, f"{formula}: {', '.join(others)}")
        elif compounds_of is not None and len(rows) == MAX_PHASES:
            fail(
                compounds_of, line, f"more than {MAX_PHASES:,} compounds", "leave out those that don't matter"
            )
        else:
            rows.append(amounts)
            energies.append(values)
    # Equal formation energies are ordered by the next column, so that the file's order decides nothing.
    table = merged(
        rows, names, **{name: [values[at] for values in energies] for at, name in enumerate(names)}
    )
    return table, tally.report(len(table))


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
