"""What came of a search and of a campaign: summary.json, a page of numbers, and curves.parquet, how a search came to
its candidates; and the files of a search.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import numpy as np
import pyarrow as pa
from pydantic import BeforeValidator, TypeAdapter

from kiago_ray.report.plots import PLOTTED, SEARCH_PLOTS, TRAJECTORY_PLOT, Plot, search_plots
from kiago_ray.runs.spec import ALONE
from kiago_ray.screening.screens import Summary, TopMean
from kiago_ray.search.result import QUANTITIES, Trajectory
from kiago_ray.storage.location import Location, StorageError
from kiago_ray.storage.run_directory import CANDIDATES, REPORT, SPEC, TOP, DamagedError, RunDirectory
from kiago_ray.storage.table import (
    TOP_ROWS,
    first_rows,
    parquet_bytes,
    read_parquet,
    read_table,
    table_bytes,
    top_csv,
)

if TYPE_CHECKING:
    from kiago_ray.api import SearchOutcome

SUMMARY, CURVES = "summary.json", "curves.parquet"
SEARCH_OUTPUTS = (CANDIDATES, TOP, CURVES, *SEARCH_PLOTS, SUMMARY)
SEARCHES = "searches"  # the folder of a campaign's searches
BEST_ROWS = 10
_BEST = (
    "formula base search source plausibility expected_improvement_k gain trusted_tc_k tc_k tc_std_k tc_oracle_k "
    "extrapolation delta_tc_k ef_ev_per_atom passed"
)
BEST_COLUMNS = tuple(_BEST.split())
_OF_ONE_BASE = ("delta_tc_k", "delta_tc_oracle_k")  # differences: a campaign's best come from several bases
adapter = cache(TypeAdapter[Any])  # to make one takes longer than to read by it
CURVES_SCHEMA = pa.schema(
    [("step", pa.int32()), ("stage", pa.int8()), ("rows", pa.int32())]
    + [(f"{name}_{kind}", pa.float64()) for name in QUANTITIES for kind in ("mean", "p10", "p50", "p90")]
)


@dataclass(frozen=True)
class SearchResults:
    """What came of one search, or of the shards of it that are done.

    wall_s: of all its shards together. finished_at: of the last one, in seconds since 1970. sources: SHA-256 over
    its shards' SHA-256, "" where it ran in one piece. candidates_sha256: of its candidates.parquet.
    """

    name: str
    base: str | None
    variant: str
    seed: int
    shards: int
    shards_done: int
    summary: Summary
    wall_s: float
    finished_at: float
    sources: str
    candidates_sha256: str

    @property
    def complete(self) -> bool:
        """Whether all its shards are in it."""
        return self.shards_done == self.shards

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain types, for JSON."""
        return {**asdict(self), "complete": self.complete, "summary": self.summary.to_dict()}


def _by_shard(failures: Any) -> Any:
    """Failures as summary.json lists them, as a mapping."""
    return {each["shard"]: each["cause"] for each in failures}


@dataclass(frozen=True)
class CampaignResults:
    """What came of a campaign so far.

    candidates: rows planned. rows: rows done. top: of the best that passed, without differences to a base. best: the
    first rows of its table, with BEST_COLUMNS. ranked_by, gains, left_out, sources: as in Summary. new_systems: how
    many that passed and are neither known nor tried are of chemical systems without a known superconductor; None where
    nothing was held against any. failures: shard → cause. damaged: what was wrong with files that were found.
    """

    name: str
    searches: int
    searches_complete: int
    shards: int
    shards_done: int
    candidates: int
    rows: int
    unique: int
    passed: int
    statuses: Mapping[str, int]
    top: tuple[TopMean, ...]
    best: tuple[Mapping[str, Any], ...]
    ranked_by: str
    gains: int | None
    left_out: int
    new_systems: int | None
    sources: Mapping[str, int]
    failures: Annotated[Mapping[str, str], BeforeValidator(_by_shard)]
    damaged: tuple[str, ...]
    candidates_sha256: str

    @property
    def complete(self) -> bool:
        """Whether every shard is done."""
        return self.shards_done == self.shards

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain types, for JSON."""
        top = [{k: v for k, v in asdict(each).items() if k not in _OF_ONE_BASE} for each in self.top]
        failures = [{"shard": shard, "cause": cause} for shard, cause in self.failures.items()]
        return {**asdict(self), "top": top, "failures": failures, "complete": self.complete}


def search_folder(campaign: Location, name: str) -> Location:
    """Where the results of a search of a campaign are."""
    return campaign / SEARCHES / name


Results = TypeVar("Results", SearchResults, CampaignResults)


def read_results(folder: Location, kind: type[Results]) -> Results | None:
    """What came of the search or campaign in a directory, None where it isn't there yet. Raises DamagedError,
    StorageError.
    """
    content = (folder / SUMMARY).read_if_there()
    try:
        return None if content is None else adapter(kind).validate_json(content)  # type: ignore[arg-type]
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedError(
            f"{(folder / SUMMARY).text} is no summary of this version; run the campaign again"
        ) from error


def whole_results(directory: RunDirectory, kind: type[Results]) -> Results | None:
    """The results of a search or a campaign that is done and whose table is what it was; None where it has to be run
    (again). Raises StorageError.
    """
    if not directory.finished:
        return None
    try:
        results = read_results(directory.location, kind)
    except DamagedError:
        return None
    whole = results is not None and (directory.location / CANDIDATES).sha256() == results.candidates_sha256
    return results if whole else None


def write_summary(results: SearchResults | CampaignResults, folder: Location) -> None:
    """Write summary.json into a folder. Raises StorageError."""
    text = json.dumps(results.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / SUMMARY).write_bytes(text.encode("utf-8"))


def curves_table(trajectory: Trajectory) -> Any:
    """A row a step (CURVES_SCHEMA): steps taken, stage, rows of the sample still going, and mean and quantiles of
    their T_c in K, E_f in eV/atom and integer loss, null where no row goes on.
    """
    columns = {
        "step": np.arange(len(trajectory.stage), dtype=np.int32),
        "stage": trajectory.stage.astype(np.int8),
        "rows": np.isfinite(trajectory.tc_k).sum(axis=1).astype(np.int32),
        **{name: pa.array(values, from_pandas=True) for name, values in trajectory.summary().items()},
    }
    return pa.table(columns, schema=CURVES_SCHEMA)


def read_curves(folder: Location) -> Any:
    """The table of curves in a search's folder. Raises StorageError."""
    place = folder / CURVES
    table = read_parquet(place)
    if not table.schema.equals(CURVES_SCHEMA):
        raise StorageError(f"{place.text} is not a table of curves of this version; run the campaign again")
    return table


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
    # Searches in shards have no page of their own.
    from kiago_ray.report.page import TABLE_ROWS, card_notes, search_page
    from kiago_ray.report.reasons import row_background

    place, spec, path = directory.location, outcome.spec, outcome.result.trajectory
    content, name = table_bytes(outcome.table), spec.base or "random start"
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
    page = search_page(
        outcome.summary,
        outcome.table.slice(0, TABLE_ROWS).to_pylist(),
        background=row_background(cards),
        title=f"kiago-ray: {name}",
        plots=write_files(place, results, path, name),
        spec_text=(place / SPEC).read_bytes().decode("utf-8"),
        model_notes=card_notes(cards),
        remark=remark,
    )
    (place / REPORT).write_bytes(page.encode("utf-8"))
    if results.complete:
        steps = () if len(path.rows) else (CURVES, TRAJECTORY_PLOT)
        directory.finish([REPORT, *(name for name in SEARCH_OUTPUTS if name not in steps)])
    return results


def write_files(folder: Location, results: SearchResults, path: Trajectory, title: str) -> list[Plot]:
    """What a person opens of a search whose table is there, and summary.json last; the plots. Curves and a trajectory
    are there where steps were taken.
    """
    table = folder / CANDIDATES
    (folder / TOP).write_bytes(top_csv(first_rows(table, TOP_ROWS)).encode("utf-8"))
    if len(path.rows):
        (folder / CURVES).write_bytes(parquet_bytes(curves_table(path)))
    plots = search_plots(read_table(table, PLOTTED), path, results.summary.base, title)
    for plot in plots:
        (folder / plot.file).write_bytes(plot.png)
    write_summary(results, folder)
    return plots
