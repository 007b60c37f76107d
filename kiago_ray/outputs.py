"""A search's files: the table, what a person opens first, the plots and the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kiago_ray.api import SearchOutcome
from kiago_ray.chemistry.elements import SYMBOLS
from kiago_ray.data.element_counts import load_element_counts
from kiago_ray.predictors import load_card
from kiago_ray.report.page import TABLE_ROWS, Page, render_page
from kiago_ray.report.plots import tc_against_ef, trajectory_plot
from kiago_ray.report.reasons import Background
from kiago_ray.report.trust_plots import gap_plot, pareto_plot
from kiago_ray.screening.summary import TOP as TOP_SIZES
from kiago_ray.storage.run_directory import CANDIDATES, REPORT, SPEC, TOP, RunDirectory
from kiago_ray.storage.table import top_csv, write_table

TC_PLOT, PARETO_PLOT, GAP_PLOT, TRAJECTORY_PLOT = (
    "tc_against_ef.png",
    "pareto.png",
    "search_against_oracle.png",
    "trajectory.png",
)
OUTPUTS = (CANDIDATES, TOP, TC_PLOT, PARETO_PLOT, GAP_PLOT, TRAJECTORY_PLOT, REPORT)
TRAJECTORY_CAPTION = (
    "T_c, formation energy and integer loss over the steps: single rows, median and middle 80 %."
)
PARETO_COLUMNS = ("passed", "trusted_tc_k", "ef_ev_per_atom", "extrapolation", "pareto")
PARETO_CAPTION = (
    "Trusted T_c against predicted formation energy of the formulas that passed. On the Pareto front are those that "
    "no other beats in trusted T_c, formation energy and nearness to what the predictors know."
)
GAP_CAPTION = (
    f"T_c by the oracle against T_c by the search's model, of the best {max(TOP_SIZES)} that passed. Below the "
    "diagonal the search is more hopeful than the oracle."
)


def write_outputs(
    outcome: SearchOutcome,
    run: RunDirectory,
    *,
    model_notes: Sequence[str] = (),
    remark: str = "",
    background: Background | None = None,
) -> tuple[str, ...]:
    """Write every file of a run but its spec.yaml, and return their names. `remark` heads the page, `model_notes` say
    how good the predictors are, background: what explaining a row needs, by default that of the shipped predictors.
    Raises StorageError, WeightsError.
    """
    name = outcome.spec.base or "random start"
    plots = outcome_plots(outcome, name)
    write_table(outcome.table, run.file(CANDIDATES))
    run.file(TOP).write_bytes(top_csv(outcome.table).encode("utf-8"))
    files = (TC_PLOT, PARETO_PLOT, GAP_PLOT, TRAJECTORY_PLOT)[: len(plots)]
    for file, (_, png) in zip(files, plots, strict=True):
        run.file(file).write_bytes(png)
    page = Page(
        title=f"kiago-ray: {name}",
        summary=outcome.summary,
        rows=outcome.table.slice(0, TABLE_ROWS).to_pylist(),
        plots=plots,
        spec_text=run.file(SPEC).read_bytes().decode("utf-8"),
        model_notes=model_notes,
        remark=remark,
        background=background or row_background(),
    )
    run.file(REPORT).write_bytes(render_page(page).encode("utf-8"))
    return (CANDIDATES, TOP, *files, REPORT)


def outcome_plots(outcome: SearchOutcome, name: str) -> list[tuple[str, bytes]]:
    """Caption and PNG of T_c against E_f, of the Pareto front, of the search's T_c against the oracle's, and of the
    trajectory (the paper's Fig. 3) where steps were taken.
    """
    base = outcome.summary.base
    table, path = outcome.table, outcome.result.trajectory
    plots = [
        (
            "Predicted T_c against predicted formation energy of every unique formula.",
            tc_against_ef(
                _column(table, "tc_k"),
                _column(table, "ef_ev_per_atom"),
                _column(table, "passed"),
                base,
                name,
            ),
        ),
        (PARETO_CAPTION, pareto_of(table, name)),
        (GAP_CAPTION, gap_of(table, name)),
    ]
    if len(path.rows):
        trajectory = trajectory_plot(
            path.tc_k,
            path.ef_ev_per_atom,
            path.integer_loss,
            path.stage,
            base_tc_k=None if base is None else base.tc_predicted_k,
            title=name,
        )
        plots.append((TRAJECTORY_CAPTION, trajectory))
    return plots


def pareto_of(table: Any, title: str) -> bytes:
    """PNG of the Pareto front of a ranked table, from these columns of it."""
    passed = table.select(list(PARETO_COLUMNS)).filter(table["passed"])
    return pareto_plot(
        _column(passed, "trusted_tc_k"),
        _column(passed, "ef_ev_per_atom"),
        _column(passed, "extrapolation"),
        passed["pareto"].fill_null(False).to_numpy(),
        title,
    )


def gap_of(table: Any, title: str) -> bytes:
    """PNG of the search's T_c against the oracle's, of the best rows of a ranked table."""
    best = table.filter(table["passed"]).slice(0, max(TOP_SIZES))
    return gap_plot(
        _column(best, "tc_k"),
        _column(best, "tc_oracle_k"),
        best["extrapolated"].fill_null(False).to_numpy(),
        title,
    )


def row_background(weights: Path | None = None) -> Background:
    """What explaining a row needs: the error of E_f by its card, and how often each element superconducts.

    Raises WeightsError.
    """
    counts = load_element_counts().supercon
    score = load_card("ef", weights).get("splits", {}).get("system")
    return Background(
        ef_error_ev_per_atom=None if score is None else float(score["elemnet"]["mae"]),
        compositions=counts.compositions,
        element_counts=dict(zip(SYMBOLS, counts.counts.tolist(), strict=True)),
    )


def card_notes(weights: Path | None = None) -> tuple[str, ...]:
    """How good the predictors are, a sentence each, from their cards. Raises WeightsError."""
    tc, ef = (load_card(kind, weights).get("splits", {}) for kind in ("tc", "ef"))
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


def _column(table: object, name: str) -> np.ndarray:
    return np.asarray(table[name].to_numpy())  # type: ignore[index]
