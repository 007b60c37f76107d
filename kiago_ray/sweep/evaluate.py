"""One search of a trial, from its specification to its score."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from kiago_ray.api import base_material, judged_rows
from kiago_ray.sweep.metrics import Score, measured

if TYPE_CHECKING:
    from kiago_ray.plausibility.shipped import Prospects
    from kiago_ray.predictors import Predictors
    from kiago_ray.predictors.oracle.opinions import SecondOpinion
    from kiago_ray.screening import KnownMaterials
    from kiago_ray.sweep.spec import SweepSpec

RANDOM = "random"  # in place of a base


def score_search(
    sweep: SweepSpec,
    point: Mapping[str, Any],
    base: str | None,
    seed: int,
    predictors: Predictors,
    *,
    judges: SecondOpinion,
    known: KnownMaterials | None = None,
    prospects: Prospects | None = None,
    device: str = "cpu",
    should_stop: Callable[[], bool] | None = None,
) -> Score:
    """Search at a point and score what came of it. judges: whose oracle counts, of tuning or of reporting. prospects:
    see `api.judged_rows`.

    Raises SpecError for a point that can't be run on this base.
    """
    began = time.perf_counter()
    spec = sweep.spec(point, base, seed)
    material = base_material(spec, predictors, known, judges)
    rows = judged_rows(
        spec,
        predictors,
        material,
        shard_rows=spec.row_count,
        trajectory_rows=1,
        judge=sweep.judge(),
        second=judges,
        known=known,
        prospects=prospects,
        device=device,
        should_stop=should_stop,
    )
    return Score(
        base=base or RANDOM,
        seed=seed,
        values=measured(rows, material, sweep.top),
        row_steps=spec.row_count * sum(spec.steps),
        seconds=time.perf_counter() - began,
    )
