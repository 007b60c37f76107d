"""Unique compositions, the order in which a person reads them, and their Pareto front.

Formulas written from reduced integers, or from fractional amounts in one fixed order, are the same text exactly when
they are the same composition; there the text is the identity. Formulas of a family keep the order of their base, so
one composition has several texts: these count by `identity`.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import WRITING_RANK, Floats, Ints, Mask
from kiago_ray.chemistry.formula import parse, write

if TYPE_CHECKING:
    from kiago_ray.search.sections import ScreensSpec

RankBy = Literal["improvement", "trusted", "tc", "plausibility"]
"""What decides among rows that passed: plausibility and expected improvement together, the T_c that they can be
trusted with, that which the search predicts, or plausibility alone."""

FIRST_ROWS = 30  # in which no chemical system stands too often
SCANNED_ROWS = 3000  # so far down a row is looked for that may come up among the first in place of another
SCALE = 10_000  # of amounts, which have four decimals at most


@dataclass(frozen=True)
class Ranking:
    """How rows are ordered. improvement_offset_k, improvement_tc_share: K, and a share of the trusted T_c, that are
    added to an expected improvement before it is multiplied by the plausibility. most_per_system: rows of one chemical
    system among the first; all of them for by = "improvement" alone. new_systems_first: rows of chemical systems with
    a known superconductor stand behind, as those that are known do.
    """

    by: RankBy = "trusted"
    improvement_offset_k: float = 0.1
    improvement_tc_share: float = 0.0
    most_per_system: int = 3
    new_systems_first: bool = False

    @classmethod
    def of(cls, screens: ScreensSpec) -> Ranking:
        """That which a search asks for."""
        others = {name: getattr(screens, name) for name in cls.__dataclass_fields__ if name != "by"}
        return cls(screens.rank_by, **others)


@dataclass(frozen=True)
class Standing:
    """n rows as ranking sees them, (n,) each; NaN for what isn't known.

    passed: the screens. taken: the composition is known or was tried. undoped: a cuprate that is an undoped parent.
    gain: T_c is predicted above the best known nearby. new_system: no known superconductor has just its elements.
    plausibility: from 0 to 1.
    """

    passed: Mask
    tc_k: Floats
    trusted_tc_k: Floats
    plausibility: Floats
    expected_improvement_k: Floats
    taken: Mask
    undoped: Mask
    gain: Mask
    new_system: Mask

    def take(self, rows: Ints) -> Standing:
        """The standing of these rows."""
        return Standing(**{name: each[rows] for name, each in vars(self).items()})


def unique(formulas: Sequence[str], of_families: Sequence[bool]) -> Ints:
    """The positions (u,), ascending, of the first row of each composition. Positions with "" have no formula and are
    left out. of_families: (n,) whose formula keeps the order of a base, so that its text isn't its identity.
    """
    first: dict[str, int] = {}
    for at, (text, own) in enumerate(zip(formulas, of_families, strict=True)):
        if text:
            first.setdefault(identity(text) if own else text, at)
    return np.array(list(first.values()), dtype=np.int64)


@lru_cache(maxsize=4096)
def identity(formula: str) -> str:
    """The composition in reduced whole numbers, least electronegative element first: La37Sr3Cu20O80 for
    La1.85Sr0.15CuO4; "" for "". A formula whose amounts have more than four decimals is its own identity.
    """
    if not formula:
        return ""
    amounts = parse(formula)
    whole = {symbol: round(amount * SCALE) for symbol, amount in amounts.items()}
    if any(abs(amounts[symbol] * SCALE - number) > 1e-6 * SCALE for symbol, number in whole.items()):
        return formula
    divisor = math.gcd(*whole.values())
    ordered = sorted(whole, key=WRITING_RANK.__getitem__)
    return write({symbol: whole[symbol] // divisor for symbol in ordered if whole[symbol]})


def order(formulas: Sequence[str], rows: Standing, ranking: Ranking | None = None) -> Ints:
    """Positions (n,) of rows with these formulas, best first; see `ordered`. By trusted T_c unless said otherwise."""
    texts = np.array(formulas, dtype=np.str_)
    return ordered(texts, rows, ranking or Ranking(), formulas.__getitem__)


def ordered(
    alphabetical: NDArray[np.generic], rows: Standing, ranking: Ranking, formula_of: Callable[[int], str]
) -> Ints:
    """Positions (n,), best first: by `group`, then by what `ranking` asks for, falling and unknown last, then by
    falling trusted T_c (but not by tc), by falling T_c, and by `alphabetical` (n,), which sorts the formulas.

    Where it asks for improvement, the key is ln P + ln(EI + offset + share·trusted T_c), and the rows that passed and
    are neither taken nor undoped are then arranged: the best that is a gain stands first, if there is one; and of the
    first 30 no more than most_per_system are of one chemical system, as far as there are others: the surplus follows
    behind them.
    formula_of: position → formula.
    """
    taken = rows.taken | ~rows.new_system if ranking.new_systems_first else rows.taken
    undoped = rows.undoped & (ranking.by in ("improvement", "plausibility"))
    groups = group(rows.passed, taken, undoped)
    best = np.lexsort((alphabetical, *(falling(each) for each in _keys(rows, ranking)), groups))
    if ranking.by != "improvement":
        return best
    new = int((groups == 0).sum())
    arranged = _spread(_gain_first(best[:new], rows.gain), ranking.most_per_system, formula_of)
    return np.concatenate([arranged, best[new:]])


def group(passed: Mask, taken: Mask, undoped: Mask) -> Ints:
    """(n,): 0 for rows that passed, 1 for those of them whose composition is `taken` (known, tried), 2 for those that
    are undoped cuprates, 3 for rows that didn't pass.
    """
    return np.select([~passed, undoped, taken], [3, 2, 1], 0)


def falling(values: Floats) -> Floats:
    """A key (n,) that sorts values (n,) from high to low, NaN last."""
    return np.where(np.isnan(values), np.inf, -values)


def improvement_key(plausibility: Floats, expected_improvement_k: Floats, offset_k: float | Floats) -> Floats:
    """ln P + ln(EI + offset), (n,), the offset one for all or (n,). What isn't known of any row is left out; of some
    rows it makes their key NaN.
    """
    with np.errstate(divide="ignore"):
        terms = (np.log(plausibility), np.log(expected_improvement_k + offset_k))
    key = np.zeros(len(plausibility))
    for term in terms:
        if not np.isnan(term).all():
            key = key + term
    return key


def _keys(rows: Standing, ranking: Ranking) -> list[Floats]:
    """What decides within a group, the last first."""
    match ranking.by:
        case "tc":
            return [rows.tc_k]
        case "trusted":
            return [rows.tc_k, rows.trusted_tc_k]
        case "plausibility":
            return [rows.tc_k, rows.trusted_tc_k, rows.plausibility]
        case "improvement":
            promised = ranking.improvement_tc_share * np.maximum(np.nan_to_num(rows.trusted_tc_k), 0)
            offset_k = ranking.improvement_offset_k + promised
            key = improvement_key(rows.plausibility, rows.expected_improvement_k, offset_k)
            return [rows.tc_k, rows.trusted_tc_k, key]


def _gain_first(best: Ints, gain: Mask) -> Ints:
    """These rows with the first that is a gain at their head."""
    gains = np.flatnonzero(gain[best])
    return np.concatenate([best[gains[:1]], np.delete(best, gains[:1])])


def _spread(best: Ints, most: int, formula_of: Callable[[int], str]) -> Ints:
    """These rows with no chemical system more than `most` times among the first, where there are enough others."""
    first: list[int] = []
    surplus: list[int] = []
    counts: dict[frozenset[str], int] = {}
    for row in best[:SCANNED_ROWS].tolist():
        if len(first) == FIRST_ROWS:
            break
        system = frozenset(parse(formula_of(row)))
        counts[system] = counts.get(system, 0) + 1
        (first if counts[system] <= most else surplus).append(row)
    return np.concatenate([np.array(first + surplus, dtype=np.int64), best[len(first) + len(surplus) :]])


def pareto_front(trusted_tc_k: Floats, ef_ev_per_atom: Floats, extrapolation: Floats, eligible: Mask) -> Mask:
    """Which of n rows are on the front (n,): eligible, and no eligible row is as good in all aims and better in one.

    Trusted T_c counts upwards, E_f and the extrapolation score downwards; rows that tie in all three stand or fall
    together. A row without the first two isn't on the front. An unknown score is the farthest of all, so that where
    none is known the other two aims decide.

    Exact, in O(n log n): sorted by the first aim, a row is beaten only by rows before it, and of those a staircase in
    the other two aims is enough (Kung, Luccio and Preparata, J. ACM 22, 469 (1975)).
    """
    rows = np.flatnonzero(eligible & ~np.isnan(trusted_tc_k) & ~np.isnan(ef_ev_per_atom))
    costs = np.stack(
        [
            -trusted_tc_k[rows],
            ef_ev_per_atom[rows],
            np.nan_to_num(extrapolation[rows], nan=np.inf, posinf=np.inf),
        ],
        axis=1,
    )
    costs += 0.0  # no -0.0
    # The different ones, in the order of their values.
    points, place = np.unique(costs, axis=0, return_inverse=True)
    front = np.zeros(len(eligible), dtype=np.bool_)
    front[rows] = _unbeaten(points[:, 1].tolist(), points[:, 2].tolist())[place.reshape(-1)]
    return front


def _unbeaten(second: list[float], third: list[float]) -> Mask:
    """Which of different points, in rising order of (first, second, third), no point before is as low as in both."""
    unbeaten = np.zeros(len(second), dtype=np.bool_)
    steps: list[float] = []  # the staircase: second rises, third falls
    depths: list[float] = []
    for at, (across, down) in enumerate(zip(second, third, strict=True)):
        end = bisect_right(steps, across)
        if end and depths[end - 1] <= down:
            continue
        unbeaten[at] = True
        begin = end - 1 if end and steps[end - 1] == across else end
        while end < len(steps) and depths[end] >= down:
            end += 1
        steps[begin:end], depths[begin:end] = [across], [down]
    return unbeaten
