"""MLflow away, ill, slow or full, drivers that were killed: nothing waits for long, nothing is lost or doubled."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from kiago_ray.storage.location import Location
from kiago_ray.tracking import record
from kiago_ray.tracking.record import LiveRecord, TrackingReport, recorded_whole
from kiago_ray.tracking.store import clip, texts_of
from kiago_ray.tracking.target import TrackingError, TrackingTarget, artifact_root, shown_uri

from .tracked_campaigns import Campaign, Record, Server, name_of, serving, target_of, track

PASSWORD = "s3cret%20pass"
# In a process of its own: records a campaign, and may be killed at its Nth file.
DRIVER = """
import os, signal, sys
import numpy as np
from mlflow import MlflowClient
from kiago_ray.runs.plan import make_plan
from kiago_ray.runs.spec import recorded_campaign
from kiago_ray.storage.run_directory import read_run
from kiago_ray.tracking.record import record
from kiago_ray.tracking.target import TrackingTarget

folder, uri, killed_at = sys.argv[1], sys.argv[2], int(sys.argv[3])
log_artifact, files = MlflowClient.log_artifact, []

def counted(self, run_id, file, *where):
    files.append(file)
    if len(files) == killed_at:
        os.kill(os.getpid(), signal.SIGKILL)
    log_artifact(self, run_id, file, *where)

MlflowClient.log_artifact = counted
directory = read_run(folder)
plan = make_plan(recorded_campaign(directory.record["campaign"]), None)
sys.exit(record(directory, plan, TrackingTarget(uri, plan.campaign.name), patience_s=60).problem)
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def assert_missing(campaign: Campaign, report: TrackingReport) -> None:
    """Nothing is recorded, all of it is known to be missing, and no secret is told."""
    assert (report.recorded, report.pending, report.run_id) == (0, tuple(campaign.names), None)
    assert report.problem is not None
    assert "\n" not in report.problem
    text = (campaign.folder / "tracking.json").read_text()
    state = json.loads(text)
    assert (state["recorded"], state["pending"], state["problem"]) == ([], campaign.names, report.problem)
    assert not recorded_whole(campaign.location)
    for secret in ("user", PASSWORD, "s3cret pass"):
        assert secret not in text
        assert secret not in repr(report)


def assert_nothing_double(found: Record) -> None:
    for points in found.points().values():
        places = [(key, step) for key, step, _, _ in points]
        assert len(set(places)) == len(places)


@pytest.mark.parametrize(
    "server",
    [None, Server(status=500), Server(status=200), Server(status=401), Server(hangs=True)],
    ids=["unreachable", "error", "no-mlflow", "unauthorized", "hanging"],
)
def test_a_server_that_does_not_take_it(
    campaign: Campaign,
    server: Server | None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    files = {path: path.read_bytes() for path in campaign.folder.rglob("*") if path.is_file()}
    with serving(server or Server()) as answering:
        port = answering.port if server else free_port()
        target = TrackingTarget(f"http://user:{PASSWORD}@127.0.0.1:{port}", "small")
        live = LiveRecord(campaign.directory, campaign.plan, target)
        live.done()
        asked = len(answering.paths)
        live.done(*campaign.names)
        assert len(answering.paths) == asked  # after a failure it isn't asked for a while
        report = live.end()
    assert_missing(campaign, report)
    assert report.uri == f"http://***@127.0.0.1:{port}"
    assert capfd.readouterr() == ("", "")
    if server is not None:  # the password went to the server, and there alone; each call gives up at once
        assert set(answering.authorizations) == {"Basic dXNlcjpzM2NyZXQgcGFzcw=="}
        assert len(answering.paths) <= 4
    assert {path: path.read_bytes() for path in files} == files

    # What was away is there: all of it goes there.
    report = track(campaign)
    assert (report.recorded, report.pending, report.problem) == (2, (), None)
    assert set(Record(target_of(campaign)).statuses().values()) == {"FINISHED"}


def test_what_takes_too_long_is_left_for_later(campaign: Campaign) -> None:
    report = track(campaign, patience_s=0)
    assert_missing(campaign, report)
    assert report.problem == f"{shown_uri(target_of(campaign).uri)} took longer than 0 s"


def test_a_store_that_comes_back_while_the_campaign_runs(
    campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "mlflow.db"
    whole = database.read_bytes()
    database.write_bytes(b"this is no database " * 100)
    live = LiveRecord(campaign.directory, campaign.plan, target_of(campaign))
    first, second = campaign.names
    monkeypatch.setattr(record, "RETRY_S", 0)
    live.done(first)
    assert "not a database" in json.loads((campaign.folder / "tracking.json").read_text())["problem"]
    database.write_bytes(whole)
    live.done(second)
    assert Record(target_of(campaign)).statuses() == {
        "small": "RUNNING",
        first: "FINISHED",
        second: "FINISHED",
    }
    assert not recorded_whole(campaign.location)
    report = live.end()
    assert (report.recorded, report.pending, report.problem) == (2, (), None)
    assert recorded_whole(campaign.location)


def test_a_locked_database_is_waited_for(campaign: Campaign, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(2, lambda: connection.execute("ROLLBACK"))
    release.start()
    began = time.monotonic()
    report = track(campaign)
    release.join()
    connection.close()
    assert time.monotonic() - began > 2
    assert (report.recorded, report.pending, report.problem) == (2, (), None)


@pytest.mark.timeout(90)  # MLflow alone takes 100 s
def test_a_place_where_no_database_can_be_is_not_waited_for(campaign: Campaign, tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").unlink()
    (tmp_path / "mlflow.db").mkdir()
    report = track(campaign)
    assert_missing(campaign, report)
    assert report.problem is not None
    assert f"can't open the database {tmp_path}" in report.problem


def test_files_that_find_no_place_are_logged_later_in_the_same_runs(
    campaign: Campaign, tmp_path: Path
) -> None:
    place = tmp_path / "mlartifacts"
    place.write_text("no folder")
    first, second = campaign.names
    report = track(campaign)
    assert (report.recorded, report.pending) == (0, (first, second))
    assert report.problem is not None
    found = Record(target_of(campaign))
    assert found.statuses() == {"small": "FINISHED", first: "KILLED", second: "KILLED"}
    ids = {name_of(run): run.info.run_id for run in found.runs()}
    assert ids["small"] == report.run_id
    place.unlink()
    report = track(campaign)
    assert (report.recorded, report.pending, report.problem) == (2, (), None)
    assert found.statuses() == {"small": "FINISHED", first: "FINISHED", second: "FINISHED"}
    assert ids.items() <= {name_of(run): run.info.run_id for run in found.runs()}.items()
    assert_nothing_double(found)


@pytest.mark.long
def test_a_real_server_takes_all_of_it(campaign: Campaign, tmp_path: Path) -> None:
    port = free_port()
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
            *("--workers", "1", "--backend-store-uri", f"sqlite:///{tmp_path / 'mlflow.db'}"),
            *("--artifacts-destination", str(tmp_path / "served")),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        target = TrackingTarget(f"http://127.0.0.1:{port}", "small")
        until = time.monotonic() + 90
        while track(campaign, target).problem is not None:  # before the server answers
            assert time.monotonic() < until
            time.sleep(0.5)
        report = track(campaign, target)
        assert (report.recorded, report.pending, report.problem) == (2, (), None)
        found = Record(target)
        assert found.statuses() == dict.fromkeys(("small", *campaign.names), "FINISHED")
        for run in found.children().values():
            files = found.files(run, tmp_path / "fetched" / run.info.run_name)
            source = campaign.folder / "searches" / run.info.run_name
            for name in ("candidates.parquet", "top.csv", "trajectory.png"):
                assert files[name] == (source / name).read_bytes()
        assert_nothing_double(found)
    finally:
        server.terminate()
        server.wait(30)


def test_a_resumed_campaign_goes_on_in_the_same_runs(campaign: Campaign) -> None:
    first, second = campaign.names
    campaign.unmerge()
    live = LiveRecord(campaign.directory, campaign.plan, target_of(campaign))
    live.done()
    campaign.finish_search(first)
    live.done(first)
    assert live.end().pending == ()
    found = Record(target_of(campaign))
    assert found.statuses() == {"small": "KILLED", first: "FINISHED"}
    ids = {name_of(run): run.info.run_id for run in found.runs()}

    live = LiveRecord(campaign.directory, campaign.plan, target_of(campaign))
    live.done()
    assert found.statuses() == {"small": "RUNNING", first: "FINISHED"}
    campaign.finish()
    live.done(*campaign.names)
    assert found.statuses() == {"small": "RUNNING", first: "FINISHED", second: "FINISHED"}
    report = live.end()
    assert (report.recorded, report.pending, report.problem) == (2, (), None)
    assert found.statuses() == {"small": "FINISHED", first: "FINISHED", second: "FINISHED"}
    assert found.children()[first].info.run_id == ids[first]
    assert found.parent().info.run_id == ids["small"] == report.run_id


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
    found = Record(target)
    before = {name_of(run): run.info.run_id for run in found.runs()}
    assert list(found.statuses().values()).count("RUNNING") == 2
    assert track(campaign).problem is None
    after = {name_of(run): run.info.run_id for run in found.runs()}
    assert len(found.runs()) == 3
    assert before.items() <= after.items()
    assert set(found.statuses().values()) == {"FINISHED"}
    assert_nothing_double(found)


def test_a_part_of_a_search_gives_way_to_the_whole(campaign: Campaign) -> None:
    name, other = campaign.names
    campaign.unmerge()
    campaign.finish_search(name, shards=2)
    assert track(campaign).problem is None
    found = Record(target_of(campaign))
    part = found.children()[name]
    assert part.info.status == "FAILED"  # it lacks a shard
    assert part.data.metrics["rows"] == 16
    assert track(campaign).recorded == 1
    assert found.children()[name].info.run_id == part.info.run_id
    campaign.finish()
    assert track(campaign).problem is None
    assert found.statuses() == {"small": "FINISHED", name: "FINISHED", other: "FINISHED"}
    whole = found.children()[name]
    assert whole.data.metrics["rows"] == 20
    table = pq.read_table(campaign.folder / "searches" / name / "curves.parquet")
    assert [value for _, value in found.curve(whole, "curve/tc_k_mean")] == table["tc_k_mean"].to_pylist()


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
    found = Record(target_of(campaign))
    assert found.statuses() == {"small": "FINISHED", other: "FINISHED"}
    summary.write_bytes(content)
    report = track(campaign)
    assert (report.recorded, report.pending, report.problem) == (2, (), None)
    assert found.statuses() == {"small": "FINISHED", name: "FINISHED", other: "FINISHED"}


def test_a_run_that_was_deleted_is_made_anew(campaign: Campaign) -> None:
    track(campaign)
    found = Record(target_of(campaign))
    first = found.parent().info.run_id
    found.client.delete_run(first)
    for run in found.runs():
        found.client.delete_run(run.info.run_id)
    report = track(campaign)
    assert report.problem is None
    assert report.run_id != first
    assert len(found.children()) == 2


def test_what_a_run_says_already_is_let_stand(campaign: Campaign) -> None:
    client = Record(target_of(campaign)).client
    root = (campaign.folder.parent / "mlartifacts").as_uri()
    tags = {"kiago.run": "0123456789abcdef"}
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
    assert sorted(map(name_of, runs)) == sorted(2 * ["small", *campaign.names])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert not list(tmp_path.glob(".mlflow.db*"))


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("https://ann:pa55word@host/prefix", "https://***@host/prefix"),
        ("https://ann:p1@host", "https://***@host"),
        ("https://token-alone@host", "https://***@host"),
        ("http://ann:pa/ss@wo:rd@host:80", "http://***@host:80"),
        ("postgresql+psycopg2://ann:pa55word@db/x?sslpassword=hidden", "postgresql+psycopg2://***@db/x?***"),
        (
            "postgresql://db.example.com/mlflow?user=kiago@server&password=hunter22",
            "postgresql://db.example.com/mlflow?***",
        ),
        ("mssql+pyodbc:///?odbc_connect=Server=h;UID=me@srv;PWD=hunter22", "mssql+pyodbc:///?***"),
        ("sqlite:////home/ann@lab/mlflow.db", "sqlite:////home/ann@lab/mlflow.db"),
    ],
)
def test_uris_are_shown_without_their_secrets(uri: str, shown: str) -> None:
    target = TrackingTarget(uri, "e")
    assert shown_uri(target.uri) == shown
    for secret in ("pa55word", "ann:p1", "token-alone", "pa/ss@wo:rd", "hidden", "hunter22"):
        if secret in uri:
            assert secret not in repr(target)
            assert secret not in target.hide(f"the request to {uri} failed")


def test_a_password_is_hidden_wherever_it_stands() -> None:
    target = TrackingTarget("http://ann:pa%2Fss@host", "e")
    assert target.hide("pa%2Fss is wrong, and pa/ss as well") == "*** is wrong, and *** as well"


def test_a_fragment_is_no_part_of_a_secret() -> None:
    assert TrackingTarget("http://host/?token=abcdef#part", "e").hide("abcdef is wrong") == "*** is wrong"


def test_secrets_of_the_environment_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "abcd1234")
    assert TrackingTarget("http://host", "e").hide("Bearer abcd1234\nrefused") == "Bearer *** refused"


@pytest.mark.parametrize(
    "uri", ["", "runs/mlflow", "file:///tmp/runs", "databricks", "sqlite:mlflow.db", "ftp://u:pa55word@h/x"]
)
def test_what_is_no_store_is_refused_at_once(uri: str) -> None:
    with pytest.raises(TrackingError, match=r"is no MLflow store; give a server such as http://") as caught:
        TrackingTarget(uri, "e")
    assert "pa55word" not in str(caught.value)


def test_nested_values_are_texts_by_keys_that_mlflow_takes() -> None:
    texts = texts_of(
        {
            "text": "as it is",
            "none": None,
            "yes": True,
            "number": 0.1,
            "list": [1, "a"],
            "nothing": {},
            "a": {"b": {"c": 1}},
            "x+y": {"z": 2},
            "x=y": {"z": 3},
        }
    )
    assert texts == {
        "text": "as it is",
        "none": "null",
        "yes": "true",
        "number": "0.1",
        "list": '[1, "a"]',
        "nothing": "{}",
        "a.b.c": "1",
        "x_y.z": "2",
        "x_y.z_2": "3",
    }
    assert clip("whole", 5) == "whole"
    assert clip("0123456789" * 10, 30) == "012345678901… (100 characters)"


def test_a_database_without_a_place_for_files_is_refused(tmp_path: Path) -> None:
    target = TrackingTarget("postgresql://u:pa55word@db/x", "e")
    beside = (tmp_path / "mlartifacts").as_uri()
    assert artifact_root(target, Location.of(tmp_path / "small")) == beside
    remote = Location("s3://b/small", fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), "small")
    with pytest.raises(
        TrackingError, match=r"postgresql://\*\*\*@db/x has no place .*give the URI of an MLflow server"
    ):
        artifact_root(target, remote)
