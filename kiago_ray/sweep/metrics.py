"""What a search is worth to a sweep: numbers of its best rows that pass, by a judge that isn't the reporter."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator

from kiago_ray.screening.known import expected_improvement_k
from kiago_ray.screening.rank import unique
from kiago_ray.screening.summary import BestRows, top_mean

if TYPE_CHECKING:  # these load torch, which a sweep's file doesn't need to be read
    from kiago_ray.api import JudgedRows
    from kiago_ray.screening.candidates import Candidates
    from kiago_ray.screening.summary import BaseMaterial

Floats = NDArray[np.float64]


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


@dataclass(frozen=True)
class Mean:
    """A metric over bases and seeds. error: standard error by the spread over seeds, the bases as they are; None where
    each base has one seed.
    """

    value: float
    error: float | None


def measured(rows: JudgedRows, base: BaseMaterial | None, top: int) -> dict[str, float]:
    """The metrics of a search whose rows a judge has seen. base: with that judge's T_c."""
    candidates, passed = rows.candidates, rows.verdicts.passed
    places = np.arange(len(candidates.formulas))
    kept = unique(candidates.formulas, np.zeros_like(places), places, candidates.of_families)
    good = kept[(passed & ~candidates.taken)[kept]]
    trusted, tc_k = np.nan_to_num(candidates.trusted_tc_k[good]), candidates.tc_k[good]
    best = good[np.lexsort((-tc_k, -trusted))][:top]
    told = top_mean(
        BestRows(
            tuple(candidates.formulas[row] for row in best),
            tc_k=candidates.tc_k[best],
            tc_oracle_k=candidates.tc_oracle_k[best],
            trusted_tc_k=candidates.trusted_tc_k[best],
            extrapolation=candidates.extrapolation[best],
            nearest_distance=candidates.nearest_distance[best],
            known=np.zeros(len(best), dtype=np.bool_),  # those are no proposals
        ),
        top,
        base,
    )
    below = 0.0 if base is None or base.tc_oracle_k is None else base.tc_oracle_k
    return {
        "improvement": float(np.sort(_hopes_k(candidates)[good])[::-1][:top].sum()) / top,
        "trusted_delta_tc_k": float(np.sort(trusted)[::-1][:top].sum()) / top - below,
        "raw_delta_tc_k": float(np.sort(tc_k)[::-1][:top].sum()) / top
        - (0.0 if base is None else base.tc_predicted_k),
        "pass_rate": len(good) / len(kept) if len(kept) else 0.0,
        "gap_k": math.nan if told.gap_k is None else told.gap_k,
        "diversity": (told.chemical_systems or 0) / top,
    }


def _hopes_k(candidates: Candidates) -> Floats:
    """Plausibility × expected improvement by the judge's T_c (n,) in K; 0 where there is nothing to compare with. The
    search's own T_c has no say; where plausibility wasn't worked out, the improvement alone counts.
    """
    improvement = expected_improvement_k(candidates.tc_oracle_k, candidates.tc_std_k, candidates.to_beat_k)
    return np.nan_to_num(np.nan_to_num(candidates.plausibility, nan=1.0) * improvement)


def mean_over(scores: Sequence[Score], name: str) -> Mean:
    """A metric's mean over bases of its means over seeds. What a search can't tell is left out; NaN if none can."""
    by_base: dict[str, list[float]] = {}
    for score in scores:
        if not math.isnan(score.values[name]):
            by_base.setdefault(score.base, []).append(score.values[name])
    if not by_base:
        return Mean(math.nan, None)
    value = statistics.fmean(map(statistics.fmean, by_base.values()))
    if any(len(values) < 2 for values in by_base.values()):
        return Mean(value, None)
    squares = sum(statistics.variance(values) / len(values) for values in by_base.values())
    return Mean(value, math.sqrt(squares) / len(by_base))
