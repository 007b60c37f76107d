"""A search's files: the table, what a person opens first, the plots and the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kiago_ray.api import SearchOutcome
from kiago_ray.predictors import load_card
from kiago_ray.report.page import TABLE_ROWS, Page, render_page
from kiago_ray.report.plots import tc_against_ef, trajectory_plot
from kiago_ray.storage.run_directory import CANDIDATES, REPORT, SPEC, TOP, RunDirectory
from kiago_ray.storage.table import write_table
from kiago_ray.storage.top_csv import top_csv

TC_PLOT, TRAJECTORY_PLOT = "tc_against_ef.png", "trajectory.png"
OUTPUTS = (CANDIDATES, TOP, TC_PLOT, TRAJECTORY_PLOT, REPORT)


def write_outputs(
    outcome: SearchOutcome, run: RunDirectory, *, model_notes: Sequence[str] = (), remark: str = ""
) -> None:
    """Write every file of a run but its spec.yaml. `remark` heads the page, `model_notes` say how good the
    predictors are. Raises StorageError.
    """
    name = outcome.spec.base or "random start"
    plots = outcome_plots(outcome, name)
    write_table(outcome.table, run.file(CANDIDATES))
    run.file(TOP).write_bytes(top_csv(outcome.table).encode("utf-8"))
    for file, (_, png) in zip((TC_PLOT, TRAJECTORY_PLOT), plots, strict=True):
        run.file(file).write_bytes(png)
    page = Page(
        title=f"kiago-ray: {name}",
        summary=outcome.summary,
        rows=outcome.table.slice(0, TABLE_ROWS).to_pylist(),
        plots=plots,
        spec_text=run.file(SPEC).read_bytes().decode("utf-8"),
        model_notes=model_notes,
        remark=remark,
    )
    run.file(REPORT).write_bytes(render_page(page).encode("utf-8"))


def outcome_plots(outcome: SearchOutcome, name: str) -> list[tuple[str, bytes]]:
    """Caption and PNG of T_c against E_f and of the trajectory (the paper's Fig. 3)."""
    base = outcome.summary.base
    table, path = outcome.table, outcome.result.trajectory
    return [
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
        (
            "T_c, formation energy and integer loss over the steps: single rows, median and middle 80 %.",
            trajectory_plot(
                path.tc_k,
                path.ef_ev_per_atom,
                path.integer_loss,
                path.stage,
                base_tc_k=None if base is None else base.tc_predicted_k,
                title=name,
            ),
        ),
    ]


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
