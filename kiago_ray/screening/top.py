"""The best k of a search: what the search says of them, what the oracle says, and how far they lie from what is known.

The exploitation gap is the mean T_c by the search minus the mean T_c by the oracle. A search that climbs its predictor
climbs that predictor's mistakes too; the oracle, which it never sees, makes others, so the gap shows what it made of
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry.formula import parse
from kiago_ray.screening.trust import is_extrapolated

if TYPE_CHECKING:
    from kiago_ray.screening.summary import BaseMaterial

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BestRows:
    """The first rows that passed, best first: formulas, and (n,) of each column by these names; NaN: unknown. known:
    (n,) whether the column of that name has a value. sources: n texts of the column `source`, () where not asked.
    """

    formulas: tuple[str, ...]
    tc_k: Floats
    tc_oracle_k: Floats
    trusted_tc_k: Floats
    extrapolation: Floats
    nearest_distance: Floats
    known: NDArray[np.bool_]
    sources: tuple[str | None, ...] = ()


@dataclass(frozen=True)
class TopMean:
    """The best k that passed, or the `used` < k there are. None: unknown, of one of these rows or of the base.

    mean_tc_k, delta_tc_k: mean T_c by the search, and what that is above the base's by the same predictor.
    mean_tc_oracle_k, delta_tc_oracle_k: both by the oracle. gap_k: mean_tc_k − mean_tc_oracle_k. mean_trusted_tc_k: of
    the lower bounds. All in K. flagged_fraction: extrapolated among them. chemical_systems: how many different sets of
    elements. median_nearest_distance: L1 distance in fractions to the nearest known composition. known: how many are
    known compositions.
    """

    k: int
    used: int
    mean_tc_k: float | None
    delta_tc_k: float | None
    mean_tc_oracle_k: float | None = None
    delta_tc_oracle_k: float | None = None
    gap_k: float | None = None
    mean_trusted_tc_k: float | None = None
    flagged_fraction: float | None = None
    chemical_systems: int | None = None
    median_nearest_distance: float | None = None
    known: int | None = None


def top_mean(best: BestRows, k: int, base: BaseMaterial | None) -> TopMean:
    """Of the first k of these rows. What isn't known of every one of them is None."""
    used = min(k, len(best.formulas))
    if not used:
        return TopMean(k, 0, None, None)
    mean, oracle = _mean(best.tc_k[:k]), _mean(best.tc_oracle_k[:k])
    flagged = np.where(np.isnan(best.extrapolation[:k]), np.nan, is_extrapolated(best.extrapolation[:k]))
    distance = best.nearest_distance[:k]
    near = not np.isnan(distance).any()
    return TopMean(
        k=k,
        used=used,
        mean_tc_k=mean,
        delta_tc_k=_difference(mean, None if base is None else base.tc_predicted_k),
        mean_tc_oracle_k=oracle,
        delta_tc_oracle_k=_difference(oracle, None if base is None else base.tc_oracle_k),
        gap_k=_difference(mean, oracle),
        mean_trusted_tc_k=_mean(best.trusted_tc_k[:k]),
        flagged_fraction=_mean(flagged),
        chemical_systems=_systems(best.formulas[:k]),
        median_nearest_distance=float(np.median(distance)) if near else None,
        known=int(best.known[:k].sum()) if near else None,
    )


def _systems(formulas: Sequence[str]) -> int:
    return len({frozenset(parse(formula)) for formula in formulas})


def _mean(values: Floats) -> float | None:
    return None if np.isnan(values).any() else float(values.mean())


def _difference(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other
