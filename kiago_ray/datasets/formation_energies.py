"""Formation energies from first principles: OQMD's and the Materials Project's tables, one row a composition.

Both are comma-separated with a header, plain or gzipped, energies in eV/atom against the elements. Of several
entries of one composition the lowest in energy is its ground state, and the others are polymorphs: the lowest
is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from kiago_ray.chemistry.elements import ELEMNET_SYMBOLS
from kiago_ray.datasets.files import PathLike, read_columns
from kiago_ray.datasets.report import LoadReport, Tally
from kiago_ray.datasets.table import compositions, finite, read_amounts

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
