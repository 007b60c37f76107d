"""The searches of a campaign as its page and its plots see them: by base and variant, what each of them gained."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from kiago_ray.screening.summary import BaseMaterial, Summary, TopMean

K = 30  # of the best k that is shown where there is room for one

Item = TypeVar("Item")


@dataclass(frozen=True)
class SearchLine:
    """One search that has results. summary: of the shards that are done."""

    name: str
    base: str | None
    variant: str
    seed: int
    shards: int
    shards_done: int
    summary: Summary


@dataclass(frozen=True)
class Group:
    """The searches of one base and variant, which differ in their seeds."""

    base: str | None
    variant: str
    lines: tuple[SearchLine, ...]

    @property
    def material(self) -> BaseMaterial | None:
        """The base as predicted and measured, where a search of the group has it."""
        return next((line.summary.base for line in self.lines if line.summary.base is not None), None)

    def gains(self, k: int) -> list[float]:
        """`gain` of each seed where something passed."""
        found = (gain(line.summary, k) for line in self.lines)
        return [value for value in found if value is not None]

    def mean_gain(self, k: int) -> float | None:
        """The mean of `gains`; None where there is none."""
        gains = self.gains(k)
        return statistics.fmean(gains) if gains else None


def groups(lines: Sequence[SearchLine]) -> list[Group]:
    """The searches by base and variant, in the order in which these first occur."""
    found: dict[tuple[str | None, str], list[SearchLine]] = {}
    for line in lines:
        found.setdefault((line.base, line.variant), []).append(line)
    return [Group(base, variant, tuple(members)) for (base, variant), members in found.items()]


def gain(summary: Summary, k: int) -> float | None:
    """ΔT_c in K of the best k, or their mean T_c where there is no base; None where nothing passed."""
    top = best(summary, k)
    if top is None:
        return None
    return top.mean_tc_k if summary.base is None else top.delta_tc_k


def best(summary: Summary, k: int) -> TopMean | None:
    """What the summary tells of the best k."""
    return next((each for each in summary.top if each.k == k), None)


def gain_name(lines: Sequence[SearchLine]) -> str:
    """What `gain` is in these searches."""
    return "ΔT_c" if any(line.summary.base is not None for line in lines) else "mean T_c"


def is_short(summary: Summary, k: int) -> bool:
    """Whether something passed, but fewer formulas than k."""
    return any(top.k == k and 0 < top.used < k for top in summary.top)


def foremost(items: Sequence[Item], limit: int, value: Callable[[Item], float | None]) -> list[Item]:
    """The items in their order; where there are more than `limit`, those of the highest value, unknown ones last."""

    def key(place: int) -> float:
        found = value(items[place])
        return float("inf") if found is None else -found

    return [items[place] for place in sorted(sorted(range(len(items)), key=key)[:limit])]
