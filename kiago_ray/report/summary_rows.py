"""The summary of a search, and of its best k, as rows of words: the same for the terminal and the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kiago_ray.report.cells import UNKNOWN, kelvin, percent
from kiago_ray.screening.summary import Summary, TopMean

SCREEN_LABELS: Mapping[str, str] = {
    "neutral": "charge neutral",
    "pauling": "neutral and Pauling rule",
    "balanced": "charges balance, or a metal",
    "plausible": "plausible, where worked out",
    "neutral_mixed": "neutral, mixed valence allowed",
    "neutral_atoms": "neutral, each atom with its own valence",
    "hydride": "hydride: ≥ 40 % H, 2 or 3 elements, ≤ 15 atoms",
    "ef_negative": "E_f < 0",
    "few_elements": "few elements",
    "near_hull": "near the hull, where worked out",
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

Row = tuple[str, str, str]


def summary_rows(summary: Summary) -> list[Row]:
    """Label, number and remark: what was proposed, what passed, where the base lies. See `top_rows` for the best.

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


def _improvement(summary: Summary) -> list[Row]:
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
