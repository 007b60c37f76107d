"""What a search is worth to a sweep, by a judge that isn't the reporter, and how much better the best point is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import BeforeValidator
from scipy.stats import t

from kiago_ray.chemistry.elements import Floats
from kiago_ray.chemistry.formula import parse
from kiago_ray.screening.known import expected_improvement_k
from kiago_ray.screening.rank import new_rows, unique

if TYPE_CHECKING:  # these load torch, which a sweep's file doesn't need to be read
    from kiago_ray.api import JudgedRows
    from kiago_ray.screening.known import BaseMaterial

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Metric:
    """mode: whether more (max) or less (min) is better. meaning: for people; K stands for the best `top` rows."""

    mode: str
    unit: str
    meaning: str

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return 1 if self.mode == "max" else -1


METRICS: Mapping[str, Metric] = {
    "improvement": Metric(
        "max",
        "K",
        "mean of plausibility × expected improvement over the best known nearby, T_c by the judge, of the best by it, "
        "an empty place counting 0 K",
    ),
    "trusted_delta_tc_k": Metric(
        "max",
        "K",
        "mean trusted T_c of the best by it, an empty place counting 0 K, above the base's T_c by the judge",
    ),
    "raw_delta_tc_k": Metric(
        "max",
        "K",
        "mean T_c by the search's own model of the best by it, an empty place counting 0 K, above the base's",
    ),
    "pass_rate": Metric("max", "", "part of the unique formulas that passes every screen"),
    "gap_k": Metric(
        "min", "K", "exploitation gap of the best by trusted T_c: mean T_c minus mean T_c by the judge"
    ),
    "diversity": Metric(
        "max", "", "chemical systems among the best by trusted T_c, as a part of their places"
    ),
}
DEFAULT_METRIC = "trusted_delta_tc_k"
DEFAULT_METRIC_OF: Mapping[str, str] = {"default": "improvement"}
"""By preset, where it isn't DEFAULT_METRIC."""


MaybeNaN = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""A number that JSON has as null where it is NaN."""


@dataclass(frozen=True)
class Score:
    """One search's metrics; NaN: nothing passed that could tell. row_steps: rows × steps it took. seconds: of wall."""

    base: str
    seed: int
    values: Mapping[str, MaybeNaN]
    row_steps: int
    seconds: float


def measured(rows: JudgedRows, base: BaseMaterial | None, top: int) -> dict[str, float]:
    """The metrics of a search whose rows a judge has seen. base: with that judge's T_c."""
    kept = unique(rows.table)
    good = rows.table.take(kept[new_rows(rows.table)[kept]])
    trusted, tc_k, oracle_k = (good[name].to_numpy() for name in ("trusted_tc_k", "tc_k", "tc_oracle_k"))
    trusted = np.nan_to_num(trusted)
    best = np.lexsort((-tc_k, -trusted))[:top]
    gap_k = float(tc_k[best].mean()) - float(oracle_k[best].mean()) if len(best) else math.nan
    systems = {frozenset(parse(formula)) for formula in good["formula"].take(best).to_pylist()}
    base_k = 0.0 if base is None else base.tc_predicted_k
    base_oracle_k = 0.0 if base is None or base.tc_oracle_k is None else base.tc_oracle_k
    return {
        "improvement": _mean_of_best(_hopes_k(good), top),
        "trusted_delta_tc_k": _mean_of_best(trusted, top) - base_oracle_k,
        "raw_delta_tc_k": _mean_of_best(tc_k, top) - base_k,
        "pass_rate": len(good) / len(kept) if len(kept) else 0.0,
        "gap_k": gap_k,
        "diversity": len(systems) / top,
    }


def _mean_of_best(values: Floats, top: int) -> float:
    """The mean of the `top` highest, an empty place counting 0."""
    return float(np.sort(values)[::-1][:top].sum()) / top


def _hopes_k(rows: Any) -> Floats:
    """Plausibility × expected improvement by the judge's T_c (n,) in K; 0 where there is nothing to compare with. The
    search's own T_c has no say; where plausibility wasn't worked out, the improvement alone counts.
    """
    names = ("tc_oracle_k", "tc_std_k", "best_nearby_tc_k", "plausibility")
    oracle_k, std_k, best_k, plausibility = (rows[name].to_numpy() for name in names)
    improvement = expected_improvement_k(oracle_k, std_k, np.nan_to_num(best_k))
    improvement[np.isnan(rows["expected_improvement_k"].to_numpy())] = 0.0
    return np.nan_to_num(np.nan_to_num(plausibility, nan=1.0) * improvement)


@dataclass(frozen=True)
class Mean:
    """A metric over bases and seeds. error: standard error by the spread over seeds, the bases as they are; None where
    a base has one seed.
    """

    value: float
    error: float | None


def mean_over(scores: Sequence[Score], name: str) -> Mean:
    """A metric's mean over bases of its means over seeds. What a search can't tell is left out; NaN if none can."""
    by_base = list(_by_base(scores, name).values())
    if not by_base:
        return Mean(math.nan, None)
    value = statistics.fmean(map(statistics.fmean, by_base))
    if any(len(values) < 2 for values in by_base):
        return Mean(value, None)
    return Mean(value, math.sqrt(sum(map(_variance_of_mean, by_base))) / len(by_base))


def _by_base(scores: Sequence[Score], name: str) -> dict[str, list[float]]:
    """The values of a metric by base; NaN is left out."""
    values: dict[str, list[float]] = {}
    for score in scores:
        if not math.isnan(score.values[name]):
            values.setdefault(score.base, []).append(score.values[name])
    return values


def _variance_of_mean(values: Sequence[float]) -> float:
    return statistics.variance(values) / len(values)


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

    value: mean over bases of means over seeds. reach: how far its 95 % interval goes to both sides, by the spread over
    seeds, the bases as they are; None where that can't be told. pairs: of searches.
    """

    other: str
    metric: str
    value: float
    reach: float | None
    pairs: int
    bases: tuple[OnBase, ...]

    @property
    def interval(self) -> tuple[float, float] | None:
        """The lower and upper end of the interval."""
        return None if self.reach is None else (self.value - self.reach, self.value + self.reach)

    @property
    def outcome(self) -> str | None:
        """Whether the best is "better" or "worse"; None where that can't be told."""
        if self.reach is None or not abs(self.value) > self.reach:
            return None
        return "better" if METRICS[self.metric].sign * self.value > 0 else "worse"


def difference(best: Sequence[Score], other: Sequence[Score], metric: str, name: str) -> Difference:
    """Of two lists of searches on the same bases and seeds. What one of a pair couldn't tell is left out."""
    others = {(score.base, score.seed): score.values[metric] for score in other}
    paired = [
        replace(score, values={metric: score.values[metric] - others[score.base, score.seed]})
        for score in best
        if (score.base, score.seed) in others
    ]
    paired = [score for score in paired if not math.isnan(score.values[metric])]
    differences, mean = _by_base(paired, metric), mean_over(paired, metric)
    reach = None
    if mean.error is not None:  # then each base has two pairs or more
        reach = float(t.ppf((1 + CONFIDENCE) / 2, _freedom(list(differences.values())))) * mean.error
    kept = {(score.base, score.seed) for score in paired}
    mine, theirs = (
        _by_base([score for score in scores if (score.base, score.seed) in kept], metric)
        for scores in (best, other)
    )
    on_bases = tuple(
        OnBase(
            base,
            statistics.fmean(mine[base]),
            statistics.fmean(theirs[base]),
            statistics.fmean(values),
            math.sqrt(_variance_of_mean(values)) if len(values) > 1 else None,
        )
        for base, values in differences.items()
    )
    return Difference(name, metric, mean.value, reach, len(paired), on_bases)


def _freedom(differences: Sequence[Sequence[float]]) -> float:
    """Degrees of freedom of a sum of means whose spreads differ (Welch and Satterthwaite): a base that spreads most
    is known from its own few seeds alone.
    """
    variances = list(map(_variance_of_mean, differences))
    freedoms = [len(values) - 1 for values in differences]
    if not any(variances):
        return sum(freedoms)
    return sum(variances) ** 2 / sum(each**2 / n for each, n in zip(variances, freedoms, strict=True))
