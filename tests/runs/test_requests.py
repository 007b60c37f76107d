"""What it costs on object storage to look at what is done: requests, counted where S3 answers them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kiago_ray.runs.listing import Remembered, listed
from kiago_ray.runs.plan import Plan
from kiago_ray.runs.results import finish_campaign, finish_search
from kiago_ray.runs.shards import read_manifest
from kiago_ray.runs.state import state_of
from kiago_ray.runs.verification import done_before, remember_results
from kiago_ray.storage.location import Location
from kiago_ray.storage.run_directory import CampaignResults, read_results, read_run, write_run

from ..storage.conftest import Bucket, bucket, s3_process, s3_server  # noqa: F401  # fixtures


@pytest.fixture
def finished(two_shards: Plan, made: Location) -> Location:
    """A campaign on a disk that is done."""
    directory = write_run(made, {"campaign": two_shards.campaign.model_dump(mode="json")}, {})
    done = state_of(made, two_shards, read_manifest).by_search()
    results = [finish_search(made, search, done[search.name]) for search in two_shards.searches]
    told = finish_campaign(made, two_shards, results, failures={}, damaged=[], model_notes=[])
    directory.finish(told.files)
    return made


def uploaded(folder: Location, bucket: Bucket, name: str) -> Location:  # noqa: F811
    """The same on S3."""
    place = Location.of(f"s3://{bucket.name}/{name}")
    for path in folder.files():
        (place / path).write_bytes((folder / path).read_bytes())
    bucket.server.requests.clear()
    return place


def test_a_campaign_that_is_done_is_known_by_lists_and_looked_at_where_it_changed(
    two_shards: Plan,
    finished: Location,
    bucket: Bucket,  # noqa: F811
) -> None:
    place, requests = uploaded(finished, bucket, "runs/small"), bucket.server.requests
    directory, results = read_run(place), read_results(place, CampaignResults)
    assert results is not None

    requests.clear()
    assert done_before(directory, two_shards) == results  # nothing is remembered: all is read
    every = len(requests)
    remember_results(place, results)
    requests.clear()
    assert done_before(directory, two_shards) == results
    assert len(requests) <= 6 < every / 4
    assert not any("candidates.parquet" in request and "prefix" not in request for request, _ in requests)

    (place / "tracking.json").write_bytes(b"{}")  # `kiago campaign track` writes it later
    requests.clear()
    assert done_before(directory, two_shards) == results
    assert len(requests) <= 6

    for name in ("top.csv", f"searches/{two_shards.searches[0].name}/candidates.parquet"):
        whole = (place / name).read_bytes()
        (place / name).write_bytes(whole[:-1])
        assert done_before(directory, two_shards) is None
        (place / name).write_bytes(whole)
    (place / "searches/index.json").write_bytes(b"{")
    assert done_before(directory, two_shards) == results
    assert done_before(directory.reopen(), two_shards) is None


def test_runs_that_did_not_change_cost_one_list_each(finished: Location, bucket: Bucket) -> None:  # noqa: F811
    requests, remembered = bucket.server.requests, Remembered()
    for number in range(6):
        place = uploaded(finished, bucket, f"runs/{number}")
    runs = Location.of(f"s3://{bucket.name}/runs")
    first = listed(runs, remembered)
    assert [line.state for line in first[0]] == ["finished"] * 6
    every = len(requests)
    requests.clear()
    assert listed(runs, remembered) == first
    assert len(requests) <= 6 + 6 < every / 4

    (place / "candidates.parquet").write_bytes(b"PAR1")
    requests.clear()
    assert {line.name: line.state for line in listed(runs, remembered)[0]}["5"] == (
        "unreadable candidates.parquet"
    )
    assert len(requests) < every / 2
    bucket.server.client().delete_object(Bucket=bucket.name, Key="runs/5/spec.yaml")
    assert {line.name: line.state for line in listed(runs, remembered)[0]}["5"] == "no run"
    assert len(remembered) == 6


def test_a_run_that_goes_on_is_looked_at_each_time(two_shards: Plan, made: Location, tmp_path: Path) -> None:
    """That a driver is gone changes no file."""
    remembered = Remembered()
    write_run(made, {"campaign": two_shards.campaign.model_dump(mode="json")}, {})
    (line,), _ = listed(tmp_path, remembered)
    assert line.state == "unfinished"
    ((name, (stamps, known)),) = remembered.items()
    assert known == line
    remembered[name] = stamps, replace(line, state="running")
    assert listed(tmp_path, remembered)[0] == [line]
    remembered[name] = stamps, replace(line, state="remembered")
    assert listed(tmp_path, remembered)[0][0].state == "remembered"
