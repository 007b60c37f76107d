"""The plots of a search of a campaign and of the campaign, from the files of their results."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kiago_ray.campaign.curves import CURVES, read_curves
from kiago_ray.campaign.summaries import SearchResults, search_folder
from kiago_ray.campaign.tables import first_rows, read_columns
from kiago_ray.outputs import (
    GAP_CAPTION,
    GAP_PLOT,
    PARETO_CAPTION,
    PARETO_COLUMNS,
    PARETO_PLOT,
    TC_PLOT,
    TRAJECTORY_PLOT,
    gap_of,
    pareto_of,
)
from kiago_ray.report.campaign_lines import K, SearchLine
from kiago_ray.report.campaign_plots import curves_plot, gains_plot
from kiago_ray.report.plots import tc_against_ef, trajectory_plot
from kiago_ray.screening.summary import TOP as TOP_SIZES
from kiago_ray.screening.summary import BaseMaterial
from kiago_ray.search.result import Trajectory
from kiago_ray.storage.location import Location

GAINS_PLOT, CURVES_PLOT = "gains.png", "curves.png"
MAX_POINTS = 20_000
BEST_POINTS = 1_000  # that are drawn in any case
_READERS = 8  # on a remote storage reading a small file is mostly waiting


@dataclass(frozen=True)
class Plot:
    """A plot, the name of its file, and what stands below it."""

    file: str
    caption: str
    png: bytes


def search_plots(
    table: Location, trajectory: Trajectory, base: BaseMaterial | None, name: str
) -> tuple[Plot, ...]:
    """T_c against E_f of a search's ranked table, its Pareto front, its best by the oracle, and the trajectory.

    Raises StorageError.
    """
    return (
        _scatter(table, base, name),
        *_trust_plots(table, name),
        Plot(
            TRAJECTORY_PLOT,
            "T_c, formation energy and integer loss over the steps: single rows, median and middle 80 %.",
            trajectory_plot(
                trajectory.tc_k,
                trajectory.ef_ev_per_atom,
                trajectory.integer_loss,
                trajectory.stage,
                base_tc_k=None if base is None else base.tc_predicted_k,
                title=name,
            ),
        ),
    )


def campaign_plots(
    campaign: Location, table: Location, searches: Sequence[SearchResults], name: str
) -> tuple[Plot, ...]:
    """Gains by base and variant, T_c against E_f of the ranked table, its Pareto front, its best by the oracle, mean
    T_c of each search over its steps.

    Raises StorageError.
    """
    bases = {each.summary.base for each in searches}
    with ThreadPoolExecutor(_READERS) as readers:
        places = [search_folder(campaign, each.name) / CURVES for each in searches]
        curves = [
            (each.name, *(curve[column].to_numpy() for column in ("step", "stage", "tc_k_mean")))
            for each, curve in zip(searches, readers.map(read_curves, places), strict=True)
        ]
    gains = "ΔT_c" if any(bases) else "T_c"
    return (
        Plot(
            GAINS_PLOT,
            f"Mean predicted {gains} of the best {K} that passed, by base material and variant: a point a seed.",
            gains_plot([search_line(each) for each in searches]),
        ),
        _scatter(table, bases.pop() if len(bases) == 1 else None, name),
        *_trust_plots(table, name),
        Plot(
            CURVES_PLOT, "Mean predicted T_c of the rows of each search over its steps.", curves_plot(curves)
        ),
    )


def search_line(results: SearchResults) -> SearchLine:
    """A search as the page and its plots see it."""
    return SearchLine(
        name=results.name,
        base=results.base,
        variant=results.variant,
        seed=results.seed,
        shards=results.shards,
        shards_done=results.shards_done,
        summary=results.summary,
    )


def shown_points(count: int) -> NDArray[np.int64]:
    """Which of `count` ranked formulas are drawn: all, or MAX_POINTS with the best among them, the others evenly."""
    if count <= MAX_POINTS:
        return np.arange(count)
    others = np.linspace(BEST_POINTS, count - 1, MAX_POINTS - BEST_POINTS).round().astype(np.int64)
    return np.concatenate([np.arange(BEST_POINTS), others])


def _trust_plots(table: Location, name: str) -> tuple[Plot, Plot]:
    best = first_rows(table, max(TOP_SIZES))
    drawn = read_columns(table, PARETO_COLUMNS)
    drawn = drawn.take(shown_points(len(drawn)))
    return (
        Plot(PARETO_PLOT, PARETO_CAPTION, pareto_of(drawn, name)),
        Plot(GAP_PLOT, GAP_CAPTION, gap_of(best, name)),
    )


def _scatter(table: Location, base: BaseMaterial | None, name: str) -> Plot:
    columns = read_columns(table, ("tc_k", "ef_ev_per_atom", "passed"))
    shown = shown_points(len(columns))
    tc_k, ef, passed = (columns[name].to_numpy()[shown] for name in columns.column_names)
    caption, title = "Predicted T_c against predicted formation energy of every unique formula.", name
    if len(shown) < len(columns):
        part = f"{len(shown):,} of {len(columns):,}"
        caption = (
            f"Predicted T_c against predicted formation energy of {part} unique formulas: the best "
            f"{BEST_POINTS:,}, and others evenly chosen by rank."
        )
        title = f"{name}: {part} formulas"
    return Plot(TC_PLOT, caption, tc_against_ef(tc_k, ef, passed, base, title))
