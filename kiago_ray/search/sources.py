"""Which rows of a family search come from where: shares of all rows, spread evenly over every twenty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from kiago_ray.search.sections import SourcesSpec

CYCLE = 20  # rows after which the pattern repeats
FAMILY = "family"
LABELS: Mapping[str, str] = {"family": FAMILY, "swap": "swap", "made": "made", "plus_one": "plus one"}


@dataclass(frozen=True)
class Sources:
    """The source of every row, by the row's number and the shares alone."""

    shares: SourcesSpec

    @cached_property
    def pattern(self) -> tuple[str, ...]:
        """The labels of rows 0 to CYCLE − 1: each time that source is next which is furthest behind its share."""
        given = {label: getattr(self.shares, field) for field, label in LABELS.items()}
        total = sum(given.values())
        behind = dict.fromkeys(given, 0.0)
        chosen = []
        for _ in range(CYCLE):
            behind = {label: value + given[label] / total for label, value in behind.items()}
            chosen.append(max(behind, key=lambda label: round(behind[label], 9)))
            behind[chosen[-1]] -= 1
        return tuple(chosen)

    def of(self, row: int) -> tuple[str, int]:
        """The source of a row, and how many rows before it have the same."""
        cycle, place = divmod(row, CYCLE)
        label = self.pattern[place]
        return label, cycle * self.pattern.count(label) + self.pattern[:place].count(label)
