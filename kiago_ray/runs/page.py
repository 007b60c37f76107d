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
    candidates_table,
    not_shown,
    number,
    number_cell,
    render,
    shortened,
    table_of,
    text,
)
from kiago_ray.report.plots import Plot
from kiago_ray.report.reasons import Background, row_background
from kiago_ray.report.search_page import ranked_content
from kiago_ray.report.values import kelvin, no_gain
from kiago_ray.runs.gains import Group, K, best, foremost, gain, gain_name, groups, is_short
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
from kiago_ray.screening.summary import Summary, TopMean
from kiago_ray.storage.location import Location
from kiago_ray.storage.run_directory import CANDIDATES, SPEC
from kiago_ray.storage.table import first_rows

TABLE_ROWS = 500
LISTED = 500  # searches, and bases with variants
SHOWN_FAILURES = 100
_SHOWN_DAMAGED = 10
_CHANCE = (
    "± is the standard deviation over seeds: chance alone. The predictors' errors are the same for all seeds."
)
# Of the best K: what of TopMean is shown, with header and format.
_TRUST = (
    ("delta_tc_oracle_k", f"oracle ΔT_c top {K} (K)", "{:+z.1f}"),
    ("gap_k", f"gap top {K} (K)", "{:z.1f}"),
)


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
        results,
        searches,
        rows,
        plots,
        required=tuple(required),
        background=background,
        spec_text=spec_text,
        model_notes=model_notes,
    )


def render_campaign_page(
    results: CampaignResults,
    searches: Sequence[SearchResults],
    rows: Sequence[dict[str, Any]],
    plots: Sequence[Plot],
    *,
    required: tuple[str, ...],
    background: Background,
    spec_text: str,
    model_notes: Sequence[str] = (),
) -> str:
    """The page as HTML5 text. What is listed is bounded. required: the screens that count. background: what the
    explanation of the best rows needs. model_notes: a sentence each on how good the predictors are.
    """
    rows, top = rows[:TABLE_ROWS], [top_of_several(each) for each in results.top]
    failures = list(results.failures.items())
    extent = ""
    if len(rows) < results.unique:
        extent = f"The best {len(rows):,} of {results.unique:,} unique formulas; candidates.parquet holds all of them."
    return render(
        "campaign.html.j2",
        title=f"kiago-ray: campaign {results.name}",
        remarks=_remarks(results),
        tiles=_tiles(results, rows, top),
        failures=[(shard, shortened(cause)) for shard, cause in failures[:SHOWN_FAILURES]],
        failures_note=not_shown(len(failures) - SHOWN_FAILURES, "failed shards"),
        means=_means(searches),
        means_notes=_means_notes(searches),
        extent=extent if results.rows else "",
        no_gain=no_gain(results.gains, results.passed),
        candidates=candidates_table(rows, required, campaign=True),
        **ranked_content(rows, top, results.statuses, background),
        what="campaign",
        plots=plots,
        searches=_searches(searches),
        model_notes=model_notes,
        spec_text=spec_text,
    )


def _remarks(results: CampaignResults) -> list[str]:
    """What a reader must know first: what is missing, what was damaged, what failed."""
    counts = (
        (results.searches_complete, results.searches, "searches"),
        (results.shards_done, results.shards, "shards"),
        (results.rows, results.candidates, "candidates"),
    )
    missing = [f"{part:,} of {whole:,} {what}" for part, whole, what in counts if part < whole]
    texts = []
    if not results.rows:
        texts.append(f"No search has results yet, of {results.candidates:,} candidates planned.")
    elif missing:
        texts.append(f"Not finished: {', '.join(missing)} are done. The numbers below are of those.")
    if results.damaged:
        more = len(results.damaged) - _SHOWN_DAMAGED
        shown = "; ".join(results.damaged[:_SHOWN_DAMAGED])
        texts.append(
            f"Files found damaged, and made again: {shown}" + (f"; and {more} more" if more > 0 else "")
        )
    if results.failures:
        texts.append(f"Shards that failed: {len(results.failures):,}. The same command tries them again.")
    return texts


def _tiles(
    results: CampaignResults, rows: Sequence[dict[str, Any]], top: Sequence[TopMean]
) -> list[tuple[str, str]]:
    """The main numbers: label and value of each."""
    entries = [
        ("searches complete", f"{results.searches_complete:,} of {results.searches:,}"),
        ("shards done", f"{results.shards_done:,} of {results.shards:,}"),
        ("candidates done", f"{results.rows:,} of {results.candidates:,}"),
        ("unique formulas", f"{results.unique:,}"),
        ("passed every screen", f"{results.passed:,}"),
    ]
    if results.new_systems is not None:
        entries.append(("proposals of new chemical systems", f"{results.new_systems:,}"))
    if rows and rows[0].get("passed"):
        entries.append((f"T_c of the best, predicted: {rows[0]['formula']}", kelvin(rows[0].get("tc_k"))))
    gaps = [each for each in top if each.k == K and each.gap_k is not None]
    return [*entries, *((f"exploitation gap of the best {each.used}", kelvin(each.gap_k)) for each in gaps)]


def _means(searches: Sequence[SearchResults]) -> Table[Group]:
    """The means over seeds by base and variant."""
    every, sizes = groups(searches), _sizes(searches)
    name = gain_name(searches)

    def spread(header: str, value: Callable[[Summary], float | None], form: str = "{:.1f}") -> Column[Group]:
        return Column(header, lambda group: _spread([value(each) for each in group.summaries], form), "n")

    columns: list[Column[Group]] = [
        text("Base", lambda group: group.base, formula=True),
        text("Variant", lambda group: group.variant),
        Column("Seeds", _seeds, "n"),
        number("T_c of base (K)", lambda group: group.material and group.material.tc_predicted_k, "{:z.1f}"),
        number("measured (K)", lambda group: group.material and group.material.tc_measured_k, "{:z.1f}"),
        *(Column(f"{name} top {k} (K)", _gain_mean(k), "n") for k in sizes),
        *(spread(header, _of_top(field), form) for field, header, form in _TRUST),
        spread("Passed (%)", lambda summary: _percent(summary.passed_fraction)),
        spread("Unique (%)", lambda summary: _percent(summary.unique_fraction)),
    ]
    return table_of(
        foremost(every, LISTED, lambda group: group.mean_gain(sizes[0]) if sizes else None),
        columns,
        "Means over seeds by base and variant",
        not_shown(len(every) - LISTED, f"pairs of base and variant with a lower {name}"),
    )


def _means_notes(searches: Sequence[SearchResults]) -> list[str]:
    """How the table of means is to be read."""
    every, sizes = groups(searches), _sizes(searches)
    notes = ["Unique: of all candidates. Passed: of the unique formulas."] if every else []
    if any(len(group.searches) > 1 for group in every):
        notes.append(_CHANCE)
    if any(is_short(each.summary, k) for each in searches for k in sizes):
        notes.append("* In some of these searches fewer formulas passed: the mean is of those.")
    if any(0 < len(group.gains(k)) < len(group.searches) for group in every for k in sizes):
        notes.append("[n]: something passed in n of the seeds only, and the mean is of those seeds.")
    return notes


def _searches(searches: Sequence[SearchResults]) -> Table[SearchResults]:
    """A row a search."""
    sizes, name = _sizes(searches), gain_name(searches)
    columns: list[Column[SearchResults]] = [
        text("Search", lambda each: each.name),
        text("Base", lambda each: each.base, formula=True),
        text("Variant", lambda each: each.variant),
        number("Seed", lambda each: each.seed, "{}"),
        Column(
            "Shards", lambda each: (f"{each.shards_done:,} of {each.shards:,}", float(each.shards_done)), "n"
        ),
        number("Candidates", lambda each: each.summary.rows, "{:,}"),
        number("Unique (%)", lambda each: _percent(each.summary.unique_fraction)),
        number("Passed (%)", lambda each: _percent(each.summary.passed_fraction)),
        number("T_c above base", lambda each: each.summary.passed_above_base, "{:,}"),
        *(Column(f"{name} top {k} (K)", _gain_of(k), "n") for k in sizes),
        *(_trust_column(field, header, form) for field, header, form in _TRUST),
    ]
    return table_of(
        foremost(searches, LISTED, lambda each: gain(each.summary, sizes[0]) if sizes else None),
        columns,
        "Searches",
        not_shown(len(searches) - LISTED, f"searches with a lower {name}"),
    )


def _seeds(group: Group) -> Cell:
    seeds = len(group.searches)
    parts = sum(not each.complete for each in group.searches)
    return f"{seeds}, {parts} in part" if parts else f"{seeds}", float(seeds)


def _gain_of(k: int) -> Callable[[SearchResults], Cell]:
    def content(search: SearchResults) -> Cell:
        shown, value = number_cell(gain(search.summary, k), _gain_format(search.summary))
        return shown + ("*" if is_short(search.summary, k) else ""), value

    return content


def _gain_mean(k: int) -> Callable[[Group], Cell]:
    def content(group: Group) -> Cell:
        gains = group.gains(k)
        shown, value = _spread(gains, _gain_format(*group.summaries))
        shown += "*" if any(is_short(summary, k) for summary in group.summaries) else ""
        return shown + (f" [{len(gains)}]" if 0 < len(gains) < len(group.searches) else ""), value

    return content


def _gain_format(*summaries: Summary) -> str:
    """Differences to a base have a sign."""
    return "{:+z.1f}" if any(summary.base is not None for summary in summaries) else "{:z.1f}"


def _of_top(field: str) -> Callable[[Summary], float | None]:
    """A field of what the summary says of the best K."""
    return lambda summary: getattr(best(summary, K), field, None)


def _trust_column(field: str, header: str, form: str) -> Column[SearchResults]:
    value = _of_top(field)
    return number(header, lambda each: value(each.summary), form)


def _spread(values: Sequence[float | None], form: str = "{:.1f}") -> Cell:
    """Mean ± sample standard deviation of what is known; the mean alone where that is one value."""
    known = [value for value in values if value is not None]
    if not known:
        return NO_VALUE
    shown, mean = number_cell(statistics.fmean(known), form)
    return (f"{shown} ± {statistics.stdev(known):.1f}" if len(known) > 1 else shown), mean


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction


def _sizes(searches: Sequence[SearchResults]) -> list[int]:
    """The k of the best k that the summaries count."""
    return sorted({top.k for each in searches for top in each.summary.top})


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
