"""What a person looks at: plots, a self-contained page, tables for a terminal. Nothing here writes files."""

from __future__ import annotations

from kiago_ray.report.page import Page, render_page
from kiago_ray.report.plots import tc_against_ef, trajectory_plot
from kiago_ray.report.terminal import best_table, summary_table

__all__ = [
    "Page",
    "best_table",
    "render_page",
    "summary_table",
    "tc_against_ef",
    "trajectory_plot",
]
