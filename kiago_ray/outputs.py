"""A search's files: the table, what a person opens first, the plots and the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kiago_ray.api import SearchOutcome
from kiago_ray.chemistry.elements import SYMBOLS
from kiago_ray.data.element_counts import load_element_counts
from kiago_ray.report.plots import SEARCH_PLOTS, search_plots
from kiago_ray.report.reasons import Background
from kiago_ray.report.search_page import TABLE_ROWS, Page, render_page
from kiago_ray.storage.run_directory import CANDIDATES, REPORT, SPEC, TOP, RunDirectory
from kiago_ray.storage.table import top_csv, write_table

OUTPUTS = (CANDIDATES, TOP, *SEARCH_PLOTS, REPORT)


def write_outputs(
    outcome: SearchOutcome,
    run: RunDirectory,
    *,
    model_notes: Sequence[str] = (),
    remark: str = "",
    background: Background,
) -> tuple[str, ...]:
    """Write every file of a run but its spec.yaml, and return their names. `remark` heads the page, `model_notes` say
    how good the predictors are, background: what explaining a row needs. Raises StorageError.
    """
    name = outcome.spec.base or "random start"
    plots = search_plots(outcome.table, outcome.result.trajectory, outcome.summary.base, name)
    write_table(outcome.table, run.file(CANDIDATES))
    run.file(TOP).write_bytes(top_csv(outcome.table).encode("utf-8"))
    for plot in plots:
        run.file(plot.file).write_bytes(plot.png)
    page = Page(
        title=f"kiago-ray: {name}",
        summary=outcome.summary,
        rows=outcome.table.slice(0, TABLE_ROWS).to_pylist(),
        plots=plots,
        spec_text=run.file(SPEC).read_bytes().decode("utf-8"),
        model_notes=model_notes,
        remark=remark,
        background=background,
    )
    run.file(REPORT).write_bytes(render_page(page).encode("utf-8"))
    return (CANDIDATES, TOP, *(plot.file for plot in plots), REPORT)


def row_background(cards: Mapping[str, Mapping[str, Any]]) -> Background:
    """What explaining a row needs: the error of E_f by its card, and how often each element superconducts."""
    counts = load_element_counts().supercon
    score = cards.get("ef", {}).get("splits", {}).get("system")
    return Background(
        ef_error_ev_per_atom=None if score is None else float(score["elemnet"]["mae"]),
        compositions=counts.compositions,
        element_counts=dict(zip(SYMBOLS, counts.counts.tolist(), strict=True)),
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
