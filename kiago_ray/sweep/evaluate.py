"""One search of a trial, from its specification to its score."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from kiago_ray.judging import judged_rows
from kiago_ray.models import Models
from kiago_ray.sweep.metrics import Score, measured

if TYPE_CHECKING:
    from kiago_ray.sweep.spec import SweepSpec

RANDOM = "random"  # in place of a base


def score_search(
    sweep: SweepSpec,
    point: Mapping[str, Any],
    base: str | None,
    seed: int,
    models: Models,
    *,
    should_stop: Callable[[], bool] | None = None,
) -> Score:
    """Search at a point and score what came of it by the oracle of `models`, which is that of tuning or of reporting.

    Raises SpecError for a point that can't be run on this base.
    """
    began = time.perf_counter()
    spec = sweep.spec(point, base, seed)
    rows = judged_rows(
        spec,
        models,
        shard_rows=spec.row_count,
        trajectory_rows=1,
        judge=sweep.judge(),
        should_stop=should_stop,
    )
    return Score(
        base=base or RANDOM,
        seed=seed,
        values=measured(rows, rows.base, sweep.top),
        row_steps=spec.row_count * sum(spec.steps),
        seconds=time.perf_counter() - began,
    )
