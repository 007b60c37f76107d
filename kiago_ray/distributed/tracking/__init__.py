"""MLflow's record of a campaign, made from its directory alone: what fails is made later, and nothing is lost."""

from __future__ import annotations

from kiago_ray.distributed.tracking.target import TrackingError, TrackingTarget, default_tracking_uri
from kiago_ray.distributed.tracking.tracker import Tracker, TrackingReport, record_campaign, recorded_whole

__all__ = [
    "Tracker",
    "TrackingError",
    "TrackingReport",
    "TrackingTarget",
    "default_tracking_uri",
    "record_campaign",
    "recorded_whole",
]
