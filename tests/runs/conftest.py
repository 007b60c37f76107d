"""A plan of one small search in two shards, and its shards made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kiago_ray.data import NONE
from kiago_ray.models import Models, load_models
from kiago_ray.runs.plan import Plan, make_plan
from kiago_ray.runs.shards import compute_shard
from kiago_ray.runs.spec import CampaignSpec
from kiago_ray.search.sections import validated
from kiago_ray.storage.location import Location

from ..report.conftest import rows, summary, trusted_rows

__all__ = ["made", "rows", "shipped", "summary", "trusted_rows", "two_shards"]

VALUES = {
    "name": "small",
    "bases": ["LaNiAsO"],
    "search": {"steps": [2, 2], "preset": "open"},
    "candidates": 12,
    "shard_size": 8,
}


@pytest.fixture(scope="session")
def shipped() -> Models:
    """What ships, without known compositions and plausibility."""
    return replace(load_models(known=NONE), prospects=None)


@pytest.fixture(scope="session")
def two_shards(shipped: Models) -> Plan:
    return make_plan(validated(CampaignSpec, VALUES), shipped.check)


@pytest.fixture
def made(two_shards: Plan, shipped: Models, tmp_path: Path) -> Location:
    """A campaign's directory with both shards in it."""
    campaign = Location.of(tmp_path / "made")
    for shard in two_shards.shards:
        compute_shard(two_shards.search(shard.search), shard, campaign, shipped)
    return campaign
