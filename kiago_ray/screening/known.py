"""What a row is held against: compositions whose T_c has been measured, and those that somebody tried.

What is known nearby says what a proposal has to beat: known compositions within an L1 distance of the row, and for a
search also those within it of the base, at ambient pressure. Their T_c is weighed: what one report says counts as much
as the compositions around it.

What was made and measured, with or without success, needn't be repeated, and re-weighs its neighbourhood: its T_c, and
how likely it superconducts. A sample i at distance d_i, element mover's (`data.compositions`), weighs κ_i =
exp(−d_i/ℓ) beside a prior of weight λ, which stands for the model itself. With the residual r_i, what was measured
less what the model says of that same composition, and s_i, 1 where it superconducts and else 0,

    T_c' = max(0, T_c + Σ κ_i r_i / (λ + Σ κ_i))
    ln odds' = ln odds + ln[(λ p0 + Σ κ_i s_i) / (λ (1 − p0) + Σ κ_i (1 − s_i))] − ln[p0 / (1 − p0)]

The first is kernel regression of residuals, shrunk to 0; the second multiplies the odds of the plausibility by those
of the posterior mean of a Beta distribution, over those of its prior Beta(λ p0, λ (1 − p0)). Where no
superconductivity was found down to T_min, T_c is somewhere from 0 to T_min: the middle counts, r_i = min(0, T_min/2 −
T_c of the model), which never raises T_c. ℓ and λ were chosen on halves of a survey and measured on other halves:
`benchmarks/failures.md`.

T_c is trusted as far as trusted T_c = min(T_c, T_c of the oracle) − σ, at least 0, and 0 for a composition beyond what
the predictors know, of which nothing else is sure. σ is calibrated on held-out rows, so that about one in six known
superconductors lies below T_c − σ. The oracle's own spread isn't used: it is no calibrated error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist
from scipy.special import ndtr

from kiago_ray.chemistry.elements import INDEX, Floats, Ints, Mask
from kiago_ray.chemistry.formula import sparse_fractions
from kiago_ray.data.compositions import (
    DECIMALS,
    MAX_BLOCK_BYTES,
    CompositionIndex,
    KnownCompositions,
    cumulative,
    nearest_emd,
)

EXTRAPOLATED = 1.0  # the score beyond which a composition is flagged, with 1 in 20 held-out superconductors
CONTRADICTED_SIGMAS, CONTRADICTED_K = (
    2.0,
    10.0,
)  # by more than both a prediction is off that a measurement contradicts
NEARBY_DISTANCE = 0.2  # L1, of fractions: a tenth of the atoms exchanged
AROUND_DISTANCE = 0.1  # L1, around a known composition, whose T_c should be like its own
MOST_SPREAD, LEAST_SPREAD_K = 0.2, 2.0  # of T_c, and beside it in K
_SURE_K = 1e-6  # a spread below which there is none

LENGTH = 0.5  # ℓ: places of the modified Pettifor scale that an average atom moves
PRIOR_WEIGHT = 0.1  # λ: a sample has as much say as the model at the distance ℓ ln(1/λ), 1.15 places
PRIOR_SUCCESS = 0.3  # p0: of what the survey of 2009 made in the hope of superconductivity, 31 % superconduct
DOWN_TO_K = 2.0  # T_min where a sample doesn't tell: as cold as pumped helium makes it
NEARBY = 3 * LENGTH  # places; a sample that is farther has less than half the weight of the model itself


@dataclass(frozen=True)
class BaseMaterial:
    """The base of a search: T_c in K predicted, measured where known, and by the oracle; E_f in eV/atom.

    measured_pressure_gpa: at which its T_c was measured, None at none and where that isn't told.
    """

    formula: str
    tc_predicted_k: float
    ef_predicted_ev_per_atom: float
    tc_measured_k: float | None = None
    tc_oracle_k: float | None = None
    measured_pressure_gpa: float | None = None


@dataclass(frozen=True)
class KnownMaterials:
    """m compositions: their formulas, fractions (m, 118), measured T_c (m,) in K and the pressure (m,) in GPa at which
    it was, NaN where unknown. reports: (m,) how often it was measured. year, reference: m of each, of the first
    report; None and "" where unknown. compositions: all that count as known, also those of undetermined oxygen, which
    have no fractions. source: where they come from, for a person.
    """

    formulas: tuple[str, ...]
    fractions: Floats
    tc_k: Floats
    pressure_gpa: Floats
    reports: Ints
    year: tuple[int | None, ...]
    reference: tuple[str, ...]
    compositions: KnownCompositions
    source: str = ""

    @classmethod
    def from_table(cls, table: pd.DataFrame, source: str = "") -> KnownMaterials:
        """The materials of a table with canonical formulas: its columns `formula`, `tc_k` and as many as it has of
        `oxygen`, `pressure_gpa`, `reports`, `year` and `reference`. Raises FormulaError.
        """
        absent: dict[str, Any] = {
            "oxygen": "",
            "pressure_gpa": np.nan,
            "reports": 1,
            "year": None,
            "reference": "",
        }
        every = table.assign(**{name: value for name, value in absent.items() if name not in table})
        any_oxygen = every["oxygen"].to_numpy() == "any"
        known = every[~any_oxygen]
        return cls(
            formulas=tuple(known["formula"]),
            fractions=sparse_fractions(known["formula"].tolist()).toarray(),
            tc_k=known["tc_k"].to_numpy(np.float64),
            pressure_gpa=known["pressure_gpa"].to_numpy(np.float64),
            reports=known["reports"].to_numpy(np.int64),
            year=tuple(int(year) if isinstance(year, int) else None for year in known["year"].tolist()),
            reference=tuple(known["reference"]),
            compositions=KnownCompositions.of(table["formula"].tolist(), any_oxygen=any_oxygen),
            source=source,
        )

    @cached_property
    def index(self) -> CompositionIndex:
        """All compositions, for looking through."""
        return CompositionIndex(self.fractions)

    @cached_property
    def weighed_tc_k(self) -> Floats:
        """T_c (m,) in K, few reports weighed down; NaN for what was measured under pressure. Half a second for
        SuperCon, once.

        t = (n T + M) / (n + 1) with T the median of its n reports and M the median T of the other known compositions
        within L1 0.1 of it: those around it count as one more report. Without others t = T. So a single 40 K among
        30 K counts as 35 K, while 150 reports of 39 K stay 39 K.
        """
        weighed, ambient = np.full(len(self.tc_k), np.nan), ~(self.pressure_gpa > 0)
        for at, near in enumerate(self.index.within(self.fractions, AROUND_DISTANCE)):
            if ambient[at]:
                others = near[ambient[near] & (near != at)]
                around = float(np.median(self.tc_k[others])) if len(others) else self.tc_k[at]
                weighed[at] = (self.reports[at] * self.tc_k[at] + around) / (self.reports[at] + 1)
        return weighed

    @cached_property
    def chemical_systems(self) -> frozenset[bytes]:
        """The sets of elements of those with T_c above 0 or undetermined oxygen, each (118,) bool as bytes."""
        others = self.compositions.fractions[self.compositions.any_oxygen].toarray() > 0
        others[:, INDEX["O"]] = True
        return frozenset(row.tobytes() for row in np.vstack([self.fractions[self.tc_k > 0] > 0, others]))

    def columns(self, fractions: Floats, radius: float, *, base: Floats | None, emd: bool) -> dict[str, Any]:
        """The columns of a table of candidates that hold fractions (n, 118) against these materials. radius, base: as
        `best_nearby` takes them. emd: also by element mover's distance.
        """
        at, distance = self.index.nearest(fractions)
        known, measured_tc_k, measured_pressure_gpa = self.measured(fractions)
        best_tc_k, best = self.best_nearby(fractions, radius, base=base)
        formulas, references = (np.array([*each, None]) for each in (self.formulas, self.reference))
        new = [row.tobytes() not in self.chemical_systems for row in fractions > 0]
        columns = {
            "known": known,
            "measured_tc_k": measured_tc_k,
            "measured_pressure_gpa": measured_pressure_gpa,
            "new_system": np.array(new, dtype=np.bool_),
            "best_nearby": formulas[best],
            "best_nearby_tc_k": best_tc_k,
            "nearest_known": formulas[at],
            "nearest_distance": distance,
            "nearest_tc_k": self.tc_k[at],
            "nearest_pressure_gpa": self.pressure_gpa[at],
            "nearest_reports": self.reports[at],
            "nearest_reference": [text or None for text in references[at].tolist()],
        }
        if not emd:
            return columns
        at, distance = nearest_emd(fractions, self.fractions)
        return columns | {
            "nearest_emd_known": formulas[at],
            "nearest_emd": distance,
            "nearest_emd_tc_k": self.tc_k[at],
            "nearest_emd_pressure_gpa": self.pressure_gpa[at],
        }

    def measured(self, fractions: Floats) -> tuple[list[str | None], Floats, Floats]:
        """What was measured of compositions (n, 118) themselves: which known one each is the same as (see
        `data.compositions`), its T_c (n,) in K and the pressure (n,) in GPa. None and NaN where none is; NaN also
        where the known one's oxygen was not measured, as its T_c says nothing of any one amount of it.
        """
        same, any_oxygen = self.compositions.nearest_same(fractions), self.compositions.any_oxygen
        determined = np.append(np.where(any_oxygen, -1, np.cumsum(~any_oxygen) - 1), -1)[same]
        names = [self.compositions.names[at] if at >= 0 else None for at in same.tolist()]
        tc_k, pressure_gpa = (np.append(each, np.nan)[determined] for each in (self.tc_k, self.pressure_gpa))
        return names, tc_k, pressure_gpa

    def best_nearby(
        self, fractions: Floats, radius: float = NEARBY_DISTANCE, *, base: Floats | None = None
    ) -> tuple[Floats, Ints]:
        """The highest weighed T_c (n,) in K among those within `radius`, an L1 distance, of each of fractions (n, 118)
        or of the base (118,), and its index (n,); NaN and -1 where there is none.
        """
        weighed, of_base = self.weighed_tc_k, np.zeros(0, dtype=np.int64)
        if base is not None:
            of_base = next(iter(self.index.within(base[None], radius)))
        found = np.full(len(fractions), -1, dtype=np.int64)
        for at, near in enumerate(self.index.within(fractions, radius)):
            every = np.concatenate([near, of_base])
            every = every[~np.isnan(weighed[every])]
            if len(every):
                found[at] = every[weighed[every].argmax()]
        return np.append(weighed, np.nan)[found], found


def contradicted(
    tc_k: Floats, tc_std_k: Floats, measured_tc_k: Floats, measured_pressure_gpa: Floats
) -> list[bool | None]:
    """Whether each of predictions tc_k ± tc_std_k, (n,) in K, is contradicted by what was measured of the very
    composition, (n,) in K at (n,) GPa: it is off by more than 2 σ and more than 10 K. Without a σ the 10 K decide.

    None where there is no prediction or nothing was measured, and for what was measured under pressure: the models
    know nothing of pressure, so that theirs is another quantity.
    """
    off_k = np.abs(np.asarray(tc_k, dtype=np.float64) - measured_tc_k)
    allowed_k = np.fmax(CONTRADICTED_SIGMAS * np.asarray(tc_std_k, dtype=np.float64), CONTRADICTED_K)
    untold = np.isnan(off_k) | (np.asarray(measured_pressure_gpa) > 0)
    return [
        None if none else off for none, off in zip(untold.tolist(), (off_k > allowed_k).tolist(), strict=True)
    ]


def expected_improvement_k(tc_k: Floats, tc_std_k: Floats, best_k: Floats) -> Floats:
    """E[max(0, T − best)] in K, (n,), for T normal with mean tc_k and standard deviation tc_std_k, (n,) each (Jones,
    Schonlau and Welch, J. Global Optim. 13, 455 (1998), eq. 15); NaN where T_c or the best isn't known.

    Without a spread T is taken as sure. A spread above MOST_SPREAD of the higher of the two counts as that: networks
    that disagree by tens of kelvin know nothing, and ignorance is no promise.
    """
    above = np.asarray(tc_k, dtype=np.float64) - best_k
    spread = np.nan_to_num(np.asarray(tc_std_k, dtype=np.float64), nan=0.0)
    spread = np.fmin(spread, MOST_SPREAD * np.fmax(tc_k, best_k) + LEAST_SPREAD_K)
    sure = spread < _SURE_K
    z = above / np.where(sure, 1.0, spread)
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    expected = above * ndtr(z) + spread * density
    # max: far below the best the two terms cancel to their last bits.
    return np.where(sure, np.maximum(above, 0.0), np.maximum(expected, 0.0))


def trusted_tc_k(tc_k: Floats, tc_std_k: Floats, tc_oracle_k: Floats, extrapolation: Floats) -> Floats:
    """The lower bound of T_c in K, (n,), of values (n,) each, NaN for what a row doesn't have. A missing σ takes
    nothing off, and without an oracle T_c alone counts. NaN without T_c and where nothing else is known.
    """
    alone = np.isnan(tc_std_k) & np.isnan(tc_oracle_k) & np.isnan(extrapolation)
    bound = np.fmin(tc_k, tc_oracle_k) - np.nan_to_num(tc_std_k, nan=0.0)
    trusted = np.where(extrapolation > EXTRAPOLATED, 0.0, np.clip(bound, 0.0, None))
    return np.where(np.isnan(tc_k) | alone, np.nan, trusted)


@dataclass(frozen=True)
class TriedMaterials:
    """t samples. compositions: by the text that tells what came of each. tc_k: (t,) in K, 0 where none was found.
    down_to_k: (t,) the lowest temperature at which it was measured, NaN where unknown. tc_predicted_k: (t,) what the
    search's model says, NaN where it can't or wasn't asked: such a sample says nothing of T_c. source: for a person.
    """

    compositions: KnownCompositions
    tc_k: Floats
    down_to_k: Floats
    tc_predicted_k: Floats
    source: str = ""

    @classmethod
    def from_table(cls, table: pd.DataFrame, source: str = "") -> TriedMaterials:
        """The samples of a table with `formula` (canonical), `tc_k` and maybe `down_to_k` (see `data.tables`)."""
        unknown = np.full(len(table), np.nan)
        tc_k = table["tc_k"].to_numpy(dtype=np.float64)
        down_to_k = table["down_to_k"].to_numpy(dtype=np.float64) if "down_to_k" in table else unknown
        formulas = table["formula"].tolist()
        names = [_outcome(*each) for each in zip(formulas, tc_k.tolist(), down_to_k.tolist(), strict=True)]
        return cls(KnownCompositions.of(formulas, names=names), tc_k, down_to_k, unknown, source)

    def reweigh(self, fractions: Floats, tc_k: Floats) -> tuple[Floats, Floats, Ints, Floats]:
        """Of compositions (n, 118) with their T_c (n,) in K, (n,) each: T_c' in K given what came of the samples, the
        nats to add to the log odds of the plausibility, the nearest sample and how far it is, -1 and NaN where nothing
        was tried. NaN stays NaN; without samples nothing changes.
        """
        n, queries = len(fractions), cumulative(fractions)
        samples = cumulative(self.compositions.fractions.toarray())
        residual_k = residuals_k(self.tc_k, self.down_to_k, self.tc_predicted_k)
        shift, odds = np.zeros(n), np.zeros(n)
        nearest, distance = np.full(n, -1, dtype=np.int64), np.full(n, np.nan)
        block = max(1, MAX_BLOCK_BYTES // (8 * max(1, len(samples))))
        for start in range(0, n if len(samples) else 0, block):
            part = slice(start, start + block)
            distances = np.round(cdist(queries[part], samples, metric="cityblock"), DECIMALS)
            nearest[part], distance[part] = distances.argmin(axis=1), distances.min(axis=1)
            weights = np.exp(-distances / LENGTH)
            shift[part] = tc_shift_k(weights, residual_k)
            odds[part] = log_odds(weights, self.tc_k > 0)
        floor = np.minimum(0.0, tc_k)  # a T_c below 0 that the model itself gives is left as it is
        return np.maximum(floor, tc_k + shift), odds, nearest, distance

    def columns(self, fractions: Floats, tc_k: Floats) -> dict[str, Any]:
        """The columns of a table of candidates on what came of these samples near compositions (n, 118) with T_c (n,)
        in K; beside them `tried_log_odds`, (n,) nats to add to the log odds of the plausibility.
        """
        tc_k, odds, nearest, distance = self.reweigh(fractions, tc_k)
        names = self.compositions.names
        return {
            "tried": self.compositions.same_as(fractions),
            "tried_nearby": [
                f"{names[at]} ({places:.2g} places away)" if places <= NEARBY else None
                for at, places in zip(nearest.tolist(), distance.tolist(), strict=True)
            ],
            "tc_given_tried_k": tc_k,
            "tried_log_odds": odds,
        }


def _outcome(formula: str, tc_k: float, down_to_k: float) -> str:
    """Such as "LaFeAsO: 26 K" and "CaFeAsH: none down to 2 K"."""
    if tc_k > 0:
        return f"{formula}: {tc_k:g} K"
    return f"{formula}: none" + ("" if math.isnan(down_to_k) else f" down to {down_to_k:g} K")


def residuals_k(tc_k: Floats, down_to_k: Floats, tc_predicted_k: Floats) -> Floats:
    """r_i in K, (t,): measured T_c (t,), 0 where none was found down to `down_to_k` (t,), less predicted T_c (t,); NaN
    where the prediction is. Where `down_to_k` is NaN, DOWN_TO_K counts.
    """
    middle = np.where(np.isnan(down_to_k), DOWN_TO_K, down_to_k) / 2
    return np.where(tc_k > 0, tc_k - tc_predicted_k, np.minimum(0.0, middle - tc_predicted_k))


def tc_shift_k(weights: Floats, residual_k: Floats, prior_weight: float = PRIOR_WEIGHT) -> Floats:
    """Σ κ_i r_i / (λ + Σ κ_i) in K, (n,), of weights κ (n, t) and residuals (t,); those that are NaN don't count."""
    known = ~np.isnan(residual_k)
    kept = weights[:, known]
    shift: Floats = kept @ residual_k[known] / (prior_weight + kept.sum(axis=1))
    return shift


def log_odds(weights: Floats, superconducts: Mask, prior_weight: float = PRIOR_WEIGHT) -> Floats:
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
