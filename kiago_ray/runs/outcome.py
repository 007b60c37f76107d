"""The files of a search: curves.parquet, how it came to its candidates, and what a person opens."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from kiago_ray.hull import EnergyHull
from kiago_ray.report.page import TABLE_ROWS, card_notes, search_page
from kiago_ray.report.phase_diagrams import section_plots
from kiago_ray.report.plots import Plot, search_plots
from kiago_ray.report.reasons import ef_error
from kiago_ray.runs.spec import ALONE
from kiago_ray.search.result import QUANTITIES, Trajectory
from kiago_ray.storage.location import Location, StorageError
from kiago_ray.storage.run_directory import (
    CANDIDATES,
    REPORT,
    SPEC,
    SUMMARY,
    TOP,
    Results,
    RunDirectory,
    SearchResults,
    summary_json,
)
from kiago_ray.storage.table import parquet_bytes, read_parquet, table_bytes, top_csv

if TYPE_CHECKING:
    from kiago_ray.api import SearchOutcome

CURVES = "curves.parquet"
CURVES_SCHEMA = pa.schema(
    [("step", pa.int32()), ("stage", pa.int8()), ("rows", pa.int32())]
    + [(f"{name}_{kind}", pa.float64()) for name in QUANTITIES for kind in ("mean", "p10", "p50", "p90")]
)


def curves_table(trajectory: Trajectory) -> Any:
    """A row a step (CURVES_SCHEMA): steps taken, stage, rows of the sample still going, and mean and quantiles of
    their T_c in K, E_f in eV/atom, integer loss and what they climb in place of T_c (see `Trajectory`), null where no
    row goes on.
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
    hull: EnergyHull | None = None,
    remark: str = "",
) -> SearchResults:
    """Write the files of a search that ran in this process, as `finish_search` does, and its page.

    cards: the model cards, for what the page says of the predictors. hull: for the plot of a section. remark: heads
    the page of a search that was stopped, which doesn't count as finished. Raises StorageError.
    """
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
        outputs={CANDIDATES: hashlib.sha256(content).hexdigest()},
    )
    rows = outcome.table.slice(0, TABLE_ROWS).to_pylist()
    plots = search_plots(outcome.table, path, outcome.summary.base, name)
    plots += section_plots(hull, spec.base, rows)
    page = search_page(
        outcome.summary,
        rows,
        ef_error_ev_per_atom=ef_error(cards, spec.ef_predictor),
        title=f"kiago-ray: {name}",
        plots=plots,
        spec_text=(place / SPEC).read_bytes().decode("utf-8"),
        model_notes=card_notes(cards),
        remark=remark,
    )
    results = write_files(place, results, outcome.table, plots, {REPORT: page, **curves_file(path)})
    if results.complete:
        directory.finish(results.files)
    return results


def write_files(
    folder: Location,
    results: Results,
    table: Any,
    plots: Sequence[Plot],
    others: Mapping[str, bytes | str],
) -> Results:
    """Write what a person opens of a run whose candidates are there, and summary.json last; return the results with
    the hashes of all its files. table: the first TOP_ROWS candidates at least. others: more files by name.
    """
    texts = {TOP: top_csv(table), **others, **{plot.file: plot.png for plot in plots}}
    files = {name: text.encode() if isinstance(text, str) else text for name, text in texts.items()}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    results = replace(results, outputs={**results.outputs, **hashes})
    folder.write_all({**files, SUMMARY: summary_json(results)})
    return results


def curves_file(trajectory: Trajectory) -> dict[str, bytes]:
    """The file of curves under its name; none where no steps were taken."""
    return {CURVES: parquet_bytes(curves_table(trajectory))} if len(trajectory.rows) else {}
