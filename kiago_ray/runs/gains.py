"""The searches of a campaign by base and variant, and what each of them gained."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from kiago_ray.runs.summaries import SearchResults
from kiago_ray.screening.summary import BaseMaterial, Summary, TopMean

K = 30  # of the best k that is shown where there is room for one

Item = TypeVar("Item")


@dataclass(frozen=True)
class Group:
    """The searches of one base and variant, which differ in their seeds."""

    base: str | None
    variant: str
    searches: tuple[SearchResults, ...]

    @property
    def summaries(self) -> list[Summary]:
        """What came of each search."""
        return [each.summary for each in self.searches]

    @property
    def material(self) -> BaseMaterial | None:
        """The base as predicted and measured, where a search of the group has it."""
        return next((summary.base for summary in self.summaries if summary.base is not None), None)

    def gains(self, k: int) -> list[float]:
        """`gain` of each seed where something passed."""
        return [value for summary in self.summaries if (value := gain(summary, k)) is not None]

    def mean_gain(self, k: int) -> float | None:
        """The mean of `gains`; None where there is none."""
        gains = self.gains(k)
        return statistics.fmean(gains) if gains else None


def groups(searches: Sequence[SearchResults]) -> list[Group]:
    """The searches by base and variant, in the order in which these first occur."""
    found: dict[tuple[str | None, str], list[SearchResults]] = {}
    for each in searches:
        found.setdefault((each.base, each.variant), []).append(each)
    return [Group(base, variant, tuple(members)) for (base, variant), members in found.items()]


def gain(summary: Summary, k: int) -> float | None:
    """ΔT_c in K of the best k, or their mean T_c where there is no base; None where nothing passed."""
    top = best(summary, k)
    if top is None:
        return None
    return top.mean_tc_k if summary.base is None else top.delta_tc_k


def best(summary: Summary, k: int) -> TopMean | None:
    """What the summary says of the best k."""
    return next((each for each in summary.top if each.k == k), None)


def gain_name(searches: Sequence[SearchResults]) -> str:
    """What `gain` is in these searches."""
    return "ΔT_c" if any(each.summary.base is not None for each in searches) else "mean T_c"


def is_short(summary: Summary, k: int) -> bool:
    """Whether something passed, but fewer formulas than k."""
    return any(top.k == k and 0 < top.used < k for top in summary.top)


def foremost(items: Sequence[Item], limit: int, value: Callable[[Item], float | None]) -> list[Item]:
    """The items in their order; where there are more than `limit`, those of the highest value, unknown ones last."""

    def key(place: int) -> float:
        found = value(items[place])
        return float("inf") if found is None else -found

    return [items[place] for place in sorted(sorted(range(len(items)), key=key)[:limit])]
