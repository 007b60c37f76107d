"""What counts in a method's proposals: the paper's criteria, on amounts that need not be whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kiago_ray.api import JudgedRows
from kiago_ray.chemistry.elements import INDEX
from kiago_ray.chemistry.formula import fractions, parse
from kiago_ray.screening.rank import Ranking
from kiago_ray.screening.screens import HYDRIDE_ATOMS, HYDRIDE_ELEMENTS, MIN_HYDROGEN
from kiago_ray.storage.table import ranked

if TYPE_CHECKING:
    from kiago_ray.search import SearchSpec

TOLERANCE = 0.01  # of a ratio, "within 1 %" (section 3.5)
BEST_ROWS = 50  # of a cell that are kept
_SCREENS = ("neutral", "pauling", "neutral_atoms", "hydride", "ef_negative", "few_elements")
_COLUMNS = (
    "formula",
    "tc_k",
    "tc_oracle_k",
    "trusted_tc_k",
    "ef_ev_per_atom",
    "extrapolated",
    "oxidation_states",
)

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def rightly_substituted(amounts: Floats, base: str, element: str) -> Mask:
    """Section 3.5's two criteria on amounts (n, 118), (n,): each preserved element's share of the atoms lies
    within 1 % of what it is in the base, and so does the share of all others together, of the substituted element's;
    one of these at least is new.

    The base itself and rows of zeros fail.
    """
    x0 = fractions(parse(base))
    total = amounts.sum(axis=1, keepdims=True)
    x = amounts / np.where(total > 0, total, 1)
    preserved = x0 > 0
    preserved[INDEX[element]] = False
    kept = np.abs(x[:, preserved] - x0[preserved]) <= TOLERANCE * x0[preserved] + 1e-12
    share = x0[INDEX[element]]
    others = np.abs(x[:, ~preserved].sum(axis=1) - share) <= TOLERANCE * share + 1e-12
    new = (x[:, x0 == 0] > 0).any(axis=1)
    right: Mask = kept.all(axis=1) & others & new
    return right


def hydride_form(amounts: Floats) -> Mask:
    """Table 10's three conditions on amounts (n, 118), (n,): at least 40 % hydrogen, three elements or fewer, 15 atoms
    or fewer. Amounts that aren't whole count as they are written.
    """
    atoms = amounts.sum(axis=1)
    rich = amounts[:, INDEX["H"]] >= MIN_HYDROGEN * atoms - 1e-9
    few = (amounts > 0).sum(axis=1) <= HYDRIDE_ELEMENTS
    formed: Mask = rich & few & (atoms > 0) & (atoms <= HYDRIDE_ATOMS + 1e-9)
    return formed


def figures(rows: JudgedRows, judge: SearchSpec, sites: Mapping[str, int]) -> dict[str, Any]:
    """The figures of judged rows. Rates count all rows, as the paper counts samples; screens and the best count each
    formula once. Where `sites` are substituted only rightly substituted formulas pass; where the judge has the
    screen of hydrides, Table 10's form stands in for it, because the screen sees whole formulas alone.
    """
    table, amounts = rows.table, rows.result.amounts
    found: dict[str, Any] = {"rows": len(table), "neutral_rows": _share(_mask(table, "neutral"))}
    if "hydride" in judge.screens.names:
        formed = hydride_form(amounts)
        found["hydride_rows"] = _share(formed)
        compound = (amounts > 0).sum(axis=1) >= 2
        others = [_mask(table, name) for name in judge.screens.names if name != "hydride"]
        table = _passing(table, np.logical_and.reduce([formed, compound, *others]))
    for element in sites:
        right = rightly_substituted(amounts, str(judge.base), element)
        found["right_rows"] = _share(right)
        table = _passing(table, _mask(table, "passed") & right)
    unique = ranked(table, Ranking("tc"))
    good = unique.filter(unique["passed"])
    return found | {
        "statuses": {name: count for name, count in rows.result.status_counts().items() if count},
        "unique": len(unique),
        "screens": {
            name: int(_mask(unique, name).sum()) for name in _SCREENS if unique[name].null_count < len(unique)
        },
        "passed": len(good),
        "best": good.select(list(_COLUMNS)).slice(0, BEST_ROWS).to_pylist(),
    }


def _passing(table: pa.Table, passed: Mask) -> pa.Table:
    """The table with another verdict on the whole of each row."""
    place = table.schema.get_field_index("passed")
    return table.set_column(place, table.schema.field(place), pa.array(passed))


def _mask(table: Any, column: str) -> Mask:
    mask: Mask = table[column].fill_null(False).to_numpy(zero_copy_only=False).astype(np.bool_)
    return mask


def _share(mask: Mask) -> float | None:
    return float(mask.mean()) if len(mask) else None
