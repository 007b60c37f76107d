"""One shard from its specification to its files: what a worker does, wherever it runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from kiago_ray.api import base_material, judged_rows
from kiago_ray.campaign.plan import PlannedSearch, Shard
from kiago_ray.campaign.shards import Manifest, write_shard
from kiago_ray.predictors.precision import step_precision
from kiago_ray.storage.location import Location

if TYPE_CHECKING:
    from kiago_ray.plausibility.shipped import Prospects
    from kiago_ray.predictors import Predictors
    from kiago_ray.predictors.second_opinion import SecondOpinion
    from kiago_ray.screening import KnownMaterials, TriedMaterials
    from kiago_ray.search import ProgressCallback, ShouldStop


class StoppedError(Exception):
    """A shard that was stopped before its last step; nothing of it is kept."""


def compute_shard(
    search: PlannedSearch,
    shard: Shard,
    campaign: Location,
    predictors: Predictors,
    *,
    second: SecondOpinion | None = None,
    known: KnownMaterials | None = None,
    tried: TriedMaterials | None = None,
    prospects: Prospects | None = None,
    device: str = "cpu",
    made: Mapping[str, Any] | None = None,
    progress: ProgressCallback | None = None,
    should_stop: ShouldStop | None = None,
) -> Manifest:
    """Run the shard's rows, judge them, write them below `campaign`.

    made: what the manifest says of where it was made. Raises StorageError where it can't be written, StoppedError
    where `should_stop` said so; what the search raises passes through.
    """
    began = time.perf_counter()
    base = base_material(search.spec, predictors, known, second)
    rows = judged_rows(
        search.spec,
        predictors,
        base,
        name=search.name,
        rows=shard.rows,
        shard_rows=search.shard_rows,
        trajectory_rows=search.curve_rows,
        second=second,
        known=known,
        tried=tried,
        prospects=prospects,
        device=device,
        progress=progress,
        should_stop=should_stop,
    )
    if rows.result.stopped_at_step is not None:
        raise StoppedError(shard.name)
    return write_shard(
        campaign,
        shard,
        rows.table,
        rows.result.trajectory,
        statuses=rows.result.status_counts(),
        base=None if base is None else asdict(base),
        wall_s=time.perf_counter() - began,
        made={
            **(made or {}),
            "precision": step_precision(search.spec.precision, torch.device(device)),
            "finished_at": time.time(),
        },
    )
