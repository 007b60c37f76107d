"""What came of a search in a dozen numbers, counted as the published figures are.

Published for LaPt2B2C: 4,096 samples, unique 0.991, neutral 0.392, Pauling 0.219, E_f < 0 0.977, all 0.214,
and 868 formulas that pass. `unique` is a fraction of all rows. The later ones are fractions of the *unique*
formulas, each on its own: 868 of 0.991·4096 is the published 0.214, while 868 of 4096 would be 0.212.

ΔT_c of the top k is the mean predicted T_c of the k best that pass minus the base material's *predicted* T_c. Their
exploitation gap is the mean T_c by the search minus the mean T_c by the oracle. A search that climbs its predictor
climbs that predictor's mistakes too; the oracle, which it never sees, makes others, so the gap shows what it made of
them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from kiago_ray.chemistry.formula import parse
from kiago_ray.screening.known import EXTRAPOLATED, BaseMaterial
from kiago_ray.screening.rank import FIRST_ROWS, new_rows
from kiago_ray.screening.screens import SCREENS

TOP = (10, 30, 50)
_BEST = ("tc_k", "tc_oracle_k", "trusted_tc_k", "extrapolation", "nearest_distance")


@dataclass(frozen=True)
class Summary:
    """Counts of rows and unique formulas. screens: unique formulas that pass each screen on its own.
    passed_above_base: those that passed and whose T_c is predicted above the base's. known: those that are known
    compositions; None where none were given to compare with.

    ranked_by: what ordered the rows (screens.rank_by). gains: how many of the new ones that passed, which are neither
    known nor tried, have a T_c above the best known nearby; None where there was nothing to compare with. left_out:
    how many passed and are known or tried. sources: where the first 30 that passed came from; {} outside families.
    """

    rows: int
    statuses: Mapping[str, int]
    unique: int
    screens: Mapping[str, int]
    required: tuple[str, ...]
    passed: int
    top: tuple[TopMean, ...]
    base: BaseMaterial | None
    passed_above_base: int | None = None
    known: int | None = None
    ranked_by: str = "trusted"
    gains: int | None = None
    left_out: int = 0
    sources: Mapping[str, int] = field(default_factory=dict)

    @property
    def unique_fraction(self) -> float | None:
        """Unique formulas among all rows, those without a formula included."""
        return _fraction(self.unique, self.rows)

    @property
    def screen_fractions(self) -> dict[str, float | None]:
        """For each screen, what part of the unique formulas passes it."""
        return {name: _fraction(count, self.unique) for name, count in self.screens.items()}

    @property
    def passed_fraction(self) -> float | None:
        """What part of the unique formulas passes all required screens."""
        return _fraction(self.passed, self.unique)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain types, for JSON."""
        return {
            **asdict(self),
            "required": list(self.required),
            "top": [asdict(each) for each in self.top],
            "unique_fraction": self.unique_fraction,
            "screen_fractions": self.screen_fractions,
            "passed_fraction": self.passed_fraction,
        }


def summarised_columns() -> tuple[str, ...]:
    """The columns of a table of candidates that `summarise` reads."""
    return (*_BEST, "formula", "source", "known", "tried", "gain", "passed", *SCREENS)


def summarise(
    ranked: Any,
    *,
    rows: int,
    statuses: Mapping[str, int],
    required: tuple[str, ...],
    base: BaseMaterial | None = None,
    top: Sequence[int] = TOP,
    ranked_by: str = "trusted",
) -> Summary:
    """The summary of `rows` rows from the table of their u unique formulas, best first (see `summarised_columns`).

    statuses: the rows by how they ended (SearchResult.status_counts). required: the screens that count.
    """
    passed = ranked["passed"].to_numpy()
    count = int(passed.sum())
    new = new_rows(ranked)
    known = len(ranked) - ranked["known"].null_count
    compared = ranked["nearest_distance"].null_count < len(ranked)
    head = ranked.slice(0, min(count, max(top, default=0)))  # those that passed come first
    sources = head["source"].to_pylist()[:FIRST_ROWS]
    return Summary(
        rows=rows,
        statuses=dict(statuses),
        unique=len(ranked),
        screens={
            name: int(ranked[name].fill_null(False).to_numpy().sum())
            for name, screen in SCREENS.items()
            if not screen.optional or ranked[name].null_count < len(ranked)
        },
        required=required,
        passed=count,
        top=tuple(top_mean(head, k, base) for k in top),
        base=base,
        passed_above_base=(
            None if base is None else int((ranked["tc_k"].to_numpy()[:count] > base.tc_predicted_k).sum())
        ),
        known=known if compared else None,
        ranked_by=ranked_by,
        gains=int((new & ranked["gain"].fill_null(False).to_numpy()).sum()) if compared else None,
        left_out=count - int(new.sum()),
        sources=dict(Counter(source for source in sources if source is not None)),
    )


def _fraction(part: int, whole: int) -> float | None:
    return part / whole if whole else None


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
    delta_tc_k: float | None = None
    mean_tc_oracle_k: float | None = None
    delta_tc_oracle_k: float | None = None
    gap_k: float | None = None
    mean_trusted_tc_k: float | None = None
    flagged_fraction: float | None = None
    chemical_systems: int | None = None
    median_nearest_distance: float | None = None
    known: int | None = None


def top_mean(best: Any, k: int, base: BaseMaterial | None) -> TopMean:
    """The means of the first k rows of a table of the best. What isn't known of every one of them is None."""
    head = best.slice(0, k)
    if not len(head):
        return TopMean(k, 0, None)
    tc_k, oracle_k, trusted_k, score, distance = (head[name].to_numpy() for name in _BEST)
    mean_k, mean_oracle_k = tc_k.mean(), oracle_k.mean()  # NaN where one of them is
    base_k, base_oracle_k = (None, None) if base is None else (base.tc_predicted_k, base.tc_oracle_k)
    told = {
        "mean_tc_k": mean_k,
        "delta_tc_k": np.nan if base_k is None else mean_k - base_k,
        "mean_tc_oracle_k": mean_oracle_k,
        "delta_tc_oracle_k": np.nan if base_oracle_k is None else mean_oracle_k - base_oracle_k,
        "gap_k": mean_k - mean_oracle_k,
        "mean_trusted_tc_k": trusted_k.mean(),
        "flagged_fraction": np.where(np.isnan(score), np.nan, score > EXTRAPOLATED).mean(),
        "median_nearest_distance": np.median(distance),
    }
    return TopMean(
        k=k,
        used=len(head),
        **{name: None if np.isnan(value) else float(value) for name, value in told.items()},
        chemical_systems=len({frozenset(parse(formula)) for formula in head["formula"].to_pylist()}),
        known=None if np.isnan(distance).any() else len(head) - head["known"].null_count,
    )
