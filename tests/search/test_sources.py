from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from kiago_ray.search.family_proposals import CYCLE, Sources
from kiago_ray.search.sections import SourcesSpec


def sources(**shares: float) -> Sources:
    return Sources(SourcesSpec(**{"family": 0, "swap": 0, "made": 0, "plus_one": 0, **shares}))


def test_every_twenty_rows_hold_the_shares() -> None:
    found = Sources(SourcesSpec())
    for start in (0, 20, 1000):
        labels = Counter(found.of(row)[0] for row in range(start, start + CYCLE))
        assert labels == {"family": 12, "swap": 5, "made": 1, "plus one": 2}


@pytest.mark.parametrize("shares", [{"family": 1}, {"swap": 3, "made": 1}, {"family": 1, "plus_one": 1}])
def test_rows_of_a_source_are_counted_without_a_gap(shares: dict[str, float]) -> None:
    found = sources(**shares)
    seen: Counter[str] = Counter()
    for row in range(75):
        label, number = found.of(row)
        assert number == seen[label]
        seen[label] += 1
    total = sum(shares.values())
    for field, share in shares.items():
        assert seen[field.replace("_", " ")] == pytest.approx(75 * share / total, abs=2)


def test_a_source_is_spread_over_the_twenty() -> None:
    places = [row for row in range(CYCLE) if Sources(SourcesSpec()).of(row)[0] == "swap"]
    assert max(b - a for a, b in pairwise(places)) <= 6
