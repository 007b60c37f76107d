"""report.html: one page that holds everything, plots included, and asks nothing from the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kiago_ray.report.cells import kelvin
from kiago_ray.report.page_parts import (
    document,
    figures,
    how_rows_ended,
    limits,
    plain_table,
    remark_html,
    section,
    specification,
    tiles,
)
from kiago_ray.report.page_table import html_table
from kiago_ray.report.page_trust import REASONS_HEADING, TOP_HEADING, explanations, top_html
from kiago_ray.report.reasons import Background
from kiago_ray.report.summary_rows import no_gain, summary_rows
from kiago_ray.screening.summary import Summary

TABLE_ROWS = 50


@dataclass(frozen=True)
class Page:
    """What goes on the page.

    title: plain text. rows: the ranked table's first rows, as mappings from column to value. plots: caption
    and PNG of each. spec_text: the specification as it stands in spec.yaml. model_notes: a sentence each on
    how good the predictors are (from their model cards). remark: something the reader must know first, such
    as that the search was stopped early. background: what the explanation of the best rows needs beside them.
    """

    title: str
    summary: Summary
    rows: Sequence[Mapping[str, Any]]
    plots: Sequence[tuple[str, bytes]]
    spec_text: str
    model_notes: Sequence[str] = ()
    remark: str = ""
    background: Background = field(default_factory=Background)


def render_page(page: Page) -> str:
    """The page as HTML5 text. All text given is escaped."""
    return document(
        page.title,
        f"""{remark_html(page.remark)}
{_tiles(page.summary)}
<h2>Best candidates</h2>
{remark_html(no_gain(page.summary.gains, page.summary.passed))}
{html_table(page.rows[:TABLE_ROWS], page.summary.required)}
{section(REASONS_HEADING, explanations(page.rows, page.background))}
{section(TOP_HEADING, top_html(page.summary.top))}
<h2>Plots</h2>
{figures(page.plots)}
<h2>Summary</h2>
{plain_table(summary_rows(page.summary), "Summary")}
<h2>How rows ended</h2>
{how_rows_ended(page.summary.statuses)}
{limits(page.model_notes)}
{specification(page.spec_text)}""",
    )


def _tiles(summary: Summary) -> str:
    base = summary.base
    entries = [
        ("candidates", f"{summary.rows:,}"),
        ("unique formulas", f"{summary.unique:,}"),
        ("passed every screen", f"{summary.passed:,}"),
    ]
    if base is not None:
        entries.append((f"T_c of {base.formula}, predicted", kelvin(base.tc_predicted_k)))
        if base.tc_measured_k is not None:
            entries.append((f"T_c of {base.formula}, measured", kelvin(base.tc_measured_k)))
    if summary.top and summary.top[0].used:
        first = summary.top[0]
        entries.append((f"mean T_c of the best {first.used}, predicted", kelvin(first.mean_tc_k)))
        if first.gap_k is not None:
            entries.append((f"exploitation gap of the best {first.used}", kelvin(first.gap_k)))
        if first.mean_trusted_tc_k is not None:
            entries.append((f"mean trusted T_c of the best {first.used}", kelvin(first.mean_trusted_tc_k)))
    return tiles(entries)
