"""report.html of a campaign, also while it is under way: how far it is, what it found by base and variant, every
search, the best candidates.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kiago_ray.predictors.weights import load_cards
from kiago_ray.report.page import (
    NO_VALUE,
    Cell,
    Column,
    Table,
    not_shown,
    number,
    number_cell,
    table_of,
    text,
)
from kiago_ray.report.plots import Plot
from kiago_ray.report.reasons import Background, row_background
from kiago_ray.report.search_page import render_ranked
from kiago_ray.runs.gains import Group, K, best, foremost, gain_name, groups, is_short
from kiago_ray.runs.merge import Merged, merge_tables
from kiago_ray.runs.plan import Plan
from kiago_ray.runs.plots import campaign_plots
from kiago_ray.runs.shards import search_folder
from kiago_ray.runs.summaries import (
    CampaignResults,
    SearchResults,
    campaign_results,
    read_campaign_results,
    read_search_results,
    top_of_several,
)
from kiago_ray.screening.rank import Ranking
from kiago_ray.screening.summary import Summary
from kiago_ray.storage.location import Location
from kiago_ray.storage.run_directory import CANDIDATES, SPEC
from kiago_ray.storage.table import first_rows

TABLE_ROWS = 500
LISTED = 500  # searches, and bases with variants


def campaign_page(
    plan: Plan,
    searches: Sequence[SearchResults],
    results: CampaignResults,
    rows: Sequence[dict[str, Any]],
    plots: Sequence[Plot],
    *,
    spec_text: str,
    model_notes: Sequence[str] = (),
) -> str:
    """The page as HTML. rows: the first TABLE_ROWS of the campaign's ranked table."""
    # The error of E_f is the shipped predictor's; of others the notes have theirs.
    background = row_background(load_cards() if plan.campaign.weights is None else {})
    required = dict.fromkeys(name for search in plan.searches for name in search.spec.screens.names)
    return render_campaign_page(
        results, searches, rows, tuple(required), background, plots, spec_text, model_notes
    )


def render_campaign_page(
    results: CampaignResults,
    searches: Sequence[SearchResults],
    rows: Sequence[dict[str, Any]],
    required: tuple[str, ...],
    background: Background,
    plots: Sequence[Plot],
    spec_text: str,
    model_notes: Sequence[str] = (),
) -> str:
    """The page as HTML5 text. What is listed is bounded. required: the screens that count. background: what the
    explanation of the best rows needs. model_notes: a sentence each on how good the predictors are.
    """
    every = groups(searches)
    alone = [Group(each.base, each.variant, (each,)) for each in searches]
    sizes = sorted({top.k for each in searches for top in each.summary.top})
    return render_ranked(
        "campaign.html.j2",
        rows[:TABLE_ROWS],
        required,
        [top_of_several(each) for each in results.top],
        results.statuses,
        background,
        title=f"kiago-ray: campaign {results.name}",
        results=results,
        gap=next((top for top in results.top if top["k"] == K and top["gap_k"] is not None), None),
        means=_means(every, sizes, gain_name(searches)),
        seeds=any(len(group.searches) > 1 for group in every),
        short=any(is_short(each.summary, k) for each in searches for k in sizes),
        parts_only=any(0 < len(group.gains(k)) < len(group.searches) for group in every for k in sizes),
        searches=_searches(alone, sizes, gain_name(searches)),
        plots=plots,
        model_notes=model_notes,
        spec_text=spec_text,
    )


def _means(every: Sequence[Group], sizes: Sequence[int], name: str) -> Table[Group]:
    """The means over seeds by base and variant."""
    columns = [
        text("Base", lambda group: group.base, formula=True),
        text("Variant", lambda group: group.variant),
        Column("Seeds", _seeds, "n"),
        number("T_c of base (K)", lambda group: getattr(group.material, "tc_predicted_k", None), "{:z.1f}"),
        number("measured (K)", lambda group: getattr(group.material, "tc_measured_k", None), "{:z.1f}"),
        *_findings(sizes, name),
    ]
    return table_of(
        foremost(every, LISTED, lambda group: group.mean_gain(sizes[0]) if sizes else None),
        columns,
        "Means over seeds by base and variant",
        not_shown(len(every) - LISTED, f"pairs of base and variant with a lower {name}"),
    )


def _searches(alone: Sequence[Group], sizes: Sequence[int], name: str) -> Table[Group]:
    """A row a search, each a group of its own."""

    def of(header: str, value: Callable[[SearchResults], float | None], form: str) -> Column[Group]:
        return number(header, lambda group: value(group.searches[0]), form)

    columns = [
        text("Search", lambda group: group.searches[0].name),
        text("Base", lambda group: group.base, formula=True),
        text("Variant", lambda group: group.variant),
        of("Seed", lambda each: each.seed, "{}"),
        Column("Shards", _shards, "n"),
        of("Candidates", lambda each: each.summary.rows, "{:,}"),
        of("T_c above base", lambda each: each.summary.passed_above_base, "{:,}"),
        *_findings(sizes, name),
    ]
    return table_of(
        foremost(alone, LISTED, lambda group: group.mean_gain(sizes[0]) if sizes else None),
        columns,
        "Searches",
        not_shown(len(alone) - LISTED, f"searches with a lower {name}"),
    )


def _findings(sizes: Sequence[int], name: str) -> list[Column[Group]]:
    """What searches gained, by the oracle too, and what part of their rows passed: means over the group."""

    def mean(header: str, value: Callable[[Summary], float | None], form: str = "{:.1f}") -> Column[Group]:
        return Column(header, lambda group: _spread([value(each) for each in group.summaries], form), "n")

    return [
        *(Column(f"{name} top {k} (K)", _gain(k), "n") for k in sizes),
        mean(
            f"oracle ΔT_c top {K} (K)",
            lambda each: getattr(best(each, K), "delta_tc_oracle_k", None),
            "{:+z.1f}",
        ),
        mean(f"gap top {K} (K)", lambda each: getattr(best(each, K), "gap_k", None), "{:z.1f}"),
        mean("Passed (%)", lambda each: _percent(each.passed_fraction)),
        mean("Unique (%)", lambda each: _percent(each.unique_fraction)),
    ]


def _seeds(group: Group) -> Cell:
    seeds = len(group.searches)
    parts = sum(not each.complete for each in group.searches)
    return f"{seeds}, {parts} in part" if parts else f"{seeds}", float(seeds)


def _shards(group: Group) -> Cell:
    done = sum(each.shards_done for each in group.searches)
    return f"{done:,} of {sum(each.shards for each in group.searches):,}", float(done)


def _gain(k: int) -> Callable[[Group], Cell]:
    """The mean gain of the best k; a difference to a base has a sign, * and [n] say what it is a mean of."""

    def content(group: Group) -> Cell:
        gains = group.gains(k)
        shown, value = _spread(gains, "{:z.1f}" if group.material is None else "{:+z.1f}")
        shown += "*" if any(is_short(summary, k) for summary in group.summaries) else ""
        return shown + (f" [{len(gains)}]" if 0 < len(gains) < len(group.searches) else ""), value

    return content


def _spread(values: Sequence[float | None], form: str = "{:.1f}") -> Cell:
    """Mean ± sample standard deviation of what is known; the mean alone where that is one value."""
    known = [value for value in values if value is not None]
    if not known:
        return NO_VALUE
    shown, mean = number_cell(statistics.fmean(known), form)
    return (f"{shown} ± {statistics.stdev(known):.1f}" if len(known) > 1 else shown), mean


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction


def page_of_directory(campaign: Location, plan: Plan, *, model_notes: Sequence[str] = ()) -> str:
    """The page of a campaign's directory as it stands; nothing there is changed.

    It shows the searches that have results. Where more have them than when the campaign last ended, they are merged
    anew, in a temporary directory. Raises DamagedError, StorageError.
    """
    searches = [
        found
        for each in plan.searches
        if (found := read_search_results(search_folder(campaign, each.name))) is not None
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
