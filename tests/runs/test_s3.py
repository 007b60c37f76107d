"""A campaign's shards and its lease on s3://, over real HTTP, looked at with boto3."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from kiago_ray.models import Models
from kiago_ray.runs.lease import LEASE, Lease, LeaseError, read_lease
from kiago_ray.runs.plan import Plan, Shard
from kiago_ray.runs.shards import (
    SHARDS,
    STEPS,
    TABLE,
    Manifest,
    check_shard,
    compute_shard,
    read_manifest,
    shard_file,
)
from kiago_ray.runs.state import ENDINGS, Seen, State, stamps_of, state_of
from kiago_ray.storage.location import Location
from kiago_ray.storage.run_directory import DamagedError
from kiago_ray.storage.table import read_parquet, read_table

BUCKET, RENEW_S, EXPIRE_S = "campaigns", 0.1, 0.8


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def client(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """boto3's view of an empty bucket; the environment names its server."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "dummy-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "dummy-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    client = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket=BUCKET)
    for key in keys(client):
        client.delete_object(Bucket=BUCKET, Key=key)
    return client


@pytest.fixture
def campaign(client: Any) -> Location:
    return Location.of(f"s3://{BUCKET}/table 2")


def keys(client: Any) -> list[str]:
    """Every object, temporary ones and markers too."""
    return [item["Key"] for item in client.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def content(client: Any, key: str) -> bytes:
    return bytes(client.get_object(Bucket=BUCKET, Key=key)["Body"].read())


def quick(campaign: Location) -> Lease:
    return Lease(campaign, renew_s=RENEW_S, expire_s=EXPIRE_S)


def test_a_shard_is_written_checked_and_found_damaged(
    client: Any,
    campaign: Location,
    two_shards: Plan,
    shipped: Models,
    made: Location,
) -> None:
    search = replace(two_shards.searches[0], name="LaNiAsO-x=1+2.5_y-s0")
    first, other = search.shards
    assert check_shard(campaign, first) is None
    manifest = compute_shard(search, first, campaign, shipped)
    stem = f"table 2/shards/{search.name}/00000"
    table, steps = (
        f"{stem}-{manifest.sha256[:16]}.parquet",
        f"{stem}-{manifest.steps_sha256[:16]}.steps.parquet",
    )
    assert keys(client) == sorted([f"{stem}.json", table, steps])
    assert check_shard(campaign, first) == manifest == read_manifest(campaign, first)
    assert check_shard(campaign, other) is None
    there = read_manifest(made, two_shards.shards[0])
    assert there is not None
    local = read_table(shard_file(made, there, TABLE))
    assert read_table(shard_file(campaign, manifest, TABLE)).drop_columns(["search"]) == local.drop_columns(
        ["search"]
    )
    assert len(read_parquet(shard_file(campaign, manifest, STEPS))) == 5 * len(first.rows)

    whole = content(client, table)
    client.put_object(Bucket=BUCKET, Key=table, Body=whole[:-50])
    with pytest.raises(DamagedError, match=r"00000-\w+\.parquet was cut off or changed"):
        check_shard(campaign, first)
    compute_shard(search, first, campaign, shipped)
    assert content(client, table) == whole
    assert check_shard(campaign, first) is not None
    client.delete_object(Bucket=BUCKET, Key=steps)
    with pytest.raises(DamagedError, match=r"00000-\w+\.steps\.parquet is missing"):
        check_shard(campaign, first)
    client.put_object(Bucket=BUCKET, Key=f"{stem}.json", Body=b'{"search": ')
    with pytest.raises(DamagedError, match="is no manifest"):
        check_shard(campaign, first)


def test_what_a_driver_saw_of_its_shards_is_what_a_list_says(
    campaign: Location, two_shards: Plan, shipped: Models
) -> None:
    state = State()
    for shard in two_shards.shards:
        manifest = compute_shard(two_shards.searches[0], shard, campaign, shipped)
        there = (campaign / SHARDS).files([manifest.file(ending) for ending in ENDINGS])
        state.add(Seen(manifest, stamps_of(there, manifest)))
    state.write_index(campaign)
    found = state_of(campaign, two_shards, not_read)
    assert (found.manifests, found.stamps, found.indexed) == (state.manifests, state.stamps, 2)


def not_read(campaign: Location, shard: Shard) -> Manifest:
    raise AssertionError(f"{shard.name} was read")


CHECK = """
import sys
from kiago_ray.storage.location import Location
place = Location.of(sys.argv[1])
print(len(place.read_bytes()))
"""


def test_another_process_finds_the_place_by_its_text(client: Any, campaign: Location) -> None:
    place = campaign / "shards" / "50% a+b=c"
    place.write_bytes(b"12345")
    assert place.text == f"s3://{BUCKET}/table 2/shards/50%25%20a+b=c"
    found = subprocess.run([sys.executable, "-c", CHECK, place.text], capture_output=True, env=os.environ)
    assert found.stdout == b"5\n", found.stderr


def test_a_second_driver_is_refused_and_the_lease_ends_with_the_first(
    client: Any, campaign: Location
) -> None:
    with quick(campaign) as lease:
        held = json.loads(content(client, f"table 2/{LEASE}"))
        assert held["pid"] == os.getpid()
        with pytest.raises(
            LeaseError, match=f"s3://{BUCKET}/table 2 is being run by process {os.getpid()} on"
        ):
            quick(campaign).__enter__()
        assert not lease.lost
        assert json.loads(content(client, f"table 2/{LEASE}"))["beat"] > held["beat"]
    assert f"table 2/{LEASE}" not in keys(client)
    with quick(campaign):
        pass
    assert campaign.entries() == []


def test_a_dead_driver_of_another_host_is_succeeded_when_its_lease_expires(
    client: Any, campaign: Location
) -> None:
    dead = {"id": "x", "beat": 7, "host": "another-host", "pid": 4321, "started": 1.0}
    client.put_object(Bucket=BUCKET, Key=f"table 2/{LEASE}", Body=json.dumps(dead).encode())
    assert read_lease(campaign / LEASE) == dead
    began = time.monotonic()
    with quick(campaign) as lease:
        assert time.monotonic() - began >= EXPIRE_S
        assert json.loads(content(client, f"table 2/{LEASE}"))["pid"] == os.getpid()
        client.put_object(Bucket=BUCKET, Key=f"table 2/{LEASE}", Body=json.dumps(dead).encode())
        end = time.monotonic() + 10
        while not lease.lost and time.monotonic() < end:
            time.sleep(0.02)
        assert lease.lost
    assert json.loads(content(client, f"table 2/{LEASE}")) == dead
