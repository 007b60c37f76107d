"""How much better the best is than something else, by another judge and on seeds that no trial saw."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import t

from kiago_ray.sweep.metrics import Score, mean_over
from kiago_ray.sweep.spec import BEST, SweepSpec
from kiago_ray.sweep.trials import Trial, Unit

CONFIDENCE = 0.95


def compare_units(sweep: SweepSpec, best: Trial | None) -> list[Unit]:
    """What the comparison searches for: the best and the others on each base; nothing without a best.

    Another point has its scores in another folder.
    """
    if best is None:
        return []
    points = {BEST: best.point, **sweep.compare.against}
    return [
        Unit(name, f"compare/{name}-{_digest(sweep, point)}/{place}", point, (base,))
        for name, point in points.items()
        for place, base in enumerate(sweep.compare_bases)
    ]


def _digest(sweep: SweepSpec, point: Mapping[str, Any]) -> str:
    values = sweep.spec(point, None, 0).model_dump(mode="json")
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class OnBase:
    """Means over seeds on one base, and the difference with its standard error over seeds."""

    base: str
    best: float
    other: float
    difference: float
    error: float | None


@dataclass(frozen=True)
class Difference:
    """The best minus `other` by one metric, searches paired by base and seed.

    value: mean over bases of means over seeds. low, high: its 95 % interval by the spread over seeds, the bases as
    they are; None where that can't be told. pairs: of searches.
    """

    other: str
    metric: str
    value: float
    low: float | None
    high: float | None
    pairs: int
    bases: tuple[OnBase, ...]


def difference(best: Sequence[Score], other: Sequence[Score], metric: str, name: str) -> Difference:
    """Of two lists of searches on the same bases and seeds. What one of a pair couldn't tell is left out."""
    others = {(score.base, score.seed): score.values[metric] for score in other}
    paired = [
        replace(score, values={metric: score.values[metric] - others[score.base, score.seed]})
        for score in best
        if (score.base, score.seed) in others
    ]
    paired = [score for score in paired if not math.isnan(score.values[metric])]
    mean = mean_over(paired, metric)
    bases = tuple(dict.fromkeys(score.base for score in paired))
    low = high = None
    if mean.error is not None:  # then each base has two pairs or more
        reach = float(t.ppf((1 + CONFIDENCE) / 2, _freedom(paired, bases, metric))) * mean.error
        low, high = mean.value - reach, mean.value + reach
    on_bases = tuple(_on(base, paired, best, other, metric) for base in bases)
    return Difference(name, metric, mean.value, low, high, len(paired), on_bases)


def _freedom(paired: Sequence[Score], bases: Sequence[str], metric: str) -> float:
    """Degrees of freedom of a sum of means whose spreads differ (Welch and Satterthwaite): a base that spreads most
    is known from its own few seeds alone.
    """
    values = [np.array([score.values[metric] for score in paired if score.base == base]) for base in bases]
    variances = np.array([each.var(ddof=1) / len(each) for each in values])
    freedoms = np.array([len(each) - 1 for each in values])
    if not variances.any():
        return float(freedoms.sum())
    return float(variances.sum() ** 2 / (variances**2 / freedoms).sum())


def _on(
    base: str, paired: Sequence[Score], best: Sequence[Score], other: Sequence[Score], metric: str
) -> OnBase:
    seeds = {score.seed for score in paired if score.base == base}
    means = [
        mean_over([score for score in scores if score.base == base and score.seed in seeds], metric)
        for scores in (best, other, paired)
    ]
    return OnBase(base, means[0].value, means[1].value, means[2].value, means[2].error)
