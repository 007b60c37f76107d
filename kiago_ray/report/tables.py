"""How values, rows and summaries read to a person: digits that mean something, signs on differences, a dash for the
unknown; and the tables of a terminal, as rich renderables that the caller prints.

A row of a table of candidates is a mapping from column name to plain value (`table.to_pylist()`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from kiago_ray.report.reasons import EXPLAINED, NEAR_L1, Row, named, of_itself, reasons_of, unseen
from kiago_ray.report.terminal import UNKNOWN, RowTable
from kiago_ray.screening.screens import SCREENS, Summary, TopMean
from kiago_ray.storage.table import written

Content = Callable[[Row], str]

# Columns of which a person reads other digits than top.csv has.
_FORMATS = {
    "plausibility": "{:.2g}",
    "delta_tc_k": "{:+z.1f}",
    "nearest_distance": "{:.2f}",
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


def cell(row: Row, column: str) -> str:
    """The value of one column as text."""
    return written(row, column, _FORMATS.get(column)) or UNKNOWN


def with_spread(row: Row, name: str = "tc_k", std: str = "tc_std_k", decimals: int = 0) -> str:
    """A value, by default T_c in K, and, where it is known, its standard deviation: "114.7 ± 9"."""
    spread = row.get(std)
    return cell(row, name) + ("" if spread is None else f" ± {spread:.{decimals}f}")


def measured_tc(row: Row) -> str:
    """What was measured of the row's own composition in K, under which pressure, and which known one that is where it
    isn't quite the row's: "80 (14 GPa)", "115 (95 GPa), CeH10".
    """
    value, pressure, known = row.get("measured_tc_k"), row.get("measured_pressure_gpa"), named(row, "known")
    told = "" if value is None else f"{value:g}" + (f" ({pressure:g} GPa)" if pressure else "")
    other = known is not None and (value is None or row["nearest_distance"] > 0)
    return ", ".join(filter(None, (told, known if other else ""))) or UNKNOWN


def extrapolation(row: Row) -> str:
    """The extrapolation score, with "!" where it is beyond what the predictors know."""
    return cell(row, "extrapolation") + ("!" if row.get("extrapolated") else "")


def percent(fraction: float | None) -> str:
    """A fraction as per cent to one decimal."""
    return UNKNOWN if fraction is None else f"{100 * fraction:.1f} %"


def kelvin(value: float | None) -> str:
    """A temperature."""
    return UNKNOWN if value is None else f"{value:z.1f} K"


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
    labels = {name: screen.label for name, screen in SCREENS.items()}
    for name, fraction in summary.screen_fractions.items():
        note = "" if name in summary.required else ", not required"
        remark = f"{percent(fraction)} of unique{note}"
        rows.append((labels.get(name, name), f"{summary.screens[name]:,}", remark))
    if summary.known is not None:
        share = percent(summary.known / summary.unique if summary.unique else None)
        rows.append(("known compositions", f"{summary.known:,}", f"{share} of unique; listed after new ones"))
    remark = f"{percent(summary.passed_fraction)} of unique"
    rows.append(("passed every required screen", f"{summary.passed:,}", remark))
    if summary.gains is not None:
        remark = no_gain(summary.gains, summary.passed) or "new, passed, T_c above the best known nearby"
        rows.append(("gains", f"{summary.gains:,}", remark))
    if summary.left_out:
        rows.append(("passed, but known or tried", f"{summary.left_out:,}", "listed after new ones"))
    if summary.sources:
        told = ", ".join(f"{count} {source}" for source, count in summary.sources.items())
        rows.append(("sources of the first", f"{sum(summary.sources.values())}", told))
    if summary.base is not None:
        base = summary.base
        oracle = "" if base.tc_oracle_k is None else f", oracle {kelvin(base.tc_oracle_k)}"
        pressure = base.measured_pressure_gpa
        under = f" at {pressure:g} GPa" if pressure else ""
        remark = f"predicted; measured {kelvin(base.tc_measured_k)}{under}{oracle}"
        rows.append((f"T_c of {base.formula}", kelvin(base.tc_predicted_k), remark))
    if summary.passed_above_base is not None:
        rows.append(("passed, T_c above the base's", f"{summary.passed_above_base:,}", "both predicted"))
    return rows


def no_gain(gains: int | None, passed: int) -> str:
    """The line that says that nothing is a gain; "" where something is, nothing passed, or it isn't known."""
    none = "No row that passed and is new is predicted above the best known nearby: nothing here is a gain."
    return none if gains == 0 and passed else ""


def top_rows(top: Sequence[TopMean]) -> list[tuple[str, ...]]:
    """What is told of the best k, one of `top` for each k: a header, then rows of a label and a value for each k. What
    isn't known for any k is left out. No rows where nothing passed.
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


def best_table(
    rows: Sequence[Row], required: tuple[str, ...], title: str | None = None, *, places: Sequence[str] = ()
) -> RenderableType:
    """The rows of a ranked table, in their order. required: the screens that count; a row that fails names those it
    failed. places: columns that say where a row of many searches comes from. ΔT_c is left out where there is a
    trusted T_c.
    """
    if not rows:
        return "No formulas."
    trusted = any(row.get("trusted_tc_k") is not None for row in rows)
    contents: dict[str, str | Content] = {
        "#": "rank",
        "": lambda row: "✓" if row.get("passed") else "✗",
        "formula": "formula",
        "plau-\nsible": "plausibility",
        "gain\n(K)": "expected_improvement_k",
        "mea-\nsured": measured_tc,
        "T_c\n(K)": with_spread,
        "oracle\n(K)": "tc_oracle_k",
        "ΔT_c\n(K)": lambda row: UNKNOWN if trusted else cell(row, "delta_tc_k"),
        "ΔE_hull\n(eV/atom)": "e_hull_ev_per_atom",
        "trusted\nT_c (K)": "trusted_tc_k",
        "L1 to\nknown": "nearest_distance",
        "nearest known\n(its T_c)": _nearest,
        "extra-\npol.": extrapolation,
        "E_f\n(eV/atom)": "ef_ev_per_atom",
        "screens": lambda row: unseen(row) if row.get("passed") else ", ".join(failed_screens(row, required)),
        **{name: name for name in places},
        "charges": "oxidation_states",
    }
    cells = [
        {header: cell(row, of) if isinstance(of, str) else of(row) for header, of in contents.items()}
        for row in rows
    ]
    styles = {"✓": "green", "✗": "red"}
    return RowTable(
        [{name: Text(text, styles.get(text, "")) for name, text in row.items()} for row in cells],
        names=("", "formula"),
        texts=("mea-\nsured", "nearest known\n(its T_c)", "screens", *places, "charges"),
        title=title,
        styles=["" if row.get("passed") else "dim" for row in rows],
    )


def summary_table(summary: Summary) -> Table:
    """What `summary_rows` says, for a terminal."""
    table = Table.grid(Column(style="bold"), Column(justify="right", no_wrap=True), "", padding=(0, 2, 0, 0))
    for row in summary_rows(summary):
        table.add_row(*map(Text, row))
    return table


def top_table(top: Sequence[TopMean]) -> Table:
    """What is told of the best k, the exploitation gap above all, a column for each k (see top_rows)."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    header, *rows = top_rows(top) or [("none passed",)]
    table.add_column(header[0], style="bold")
    for k in header[1:]:
        table.add_column(k, justify="right", no_wrap=True)
    for row in rows:
        gap = row[0].startswith("exploitation gap")
        table.add_row(*map(Text, row), style="bold" if gap else None)
    return table


def measured_remarks(rows: Sequence[Row]) -> list[Text]:
    """What measurements say of these rows, a line each, to stand below their table: in red where one contradicts the
    prediction or was made under pressure, and what near ones have their T_c under pressure alone.
    """
    lines = [
        Text(f"{row['formula']}: {reason.sentence}", style="bold red")
        for row in rows
        if (reason := of_itself(row)) is not None and reason.alarm
    ]
    near = {
        f"{named(row, 'nearest_known')} ({cell(row, 'nearest_tc_k')} K at {row['nearest_pressure_gpa']:g} GPa)": None
        for row in rows
        if row.get("nearest_pressure_gpa") and not row.get("known") and row["nearest_distance"] <= NEAR_L1
    }
    if near:
        told = "The models know nothing of pressure, but these known ones nearby superconduct under it: "
        lines.append(Text(f"{told}{', '.join(near)}."))
    return lines


def reasons_table(rows: Sequence[Row], ef_error_ev_per_atom: float | None) -> Group:
    """In a few words, why the first rows may be believed (+), and why not (−); the page says it in sentences."""
    lines: list[RenderableType] = []
    for row in rows[:EXPLAINED]:
        found = reasons_of(row, ef_error_ev_per_atom)
        lines.append(Text(f"{cell(row, 'rank')} {cell(row, 'formula')}", "bold"))
        grid = Table.grid(padding=(0, 1))
        for side, mark, style in (("for", "+", "green"), ("against", "−", "red")):
            briefs = [
                Text(reason.brief, style="bold red" if reason.alarm else "")
                for reason in found
                if reason.side == side and reason.brief
            ]
            if briefs:
                grid.add_row("", Text(mark, style=style), Text("; ").join(briefs))
        lines.append(grid)
    return Group(*lines)


def _nearest(row: Row) -> str:
    formula, pressure = named(row, "nearest_known") or UNKNOWN, row.get("nearest_pressure_gpa")
    under = f" at {pressure:g} GPa" if pressure else ""
    return formula if formula == UNKNOWN else f"{formula} ({cell(row, 'nearest_tc_k')} K{under})"
