"""How much better the best is than something else, on seeds that no trial saw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import t

from kiago_ray.sweep.metrics import Score, mean_over

BEST = "best"
CONFIDENCE = 0.95


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
    freedom = _freedom(paired, bases, metric)
    if mean.error is not None and freedom is not None:
        reach = float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * mean.error
        low, high = mean.value - reach, mean.value + reach
    return Difference(
        name,
        metric,
        mean.value,
        low,
        high,
        len(paired),
        tuple(_on(base, paired, best, other, metric) for base in bases),
    )


def _freedom(paired: Sequence[Score], bases: Sequence[str], metric: str) -> float | None:
    """Degrees of freedom of a sum of means whose spreads differ (Welch and Satterthwaite): a base that spreads most
    is known from its own few seeds alone. None where a base has but one pair.
    """
    values = [np.array([score.values[metric] for score in paired if score.base == base]) for base in bases]
    if not values or min(map(len, values)) < 2:
        return None
    variances = np.array([each.var(ddof=1) / len(each) for each in values])
    if not variances.any():
        return float(sum(len(each) - 1 for each in values))
    return float(
        variances.sum() ** 2 / sum(v**2 / (len(each) - 1) for v, each in zip(variances, values, strict=True))
    )


def _on(
    base: str, paired: Sequence[Score], best: Sequence[Score], other: Sequence[Score], metric: str
) -> OnBase:
    seeds = {score.seed for score in paired if score.base == base}
    means = [
        mean_over([score for score in scores if score.base == base and score.seed in seeds], metric)
        for scores in (best, other, paired)
    ]
    return OnBase(base, means[0].value, means[1].value, means[2].value, means[2].error)
