"""How many replicas the HTTP service needs. Ray Serve's controller imports this, so that it imports nothing."""

from __future__ import annotations

from typing import Any

STREAMS = "streams"
"""What a replica reports: its progress streams, which Serve counts as requests, though they wait for the most part."""


def without_streams(context: Any) -> tuple[float, dict[str, Any]]:
    """Replicas for the requests that aren't progress streams, and no state: a policy of Serve's autoscaling."""
    streams = sum((context.aggregated_metrics or {}).get(STREAMS, {}).values())
    load = max(context.total_num_requests - streams, 0.0)
    return load / context.config.get_target_ongoing_requests(), {}
