"""The best rows, the summary and reasons as tables for a terminal: rich renderables, printed by the caller."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.table import Table
from rich.text import Text

from kiago_ray.report.reasons import EXPLAINED, Background, reasons_of
from kiago_ray.report.values import (
    UNKNOWN,
    Row,
    cell,
    extrapolation,
    failed_screens,
    summary_rows,
    top_rows,
    unseen,
    with_spread,
)
from kiago_ray.screening.summary import Summary, TopMean

WIDE = 110  # characters that all columns but the oxidation states need
WIDEST = 150
_HULL_WIDTH = 9
_PLAUSIBLE_WIDTH = 14


def best_table(
    rows: Sequence[Row],
    required: tuple[str, ...],
    title: str | None = None,
    *,
    width: int = WIDE,
    places: Sequence[str] = (),
) -> Table:
    """The rows of a ranked table (as mappings from column to value), in their order.

    required: the screens that count; a row that fails names those it failed. places: columns that say where a row of
    many searches comes from. width: of the terminal, in characters; one that isn't WIDE gets the marks alone and no
    T_c of the known. Columns that no row has a value in are left out, ΔT_c where there is a trusted T_c, E_f where
    there is ΔE_hull and no room for both, and E_f, the trusted T_c and the extrapolation where there are plausibility
    and expected gain and no room for all.
    """

    def some(name: str) -> bool:
        return any(row.get(name) is not None for row in rows)

    hull, plausible = some("e_hull_ev_per_atom"), some("plausibility")
    wide = width >= WIDE + (_HULL_WIDTH if hull else 0) + (_PLAUSIBLE_WIDTH if plausible else 0)
    trusted, score = some("trusted_tc_k"), some("extrapolation")
    numbers: list[tuple[str, int, bool, Callable[[Row], str]]] = [
        ("plau-\nsible", 5, plausible, _field("plausibility")),
        ("gain\nK", 5, plausible, _field("expected_improvement_k")),
        ("trusted\nT_c (K)", 7, trusted and (wide or not plausible), _field("trusted_tc_k")),
        ("T_c\nK", 5, True, with_spread),
        ("oracle\nK", 6, some("tc_oracle_k"), _field("tc_oracle_k")),
        ("ΔT_c\nK", 6, not trusted, _field("delta_tc_k")),
        ("E_f\neV/atom", 7, wide or not (hull or plausible), _field("ef_ev_per_atom")),
        ("ΔE_hull\neV/atom", 7, hull, _field("e_hull_ev_per_atom")),
        ("extra-\npol.", 6, score and (wide or not plausible), extrapolation),
        ("L1 to\nknown", 5, some("nearest_known"), _field("nearest_distance")),
    ]
    nearest = ("nearest known\n(its T_c)", _nearest) if wide else ("nearest known", _field("nearest_known"))
    texts = [nearest] if some("nearest_known") else []
    texts += [("oxidation states", _field("oxidation_states"))] if width >= WIDEST else []
    space = (0, 2 if wide else 1, 0, 0)
    table = Table(title=title, title_justify="left", box=None, padding=space, pad_edge=False)
    table.add_column("#", justify="right", min_width=2)
    table.add_column("formula", min_width=max((len(cell(row, "formula")) for row in rows), default=7))
    shown = [(header, least, content) for header, least, there, content in numbers if there]
    for header, least, _ in shown:
        table.add_column(header, justify="right", min_width=least, no_wrap=True)
    for header, _ in texts:
        table.add_column(header, no_wrap=not wide)
    for header in ("screens" if wide else "", *places):
        table.add_column(header, overflow="fold")
    for row in rows:
        contents = (_field("rank"), _field("formula"), *(each[-1] for each in (*shown, *texts)))
        mark, ends = _verdict(row, required), (Text(cell(row, name)) for name in places)
        cells = (Text(content(row)) for content in contents)
        style = None if row.get("passed") else "dim"
        table.add_row(*cells, mark if wide else mark[:1], *ends, style=style)
    return table


def _field(name: str) -> Callable[[Row], str]:
    return lambda row: cell(row, name)


def summary_table(summary: Summary) -> Table:
    """The summary: what was proposed, what passed, where the base lies (see summary_rows)."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    for row in summary_rows(summary):
        table.add_row(*(Text(text) for text in row))
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
        table.add_row(*(Text(text) for text in row), style="bold" if gap else None)
    return table


def reasons_table(rows: Sequence[Row], background: Background) -> Table:
    """In a few words, why the first rows may be believed (+), and why not (−); the page says it in sentences."""
    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for _ in range(3):
        table.add_column(overflow="fold")
    for row in rows[:EXPLAINED]:
        name = Text(f"{cell(row, 'rank')} {cell(row, 'formula')}")
        found = reasons_of(row, background)
        for side, mark, style in (("for", "+", "green"), ("against", "−", "red")):
            briefs = [reason.brief for reason in found if reason.side == side and reason.brief]
            if briefs:
                table.add_row(name, Text(mark, style=style), Text("; ".join(briefs)))
                name = Text()
    return table


def _nearest(row: Row) -> str:
    formula, pressure = cell(row, "nearest_known"), row.get("nearest_pressure_gpa")
    under = f" at {pressure:g} GPa" if pressure else ""
    return formula if formula == UNKNOWN else f"{formula} ({cell(row, 'nearest_tc_k')} K{under})"


def _verdict(row: Row, required: tuple[str, ...]) -> Text:
    if row.get("passed"):
        remark = unseen(row)
        return Text(f"✓ {remark}".rstrip(), style="green")
    return Text("✗ " + ", ".join(failed_screens(row, required)), style="red")
