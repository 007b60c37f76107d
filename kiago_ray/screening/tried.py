"""Compositions that somebody made and measured, with or without success: no proposal has to repeat them, and they
re-weigh their neighbourhood: its T_c, and how likely it superconducts.

A sample i at distance d_i weighs κ_i = exp(−d_i/ℓ) beside a prior of weight λ, which stands for the model itself. d is
element mover's distance (`data.neighbours`), by which elements that replace one another are near. With the residual
r_i, what was measured less what the model says of that same composition, and s_i, 1 where it superconducts and else 0,

    T_c' = max(0, T_c + Σ κ_i r_i / (λ + Σ κ_i))
    ln odds' = ln odds + ln[(λ p0 + Σ κ_i s_i) / (λ (1 − p0) + Σ κ_i (1 − s_i))] − ln[p0 / (1 − p0)]

The first is kernel regression of residuals, shrunk to 0; the second the odds of the posterior mean of a Beta
distribution with prior Beta(λ p0, λ (1 − p0)), over its prior odds, by which the odds of the plausibility are
multiplied. Where no superconductivity was found down to T_min, T_c is somewhere from 0 to T_min: the middle counts,
r_i = min(0, T_min/2 − T_c of the model), which never raises T_c. ℓ and λ were chosen on halves of a survey and
measured on other halves: `benchmarks/failures.md`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from kiago_ray.data.identity import KnownCompositions
from kiago_ray.data.neighbours import DECIMALS, MAX_BLOCK_BYTES, cumulative

if TYPE_CHECKING:
    import pandas as pd


Floats = NDArray[np.float64]

LENGTH = 0.5
"""ℓ: places of the modified Pettifor scale that an average atom moves."""
PRIOR_WEIGHT = 0.1
"""λ: a sample has as much say as the model at the distance ℓ ln(1/λ), 1.15 places."""
PRIOR_SUCCESS = 0.3
"""p0: of what the survey of 2009 made in the hope of superconductivity, 31 % superconduct."""
DOWN_TO_K = 2.0
"""T_min where a sample doesn't tell: as cold as pumped helium makes it."""
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class TriedMaterials:
    """t samples. compositions: by the text that tells what came of each. tc_k: (t,) in K, 0 where none was found.
    down_to_k: (t,) the lowest temperature at which it was measured, NaN where unknown. tc_predicted_k: (t,) what the
    search's model says of each, NaN where it can't; None where it wasn't asked. source: where they are from, in words.
    """

    compositions: KnownCompositions
    tc_k: Floats
    down_to_k: Floats
    tc_predicted_k: Floats | None = None
    source: str = ""

    @classmethod
    def from_table(cls, table: pd.DataFrame, source: str = "") -> TriedMaterials:
        """The samples of a table with `formula` (canonical), `tc_k` and maybe `down_to_k` (see `data.known`)."""
        tc_k = table["tc_k"].to_numpy(dtype=np.float64)
        down_to_k = (
            table["down_to_k"].to_numpy(dtype=np.float64)
            if "down_to_k" in table
            else np.full(len(tc_k), np.nan)
        )
        formulas = table["formula"].tolist()
        names = [_outcome(*each) for each in zip(formulas, tc_k.tolist(), down_to_k.tolist(), strict=True)]
        return cls(KnownCompositions.of(formulas, names=names), tc_k, down_to_k, source=source)

    @property
    def fractions(self) -> Floats:
        """(t, 118), summing to 1."""
        dense: Floats = self.compositions.fractions.toarray()
        return dense

    def predicted(self, tc_k: Callable[[Floats], Floats]) -> TriedMaterials:
        """These samples with what a model of T_c in K, (t, 118) → (t,), says of each; NaN for what it doesn't know."""
        return replace(self, tc_predicted_k=tc_k(self.fractions))

    def reweigh(self, fractions: Floats, tc_k: Floats, log_plausibility: Floats) -> Reweighed:
        """These compositions given what came of the samples (see `reweigh`). Where no model was asked of the samples,
        T_c stays what it is."""
        predicted = np.full(len(self.tc_k), np.nan) if self.tc_predicted_k is None else self.tc_predicted_k
        outcomes = Outcomes.of(self.fractions, self.tc_k, self.down_to_k, predicted)
        return reweigh(fractions, tc_k, log_plausibility, outcomes)


def _outcome(formula: str, tc_k: float, down_to_k: float) -> str:
    """Such as "LaFeAsO: 26 K" and "CaFeAsH: none down to 2 K"."""
    if tc_k > 0:
        return f"{formula}: {tc_k:g} K"
    return f"{formula}: none" + ("" if math.isnan(down_to_k) else f" down to {down_to_k:g} K")


@dataclass(frozen=True)
class Outcomes:
    """t samples. fractions: (t, 118). superconducts: (t,) bool. residual_k: (t,) measured less predicted T_c in K, NaN
    where the model doesn't know an element: such a sample says nothing of T_c.
    """

    fractions: Floats
    superconducts: NDArray[np.bool_]
    residual_k: Floats

    @classmethod
    def of(cls, fractions: Floats, tc_k: Floats, down_to_k: Floats, predicted_tc_k: Floats) -> Outcomes:
        """The outcomes of measured T_c (t,) in K, 0 for none found down to `down_to_k` (t,), NaN where unknown, and
        what the model predicts (t,), NaN where it can't.
        """
        superconducts = tc_k > 0
        middle = np.where(np.isnan(down_to_k), DOWN_TO_K, down_to_k) / 2
        failed = np.minimum(0.0, middle - predicted_tc_k)
        return cls(fractions, superconducts, np.where(superconducts, tc_k - predicted_tc_k, failed))


@dataclass(frozen=True)
class Reweighed:
    """n rows. tc_k: (n,) T_c' in K. log_odds: (n,) nats to add to the log odds of the plausibility. log_plausibility:
    (n,) the logarithm of the plausibility with them. nearest, distance: (n,) the nearest sample and how far it is, -1
    and NaN where nothing was tried.
    """

    tc_k: Floats
    log_odds: Floats
    log_plausibility: Floats
    nearest: Ints
    distance: Floats


def reweigh(
    fractions: Floats,
    tc_k: Floats,
    log_plausibility: Floats,
    outcomes: Outcomes,
    *,
    length: float = LENGTH,
    prior_weight: float = PRIOR_WEIGHT,
) -> Reweighed:
    """Compositions (n, 118) with their T_c (n,) in K and the logarithm of their plausibility (n,), both given what
    came of other ones. NaN stays NaN; without samples nothing changes.
    """
    n, samples = len(fractions), cumulative(outcomes.fractions)
    queries = cumulative(fractions)
    shift, odds = np.zeros(n), np.zeros(n)
    nearest, distance = np.full(n, -1, dtype=np.int64), np.full(n, np.nan)
    block = max(1, MAX_BLOCK_BYTES // (8 * max(1, len(samples))))
    for start in range(0, n if len(samples) else 0, block):
        part = slice(start, start + block)
        distances = np.round(cdist(queries[part], samples, metric="cityblock"), DECIMALS)
        nearest[part], distance[part] = distances.argmin(axis=1), distances.min(axis=1)
        weights = np.exp(-distances / length)
        shift[part] = tc_shift_k(weights, outcomes.residual_k, prior_weight)
        odds[part] = log_odds(weights, outcomes.superconducts, prior_weight)
    floor = np.minimum(0.0, tc_k)  # a T_c below 0 that the model itself gives is left as it is
    changed = np.maximum(floor, tc_k + shift)
    return Reweighed(changed, odds, with_odds(log_plausibility, odds), nearest, distance)


def tc_shift_k(weights: Floats, residual_k: Floats, prior_weight: float = PRIOR_WEIGHT) -> Floats:
    """Σ κ_i r_i / (λ + Σ κ_i) in K, (n,), of weights κ (n, t) and residuals (t,); those that are NaN don't count."""
    known = ~np.isnan(residual_k)
    kept = weights[:, known]
    shift: Floats = kept @ residual_k[known] / (prior_weight + kept.sum(axis=1))
    return shift


def log_odds(weights: Floats, superconducts: NDArray[np.bool_], prior_weight: float = PRIOR_WEIGHT) -> Floats:
    """The logarithm of posterior over prior odds that a composition superconducts, (n,), of weights κ (n, t)."""
    successes = prior_weight * PRIOR_SUCCESS + weights[:, superconducts].sum(axis=1)
    failures = prior_weight * (1 - PRIOR_SUCCESS) + weights[:, ~superconducts].sum(axis=1)
    odds: Floats = np.log(successes / failures) - np.log(PRIOR_SUCCESS / (1 - PRIOR_SUCCESS))
    return odds


def with_odds(log_probability: Floats, log_odds: Floats) -> Floats:
    """The logarithm of a probability (n,) once its odds are multiplied by exp(log_odds), (n,).

    p' = p b / (p b + 1 − p) with b = exp(log_odds); a probability of 0 or 1 stays what it is.
    """
    log_p = np.asarray(log_probability, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):  # of 1, of 0 and of NaN
        log_rest = np.log(-np.expm1(log_p))
        changed = log_p + log_odds - np.logaddexp(log_p + log_odds, log_rest)
    return np.where((log_odds == 0) | np.isneginf(log_p), log_p, changed)
