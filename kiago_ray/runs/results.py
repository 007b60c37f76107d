"""From finished shards to the results of a search, and from those to the results of the campaign."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import yaml

from kiago_ray.report.plots import PLOTTED, SEARCH_PLOTS, TRAJECTORY_PLOT, search_plots
from kiago_ray.runs.curves import CURVES, curves_table, read_curves, read_trajectory, write_curves
from kiago_ray.runs.merge import merge_tables
from kiago_ray.runs.page import TABLE_ROWS, campaign_page, merge_searches
from kiago_ray.runs.plan import Plan, PlannedSearch
from kiago_ray.runs.plots import CURVES_PLOT, GAINS_PLOT, campaign_plots
from kiago_ray.runs.shards import DamagedError, Manifest, ShardFiles, search_folder
from kiago_ray.runs.summaries import (
    SUMMARY,
    CampaignResults,
    SearchResults,
    campaign_results,
    read_campaign_results,
    read_search_results,
    write_summary,
)
from kiago_ray.screening.rank import Ranking
from kiago_ray.screening.summary import BaseMaterial, summarise_ranked
from kiago_ray.storage.location import Location, StorageError
from kiago_ray.storage.run_directory import CANDIDATES, REPORT, SPEC, TOP
from kiago_ray.storage.table import TOP_ROWS, best_rows, file_sha256, first_rows, read_columns, top_csv

SEARCH_OUTPUTS = (SPEC, CANDIDATES, TOP, CURVES, *SEARCH_PLOTS, SUMMARY)
RANKED_PLOTS = tuple(name for name in SEARCH_PLOTS if name != TRAJECTORY_PLOT)
CAMPAIGN_OUTPUTS = (CANDIDATES, TOP, GAINS_PLOT, *RANKED_PLOTS, CURVES_PLOT, REPORT, SUMMARY)


def finish_search(
    campaign: Location, search: PlannedSearch, manifests: Sequence[Manifest], *, title: str | None = None
) -> SearchResults:
    """Merge the shards of these manifests, one at least, and write the files of the search; summary.json last.

    They may be all shards of the search or a part. title: over the plots, the search's name by default. Where the
    results of the same shards are there already, nothing is done again. Raises StorageError.
    """
    if not manifests:
        raise ValueError(f"{search.name}: no shard of it is done; there is nothing to merge")
    manifests = sorted(manifests, key=lambda manifest: manifest.number)
    folder = search_folder(campaign, search.name)
    sources = hashlib.sha256("\n".join(manifest.sha256 for manifest in manifests).encode()).hexdigest()
    found = _found(campaign, search.name)
    if found is not None and (found.sources, found.shards_done) == (sources, len(manifests)):
        return found
    folder.make_directory()
    spec = yaml.safe_dump(search.spec.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    (folder / SPEC).write_bytes(spec.encode("utf-8"))  # for `kiago search --spec`
    numbers = [manifest.number for manifest in manifests]
    base = None if manifests[0].base is None else BaseMaterial(**manifests[0].base)
    shards = search.shards
    table = folder / CANDIDATES
    merged = merge_tables(
        [ShardFiles.of(campaign, shards[number]).table for number in numbers],
        table,
        ranking=Ranking.of(search.spec.screens),
    )
    head = first_rows(table, TOP_ROWS)
    trajectory = read_trajectory(campaign, search, numbers)
    (folder / TOP).write_bytes(top_csv(head).encode("utf-8"))
    write_curves(curves_table(trajectory), folder / CURVES)
    for plot in search_plots(read_columns(table, PLOTTED), trajectory, base, title or search.name):
        (folder / plot.file).write_bytes(plot.png)
    statuses: Counter[str] = Counter()
    for manifest in manifests:
        statuses.update(manifest.statuses)
    results = SearchResults(
        name=search.name,
        base=search.base,
        variant=search.variant,
        seed=search.seed,
        shards=len(shards),
        shards_done=len(manifests),
        summary=summarise_ranked(
            rows=merged.rows,
            statuses=statuses,
            passed=merged.passed,
            tc_k=merged.tc_k,
            best=best_rows(head),
            screens=merged.screens,
            required=tuple(search.spec.screens.names),
            base=base,
            **merged.counted,
        ),
        wall_s=round(sum(manifest.wall_s for manifest in manifests), 3),
        finished_at=max(float(manifest.made["finished_at"]) for manifest in manifests),
        sources=sources,
        candidates_sha256=merged.sha256,
    )
    write_summary(results, folder)
    return results


def finish_campaign(
    campaign: Location,
    plan: Plan,
    searches: Sequence[SearchResults],
    *,
    failures: Mapping[str, str],
    damaged: Sequence[str],
    spec_text: str,
    model_notes: Sequence[str],
) -> CampaignResults:
    """Merge the tables of these searches, maybe none, and write the files of the campaign; summary.json last.

    failures: shard → cause. damaged: what was wrong with files that were found. Raises StorageError.
    """
    table = campaign / CANDIDATES
    merged = merge_searches(campaign, plan, searches, table)
    head = first_rows(table, max(TABLE_ROWS, TOP_ROWS))
    results = campaign_results(plan, searches, merged, head, failures=failures, damaged=damaged)
    plots = campaign_plots(campaign, table, searches, plan.campaign.name)
    (campaign / TOP).write_bytes(top_csv(head).encode("utf-8"))
    for plot in plots:
        (campaign / plot.file).write_bytes(plot.png)
    page = campaign_page(
        plan,
        searches,
        results,
        head.slice(0, TABLE_ROWS).to_pylist(),
        plots,
        spec_text=spec_text,
        model_notes=model_notes,
    )
    (campaign / REPORT).write_bytes(page.encode("utf-8"))
    write_summary(results, campaign)
    return results


def is_whole(campaign: Location) -> bool:
    """Whether the results of a campaign that counts as finished are what they were. Raises StorageError."""
    try:
        results = read_campaign_results(campaign)
    except DamagedError:
        return False
    return results is not None and file_sha256(campaign / CANDIDATES) == results.candidates_sha256


def _found(campaign: Location, name: str) -> SearchResults | None:
    """The results of a search that are there and whole."""
    try:
        found = read_search_results(campaign, name)
    except DamagedError:
        return None  # made anew
    folder = search_folder(campaign, name)
    if found is None or any((folder / file).kind() != "file" for file in SEARCH_OUTPUTS):
        return None
    try:
        read_curves(folder / CURVES)
    except StorageError:
        return None
    return found if file_sha256(folder / CANDIDATES) == found.candidates_sha256 else None
