"""How long a shard of a campaign should take, by those that are done; from when it is slow, and from when its worker
counts as hung.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from statistics import median

from kiago_ray.runs.plan import Plan, Shard
from kiago_ray.runs.shards import Manifest

SLOW, LIMIT = 3, 20  # times what is usual
SLOW_FLOOR_S, LIMIT_FLOOR_S = 15.0, 600.0  # storage may be late by as much
_RECENT = 1000  # shards that tell what is usual


class Pace:
    """What the shards that are done took. A shard of more rows × steps than their median may take longer by as much,
    one of fewer as long. manifests: of those done earlier. All times in s; None before one is done.
    """

    def __init__(self, plan: Plan, manifests: Iterable[Manifest] = ()) -> None:
        self._given_limit_s = plan.campaign.shard_limit_s
        self._steps = {search.name: 1 + sum(search.spec.steps) for search in plan.searches}
        self._recent: deque[tuple[float, float]] = deque(maxlen=_RECENT)  # seconds, rows × steps
        self._usual: tuple[float, float] | None = None  # their medians, once they are asked for
        for manifest in manifests:
            self.add(manifest)

    def add(self, manifest: Manifest) -> None:
        """Take a shard that is done."""
        self._recent.append((manifest.wall_s, manifest.rows * self._steps[manifest.search]))
        self._usual = None

    def expected_s(self, shard: Shard) -> float | None:
        """What the shard should take."""
        if not self._recent:
            return None
        if self._usual is None:
            self._usual = median(each for each, _ in self._recent), median(each for _, each in self._recent)
        usual_s, work = self._usual
        return usual_s * max(1.0, len(shard.rows) * self._steps[shard.search] / work)

    def slow_s(self, shard: Shard) -> float | None:
        """From when it is named."""
        expected_s = self.expected_s(shard)
        return None if expected_s is None else max(SLOW * expected_s, SLOW_FLOOR_S)

    def limit_s(self, shard: Shard) -> float | None:
        """From when its worker is stopped: what the campaign says, else by what is usual."""
        expected_s = self.expected_s(shard)
        if self._given_limit_s is not None or expected_s is None:
            return self._given_limit_s
        return max(LIMIT * expected_s, LIMIT_FLOOR_S)
