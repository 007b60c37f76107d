"""The files of a search and of a campaign: from finished shards to those of a search, from several searches to those
of a campaign. Tables of candidates are merged without ever holding whole rows in memory: ranking and counting read the
columns that they need.

Merging takes two passes: the first reads the few columns that decide which row stands for a formula, at which rank,
and whether it is on the Pareto front; the second carries those rows to their places, by way of files on a local disk
that hold a range of ranks each.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kiago_ray.hull import EnergyHull
from kiago_ray.predictors.weights import load_cards
from kiago_ray.report.page import CAMPAIGN_ROWS, campaign_page
from kiago_ray.report.phase_diagrams import section_plots
from kiago_ray.report.plots import PLOTTED, campaign_plots, search_plots
from kiago_ray.report.reasons import ef_error
from kiago_ray.runs.outcome import curves_file, read_curves, write_files
from kiago_ray.runs.plan import Plan, PlannedSearch
from kiago_ray.runs.shards import TABLE, Manifest, read_trajectory, search_folder, shard_file
from kiago_ray.runs.state import machines_of
from kiago_ray.screening.candidates import ORDER, RANKED, best_first, new_rows, standing, with_ranks
from kiago_ray.screening.screens import SUMMARISED, Summary, summarise
from kiago_ray.search.sections import ScreensSpec
from kiago_ray.storage.location import AT_ONCE, Location, StorageError, read_ahead, read_all, reason
from kiago_ray.storage.machines import kinds_of
from kiago_ray.storage.run_directory import (
    CANDIDATES,
    REPORT,
    SPEC,
    CampaignResults,
    SearchResults,
    read_results,
    read_run,
    whole_results,
    write_run,
)
from kiago_ray.storage.table import TOP_ROWS, first_rows, read_group, read_table, read_with_groups, schema

_OF_MODELS = ("weights", "known", "phases", "tried")  # of a record, what makes a search's results the same
_OF_RUN = ("campaign", "campaign_id", "searches", "families", "resources", "identity", "finished", "outputs")
_BEST = (
    "formula base search source plausibility expected_improvement_k gain trusted_tc_k tc_k tc_std_k tc_oracle_k "
    "extrapolation delta_tc_k ef_ev_per_atom passed"
)
BEST_COLUMNS, BEST_ROWS = tuple(_BEST.split()), 10  # of summary.json
_COUNTED = ("rows", "unique", "passed", "statuses", "top", "ranked_by", "gains", "left_out", "sources")
BLOCK_ROWS = 65_536  # of a row group
Group = tuple[Location, int, int]
"""A row group of a table's file: the file, its number there, its rows."""
_RUN_ROWS = 131_072  # rows sorted in memory at a time
_MOST_PARTS = 512  # temporary files that are open at a time; most systems allow a process 1024


def finish_search(
    run: Location,
    search: PlannedSearch,
    manifests: Sequence[Manifest],
    *,
    folder: Location | None = None,
    record: Mapping[str, Any] = MappingProxyType({}),
    title: str | None = None,
    hull: EnergyHull | None = None,
) -> SearchResults:
    """Merge the shards of these manifests, one at least, and write the files of the search; spec.yaml last.

    They may be all shards of the search or a part. folder: for the files, by default below the run's searches/.
    record: what the run's spec.yaml says of models and versions, for the search's own. title: over the plots, the
    search's name by default. hull: for the plot of a section. Where the results of the same shards are there already,
    nothing is done again. Raises StorageError.
    """
    if not manifests:
        raise ValueError(f"{search.name}: no shard of it is done; there is nothing to merge")
    manifests = sorted(manifests, key=lambda manifest: manifest.number)
    folder = search_folder(run, search.name) if folder is None else folder
    sources = sources_of(manifests)
    with suppress(StorageError):  # then it is made anew
        read_curves(folder)
        found = whole_results(read_run(folder), SearchResults)
        if found is not None and found.sources == sources:
            return found
    folder.make_directory()
    screens, base = search.spec.screens, manifests[0].base
    table, tables = folder / CANDIDATES, [shard_file(run, each, TABLE) for each in manifests]
    summary, _, sha256 = _merged(tables, table, screens, manifests, required=screens.names, base=base)
    results = SearchResults(
        name=search.name,
        base=search.base,
        variant=search.variant,
        seed=search.seed,
        shards=search.shard_count,
        shards_done=len(manifests),
        summary=summary,
        wall_s=round(sum(manifest.wall_s for manifest in manifests), 3),
        finished_at=max(float(manifest.made["finished_at"]) for manifest in manifests),
        sources=sources,
        outputs={CANDIDATES: sha256},
        machines=machines_of(manifests),
    )
    own: dict[str, Any] = {"search": search.spec.model_dump(mode="json")}
    own |= {"families": list(search.bases)} if search.bases else {}
    own |= {key: record[key] for key in _OF_MODELS if key in record}
    about = {key: value for key, value in record.items() if key not in (*_OF_MODELS, *_OF_RUN)}
    about |= {"precision": manifests[0].made["precision"]} if "precision" in manifests[0].made else {}
    path = read_trajectory(run, search, manifests)
    head = first_rows(table, TOP_ROWS)
    plots = search_plots(read_table(table, PLOTTED), path, summary.base, title or search.name)
    plots += section_plots(hull, search.base, head.to_pylist())
    directory = write_run(folder, own, about)  # an earlier record would vouch for the new files
    results = write_files(folder, results, head, plots, curves_file(path))
    if results.complete:
        directory.finish(results.files)
    return results


def sources_of(manifests: Sequence[Manifest]) -> str:
    """SHA-256 over the tables of these shards, in their order."""
    return hashlib.sha256("\n".join(manifest.sha256 for manifest in manifests).encode()).hexdigest()


def _merged(
    tables: Sequence[Location],
    output: Location,
    ranking: ScreensSpec,
    parts: Sequence[Manifest | Summary],
    **how: Any,
) -> tuple[Summary, Any, str]:
    """What these tables come to, merged into `output`: the summary, the columns that it is made from and `new_system`,
    and the file's SHA-256. parts: what rows each table is made from. how: of `summarise`.
    """
    sha256 = merge_tables(tables, output, ranking)
    columns = read_table(output, (*SUMMARISED, "new_system"))
    statuses: Counter[str] = Counter()
    for each in parts:
        statuses.update(each.statuses)
    how |= {"rows": sum(each.rows for each in parts), "statuses": statuses, "ranked_by": ranking.rank_by}
    return summarise(columns, **how), columns, sha256


def finish_campaign(
    campaign: Location,
    plan: Plan,
    searches: Sequence[SearchResults],
    *,
    failures: Mapping[str, str],
    damaged: Sequence[str],
    model_notes: Sequence[str],
    folder: Location | None = None,
) -> CampaignResults:
    """Merge the tables of these searches, maybe none, and write the files of the campaign; summary.json last.

    The order is that of all searches of the plan, by trusted T_c where they differ in that. failures: shard → cause.
    damaged: what was wrong with files that were found. folder: for the files, by default the campaign's. Raises
    StorageError.
    """
    folder = campaign if folder is None else folder
    table = folder / CANDIDATES
    tables = [search_folder(campaign, each.name) / CANDIDATES for each in searches]
    screens = [search.spec.screens for search in plan.searches]
    alike = len({tuple(getattr(each, name) for name in ORDER) for each in screens}) == 1
    ranking = screens[0] if alike else ScreensSpec(rank_by="trusted")
    counted, columns, sha256 = _merged(
        tables, table, ranking, [each.summary for each in searches], required=()
    )
    new = new_rows(columns) & columns["new_system"].fill_null(False).to_numpy()
    head = first_rows(table, CAMPAIGN_ROWS)
    results = CampaignResults(
        name=plan.campaign.name,
        searches=len(plan.searches),
        searches_complete=sum(each.complete for each in searches),
        shards=plan.shard_count,
        shards_done=sum(each.shards_done for each in searches),
        candidates=plan.candidates,
        **{name: getattr(counted, name) for name in _COUNTED},
        new_systems=None if counted.gains is None else int(new.sum()),
        best=tuple(head.select(BEST_COLUMNS).slice(0, BEST_ROWS).to_pylist()),
        failures=dict(failures),
        damaged=tuple(damaged),
        outputs={CANDIDATES: sha256},
        machines=kinds_of(kind for each in searches for kind in each.machines),
    )
    curves = read_all(read_curves, [search_folder(campaign, each.name) for each in searches])
    plots = campaign_plots(read_table(table, PLOTTED), curves, searches, plan.campaign.name)
    page = campaign_page(
        results,
        searches,
        head.to_pylist(),
        plots=plots,
        required=tuple(dict.fromkeys(name for each in plan.searches for name in each.spec.screens.names)),
        # The error of E_f is the shipped predictor's; of others the notes have theirs.
        ef_error_ev_per_atom=ef_error(
            load_cards() if plan.campaign.weights is None else {}, plan.searches[0].spec.ef_predictor
        ),
        spec_text=(campaign / SPEC).read_bytes().decode("utf-8"),
        model_notes=model_notes,
    )
    return write_files(folder, results, head, plots, {REPORT: page})


def page_of_directory(campaign: Location, plan: Plan, *, model_notes: Sequence[str] = ()) -> str:
    """The page of a campaign's directory as it stands, of the searches that have results; nothing there is changed.
    Raises DamagedError, StorageError.
    """
    found = [read_results(search_folder(campaign, each.name), SearchResults) for each in plan.searches]
    searches = [each for each in found if each is not None]
    recorded = read_results(campaign, CampaignResults)
    failures, damaged = ({}, ()) if recorded is None else (recorded.failures, recorded.damaged)
    complete = {each.name for each in searches if each.complete}
    left = {shard: why for shard, why in failures.items() if shard.rpartition("/")[0] not in complete}
    with tempfile.TemporaryDirectory(prefix="kiago-page-") as scratch:
        folder = Location.of(scratch)
        told: dict[str, Any] = {"failures": left, "damaged": damaged, "model_notes": model_notes}
        finish_campaign(campaign, plan, searches, folder=folder, **told)
        return (folder / REPORT).read_bytes().decode("utf-8")


def merge_tables(inputs: Sequence[Location], output: Location, ranking: ScreensSpec) -> str:
    """Merge tables of candidates into one of unique formulas, best first, `rank` from 1, and return its SHA-256; its
    directory must exist.

    Each input counts as a search (see `standing`), so that the shards of one search give what `ranked` makes of all
    of them. Temporary files take some 300 bytes a formula. Raises StorageError, with nothing written.
    """
    ranks, front, groups = _ranks(inputs, ranking)
    pa.default_memory_pool().release_unused()
    rows_a_part = BLOCK_ROWS * max(1, -(-len(front) // (BLOCK_ROWS * _MOST_PARTS)))
    edges = np.arange(1, len(front) + 1 + rows_a_part, rows_a_part)
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    try:
        with tempfile.TemporaryDirectory(prefix="kiago-merge-") as scratch:
            parts = [str(Path(scratch, f"{number}.arrow")) for number in range(len(edges) - 1)]
            with ExitStack() as stack:
                opened = (pa.ipc.new_file(part, schema(), options=options) for part in parts)
                writers = [stack.enter_context(writer) for writer in opened]
                for rows in _ranked_rows(groups, ranks, front):
                    cuts = np.searchsorted(rows["rank"].to_numpy(), edges).tolist()
                    for writer, (start, stop) in zip(writers, pairwise(cuts), strict=True):
                        writer.write_table(rows.slice(start, stop - start))
            merged = str(Path(scratch, CANDIDATES))
            with pq.ParquetWriter(merged, schema(), compression="zstd") as table:
                for part in parts:
                    with pa.OSFile(part) as file:
                        block = pa.ipc.open_file(file).read_all().sort_by("rank").combine_chunks()
                    table.write_table(block, row_group_size=BLOCK_ROWS)
            with pa.memory_map(merged) as file:
                content = file.read_buffer()
            output.write_bytes(content)
            return hashlib.sha256(content).hexdigest()
    except (OSError, pa.ArrowException) as error:
        raise StorageError(
            f"can't write temporary files to {tempfile.gettempdir()}: {reason(error)}; set TMPDIR to a place with room"
        ) from error


def _ranks(inputs: Sequence[Location], ranking: ScreensSpec) -> tuple[NDArray[np.int32], Any, list[Group]]:
    """The rank (n,) of each row of all inputs, 0 for a row that stands for no formula; which of the u ranked ones are
    on the Pareto front (u,); and the inputs' row groups.
    """
    groups: list[Group] = []
    sizes, tables, lot = list[int](), [schema(RANKED).empty_table()], list[Any]()
    reading = read_ahead(lambda place: read_with_groups(place, RANKED), inputs)
    for place, (table, own) in zip(inputs, reading, strict=True):
        groups += [(place, number, rows) for number, rows in enumerate(own)]
        sizes.append(len(table))
        lot.append(table)
        if sum(map(len, lot)) >= _RUN_ROWS:  # many small pieces take far more memory than few large ones
            tables.append(pa.concat_tables(lot).combine_chunks())
            lot.clear()
    rows = pa.concat_tables([*tables, *lot])
    searches = np.repeat(np.arange(len(sizes)), sizes)
    del tables, lot
    places, ranks = standing(rows, searches), np.zeros(len(rows), dtype=np.int32)
    rows = rows.take(pa.array(places))  # of which there may be fewer by far
    best, front = best_first(rows, ranking)
    ranks[places[best]] = np.arange(1, len(best) + 1, dtype=np.int32)
    return ranks, front, groups


def _ranked_rows(groups: Sequence[Group], ranks: NDArray[Any], front: Any) -> Iterator[Any]:
    """The rows that have a rank, with it and their place on the front, about _RUN_ROWS at a time, each lot by rank."""
    tables, position = [schema().empty_table()], 0
    largest = max([1, *(rows for _, _, rows in groups)])
    most = min(AT_ONCE, max(2, 2 * _RUN_ROWS // largest))  # so that what is read ahead has a bound in rows
    for block in read_ahead(lambda group: read_group(*group[:2]), groups, most):
        own = ranks[position : position + len(block)]
        position += len(block)
        held = own[own > 0]
        tables.append(with_ranks(block.filter(pa.array(own > 0)), held, front.take(pa.array(held - 1))))
        if sum(map(len, tables)) >= _RUN_ROWS:
            yield pa.concat_tables(tables).sort_by("rank")
            tables = tables[:1]
    yield pa.concat_tables(tables).sort_by("rank")
