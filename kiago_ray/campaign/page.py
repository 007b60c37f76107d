"""The page of a campaign from its results, also while it is under way."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kiago_ray.campaign.merge import Merged, merge_tables
from kiago_ray.campaign.plan import Plan
from kiago_ray.campaign.plots import Plot, campaign_plots, search_line
from kiago_ray.campaign.summaries import (
    CampaignResults,
    SearchResults,
    campaign_results,
    read_campaign_results,
    read_search_results,
    search_folder,
    top_of_several,
)
from kiago_ray.campaign.tables import first_rows
from kiago_ray.outputs import row_background
from kiago_ray.report.campaign_page import TABLE_ROWS, CampaignPage, render_campaign_page
from kiago_ray.report.reasons import Background
from kiago_ray.screening.rank import Ranking
from kiago_ray.storage.location import Location
from kiago_ray.storage.run_directory import CANDIDATES, SPEC

_SHOWN_DAMAGED = 10


def campaign_page(
    plan: Plan,
    searches: Sequence[SearchResults],
    results: CampaignResults,
    rows: Sequence[Mapping[str, Any]],
    plots: Sequence[Plot],
    *,
    spec_text: str,
    model_notes: Sequence[str] = (),
) -> str:
    """The page as HTML. rows: the first TABLE_ROWS of the campaign's ranked table."""
    required = dict.fromkeys(name for search in plan.searches for name in search.spec.screens.names)
    return render_campaign_page(
        CampaignPage(
            title=f"kiago-ray: campaign {results.name}",
            lines=[search_line(each) for each in searches],
            rows=rows,
            plots=[(plot.caption, plot.png) for plot in plots],
            spec_text=spec_text,
            unique=results.unique,
            passed=results.passed,
            candidates=results.candidates,
            rows_done=results.rows,
            statuses=results.statuses,
            required=tuple(required),
            failures=list(results.failures.items()),
            model_notes=model_notes,
            remark=_remark(results.damaged),
            searches=results.searches,
            shards=results.shards,
            gains=results.gains,
            new_systems=results.new_systems,
            top=[top_of_several(each) for each in results.top],
            background=_background(plan),
        )
    )


def _background(plan: Plan) -> Background:
    """The error of E_f is that of the shipped predictor, so it is left out for others: `model_notes` have theirs."""
    shipped = row_background()
    return shipped if plan.campaign.weights is None else replace(shipped, ef_error_ev_per_atom=None)


def _remark(damaged: Sequence[str]) -> str:
    if not damaged:
        return ""
    more = len(damaged) - _SHOWN_DAMAGED
    shown = "; ".join(damaged[:_SHOWN_DAMAGED])
    return f"Files found damaged, and made again: {shown}" + (f"; and {more} more" if more > 0 else "")


def page_of_directory(campaign: Location, plan: Plan, *, model_notes: Sequence[str] = ()) -> str:
    """The page of a campaign's directory as it stands; nothing there is changed.

    It shows the searches that have results. Where more have them than when the campaign last ended, they are merged
    anew, in a temporary directory. Raises DamagedError, StorageError.
    """
    searches = [
        found for each in plan.searches if (found := read_search_results(campaign, each.name)) is not None
    ]
    recorded = read_campaign_results(campaign)
    with tempfile.TemporaryDirectory(prefix="kiago-page-") as folder:
        if recorded is not None and recorded.shards_done == sum(each.shards_done for each in searches):
            results, table = recorded, campaign / CANDIDATES
        else:
            results, table = _results_so_far(campaign, plan, searches, recorded, Path(folder))
        rows = first_rows(table, TABLE_ROWS).to_pylist()
        plots = campaign_plots(campaign, table, searches, plan.campaign.name)
    spec_text = (campaign / SPEC).read_bytes().decode("utf-8")
    return campaign_page(plan, searches, results, rows, plots, spec_text=spec_text, model_notes=model_notes)


def merge_searches(
    campaign: Location, plan: Plan, searches: Sequence[SearchResults], table: Location
) -> Merged:
    """Merge the tables of these searches into one, ranked as all searches of the plan are, by trusted T_c where they
    differ in that. Raises StorageError.
    """
    rankings = {Ranking.of(search.spec.screens) for search in plan.searches}
    places = [search_folder(campaign, each.name) / CANDIDATES for each in searches]
    return merge_tables(places, table, ranking=rankings.pop() if len(rankings) == 1 else Ranking())


def _results_so_far(
    campaign: Location,
    plan: Plan,
    searches: Sequence[SearchResults],
    recorded: CampaignResults | None,
    folder: Path,
) -> tuple[CampaignResults, Location]:
    table = Location.of(folder / CANDIDATES)
    merged = merge_searches(campaign, plan, searches, table)
    results = campaign_results(plan, searches, merged, first_rows(table, TABLE_ROWS))
    if recorded is None:
        return results, table
    complete = {each.name for each in searches if each.complete}
    failures = {
        shard: cause for shard, cause in recorded.failures.items() if shard.rpartition("/")[0] not in complete
    }
    return replace(results, failures=failures, damaged=recorded.damaged), table
