"""Campaigns in processes of their own: killed drivers, a second driver, clusters that are empty or grow."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import yaml

from kiago_ray.runs.lease import LEASE, read_lease
from kiago_ray.storage.location import Location

from .conftest import Kiago, Start, wait_for

CAMPAIGN = {
    "name": "medium",
    "bases": ["LaNiAsO", "MgB2"],
    "search": {"steps": [15, 15]},
    "candidates": 18,
    "shard_size": 6,
}
pytestmark = pytest.mark.slow


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "medium.yaml"
    path.write_text(yaml.safe_dump(CAMPAIGN))
    return path


def drives(folder: Path, process: subprocess.Popen[str]) -> bool:
    holder = read_lease(Location.of(folder) / LEASE)
    return holder is not None and holder["pid"] == process.pid


def manifests(folder: Path) -> int:
    return len(list(folder.glob("shards/*/*[0-9].json")))


def makers(folder: Path) -> set[int]:
    """The processes that made its shards."""
    return {json.loads(path.read_bytes())["made"]["pid"] for path in folder.glob("shards/*/*[0-9].json")}


@pytest.fixture
def undisturbed(cluster: None, kiago: Kiago, file: Path, tmp_path: Path) -> Path:
    """The same campaign, run by a driver that nothing happened to."""
    folder = tmp_path / "undisturbed"
    assert kiago("campaign", "run", file, "--out", folder, "--no-tracking", "--workers", 1).code == 0
    return folder


def assert_same(folder: Path, undisturbed: Path) -> None:
    for path in undisturbed.rglob("*.parquet"):
        assert (folder / path.relative_to(undisturbed)).read_bytes() == path.read_bytes(), path
    assert not list(folder.rglob(".*"))


@pytest.mark.long  # its drivers wait for one another's lease
def test_a_campaign_whose_driver_is_killed_and_doubled_ends_the_same(
    kiago: Kiago, start: Start, file: Path, tmp_path: Path, undisturbed: Path
) -> None:
    folder = tmp_path / "out"
    command = ("campaign", "run", file, "--out", folder, "--no-tracking", "--workers", 1)
    first = start(*command)
    wait_for(lambda: manifests(folder) >= 1, first)
    first.kill()  # kill -9
    first.communicate()
    assert 1 <= manifests(folder) < 6
    assert (folder / ".driver.json").exists()

    second = start(*command)
    # Workers that the first driver left behind may still finish a shard: the lease tells who drives.
    wait_for(lambda: drives(folder, second), second)
    doubled = kiago(*command)
    assert doubled.code == 2
    assert f"is being run by process {second.pid}" in doubled.err
    _, err = second.communicate(timeout=240)
    assert second.returncode == 0, err
    assert "of 6 shards are done already" in err
    assert_same(folder, undisturbed)


@pytest.mark.long
def test_a_campaign_whose_driver_is_terminated_ends_the_same(
    start: Start, file: Path, tmp_path: Path, undisturbed: Path
) -> None:
    folder = tmp_path / "out"
    command = ("campaign", "run", file, "--out", folder, "--no-tracking", "--workers", 1)
    first = start(*command)
    wait_for(lambda: manifests(folder) >= 1, first)
    first.send_signal(signal.SIGTERM)
    _, err = first.communicate(timeout=60)
    after_stop = manifests(folder)
    if after_stop < 6:  # else it was quicker than the signal
        assert first.returncode == 1, err
        assert "the same command goes on" in err
        assert "Traceback" not in err

    second = start(*command)
    _, err = second.communicate(timeout=240)
    assert second.returncode == 0, err
    assert f"{after_stop} of 6 shards are done already" in err or after_stop == 6
    assert_same(folder, undisturbed)


@pytest.mark.long
@pytest.mark.parametrize(("process", "said"), [("gcs_server", "its GCS"), ("raylet", "its raylet")])
def test_a_campaign_that_ray_is_lost_to_says_so_and_goes_on_later(
    start: Start, file: Path, tmp_path: Path, process: str, said: str
) -> None:
    folder = tmp_path / "out"
    command = ("campaign", "run", file, "--out", folder, "--no-tracking", "--workers", 1)
    first = start(*command)
    wait_for(lambda: manifests(folder) >= 1, first)
    (lost,) = (each for each in psutil.Process(first.pid).children(recursive=True) if each.name() == process)
    lost.kill()
    _, err = first.communicate(timeout=120)
    kept = manifests(folder)
    if kept < 6:  # else it was quicker
        assert first.returncode == 1, err
        last = err.splitlines()[-1]
        assert said in last
        assert "finished shards are kept" in last
        assert "Traceback" not in err
    second = start(*command)
    _, err = second.communicate(timeout=240)
    assert second.returncode == 0, err
    assert f"{kept} of 6 shards are done already" in err or kept == 6


@pytest.mark.long
def test_an_empty_cluster_is_refused_and_one_that_grows_and_shrinks_is_used(
    start: Start, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    open_door = {"RAY_AUTH_MODE": "disabled"}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        options = ("--address", cluster.address, "--no-tracking")
        refused = start("campaign", "run", file, "--out", tmp_path / "none", *options, **open_door)
        _, err = refused.communicate(timeout=60)
        assert refused.returncode == 2, err
        assert "no node of the cluster can ever hold a worker (1 CPU, 0 GPU)" in err
        assert "no node of the cluster can ever hold a worker" in err

        folder, longer = tmp_path / "grown", tmp_path / "longer.yaml"  # so that the second node finds work
        longer.write_text(yaml.safe_dump({**CAMPAIGN, "candidates": 72}))
        waiting = start("campaign", "run", longer, "--out", folder, *options, "--wait", "3", **open_door)
        wait_for(lambda: (folder / ".driver.json").exists(), waiting)
        time.sleep(2)
        assert waiting.poll() is None
        cluster.add_node(num_cpus=1)
        wait_for(lambda: manifests(folder) >= 1, waiting)
        second = cluster.add_node(num_cpus=1)
        wait_for(lambda: len(makers(folder)) == 2, waiting)
        cluster.remove_node(second, allow_graceful=False)  # kill -9, as where a spot node goes without a word
        _, err = waiting.communicate(timeout=240)
        assert waiting.returncode == 0, err
        assert err.count("kiago: worker ") == 2
        lost = [line for line in err.splitlines() if "which will be run again" in line]
        assert lost
        assert all("went away" in line for line in lost)  # which is no failure of its shard
    finally:
        cluster.shutdown()


def test_a_cluster_that_isnt_there_is_told(start: Start, file: Path) -> None:
    ended = start("campaign", "run", file, "--address", "127.0.0.1:1", "--no-tracking")
    _, err = ended.communicate(timeout=120)
    assert ended.returncode == 2
    assert "can't join the Ray cluster at 127.0.0.1:1" in err
    assert len(err.strip().splitlines()) == 1, err
