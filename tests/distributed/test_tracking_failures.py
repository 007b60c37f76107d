"""MLflow away, ill, slow or full: the campaign never waits for it, and nothing is lost for the record."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from pyarrow import fs

from kiago_ray.distributed.tracking import (
    Tracker,
    TrackingError,
    TrackingReport,
    TrackingTarget,
    record_campaign,
)
from kiago_ray.distributed.tracking.content import params_of
from kiago_ray.distributed.tracking.target import artifact_root
from kiago_ray.storage.location import Location

from .tracked_campaigns import Campaign, Record, Server, serving, target_of, wait_until

PASSWORD = "s3cret%20pass"


def tracker_of(campaign: Campaign, target: TrackingTarget) -> Tracker:
    return Tracker(campaign.location, campaign.record, campaign.plan, target, patience_s=0.6)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def assert_queued(campaign: Campaign, report: TrackingReport) -> None:
    """Nothing is recorded, all of it is known to be missing, and no secret is told."""
    assert (report.recorded, report.pending, report.run_id) == (0, tuple(campaign.names), None)
    assert report.problem is not None
    assert "\n" not in report.problem
    text = (campaign.folder / "tracking.json").read_text()
    state = json.loads(text)
    assert (state["recorded"], state["pending"], state["problem"]) == ([], campaign.names, report.problem)
    for secret in ("user", PASSWORD, "s3cret pass"):
        assert secret not in text
        assert secret not in repr(report)


@pytest.mark.parametrize(
    ("server", "problem"),
    [
        (None, "Connection refused"),
        (Server(status=500), "too many 500 error responses"),
        (Server(status=200), "not in a valid JSON format"),
        (Server(status=401), "error code 401"),
        (Server(hangs=True), "took longer than 1.5 s"),
    ],
    ids=["unreachable", "error", "no-mlflow", "unauthorized", "hanging"],
)
def test_a_server_that_does_not_take_it(
    campaign: Campaign, server: Server | None, problem: str, capfd: pytest.CaptureFixture[str]
) -> None:
    files = {path: path.read_bytes() for path in campaign.folder.rglob("*") if path.is_file()}
    with serving(server or Server()) as answering:
        port = answering.port if server else free_port()
        target = TrackingTarget(f"http://user:{PASSWORD}@127.0.0.1:{port}", "small")
        tracker = tracker_of(campaign, target)
        began = time.monotonic()
        tracker.start()
        for name in campaign.names:
            tracker.search_done(name)
        assert time.monotonic() - began < 0.5
        wait_until(lambda: server is None or bool(answering.paths))
        began = time.monotonic()
        report = tracker.finish("FINISHED", timeout_s=1.5 if server and server.hangs else 60)
        took = time.monotonic() - began
        assert took < (2.5 if server and server.hangs else 15)
    assert_queued(campaign, report)
    assert report.problem is not None
    assert problem in report.problem
    assert report.uri == f"http://***@127.0.0.1:{port}"
    assert capfd.readouterr() == ("", "")
    if server is not None:  # the password went to the server, and there alone
        assert set(answering.authorizations) == {"Basic dXNlcjpzM2NyZXQgcGFzcw=="}
    if server is not None and server.status == 401:
        assert len(answering.paths) <= 2  # refused is refused
    assert {path: path.read_bytes() for path in files} == files

    # What was away is there: all of it goes there.
    report = record_campaign(campaign.location, campaign.record, campaign.plan, target_of(campaign))
    assert (report.recorded, report.pending, report.problem) == (2, (), None)
    assert set(Record(target_of(campaign)).statuses().values()) == {"FINISHED"}


def test_a_hanging_server_does_not_keep_the_process_alive(campaign: Campaign) -> None:
    driver = """
import sys, time
import numpy as np
from kiago_ray.campaign.plan import make_plan
from kiago_ray.campaign.spec import campaign_from
from kiago_ray.distributed.tracking import Tracker, TrackingTarget
from kiago_ray.storage.run_directory import read_run

directory = read_run(sys.argv[1])
values = {key: value for key, value in directory.record["campaign"].items() if key not in ("threads", "device")}
plan = make_plan(campaign_from(values), np.ones(118, dtype=bool))
tracker = Tracker(directory.location, directory.record, plan, TrackingTarget(sys.argv[2], "small"))
tracker.start()
sys.stdin.readline()
report = tracker.finish("FINISHED", timeout_s=0.5)
print(time.time(), report.problem)
"""
    with serving(Server(hangs=True)) as server:
        uri = f"http://127.0.0.1:{server.port}"
        process = subprocess.Popen(
            [sys.executable, "-c", driver, str(campaign.folder), uri],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda: bool(server.paths), 60)
        out, err = process.communicate("\n", timeout=60)
        ended = time.time()
    assert (process.returncode, err) == (0, "")
    finished, _, problem = out.strip().partition(" ")
    assert problem == f"{uri} took longer than 0.5 s"
    assert ended - float(finished) < 5


def test_a_store_that_comes_back_while_the_campaign_runs(campaign: Campaign, tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    whole = database.read_bytes()
    database.write_bytes(b"this is no database " * 100)
    tracker = tracker_of(campaign, target_of(campaign))
    tracker.start()
    state = campaign.folder / "tracking.json"
    wait_until(lambda: state.exists() and "not a database" in str(json.loads(state.read_text())["problem"]))
    database.write_bytes(whole)
    report = tracker.finish("FINISHED")
    assert (report.recorded, report.pending, report.problem) == (2, (), None)
    assert json.loads(state.read_text())["pending"] == []


def test_a_locked_database_is_waited_for(campaign: Campaign, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(2, lambda: connection.execute("ROLLBACK"))
    release.start()
    began = time.monotonic()
    report = tracker_of(campaign, target_of(campaign)).finish("FINISHED")
    release.join()
    connection.close()
    assert time.monotonic() - began > 2
    assert (report.recorded, report.pending, report.problem) == (2, (), None)


def test_a_place_where_no_database_can_be_is_known_soon(campaign: Campaign, tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").unlink()
    (tmp_path / "mlflow.db").mkdir()
    began = time.monotonic()
    report = tracker_of(campaign, target_of(campaign)).finish("FINISHED")
    assert time.monotonic() - began < 10  # MLflow alone takes 100 s
    assert_queued(campaign, report)
    assert report.problem is not None
    assert f"can't open the database {tmp_path}" in report.problem


def test_files_that_find_no_place_are_logged_later_in_the_same_runs(
    campaign: Campaign, tmp_path: Path
) -> None:
    place = tmp_path / "mlartifacts"
    place.write_text("no folder")
    first, second = campaign.names
    report = tracker_of(campaign, target_of(campaign)).finish("FINISHED")
    assert (report.recorded, report.pending) == (0, (first, second))
    assert report.problem is not None
    record = Record(target_of(campaign))
    assert record.statuses() == {"small": "FINISHED", first: "KILLED"}
    ids = {run.info.run_name: run.info.run_id for run in record.runs()}
    assert ids["small"] == report.run_id
    place.unlink()
    report = tracker_of(campaign, target_of(campaign)).finish("FINISHED")
    assert (report.recorded, report.pending, report.problem) == (2, (), None)
    assert record.statuses() == {"small": "FINISHED", first: "FINISHED", second: "FINISHED"}
    assert ids.items() <= {run.info.run_name: run.info.run_id for run in record.runs()}.items()
    for points in record.points().values():
        places = [(key, step) for key, step, _, _ in points]
        assert len(set(places)) == len(places)


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
        tracker = tracker_of(campaign, target)
        tracker.start()  # before the server answers

        def answers() -> bool:
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", port)) == 0

        wait_until(answers, 90)
        for _ in range(2):
            report = tracker.finish("FINISHED")
            assert (report.recorded, report.pending, report.problem) == (2, (), None)
            tracker = tracker_of(campaign, target)
        record = Record(target)
        assert record.statuses() == dict.fromkeys(("small", *campaign.names), "FINISHED")
        for run in record.children().values():
            files = record.files(run, tmp_path / "fetched" / run.info.run_name)
            source = campaign.folder / "searches" / run.info.run_name
            for name in ("candidates.parquet", "top.csv", "trajectory.png"):
                assert files[name] == (source / name).read_bytes()
            points = record.points()[run.info.run_id]
            assert len({(key, step) for key, step, _, _ in points}) == len(points)
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("https://ann:pa55word@host/prefix", "https://***@host/prefix"),
        ("https://ann:p1@host", "https://***@host"),
        ("https://token-alone@host", "https://***@host"),
        ("http://ann:pa/ss@wo:rd@host:80", "http://***@host:80"),
        ("postgresql+psycopg2://ann:pa55word@db/x?sslpassword=hidden", "postgresql+psycopg2://***@db/x?***"),
        ("sqlite:////home/ann@lab/mlflow.db", "sqlite:////home/ann@lab/mlflow.db"),
    ],
)
def test_uris_are_shown_without_their_secrets(uri: str, shown: str) -> None:
    target = TrackingTarget(uri, "e")
    assert target.shown == shown
    for secret in ("pa55word", "ann:p1", "token-alone", "pa/ss@wo:rd", "hidden"):
        if secret in uri:
            assert secret not in repr(target)
            assert secret not in target.hide(f"the request to {uri} failed")


def test_a_password_is_hidden_wherever_it_stands() -> None:
    target = TrackingTarget("http://ann:pa%2Fss@host", "e")
    assert target.hide("pa%2Fss is wrong, and pa/ss as well") == "*** is wrong, and *** as well"


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


def test_parameters_keep_mlflows_limits() -> None:
    params = params_of(
        {
            "text": "as it is",
            "none": None,
            "yes": True,
            "number": 0.1,
            "list": [1, "a"],
            "nothing": {},
            "a": {"b": {"c": 1}},
            "x=y": {"z": 1},
            "x+y": {"z": 2},
            "long": list(range(5000)),
            "k" * 300: 1,
            "k" * 400: 2,
        }
    )
    assert params["text"] == "as it is"
    assert (params["none"], params["yes"], params["number"]) == ("null", "true", "0.1")
    assert (params["list"], params["nothing"], params["a.b.c"]) == ('[1, "a"]', "{}", "1")
    assert (params["x_y.z"], params["x_y.z_2"]) == ("1", "2")
    assert len(params["long"]) == 6000
    assert params["long"].startswith("[0, 1, 2, ")
    assert params["long"].endswith("… (28,890 characters)")
    assert max(map(len, params)) == 250
    assert len(params) == 12


def test_a_database_without_a_place_for_files_is_refused(tmp_path: Path) -> None:
    target = TrackingTarget("postgresql://u:pa55word@db/x", "e")
    beside = (tmp_path / "mlartifacts").as_uri()
    assert artifact_root(target, Location.of(tmp_path / "small")) == beside
    remote = Location("s3://b/small", fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), "small")
    with pytest.raises(
        TrackingError, match=r"postgresql://\*\*\*@db/x has no place .*give the URI of an MLflow server"
    ):
        artifact_root(target, remote)
