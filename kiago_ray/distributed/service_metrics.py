"""What the service counts, beside what Ray Serve does; Ray exports it to Prometheus with `ray_` in front."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ray.util.metrics import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from kiago_ray.scoring import Scores

SECONDS = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0]
ROWS = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0]


class ModelMeter:
    """Of the models' passes."""

    def __init__(self) -> None:
        self._rows = Counter(
            "kiago_rows_total", description="Formulas that were predicted or refused.", tag_keys=("outcome",)
        )
        self._batch = Histogram("kiago_batch_rows", description="Formulas of a batch.", boundaries=ROWS)
        self._seconds = Histogram(
            "kiago_model_seconds", description="Time of a pass through the models.", boundaries=SECONDS
        )

    @contextmanager
    def batch(self, rows: int) -> Iterator[None]:
        """Of one batch, for the time of the block."""
        began = time.perf_counter()
        yield
        self._seconds.observe(max(time.perf_counter() - began, 1e-9))
        self._batch.observe(max(rows, 1))

    def rows(self, scores: Scores) -> None:
        """What became of its formulas."""
        refused = sum(error is not None for error in scores.errors)
        for outcome, count in (("refused", refused), ("predicted", len(scores.errors) - refused)):
            if count:
                self._rows.inc(count, {"outcome": outcome})


class ApiMeter:
    """Of requests (service.guard.Meter) and of the queue."""

    def __init__(self) -> None:
        self._requests = Counter(
            "kiago_requests_total", description="Requests by route and status.", tag_keys=("route", "status")
        )
        self._seconds = Histogram(
            "kiago_request_seconds", description="Time of a request.", boundaries=SECONDS, tag_keys=("route",)
        )
        self._queue = Gauge(
            "kiago_queue_searches", description="Searches that haven't ended.", tag_keys=("state",)
        )

    def request(self, route: str, status: int, seconds: float) -> None:
        """One request."""
        self._requests.inc(1, {"route": route, "status": str(status)})
        self._seconds.observe(max(seconds, 1e-9), {"route": route})

    def queue(self, state: str, searches: int) -> None:
        """How many searches there are in a state now."""
        self._queue.set(searches, {"state": state})
