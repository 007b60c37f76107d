"""The best rows and the summary as tables for a terminal: rich renderables, printed by the caller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from kiago_ray.report.cells import UNKNOWN, cell, failed_screens, unseen
from kiago_ray.report.summary_rows import summary_rows
from kiago_ray.screening.summary import Summary

WIDE = 110  # characters that all columns need


def best_table(
    rows: Sequence[Mapping[str, Any]],
    required: tuple[str, ...],
    title: str | None = None,
    *,
    width: int = WIDE,
) -> Table:
    """The rows of a ranked table (as mappings from column to value), in their order.

    required: the screens that count; a row that fails names those it failed. width: of the terminal, in
    characters; one that isn't WIDE gets the marks alone and no oxidation states. The columns on known
    materials are left out where no row has any.
    """
    wide = width >= WIDE
    known = any(row.get("nearest_known") for row in rows)
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("#", justify="right", min_width=2)
    table.add_column("formula", min_width=max((len(cell(row, "formula")) for row in rows), default=7))
    for header, least in (("T_c\nK", 5), ("ΔT_c\nK", 6), ("E_f\neV/atom", 7)):
        table.add_column(header, justify="right", min_width=least)
    if known:
        table.add_column("L1 to\nknown", justify="right", min_width=5)
        table.add_column("nearest known\n(its T_c)" if wide else "nearest known", no_wrap=not wide)
    if wide:
        table.add_column("oxidation states")
    table.add_column("screens" if wide else "", overflow="fold")
    for row in rows:
        cells = [cell(row, name) for name in ("rank", "formula", "tc_k", "delta_tc_k", "ef_ev_per_atom")]
        if known:
            cells.append(cell(row, "nearest_distance"))
            cells.append(_nearest(row) if wide else cell(row, "nearest_known"))
        if wide:
            cells.append(cell(row, "oxidation_states"))
        mark = _verdict(row, required)
        style = None if row.get("passed") else "dim"
        table.add_row(*(Text(text) for text in cells), mark if wide else mark[:1], style=style)
    return table


def summary_table(summary: Summary) -> Table:
    """The summary: what was proposed, what passed, by how much T_c rose (see summary_rows)."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    for row in summary_rows(summary):
        table.add_row(*(Text(text) for text in row))
    return table


def _nearest(row: Mapping[str, Any]) -> str:
    formula = cell(row, "nearest_known")
    return formula if formula == UNKNOWN else f"{formula} ({cell(row, 'nearest_tc_k')} K)"


def _verdict(row: Mapping[str, Any], required: tuple[str, ...]) -> Text:
    if row.get("passed"):
        remark = unseen(row)
        return Text(f"✓ {remark}".rstrip(), style="green")
    return Text("✗ " + ", ".join(failed_screens(row, required)), style="red")
