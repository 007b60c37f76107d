"""The record of campaigns that were killed, resumed or changed: the same runs go on, whole and once."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from kiago_ray.distributed.tracking import Tracker, record_campaign

from .tracked_campaigns import Campaign, Record, target_of, track, wait_until

# In a process of its own: a driver that records a campaign, and may be killed at its Nth file.
DRIVER = """
import os, signal, sys
from pathlib import Path
import numpy as np
from kiago_ray.campaign.plan import make_plan
from kiago_ray.campaign.spec import campaign_from
from kiago_ray.distributed.tracking import TrackingTarget, record_campaign
from kiago_ray.distributed.tracking.store import Store
from kiago_ray.storage.run_directory import read_run

folder, uri, killed_at = sys.argv[1], sys.argv[2], int(sys.argv[3])
attach, files = Store.attach, []

def counted(self, run, file):
    files.append(file)
    if len(files) == killed_at:
        os.kill(os.getpid(), signal.SIGKILL)
    attach(self, run, file)

Store.attach = counted
directory = read_run(folder)
values = {key: value for key, value in directory.record["campaign"].items() if key not in ("threads", "device")}
plan = make_plan(campaign_from(values), np.ones(118, dtype=bool))
report = record_campaign(directory.location, directory.record, plan, TrackingTarget(uri, plan.campaign.name))
sys.exit(report.problem)
"""


def test_a_resumed_campaign_goes_on_in_the_same_runs(campaign: Campaign) -> None:
    first, second = campaign.names
    campaign.unmerge()
    tracker = Tracker(campaign.location, campaign.record, campaign.plan, target_of(campaign))
    tracker.start()
    campaign.finish_search(first)
    tracker.search_done(first)
    report = tracker.finish("KILLED")
    record = Record(target_of(campaign))
    assert record.statuses() == {"small": "KILLED", first: "FINISHED"}
    ids = {run.info.run_name: run.info.run_id for run in record.runs()}

    tracker = Tracker(campaign.location, campaign.record, campaign.plan, target_of(campaign))
    tracker.start()
    wait_until(lambda: record.statuses()["small"] == "RUNNING")
    campaign.finish()
    for name in campaign.names:
        tracker.search_done(name)
    report = tracker.finish("FINISHED")
    assert (report.recorded, report.pending, report.problem) == (2, (), None)
    assert record.statuses() == {"small": "FINISHED", first: "FINISHED", second: "FINISHED"}
    assert {name: run.info.run_id for name, run in record.children().items()}[first] == ids[first]
    assert record.parent().info.run_id == ids["small"] == report.run_id


def test_a_killed_driver_leaves_nothing_running_and_nothing_double(campaign: Campaign) -> None:
    target = target_of(campaign)
    command = [
        sys.executable,
        "-c",
        DRIVER,
        str(campaign.folder),
        target.uri,
        "7",
    ]  # a file of the second search
    killed = subprocess.run(command, timeout=60, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    record = Record(target)
    before = {run.info.run_name: run.info.run_id for run in record.runs()}
    assert list(record.statuses().values()).count("RUNNING") == 2
    assert track(campaign).problem is None
    after = {run.info.run_name: run.info.run_id for run in record.runs()}
    assert len(record.runs()) == 3
    assert before.items() <= after.items()
    assert set(record.statuses().values()) == {"FINISHED"}
    for points in record.points().values():
        places = [(key, step) for key, step, _, _ in points]
        assert len(set(places)) == len(places)


def test_a_part_of_a_search_gives_way_to_the_whole(campaign: Campaign) -> None:
    name, other = campaign.names
    campaign.unmerge()
    campaign.finish_search(name, shards=2)
    assert track(campaign, "KILLED").problem is None
    record = Record(target_of(campaign))
    part = record.children()[name]
    assert part.info.status == "FAILED"  # it lacks a shard
    assert part.data.metrics["rows"] == 16
    assert track(campaign, "KILLED").recorded == 1
    assert record.children()[name].info.run_id == part.info.run_id
    campaign.finish()
    assert track(campaign).problem is None
    assert record.statuses() == {"small": "FINISHED", name: "FINISHED", other: "FINISHED"}
    whole = record.children()[name]
    assert whole.data.metrics["rows"] == 20
    table = pq.read_table(campaign.folder / "searches" / name / "curves.parquet")
    assert [value for _, value in record.curve(whole, "curve/tc_k_mean")] == table["tc_k_mean"].to_pylist()


def test_a_search_that_cannot_be_read_holds_nothing_else_up(campaign: Campaign) -> None:
    name, other = campaign.names
    summary = campaign.folder / "searches" / name / "summary.json"
    content = summary.read_bytes()
    summary.write_bytes(content[:100])
    report = track(campaign)
    assert (report.recorded, report.pending) == (1, (name,))
    assert report.problem is not None
    assert report.problem.startswith(f"{name}: ")
    assert "summary.json" in report.problem
    record = Record(target_of(campaign))
    assert record.statuses() == {"small": "FINISHED", other: "FINISHED"}
    summary.write_bytes(content)
    report = record_campaign(campaign.location, campaign.record, campaign.plan, target_of(campaign))
    assert (report.recorded, report.pending, report.problem) == (2, (), None)
    assert record.statuses() == {"small": "FINISHED", name: "FINISHED", other: "FINISHED"}


def test_a_run_that_was_deleted_is_made_anew(campaign: Campaign) -> None:
    track(campaign)
    record = Record(target_of(campaign))
    first = record.parent().info.run_id
    record.client.delete_run(first)
    for run in record.runs():
        record.client.delete_run(run.info.run_id)
    report = track(campaign)
    assert report.problem is None
    assert report.run_id != first
    assert len(record.children()) == 2


def test_what_a_run_says_already_is_let_stand(campaign: Campaign) -> None:
    client = Record(target_of(campaign)).client
    root = (campaign.folder.parent / "mlartifacts").as_uri()
    tags = {"kiago.campaign_id": "0123456789abcdef", "kiago.kind": "campaign"}
    run = client.create_run(client.create_experiment("small", artifact_location=root), tags=tags)
    client.log_param(run.info.run_id, "seeds", "written otherwise")  # parameters can't be changed
    report = track(campaign)
    assert (report.run_id, report.problem) == (run.info.run_id, None)
    params = Record(target_of(campaign)).parent().data.params
    assert (params["seeds"], params["shard_size"]) == ("written otherwise", "8")


def test_a_deleted_experiment_is_told_of(campaign: Campaign) -> None:
    track(campaign)
    client = Record(target_of(campaign)).client
    client.delete_experiment(client.get_experiment_by_name("small").experiment_id)
    report = track(campaign)
    assert report.pending == tuple(campaign.names)
    assert report.problem is not None
    assert "the experiment 'small' was deleted from sqlite:" in report.problem


@pytest.mark.slow
def test_two_processes_make_one_database_in_silence(campaign: Campaign, tmp_path: Path) -> None:
    """MLflow's own first use of a database spoils it for good where two processes meet in it."""
    (tmp_path / "mlflow.db").unlink()
    target = target_of(campaign)
    other = tmp_path / "other"
    shutil.copytree(campaign.folder, other)
    spec = other / "spec.yaml"
    spec.write_text(spec.read_text().replace("0123456789abcdef", "fedcba9876543210"))
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(folder), target.uri, "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for folder in (campaign.folder, other)
    ]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out, err) == (0, "", "")
    runs = Record(target).runs()
    assert sorted(run.info.run_name for run in runs) == sorted(2 * ["small", *campaign.names])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert not list(tmp_path.glob(".mlflow.db*"))
