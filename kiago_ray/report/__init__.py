"""What a person looks at: plots, self-contained pages, tables for a terminal. Nothing here writes files."""

from __future__ import annotations

from kiago_ray.report.campaign_lines import SearchLine
from kiago_ray.report.campaign_page import CampaignPage, render_campaign_page
from kiago_ray.report.campaign_plots import curves_plot, gains_plot
from kiago_ray.report.page import Page, render_page
from kiago_ray.report.plots import tc_against_ef, trajectory_plot
from kiago_ray.report.reasons import Background, Reason, reasons_of
from kiago_ray.report.terminal import best_table, reasons_table, summary_table, top_table
from kiago_ray.report.trust_plots import gap_plot, pareto_plot

__all__ = [
    "Background",
    "CampaignPage",
    "Page",
    "Reason",
    "SearchLine",
    "best_table",
    "curves_plot",
    "gains_plot",
    "gap_plot",
    "pareto_plot",
    "reasons_of",
    "reasons_table",
    "render_campaign_page",
    "render_page",
    "summary_table",
    "tc_against_ef",
    "top_table",
    "trajectory_plot",
]
