"""`kiago campaign verify` and `repair`: whatever is damaged of a finished campaign is named, and made again to the bit
where its shards are whole.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from kiago_ray.runs.results import finish_campaign, finish_search
from kiago_ray.runs.shards import read_manifest, write_manifest
from kiago_ray.runs.state import state_of
from kiago_ray.runs.verification import CAMPAIGN_ID, rebuilt_record
from kiago_ray.storage.run_directory import IDENTITY, RunDirectoryError, digest_of, read_run

from ..distributed.conftest import make_small_plan
from ..distributed.tracked_campaigns import Campaign, make_campaign
from .conftest import Kiago

__all__ = ["make_small_plan"]


@pytest.fixture(scope="module")
def finished(make_small_plan: Callable[..., object], tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    plan = make_small_plan(candidates=16)
    campaign = make_campaign(plan, tmp_path_factory.mktemp("finished") / "small")  # type: ignore[arg-type]
    done = state_of(campaign.location, campaign.plan, read_manifest).by_search()
    record = campaign.directory.record
    searches = [
        finish_search(campaign.location, search, done[search.name], record=record)
        for search in campaign.plan.searches
    ]
    told: dict[str, Any] = {"failures": {}, "damaged": (), "model_notes": ()}
    campaign.directory.finish(finish_campaign(campaign.location, campaign.plan, searches, **told).files)
    return campaign


@pytest.fixture
def campaign(finished: Campaign, tmp_path: Path) -> Campaign:
    shutil.copytree(finished.folder, tmp_path / "small")
    return Campaign(finished.plan, tmp_path / "small")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_whole_campaign_is_said_to_be_whole(kiago: Kiago, campaign: Campaign) -> None:
    ended = kiago("campaign", "verify", campaign.folder)
    assert (ended.code, ended.out) == (0, f"{campaign.folder} is whole\n")
    assert json.loads(kiago("campaign", "verify", campaign.folder, "--json").out)["whole"] is True
    alone = campaign.folder / "searches" / "MgB2-s0"
    assert kiago("campaign", "verify", alone).code == 0


@pytest.mark.parametrize(
    "names",
    [
        ("top.csv", "report.html", "candidates.parquet"),
        ("summary.json", "searches/MgB2-s0/candidates.parquet"),
    ],
)
def test_results_that_were_cut_off_are_named_and_made_again(
    kiago: Kiago, campaign: Campaign, finished: Campaign, names: tuple[str, ...]
) -> None:
    places = [campaign.folder / name for name in names]
    for place in places:
        place.write_bytes(place.read_bytes()[:-20])
    ended = kiago("campaign", "verify", campaign.folder)
    assert ended.code == 3
    assert all(str(place) in ended.out for place in places)
    assert f"kiago campaign repair {campaign.folder}" in ended.out
    repaired = kiago("campaign", "repair", campaign.folder)
    assert (repaired.code, repaired.out) == (0, f"{campaign.folder} is whole\n")
    assert all(f"made again: {place}" in repaired.err for place in places)
    again = contents(campaign.folder)
    del again["searches/index.json"]  # which remembers them
    assert again == contents(finished.folder)


def test_the_table_of_one_search_that_was_cut_off_is_named(kiago: Kiago, campaign: Campaign) -> None:
    alone = campaign.folder / "searches" / "MgB2-s0"
    (alone / "candidates.parquet").unlink()
    ended = kiago("campaign", "verify", alone)
    assert ended.code == 3
    assert f"{alone}/candidates.parquet is missing" in ended.out


def test_a_damaged_shard_leaves_the_results_and_is_to_be_run_again(kiago: Kiago, campaign: Campaign) -> None:
    table = next(campaign.folder.glob("shards/MgB2-s0/00000-*[0-9a-f].parquet"))
    table.write_bytes(table.read_bytes()[:-20])
    before = contents(campaign.folder)
    ended = kiago("campaign", "repair", campaign.folder)
    assert ended.code == 3
    assert "was cut off or changed" in ended.out
    assert "`kiago campaign run` with its file" in ended.out
    assert read_run(campaign.folder).finished is False
    after = contents(campaign.folder)
    assert {name for name in before if before[name] != after[name]} == {"spec.yaml"}
    (campaign.folder / "searches" / "MgB2-s0" / "top.csv").unlink()
    campaign.directory.finish([])
    both = kiago("campaign", "repair", campaign.folder)
    assert both.code == 3
    assert "searches/MgB2-s0 needs all shards of its search" in both.out


def test_a_campaign_under_way_is_whole_as_far_as_it_is(kiago: Kiago, campaign: Campaign) -> None:
    campaign.unmerge()
    campaign.directory.reopen()
    assert kiago("campaign", "verify", campaign.folder).code == 0


@pytest.mark.parametrize("damage", ["text", "missing"])
def test_a_damaged_specification_is_rebuilt_where_all_shards_are_of_this_campaign(
    campaign: Campaign, damage: str
) -> None:
    directory, plan = campaign.directory, campaign.plan
    identity = {key: directory.record[key] for key in directory.record if key in ("campaign", "searches")}
    spec = campaign.folder / "spec.yaml"
    whole = yaml.safe_load(spec.read_text())
    if damage == "text":
        spec.write_bytes(spec.read_bytes()[:30] + b"\0{")
    else:
        spec.unlink()
    about = {"kiago_ray": "1.2.3"}
    assert not rebuilt_record(campaign.folder, plan, identity, about)  # whose shards these are isn't known
    for shard in plan.shards:
        manifest = read_manifest(campaign.location, shard)
        assert manifest is not None
        belongs = {IDENTITY: digest_of(identity), CAMPAIGN_ID: "0123"}
        write_manifest(campaign.location, replace(manifest, made={**manifest.made, **belongs}))
    assert not rebuilt_record(campaign.folder, plan, {**identity, "searches": "other"}, about)
    with pytest.raises(RunDirectoryError):
        read_run(campaign.folder)
    assert rebuilt_record(campaign.folder, plan, identity, about)
    record = read_run(campaign.folder).record
    assert (record[CAMPAIGN_ID], record["campaign"]) == ("0123", whole["campaign"])
    assert not rebuilt_record(campaign.folder, plan, identity, about)  # it is whole
