"""What came of a search in a dozen numbers, counted as the published figures are.

Published for LaPt2B2C: 4,096 samples, unique 0.991, neutral 0.392, Pauling 0.219, E_f < 0 0.977, all 0.214,
and 868 formulas that pass. `unique` is a fraction of all rows. The later ones are fractions of the *unique*
formulas, each on its own: 868 of 0.991·4096 is the published 0.214, while 868 of 4096 would be 0.212.

ΔT_c of the top k is the mean predicted T_c of the k best that pass minus the base material's *predicted* T_c.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kiago_ray.screening.candidates import Candidates, Floats, Mask
from kiago_ray.screening.rank import order, unique
from kiago_ray.screening.screens import Verdicts

TOP = (10, 30, 50)


@dataclass(frozen=True)
class BaseMaterial:
    """The base of a search: T_c in K as predicted and, where known, as measured; E_f predicted in eV/atom."""

    formula: str
    tc_predicted_k: float
    ef_predicted_ev_per_atom: float
    tc_measured_k: float | None = None


@dataclass(frozen=True)
class TopMean:
    """The best k that passed, or the `used` < k there are: mean T_c and ΔT_c in K, None where unknown."""

    k: int
    used: int
    mean_tc_k: float | None
    delta_tc_k: float | None


@dataclass(frozen=True)
class Summary:
    """Counts of rows and unique formulas. screens: unique formulas that pass each screen on its own.
    passed_above_base: those that passed and whose T_c is predicted above the base's.
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

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Summary:
        """The summary that `to_dict` wrote."""
        return cls(
            rows=plain["rows"],
            statuses=dict(plain["statuses"]),
            unique=plain["unique"],
            screens=dict(plain["screens"]),
            required=tuple(plain["required"]),
            passed=plain["passed"],
            top=tuple(TopMean(**each) for each in plain["top"]),
            base=None if plain["base"] is None else BaseMaterial(**plain["base"]),
            passed_above_base=plain["passed_above_base"],
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain types, for JSON."""
        return {
            "rows": self.rows,
            "statuses": dict(self.statuses),
            "unique": self.unique,
            "unique_fraction": self.unique_fraction,
            "screens": dict(self.screens),
            "screen_fractions": self.screen_fractions,
            "required": list(self.required),
            "passed": self.passed,
            "passed_fraction": self.passed_fraction,
            "top": [asdict(each) for each in self.top],
            "base": None if self.base is None else asdict(self.base),
            "passed_above_base": self.passed_above_base,
        }


def summarise(
    candidates: Candidates,
    verdicts: Verdicts,
    statuses: Mapping[str, int],
    base: BaseMaterial | None = None,
    *,
    top: Sequence[int] = TOP,
) -> Summary:
    """The summary of one search; `statuses` counts its rows by label (SearchResult.status_counts)."""
    rows = np.arange(len(candidates.formulas))
    kept = unique(candidates.formulas, np.zeros_like(rows), rows)
    best_first = kept[
        order([candidates.formulas[row] for row in kept], verdicts.passed[kept], candidates.tc_k[kept])
    ]
    return summarise_ranked(
        rows=len(rows),
        statuses=statuses,
        passed=verdicts.passed[best_first],
        tc_k=candidates.tc_k[best_first],
        screens={name: verdict[best_first] for name, verdict in verdicts.by_screen.items()},
        required=verdicts.required,
        base=base,
        top=top,
    )


def summarise_ranked(
    *,
    rows: int,
    statuses: Mapping[str, int],
    passed: Mask,
    tc_k: Floats,
    screens: Mapping[str, Mask],
    required: tuple[str, ...],
    base: BaseMaterial | None = None,
    top: Sequence[int] = TOP,
) -> Summary:
    """The summary of u unique formulas, best first, that came of `rows` rows.

    passed, and each of `screens`: (u,). tc_k: (u,) in K.
    """
    count = int(passed.sum())
    best = tc_k[:count]
    return Summary(
        rows=rows,
        statuses=dict(statuses),
        unique=len(passed),
        screens={name: int(verdict.sum()) for name, verdict in screens.items()},
        required=required,
        passed=count,
        top=tuple(_top_mean(best[:k], k, base) for k in top),
        base=base,
        passed_above_base=None if base is None else int((best > base.tc_predicted_k).sum()),
    )


def _top_mean(tc_k: Floats, k: int, base: BaseMaterial | None) -> TopMean:
    if not len(tc_k):
        return TopMean(k, 0, None, None)
    mean = float(tc_k.mean())
    return TopMean(k, len(tc_k), mean, None if base is None else mean - base.tc_predicted_k)


def _fraction(part: int, whole: int) -> float | None:
    return part / whole if whole else None
