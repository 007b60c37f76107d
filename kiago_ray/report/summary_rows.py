"""The summary of a search as rows of words: the same for the terminal and the page."""

from __future__ import annotations

from collections.abc import Mapping

from kiago_ray.report.cells import kelvin, percent
from kiago_ray.screening.summary import Summary, TopMean

SCREEN_LABELS: Mapping[str, str] = {
    "neutral": "charge neutral",
    "pauling": "neutral and Pauling rule",
    "ef_negative": "E_f < 0",
    "few_elements": "few elements",
    "novel": "not a known composition",
}

Row = tuple[str, str, str]


def summary_rows(summary: Summary) -> list[Row]:
    """Label, number and remark: what was proposed, what passed, by how much T_c rose.

    `unique` is a part of all rows, what passes screens is a part of the unique formulas.
    """
    ended = [f"{count:,} {label.replace('_', ' ')}" for label, count in summary.statuses.items() if count]
    rows = [
        ("candidates", f"{summary.rows:,}", ", ".join(ended)),
        ("unique formulas", f"{summary.unique:,}", f"{percent(summary.unique_fraction)} of all"),
    ]
    for name, fraction in summary.screen_fractions.items():
        note = "" if name in summary.required else ", not required"
        remark = f"{percent(fraction)} of unique{note}"
        rows.append((SCREEN_LABELS.get(name, name), f"{summary.screens[name]:,}", remark))
    remark = f"{percent(summary.passed_fraction)} of unique"
    rows.append(("passed every required screen", f"{summary.passed:,}", remark))
    if summary.base is not None:
        base = summary.base
        remark = f"predicted; measured {kelvin(base.tc_measured_k)}"
        rows.append((f"T_c of {base.formula}", kelvin(base.tc_predicted_k), remark))
    if summary.passed_above_base is not None:
        rows.append(("passed, T_c above the base's", f"{summary.passed_above_base:,}", "both predicted"))
    rows += [_top_row(top) for top in summary.top]
    return rows


def _top_row(top: TopMean) -> Row:
    mean = f"mean T_c {kelvin(top.mean_tc_k)}"
    remark = (
        mean if top.used == top.k else f"{mean} of the {top.used} that passed" if top.used else "none passed"
    )
    return f"ΔT_c of the best {top.k}", kelvin(top.delta_tc_k, sign=True), remark
