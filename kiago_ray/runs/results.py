"""The files of a run: from finished shards, or from a search in memory, to a search's, and from several searches to a
campaign's.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from kiago_ray.api import SearchOutcome
from kiago_ray.report.plots import PLOTTED, SEARCH_PLOTS, TRAJECTORY_PLOT, Plot, search_plots
from kiago_ray.report.reasons import row_background
from kiago_ray.report.search_page import TABLE_ROWS as SEARCH_TABLE_ROWS
from kiago_ray.report.search_page import Page, card_notes, render_page
from kiago_ray.runs.curves import CURVES, curves_table, read_curves, read_trajectory, write_curves
from kiago_ray.runs.merge import merge_tables
from kiago_ray.runs.page import TABLE_ROWS, campaign_page, merge_searches
from kiago_ray.runs.plan import ALONE, Plan, PlannedSearch
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
from kiago_ray.search.result import Trajectory
from kiago_ray.storage.location import Location, StorageError
from kiago_ray.storage.run_directory import CANDIDATES, REPORT, SPEC, TOP, RunDirectory, read_run, write_run
from kiago_ray.storage.table import (
    TOP_ROWS,
    best_rows,
    file_sha256,
    first_rows,
    read_columns,
    table_bytes,
    top_csv,
)

SEARCH_OUTPUTS = (CANDIDATES, TOP, CURVES, *SEARCH_PLOTS, SUMMARY)
RANKED_PLOTS = tuple(name for name in SEARCH_PLOTS if name != TRAJECTORY_PLOT)
CAMPAIGN_OUTPUTS = (CANDIDATES, TOP, GAINS_PLOT, *RANKED_PLOTS, CURVES_PLOT, REPORT, SUMMARY)
_OF_MODELS = ("weights", "known", "phases", "tried")  # of a record, what makes a search's results the same
_OF_CAMPAIGN = (
    "campaign",
    "campaign_id",
    "searches",
    "families",
    "resources",
    "identity",
    "finished",
    "outputs",
)


def finish_search(
    run: Location,
    search: PlannedSearch,
    manifests: Sequence[Manifest],
    *,
    folder: Location | None = None,
    record: Mapping[str, Any] = MappingProxyType({}),
    title: str | None = None,
) -> SearchResults:
    """Merge the shards of these manifests, one at least, and write the files of the search; summary.json last.

    They may be all shards of the search or a part. folder: for the files, by default below the run's searches/.
    record: what the run's spec.yaml says of models and versions, for the search's own. title: over the plots, the
    search's name by default. Where the results of the same shards are there already, nothing is done again. Raises
    StorageError.
    """
    if not manifests:
        raise ValueError(f"{search.name}: no shard of it is done; there is nothing to merge")
    manifests = sorted(manifests, key=lambda manifest: manifest.number)
    folder = search_folder(run, search.name) if folder is None else folder
    sources = hashlib.sha256("\n".join(manifest.sha256 for manifest in manifests).encode()).hexdigest()
    found = _found(folder)
    if found is not None and (found.sources, found.shards_done) == (sources, len(manifests)):
        return found
    folder.make_directory()
    results = _merged(run, search, manifests, folder / CANDIDATES, sources)
    own: dict[str, Any] = {"search": search.spec.model_dump(mode="json")}
    own |= {"families": list(search.bases)} if search.bases else {}
    own |= {key: record[key] for key in _OF_MODELS if key in record}
    about = {key: value for key, value in record.items() if key not in (*_OF_MODELS, *_OF_CAMPAIGN)}
    about |= {"precision": manifests[0].made["precision"]} if "precision" in manifests[0].made else {}
    write_run(folder, own, about, SEARCH_OUTPUTS, finished=results.complete)
    trajectory = read_trajectory(run, search, [manifest.number for manifest in manifests])
    _write_files(folder, results, trajectory, title or search.name)
    return results


def _merged(
    run: Location, search: PlannedSearch, manifests: Sequence[Manifest], table: Location, sources: str
) -> SearchResults:
    """What the shards of these manifests come to, once their rows are merged into `table`."""
    shards = search.shards
    merged = merge_tables(
        [ShardFiles.of(run, shards[manifest.number]).table for manifest in manifests],
        table,
        ranking=Ranking.of(search.spec.screens),
    )
    statuses: Counter[str] = Counter()
    for manifest in manifests:
        statuses.update(manifest.statuses)
    return SearchResults(
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
            best=best_rows(first_rows(table, TOP_ROWS)),
            screens=merged.screens,
            required=tuple(search.spec.screens.names),
            base=None if manifests[0].base is None else BaseMaterial(**manifests[0].base),
            **merged.counted,
        ),
        wall_s=round(sum(manifest.wall_s for manifest in manifests), 3),
        finished_at=max(float(manifest.made["finished_at"]) for manifest in manifests),
        sources=sources,
        candidates_sha256=merged.sha256,
    )


def write_outcome(
    outcome: SearchOutcome,
    directory: RunDirectory,
    *,
    cards: Mapping[str, Mapping[str, Any]],
    remark: str = "",
) -> SearchResults:
    """Write the files of a search that ran in this process, as `finish_search` does, and its page.

    cards: the model cards, for what the page says of the predictors. remark: heads the page of a search that was
    stopped, which doesn't count as finished. Raises StorageError.
    """
    place, spec, table = directory.location, outcome.spec, outcome.table
    content = table_bytes(table)
    (place / CANDIDATES).write_bytes(content)
    results = SearchResults(
        name=ALONE,
        base=spec.base,
        variant="",
        seed=spec.seed,
        shards=1,
        shards_done=int(outcome.result.stopped_at_step is None),
        summary=outcome.summary,
        wall_s=round(outcome.result.wall_s, 3),
        finished_at=time.time(),
        sources="",
        candidates_sha256=hashlib.sha256(content).hexdigest(),
    )
    name = spec.base or "random start"
    plots = _write_files(place, results, outcome.result.trajectory, name)
    page = Page(
        title=f"kiago-ray: {name}",
        summary=outcome.summary,
        rows=table.slice(0, SEARCH_TABLE_ROWS).to_pylist(),
        plots=plots,
        spec_text=(place / SPEC).read_bytes().decode("utf-8"),
        model_notes=card_notes(cards),
        remark=remark,
        background=row_background(cards),
    )
    (place / REPORT).write_bytes(render_page(page).encode("utf-8"))
    if results.complete:
        steps = () if len(outcome.result.trajectory.rows) else (CURVES, TRAJECTORY_PLOT)
        directory.finish([REPORT, *(name for name in SEARCH_OUTPUTS if name not in steps)])
    return results


def _write_files(folder: Location, results: SearchResults, trajectory: Trajectory, title: str) -> list[Plot]:
    """What a person opens of a search whose table is there, and summary.json last; the plots. Curves and a trajectory
    are there where steps were taken.
    """
    table = folder / CANDIDATES
    (folder / TOP).write_bytes(top_csv(first_rows(table, TOP_ROWS)).encode("utf-8"))
    if len(trajectory.rows):
        write_curves(curves_table(trajectory), folder / CURVES)
    plots = search_plots(read_columns(table, PLOTTED), trajectory, results.summary.base, title)
    for plot in plots:
        (folder / plot.file).write_bytes(plot.png)
    write_summary(results, folder)
    return plots


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


def whole_results(directory: RunDirectory) -> SearchResults | None:
    """The results of a search that is done and whose table is what it was; None where it has to be run (again).

    Raises StorageError.
    """
    if not directory.finished:
        return None
    try:
        results = read_search_results(directory.location)
    except DamagedError:
        return None
    if results is None or file_sha256(directory.file(CANDIDATES)) != results.candidates_sha256:
        return None
    return results


def _found(folder: Location) -> SearchResults | None:
    """The results of a search of a campaign that are there and whole."""
    if (folder / SPEC).kind() != "file":
        return None
    try:
        read_curves(folder / CURVES)
        return whole_results(read_run(folder))
    except StorageError:
        return None  # made anew
