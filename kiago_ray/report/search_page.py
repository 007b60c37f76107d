"""report.html of a search, and what the page of a campaign shows in the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kiago_ray.report.page import Row, candidates_table, render
from kiago_ray.report.plots import Plot
from kiago_ray.report.reasons import EXPLAINED, Background, reasons_of
from kiago_ray.report.values import summary_rows, top_rows
from kiago_ray.screening.summary import Summary, TopMean
from kiago_ray.search.result import RowStatus

TABLE_ROWS = 50


@dataclass(frozen=True)
class Page:
    """What goes on the page of a search.

    rows: the ranked table's first rows, as mappings from column to value. spec_text: the specification as it stands
    in spec.yaml. model_notes: a sentence each on how good the predictors are (from their model cards). remark:
    something the reader must know first, such as that the search was stopped early. background: what the explanation
    of the best rows needs beside them.
    """

    title: str
    summary: Summary
    rows: Sequence[Row]
    plots: Sequence[Plot]
    spec_text: str
    model_notes: Sequence[str] = ()
    remark: str = ""
    background: Background = field(default_factory=Background)


def render_page(page: Page) -> str:
    """The page of a search as HTML5 text."""
    summary = page.summary
    return render_ranked(
        "search.html.j2",
        page.rows[:TABLE_ROWS],
        summary.required,
        summary.top,
        summary.statuses,
        page.background,
        title=page.title,
        remark=page.remark,
        summary=summary,
        summary_rows=summary_rows(summary),
        plots=page.plots,
        model_notes=page.model_notes,
        spec_text=page.spec_text,
    )


def render_ranked(
    template: str,
    rows: Sequence[Row],
    required: tuple[str, ...],
    top: Sequence[TopMean],
    statuses: Mapping[str, int],
    background: Background,
    **content: Any,
) -> str:
    """A page of ranked rows: their table, why the first may be believed and why not, the best k as a whole, how rows
    ended, and what the template asks for beside that. required: the screens that count.
    """
    meanings = {status.label: status.meaning for status in RowStatus}
    return render(
        template,
        rows=rows,
        candidates=candidates_table(rows, required, campaign=template.startswith("campaign")),
        explained=[
            (row, row.get("trusted_tc_k") is not None, reasons_of(row, background))
            for row in rows[:EXPLAINED]
        ],
        top_rows=top_rows(top),
        has_gap=any(each.gap_k is not None for each in top),
        statuses=[
            (name.replace("_", " "), f"{count:,}", meanings.get(name, "")) for name, count in statuses.items()
        ],
        **content,
    )


def card_notes(cards: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """How good the predictors are, a sentence each, from their cards by kind."""
    tc, ef = (cards.get(kind, {}).get("splits", {}) for kind in ("tc", "ef"))
    notes = []
    if "system" in tc:
        score = tc["system"]["resnet18"]
        notes.append(
            f"T_c of chemical systems that the predictor never saw is off by {score['mae']:.1f} K on average "
            f"(R² {score['r2']:.2f}), and by {score['bias_high']:+.0f} K on average above 50 K."
        )
    if "system" in ef:
        notes.append(
            f"E_f of chemical systems never seen is off by {ef['system']['elemnet']['mae']:.3f} eV/atom on average."
        )
    return tuple(notes)
