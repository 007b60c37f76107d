"""The best rows and the summary as tables for a terminal: rich renderables, printed by the caller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from kiago_ray.report.cells import UNKNOWN, cell, failed_screens
from kiago_ray.report.summary_rows import summary_rows
from kiago_ray.screening.summary import Summary


def best_table(
    rows: Sequence[Mapping[str, Any]], required: tuple[str, ...], title: str | None = None
) -> Table:
    """The rows of a ranked table (as mappings from column to value), in their order.

    required: the screens that count; a row that fails names those it failed. The columns on known materials
    are left out where no row has any.
    """
    table = Table(title=title, title_justify="left", pad_edge=False, header_style="bold")
    table.add_column("#", justify="right")
    table.add_column("formula", no_wrap=True, min_width=7)
    for header in ("T_c K", "ΔT_c K", "E_f eV/at."):
        table.add_column(header, justify="right", no_wrap=True)
    known = any(row.get("nearest_known") for row in rows)
    if known:
        table.add_column("nearest known", overflow="fold")
        table.add_column("L1", justify="right", no_wrap=True)
    table.add_column("oxidation states", overflow="fold")
    table.add_column("screens", overflow="fold")
    for row in rows:
        cells = [cell(row, name) for name in ("rank", "formula", "tc_k", "delta_tc_k", "ef_ev_per_atom")]
        if known:
            cells += [_nearest(row), cell(row, "nearest_distance")]
        style = None if row.get("passed") else "dim"
        texts = [Text(text) for text in (*cells, cell(row, "oxidation_states"))]
        table.add_row(*texts, _verdict(row, required), style=style)
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
        metals = " metals only" if row.get("alloy") else ""
        return Text(f"✓{metals}", style="green")
    return Text("✗ " + ", ".join(failed_screens(row, required)), style="red")
