"""What a search is worth to a sweep, by a judge that isn't the reporter, and how much better the best point is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from pydantic import BeforeValidator
from scipy.stats import t

from kiago_ray.chemistry.elements import Floats
from kiago_ray.chemistry.formula import parse
from kiago_ray.screening.candidates import new_rows, unique
from kiago_ray.screening.known import expected_improvement_k

if TYPE_CHECKING:  # these load torch, which a sweep's file doesn't need to be read
    from kiago_ray.api import JudgedRows
    from kiago_ray.screening.known import BaseMaterial

CONFIDENCE = 0.95


class Metric(NamedTuple):
    """mode: whether more (max) or less (min) is better. meaning: for people; the best are the best `top` rows."""

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
        "min", "K", "exploitation gap: mean T_c of the best by trusted T_c minus it by the judge"
    ),
    "diversity": Metric("max", "", "chemical systems among the best by trusted T_c, as a part of places"),
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


def with_unit(metric: str) -> str:
    """The name of a metric with its unit."""
    return f"{metric} ({unit})" if (unit := METRICS[metric].unit) else metric


def measured(rows: JudgedRows, base: BaseMaterial | None, top: int) -> dict[str, float]:
    """The metrics of a search whose rows a judge has seen. base: with that judge's T_c."""
    kept = unique(rows.table)
    good = rows.table.take(kept[new_rows(rows.table)[kept]])
    trusted, tc_k, oracle_k = (good[name].to_numpy() for name in ("trusted_tc_k", "tc_k", "tc_oracle_k"))
    trusted = np.nan_to_num(trusted)
    best = np.lexsort((-tc_k, -trusted))[:top]
    gap_k = float(tc_k[best].mean()) - float(oracle_k[best].mean()) if len(best) else math.nan
    systems = {frozenset(parse(formula)) for formula in good["formula"].take(best).to_pylist()}
    base_k, base_oracle_k = (0.0, None) if base is None else (base.tc_predicted_k, base.tc_oracle_k)

    def mean_of_best(values: Floats) -> float:
        """The mean of the `top` highest, an empty place counting 0."""
        return float(np.sort(values)[::-1][:top].sum()) / top

    return {
        "improvement": mean_of_best(_hopes_k(good)),
        "trusted_delta_tc_k": mean_of_best(trusted) - (base_oracle_k or 0.0),
        "raw_delta_tc_k": mean_of_best(tc_k) - base_k,
        "pass_rate": len(good) / len(kept) if len(kept) else 0.0,
        "gap_k": gap_k,
        "diversity": len(systems) / top,
    }


def _hopes_k(rows: Any) -> Floats:
    """Plausibility × expected improvement by the judge's T_c (n,) in K; 0 where there is nothing to compare with. The
    search's own T_c has no say; where plausibility wasn't worked out, the improvement alone counts.
    """
    names = ("tc_oracle_k", "tc_std_k", "best_nearby_tc_k", "plausibility")
    oracle_k, std_k, best_k, plausibility = (rows[name].to_numpy() for name in names)
    improvement = expected_improvement_k(oracle_k, std_k, np.nan_to_num(best_k))
    improvement[np.isnan(rows["expected_improvement_k"].to_numpy())] = 0.0
    return np.asarray(np.nan_to_num(np.nan_to_num(plausibility, nan=1.0) * improvement))


class Mean(NamedTuple):
    """A metric over bases and seeds. error: standard error by the spread over seeds, the bases as they are; None where
    a base has one seed.
    """

    value: float
    error: float | None


def mean_over(scores: Sequence[Score], name: str) -> Mean:
    """A metric's mean over bases of its means over seeds. What a search can't tell is left out; NaN if none can."""
    by_base: dict[str, list[float]] = {}
    for score in scores:
        if not math.isnan(score.values[name]):
            by_base.setdefault(score.base, []).append(score.values[name])
    return _over_bases([_over_seeds(values) for values in by_base.values()])


def _over_seeds(values: Sequence[float]) -> Mean:
    error = math.sqrt(statistics.variance(values) / len(values)) if len(values) > 1 else None
    return Mean(statistics.fmean(values), error)


def _over_bases(means: Sequence[Mean]) -> Mean:
    errors = [mean.error for mean in means if mean.error is not None]
    known = bool(errors) and len(errors) == len(means)
    value = statistics.fmean(mean.value for mean in means) if means else math.nan
    return Mean(value, math.hypot(*errors) / len(means) if known else None)


class OnBase(NamedTuple):
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
    """Of two lists of searches on the same bases and seeds. What one of a pair couldn't tell is left out.

    The degrees of freedom of the interval are Welch's and Satterthwaite's, for a sum of means whose spreads differ: a
    base that spreads most is known from its own few seeds alone.
    """
    theirs = {(score.base, score.seed): score.values[metric] for score in other}
    pairs: dict[str, list[tuple[float, float]]] = {}
    for score in best:
        pair = score.values[metric], theirs.get((score.base, score.seed), math.nan)
        if not any(map(math.isnan, pair)):
            pairs.setdefault(score.base, []).append(pair)
    means = [_over_seeds([mine - its for mine, its in rows]) for rows in pairs.values()]
    bases = []
    for (base, rows), mean in zip(pairs.items(), means, strict=True):
        mine, its = map(statistics.fmean, zip(*rows, strict=True))
        bases.append(OnBase(base, mine, its, mean.value, mean.error))
    overall, counts = _over_bases(means), np.array([len(rows) for rows in pairs.values()])
    reach = overall.error  # None, or 0 where no base spreads
    if reach:
        variances = np.array([mean.error for mean in means], dtype=np.float64) ** 2
        freedom = variances.sum() ** 2 / (variances**2 / (counts - 1)).sum()
        reach *= float(t.ppf((1 + CONFIDENCE) / 2, freedom))
    return Difference(name, metric, overall.value, reach, int(counts.sum()), tuple(bases))
