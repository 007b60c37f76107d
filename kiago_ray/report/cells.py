"""How values read to a person: digits that mean something, signs on differences, a dash for the unknown.

Rows are those of a table of candidates as mappings from column name to plain value (`table.to_pylist()`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

UNKNOWN = "–"

# Column → format of its number; z writes -0.0 as 0.0.
_FORMATS = {
    "plausibility": "{:.2g}",
    "expected_improvement_k": "{:.1f}",
    "best_nearby_tc_k": "{:.1f}",
    "trusted_tc_k": "{:z.1f}",
    "tc_k": "{:z.1f}",
    "tc_std_k": "{:.1f}",
    "tc_oracle_k": "{:z.1f}",
    "extrapolation": "{:.2f}",
    "delta_tc_k": "{:+z.1f}",
    "ef_ev_per_atom": "{:z.3f}",
    "e_hull_ev_per_atom": "{:.3f}",
    "tc_given_tried_k": "{:z.1f}",
    "nearest_distance": "{:.2f}",
    "nearest_tc_k": "{:z.1f}",
    "nearest_pressure_gpa": "{:g}",
}


def cell(row: Mapping[str, Any], column: str) -> str:
    """The value of one column as text."""
    value = row.get(column)
    if value is None or value == "":
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _FORMATS.get(column, "{}").format(value)


def with_spread(row: Mapping[str, Any]) -> str:
    """T_c and, where it is known, its standard deviation, in K: "114.7 ± 9"."""
    spread = row.get("tc_std_k")
    return cell(row, "tc_k") + ("" if spread is None else f" ± {spread:.0f}")


def extrapolation(row: Mapping[str, Any]) -> str:
    """The extrapolation score, with "!" where it is beyond what the predictors know."""
    return cell(row, "extrapolation") + ("!" if row.get("extrapolated") else "")


def percent(fraction: float | None) -> str:
    """A fraction as per cent to one decimal."""
    return UNKNOWN if fraction is None else f"{100 * fraction:.1f} %"


def kelvin(value: float | None, *, sign: bool = False) -> str:
    """A temperature or, with `sign`, a difference of temperatures."""
    return UNKNOWN if value is None else f"{value:{'+' if sign else ''}z.1f} K"


def unseen(row: Mapping[str, Any]) -> str:
    """Why neutrality says little about a row: "metals only", "one element" or ""."""
    if not row.get("alloy"):
        return ""
    return "one element" if row.get("n_elements") == 1 else "metals only"


def failed_screens(row: Mapping[str, Any], required: tuple[str, ...]) -> tuple[str, ...]:
    """The required screens that the row fails."""
    return tuple(name for name in required if row.get(name) is False)
