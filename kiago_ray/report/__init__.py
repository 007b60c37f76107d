"""What a person looks at: plots, self-contained pages, tables for a terminal. Nothing here writes files."""

from __future__ import annotations

from kiago_ray.report.campaign_page import CampaignPage, SearchLine, render_campaign_page
from kiago_ray.report.campaign_plots import curves_plot, gains_plot
from kiago_ray.report.page import Page, render_page
from kiago_ray.report.plots import tc_against_ef, trajectory_plot
from kiago_ray.report.terminal import best_table, summary_table

__all__ = [
    "CampaignPage",
    "Page",
    "SearchLine",
    "best_table",
    "curves_plot",
    "gains_plot",
    "render_campaign_page",
    "render_page",
    "summary_table",
    "tc_against_ef",
    "trajectory_plot",
]
