"""One shard from its specification to its files: what a worker does, wherever it runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import torch

from kiago_ray.api import JudgedRows, judged_rows
from kiago_ray.models import Models
from kiago_ray.predictors.inference import step_precision
from kiago_ray.runs.plan import PlannedSearch, Shard
from kiago_ray.runs.shards import Manifest, write_shard
from kiago_ray.storage.location import Location

if TYPE_CHECKING:
    from kiago_ray.search.stages import ProgressCallback, ShouldStop


class StoppedError(Exception):
    """A shard that was stopped before its last step; nothing of it is kept."""


def compute_shard(
    search: PlannedSearch,
    shard: Shard,
    campaign: Location,
    models: Models,
    *,
    made: Mapping[str, Any] | None = None,
    progress: ProgressCallback | None = None,
    should_stop: ShouldStop | None = None,
) -> Manifest:
    """Run the shard's rows, judge them, write them below `campaign`; of a search around all known families the
    shard's families one after another, the steps of the first alone being kept.

    made: what the manifest says of where it was made. Raises StorageError where it can't be written, StoppedError
    where `should_stop` said so; what the search raises passes through.
    """
    began = time.perf_counter()
    parts = _judged(search, shard, models, progress, should_stop)
    if parts[-1].result.stopped_at_step is not None:
        raise StoppedError(shard.name)
    counts = [part.result.status_counts() for part in parts]
    base = None if search.bases else parts[0].base
    return write_shard(
        campaign,
        shard,
        pa.concat_tables([part.table for part in parts]),
        parts[0].result.trajectory,
        statuses={label: sum(each[label] for each in counts) for label in counts[0]},
        base=None if base is None else asdict(base),
        wall_s=time.perf_counter() - began,
        made={
            **(made or {}),
            "precision": step_precision(search.spec.precision, torch.device(models.device)),
            "finished_at": time.time(),
        },
    )


def _judged(
    search: PlannedSearch,
    shard: Shard,
    models: Models,
    progress: ProgressCallback | None,
    should_stop: ShouldStop | None,
) -> list[JudgedRows]:
    """The shard's rows or, of a search around all known families, those of its families up to one that was stopped."""
    judge = partial(
        judged_rows,
        models=models,
        name=search.name,
        trajectory_rows=search.curve_rows,
        progress=progress,
        should_stop=should_stop,
    )
    if not search.bases:
        return [judge(search.spec, rows=shard.rows, shard_rows=search.shard_rows)]
    parts: list[JudgedRows] = []
    for first_row, spec in search.parts(shard):
        parts.append(_of_family(judge(spec), first_row))
        if parts[-1].result.stopped_at_step is not None:
            break
    return parts


def _of_family(part: JudgedRows, first_row: int) -> JudgedRows:
    """A family's rows numbered as those of the search around all families, of which they begin at `first_row`."""
    at = part.table.schema.get_field_index("row")
    rows = pc.add(part.table["row"], pa.scalar(first_row, pa.int64()))
    trajectory = replace(part.result.trajectory, rows=part.result.trajectory.rows + first_row)
    return replace(
        part,
        result=replace(part.result, trajectory=trajectory),
        table=part.table.set_column(at, part.table.schema.field(at), rows),
    )
