"""The record in a real MLflow on sqlite: what is in it, and that logging again changes nothing."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pyarrow import fs

from kiago_ray.campaign.summaries import read_search_results
from kiago_ray.distributed.tracking import (
    Tracker,
    TrackingReport,
    TrackingTarget,
    default_tracking_uri,
    record_campaign,
)
from kiago_ray.distributed.tracking.content import CURVE_POINTS, search_points
from kiago_ray.distributed.tracking.store import mlflow_at_hand
from kiago_ray.storage.location import Location

from .tracked_campaigns import Campaign, Record, wait_until

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


def target_of(campaign: Campaign) -> TrackingTarget:
    uri = default_tracking_uri(campaign.location)
    assert uri is not None
    return TrackingTarget(uri, "small")


def track(campaign: Campaign, status: str = "FINISHED") -> TrackingReport:
    tracker = Tracker(campaign.location, campaign.record, campaign.plan, target_of(campaign))
    tracker.start()
    return tracker.finish(status)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def recorded(
    finished_campaign: Campaign, mlflow_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Campaign, Record]:
    """A whole campaign and its record."""
    campaign = finished_campaign.copied(tmp_path_factory.mktemp("recorded"), mlflow_database)
    report = track(campaign)
    assert (report.recorded, report.pending, report.problem) == (2, (), None)
    return campaign, Record(target_of(campaign))


def test_every_parameter_of_a_search_is_there(recorded: tuple[Campaign, Record]) -> None:
    campaign, record = recorded
    children = record.children()
    assert sorted(children) == sorted(campaign.names)
    for search in campaign.plan.searches:
        params = children[search.name].data.params
        values = search.spec.model_dump(mode="json")
        leaves = 0
        for key, value in values.items():
            for name, leaf in value.items() if isinstance(value, dict) and value else [(None, value)]:
                text = params[key if name is None else f"{key}.{name}"]
                assert text == leaf if isinstance(leaf, str) else json.loads(text) == leaf
                leaves += 1
        assert len(params) == leaves


def test_the_campaigns_fields_and_where_it_comes_from(recorded: tuple[Campaign, Record]) -> None:
    campaign, record = recorded
    parent = record.parent()
    assert parent.data.params == {
        "name": "small",
        "bases": '["LaNiAsO", "MgB2"]',
        "search.steps": "[3, 3]",
        "grid": "{}",
        "variants": "{}",
        "seeds": "[0]",
        "candidates": "20",
        "shard_size": "8",
        "threads": "1",
        "device": "cpu",
    }
    for run in record.runs():
        tags = run.data.tags
        assert tags["kiago.campaign_id"] == "0123456789abcdef"
        assert (tags["kiago_ray"], tags["packages.torch"], tags["python"]) == ("1.2.3", "2.9.0", "3.11.9")
        assert (tags["weights.tc"], tags["weights.ef"]) == ("aa" * 32, "bb" * 32)
        assert tags["git.commit"] == tags["mlflow.source.git.commit"] == "c0ffee"
    assert "LaNiAsO, MgB2" in parent.data.tags["mlflow.note.content"]
    assert {run.info.run_name for run in record.runs()} == {"small", *campaign.names}


def test_numbers_are_those_of_the_summaries(recorded: tuple[Campaign, Record]) -> None:
    campaign, record = recorded
    for name, run in record.children().items():
        results = json.loads((campaign.folder / "searches" / name / "summary.json").read_text())
        summary, metrics = results["summary"], run.data.metrics
        for screen, fraction in summary["screen_fractions"].items():
            assert metrics[f"screen.{screen}"] == fraction
        for top in summary["top"]:
            assert metrics[f"top{top['k']}.mean_tc_k"] == top["mean_tc_k"]
            assert metrics[f"top{top['k']}.delta_tc_k"] == top["delta_tc_k"]
        for key in ("rows", "unique", "passed", "unique_fraction", "passed_fraction"):
            assert metrics[key] == summary[key]
        assert metrics["wall_s"] == results["wall_s"]
    whole = json.loads((campaign.folder / "summary.json").read_text())
    metrics = record.parent().data.metrics
    for key in ("searches", "searches_complete", "shards", "candidates", "rows", "unique", "passed"):
        assert metrics[key] == whole[key]
    assert metrics["best.tc_k"] == whole["best"][0]["tc_k"]


def test_curves_hold_every_step(recorded: tuple[Campaign, Record]) -> None:
    campaign, record = recorded
    for name, run in record.children().items():
        table = pq.read_table(campaign.folder / "searches" / name / "curves.parquet")
        for column in (
            "tc_k_mean",
            "tc_k_p50",
            "ef_ev_per_atom_mean",
            "integer_loss_mean",
            "integer_loss_p50",
        ):
            steps, values = table["step"].to_pylist(), table[column].to_pylist()
            living = [(step, value) for step, value in zip(steps, values, strict=True) if value is not None]
            assert record.curve(run, f"curve/{column}") == living


def test_files_are_there_byte_for_byte(recorded: tuple[Campaign, Record], tmp_path: Path) -> None:
    campaign, record = recorded
    for search in campaign.plan.searches:
        files = record.files(record.children()[search.name], tmp_path / search.name)
        assert yaml.safe_load(files.pop("spec.yaml")) == search.spec.model_dump(mode="json")
        assert set(files) == {"candidates.parquet", "top.csv", "tc_against_ef.png", "trajectory.png"}
        for name, content in files.items():
            assert content == (campaign.folder / "searches" / search.name / name).read_bytes()
    files = record.files(record.parent(), tmp_path / "campaign")
    plots = {path.name for path in campaign.folder.glob("*.png")}
    assert plots
    assert set(files) == {"spec.yaml", "candidates.parquet", "top.csv", "report.html", *plots}
    for name, content in files.items():
        assert content == (campaign.folder / name).read_bytes()
    assert not [path for path in campaign.folder.parent.rglob("*") if path.suffix in (".pkl", ".pickle")]


def test_logging_again_changes_nothing(recorded: tuple[Campaign, Record]) -> None:
    campaign, record = recorded
    points, run_id = record.points(), record.parent().info.run_id
    params = {run.info.run_id: run.data.params for run in record.runs()}
    assert track(campaign).run_id == run_id
    assert record_campaign(
        campaign.location, campaign.record, campaign.plan, target_of(campaign)
    ) == TrackingReport(2, (), None, run_id, target_of(campaign).uri)
    assert record.points() == points
    assert {run.info.run_id: run.data.params for run in record.runs()} == params
    assert set(record.statuses().values()) == {"FINISHED"}
    state = json.loads((campaign.folder / "tracking.json").read_text())
    assert state == {
        "recorded": campaign.names,
        "pending": [],
        "problem": None,
        "run_id": run_id,
        "uri": target_of(campaign).uri,
        "experiment": "small",
    }


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


@pytest.mark.parametrize("name", ["with a space", "100%20?", "a#b@c"])
def test_the_database_and_its_files_lie_beside_the_campaign(
    campaign: Campaign, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    shutil.move(campaign.folder, folder / "small")
    shutil.move(tmp_path / "mlflow.db", folder / "mlflow.db")
    moved = Campaign(campaign.plan, folder / "small")
    assert track(moved).problem is None
    assert sorted(path.name for path in folder.iterdir()) == ["mlartifacts", "mlflow.db", "small"]
    stored = folder.joinpath("mlartifacts").rglob("report.html")
    assert [file.read_bytes() for file in stored] == [(moved.folder / "report.html").read_bytes()]


def test_files_of_a_remote_campaign_come_by_way_of_this_machine(campaign: Campaign, tmp_path: Path) -> None:
    remote = Location(
        "s3://key:secret@bucket/small", fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), "small"
    )
    assert default_tracking_uri(remote) is None
    target = target_of(campaign)
    report = Tracker(remote, campaign.record, campaign.plan, target).finish("FINISHED")
    assert (report.recorded, report.problem) == (2, None)
    record = Record(target)
    assert record.parent().data.tags["kiago.output"] == "s3://***@bucket/small"
    assert not any("secret" in value for run in record.runs() for value in run.data.tags.values())
    files = record.files(record.parent(), tmp_path / "fetched")
    for name in ("candidates.parquet", "report.html", "spec.yaml"):
        assert files[name] == (campaign.folder / name).read_bytes()


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


def test_long_curves_are_thinned_to_their_ends(recorded: tuple[Campaign, Record]) -> None:
    campaign, _ = recorded
    results = read_search_results(campaign.location, campaign.names[0])
    assert results is not None
    steps = list(range(1201))
    curves = pa.table(
        {
            "step": pa.array(steps, pa.int32()),
            **{
                f"{quantity}_{statistic}": [math.nan if step % 7 == 1 else float(step) for step in steps]
                for quantity in ("tc_k", "ef_ev_per_atom", "integer_loss")
                for statistic in ("mean", "p50")
            },
        }
    )
    points = [point for point in search_points(results, curves) if point.key == "curve/tc_k_mean"]
    assert CURVE_POINTS * 0.8 < len(points) <= CURVE_POINTS
    assert (points[0].step, points[-1].step) == (0, 1200)
    assert all(point.value == point.step and point.step % 7 != 1 for point in points)


def test_settings_are_for_the_while_and_the_users_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    before = dict(os.environ)
    with mlflow_at_hand():
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "3"
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
        assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert dict(os.environ) == before
