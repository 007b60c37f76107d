"""How values and summaries read to a person, in a terminal and on a page: digits that mean something, signs on
differences, a dash for the unknown.

A row of a table of candidates is a mapping from column name to plain value (`table.to_pylist()`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kiago_ray.screening.screens import available_screens
from kiago_ray.screening.summary import Summary, TopMean

Row = Mapping[str, Any]

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

# What is told of the best k → label, format, factor.
_TOP: Mapping[str, tuple[str, str, float]] = {
    "mean_tc_k": ("mean T_c by the search's model (K)", "{:z.1f}", 1),
    "mean_tc_oracle_k": ("mean T_c by the oracle (K)", "{:z.1f}", 1),
    "gap_k": ("exploitation gap: the first less the second (K)", "{:z.1f}", 1),
    "mean_trusted_tc_k": ("mean trusted T_c (K)", "{:z.1f}", 1),
    "delta_tc_k": ("ΔT_c to the base, by the search's model (K)", "{:+z.1f}", 1),
    "delta_tc_oracle_k": ("ΔT_c to the base, by the oracle (K)", "{:+z.1f}", 1),
    "flagged_fraction": ("extrapolated (%)", "{:.0f}", 100),
    "chemical_systems": ("different sets of elements", "{:,}", 1),
    "median_nearest_distance": ("median L1 distance to the nearest known", "{:.3f}", 1),
    "known": ("known compositions among them", "{:,}", 1),
}


def screen_labels() -> dict[str, str]:
    """What each screen is called in a list of counts."""
    return {name: screen.label for name, screen in available_screens().items()}


def cell(row: Row, column: str) -> str:
    """The value of one column as text."""
    value = row.get(column)
    if value is None or value == "":
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _FORMATS.get(column, "{}").format(value)


def with_spread(row: Row) -> str:
    """T_c and, where it is known, its standard deviation, in K: "114.7 ± 9"."""
    spread = row.get("tc_std_k")
    return cell(row, "tc_k") + ("" if spread is None else f" ± {spread:.0f}")


def extrapolation(row: Row) -> str:
    """The extrapolation score, with "!" where it is beyond what the predictors know."""
    return cell(row, "extrapolation") + ("!" if row.get("extrapolated") else "")


def percent(fraction: float | None) -> str:
    """A fraction as per cent to one decimal."""
    return UNKNOWN if fraction is None else f"{100 * fraction:.1f} %"


def kelvin(value: float | None, *, sign: bool = False) -> str:
    """A temperature or, with `sign`, a difference of temperatures."""
    return UNKNOWN if value is None else f"{value:{'+' if sign else ''}z.1f} K"


def unseen(row: Row) -> str:
    """Why neutrality says little about a row: "metals only", "one element" or ""."""
    if not row.get("alloy"):
        return ""
    return "one element" if row.get("n_elements") == 1 else "metals only"


def failed_screens(row: Row, required: tuple[str, ...]) -> tuple[str, ...]:
    """The required screens that the row fails."""
    return tuple(name for name in required if row.get(name) is False)


def summary_rows(summary: Summary) -> list[tuple[str, str, str]]:
    """Label, number and remark: what was proposed, what passed, where the base lies. See `top_rows` for the best.

    `unique` is a part of all rows, what passes screens is a part of the unique formulas.
    """
    ended = [f"{count:,} {label.replace('_', ' ')}" for label, count in summary.statuses.items() if count]
    rows = [
        ("candidates", f"{summary.rows:,}", ", ".join(ended)),
        ("unique formulas", f"{summary.unique:,}", f"{percent(summary.unique_fraction)} of all"),
    ]
    labels = screen_labels()
    for name, fraction in summary.screen_fractions.items():
        note = "" if name in summary.required else ", not required"
        remark = f"{percent(fraction)} of unique{note}"
        rows.append((labels.get(name, name), f"{summary.screens[name]:,}", remark))
    if summary.known is not None:
        share = summary.known / summary.unique if summary.unique else None
        rows.append(
            ("known compositions", f"{summary.known:,}", f"{percent(share)} of unique; listed after new ones")
        )
    remark = f"{percent(summary.passed_fraction)} of unique"
    rows.append(("passed every required screen", f"{summary.passed:,}", remark))
    rows += _improvement(summary)
    if summary.base is not None:
        base = summary.base
        oracle = "" if base.tc_oracle_k is None else f", oracle {kelvin(base.tc_oracle_k)}"
        remark = f"predicted; measured {kelvin(base.tc_measured_k)}{oracle}"
        rows.append((f"T_c of {base.formula}", kelvin(base.tc_predicted_k), remark))
    if summary.passed_above_base is not None:
        rows.append(("passed, T_c above the base's", f"{summary.passed_above_base:,}", "both predicted"))
    return rows


def no_gain(gains: int | None, passed: int) -> str:
    """The line that says that nothing is a gain; "" where something is, nothing passed, or it isn't known."""
    if gains or gains is None or not passed:
        return ""
    return "No row that passed and is new is predicted above the best known nearby: nothing here is a gain."


def _improvement(summary: Summary) -> list[tuple[str, str, str]]:
    """How many new rows are gains, what is left out of proposals, and where the first come from."""
    rows = []
    if summary.gains is not None:
        remark = no_gain(summary.gains, summary.passed) or "new, passed, T_c above the best known nearby"
        rows.append(("gains", f"{summary.gains:,}", remark))
    if summary.left_out:
        rows.append(("passed, but known or tried", f"{summary.left_out:,}", "listed after new ones"))
    if summary.sources:
        told = ", ".join(f"{count} {source}" for source, count in summary.sources.items())
        rows.append(("sources of the first", f"{sum(summary.sources.values())}", told))
    return rows


def top_rows(top: Sequence[TopMean]) -> list[tuple[str, ...]]:
    """What is told of the best k, one of `top` for each k: a header, then rows of a label and a value for each k.

    What isn't known for any k is left out. No rows where nothing passed.
    """
    if not any(each.used for each in top):
        return []
    rows = [("of the best that passed", *(f"{each.k}" for each in top))]
    if any(each.used != each.k for each in top):
        rows.append(("of which there are", *(f"{each.used}" for each in top)))
    for name, (label, form, factor) in _TOP.items():
        values = [getattr(each, name) for each in top]
        if any(value is not None for value in values):
            rows.append((label, *(UNKNOWN if v is None else form.format(factor * v) for v in values)))
    return rows
