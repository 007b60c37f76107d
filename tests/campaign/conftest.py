"""A plan of one small search in two shards, and its shards made."""

from __future__ import annotations

from pathlib import Path

import pytest

from kiago_ray.campaign.compute import compute_shard
from kiago_ray.campaign.plan import Plan, make_plan
from kiago_ray.campaign.spec import campaign_from
from kiago_ray.predictors import Predictors, load_predictors
from kiago_ray.predictors.oracle.opinions import SecondOpinion, load_second_opinion
from kiago_ray.storage.location import Location

from ..report.conftest import rows, summary, trusted_rows

__all__ = ["made", "rows", "second", "shipped", "summary", "trusted_rows", "two_shards"]

VALUES = {
    "name": "small",
    "bases": ["LaNiAsO"],
    "search": {"steps": [2, 2], "preset": "open"},
    "candidates": 12,
    "shard_size": 8,
}


@pytest.fixture(scope="session")
def shipped() -> Predictors:
    return load_predictors()


@pytest.fixture(scope="session")
def second(shipped: Predictors) -> SecondOpinion:
    return load_second_opinion(shipped)


@pytest.fixture(scope="session")
def two_shards(shipped: Predictors) -> Plan:
    return make_plan(campaign_from(VALUES), shipped.supported.numpy())


@pytest.fixture
def made(two_shards: Plan, shipped: Predictors, second: SecondOpinion, tmp_path: Path) -> Location:
    """A campaign's directory with both shards in it."""
    campaign = Location.of(tmp_path / "made")
    for shard in two_shards.shards:
        compute_shard(two_shards.search(shard.search), shard, campaign, shipped, second=second)
    return campaign
