"""The record in a real MLflow on sqlite: what is in it, and that logging again changes nothing."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import time
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pyarrow import fs

from kiago_ray.runs.state import best_of, state_of
from kiago_ray.search.result import QUANTITIES
from kiago_ray.storage.location import Location
from kiago_ray.storage.run_directory import RunDirectory, SearchResults, read_results
from kiago_ray.tracking import record as record_module
from kiago_ray.tracking.entries import CURVE_POINTS, search_points
from kiago_ray.tracking.record import LiveRecord, TrackingReport, record, recorded_whole
from kiago_ray.tracking.target import tracking_target

from .tracked_campaigns import Campaign, Record, name_of, target_of, track


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
    campaign, found = recorded
    children = found.children()
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
    campaign, found = recorded
    parent = found.parent()
    assert parent.data.params == {
        "name": "small",
        "bases": '["LaNiAsO", "MgB2"]',
        "literature": "null",
        "search.preset": "open",
        "search.steps": "[3, 3]",
        "grid": "{}",
        "variants": "{}",
        "seeds": "[0]",
        "candidates": "20",
        "shard_size": "8",
        "threads": "1",
        "device": "cpu",
    }
    for run in found.runs():
        tags = run.data.tags
        assert tags["kiago.campaign_id"] == "0123456789abcdef"
        assert (tags["kiago_ray"], tags["packages.torch"], tags["python"]) == ("1.2.3", "2.9.0", "3.11.9")
        assert (tags["weights.tc"], tags["weights.ef"]) == ("aa" * 32, "bb" * 32)
        assert tags["git"] == tags["mlflow.source.git.commit"] == "c0ffee"
    assert "LaNiAsO, MgB2" in parent.data.tags["mlflow.note.content"]
    assert set(map(name_of, found.runs())) == {"small", *campaign.names}


def test_numbers_are_those_of_the_summaries(recorded: tuple[Campaign, Record]) -> None:
    campaign, found = recorded
    for name, run in found.children().items():
        results = json.loads((campaign.folder / "searches" / name / "summary.json").read_text())
        summary, metrics = results["summary"], run.data.metrics
        for screen, fraction in summary["screen_fractions"].items():
            assert metrics[f"screen.{screen}"] == fraction
        for top in summary["top"]:
            assert metrics[f"top{top['k']}.mean_tc_k"] == top["mean_tc_k"]
            assert metrics[f"top{top['k']}.delta_tc_k"] == top["delta_tc_k"]
            assert (
                metrics[f"top{top['k']}.gap_k"] == top["gap_k"] == top["mean_tc_k"] - top["mean_tc_oracle_k"]
            )
            for key in ("delta_tc_oracle_k", "mean_trusted_tc_k", "chemical_systems"):
                assert metrics[f"top{top['k']}.{key}"] == top[key]
            assert f"top{top['k']}.known" not in metrics  # there was nothing to hold them against
        for key in ("rows", "unique", "passed", "unique_fraction", "passed_fraction"):
            assert metrics[key] == summary[key]
        assert metrics["wall_s"] == results["wall_s"]
    whole = json.loads((campaign.folder / "summary.json").read_text())
    metrics = found.parent().data.metrics
    for key in ("searches", "searches_complete", "shards", "candidates", "rows", "unique", "passed"):
        assert metrics[key] == whole[key]
    assert metrics["best.tc_k"] == whole["best"][0]["tc_k"]
    assert metrics["best.trusted_tc_k"] == whole["best"][0]["trusted_tc_k"]
    assert metrics["top30.gap_k"] == whole["top"][1]["gap_k"]
    assert "top30.delta_tc_k" not in metrics


def test_curves_hold_every_step(recorded: tuple[Campaign, Record]) -> None:
    campaign, found = recorded
    for name, run in found.children().items():
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
            assert found.curve(run, f"curve/{column}") == living


def test_files_are_there_byte_for_byte(recorded: tuple[Campaign, Record], tmp_path: Path) -> None:
    campaign, found = recorded
    for search in campaign.plan.searches:
        files = found.files(found.children()[search.name], tmp_path / search.name)
        assert yaml.safe_load(files.pop("spec.yaml"))["search"] == search.spec.model_dump(mode="json")
        assert set(files) == {
            "candidates.parquet",
            "candidates.json",
            "top.csv",
            "tc_against_ef.png",
            "pareto.png",
            "search_against_oracle.png",
            "trajectory.png",
        }
        told = json.loads(files.pop("candidates.json"))
        rows = pq.read_table(campaign.folder / "searches" / search.name / "candidates.parquet")
        column = told["columns"].index("formula")
        assert [row[column] for row in told["data"]] == rows["formula"].to_pylist()
        for name, content in files.items():
            assert content == (campaign.folder / "searches" / search.name / name).read_bytes()
    files = found.files(found.parent(), tmp_path / "campaign")
    plots = {path.name for path in campaign.folder.glob("*.png")}
    assert plots
    table = json.loads(files.pop("candidates.json"))
    assert len(table["data"]) == len(pq.read_table(campaign.folder / "candidates.parquet"))
    shown = json.loads(found.parent().data.tags["mlflow.loggedArtifacts"])
    assert shown == [{"path": "candidates.json", "type": "table"}]
    assert set(files) == {"spec.yaml", "candidates.parquet", "top.csv", "report.html", *plots}
    for name, content in files.items():
        assert content == (campaign.folder / name).read_bytes()
    assert not [path for path in campaign.folder.parent.rglob("*") if path.suffix in (".pkl", ".pickle")]


def test_logging_again_changes_nothing(recorded: tuple[Campaign, Record]) -> None:
    campaign, found = recorded
    points, run_id = found.points(), found.parent().info.run_id
    params = {run.info.run_id: run.data.params for run in found.runs()}
    again = TrackingReport(2, (), None, run_id, target_of(campaign).uri)
    assert track(campaign) == track(campaign) == again
    assert found.points() == points
    assert {run.info.run_id: run.data.params for run in found.runs()} == params
    assert set(found.statuses().values()) == {"FINISHED"}
    state = json.loads((campaign.folder / "tracking.json").read_text())
    assert state == {
        "recorded": campaign.names,
        "pending": [],
        "problem": None,
        "run_id": run_id,
        "uri": target_of(campaign).uri,
        "experiment": "small",
        "ended": True,
    }
    assert recorded_whole(campaign.location)


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
    assert tracking_target(remote, None, "small") is None
    target = target_of(campaign)
    report = record(RunDirectory(remote, campaign.directory.record), campaign.plan, target)
    assert (report.recorded, report.problem) == (2, None)
    found = Record(target)
    assert found.parent().data.tags["kiago.output"] == "s3://***@bucket/small"
    assert not any("secret" in value for run in found.runs() for value in run.data.tags.values())
    files = found.files(found.parent(), tmp_path / "fetched")
    for name in ("candidates.parquet", "report.html", "spec.yaml"):
        assert files[name] == (campaign.folder / name).read_bytes()


def test_the_run_moves_while_it_goes_on(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.time()
    live = LiveRecord(campaign.directory, campaign.plan, target_of(campaign))
    manifests = list(state_of(campaign.location, campaign.plan).manifests.values())
    assert live.progress([manifests[:1]]) == []  # there is no run yet
    live.done()
    live.progress([manifests[:1]])
    assert live.progress([manifests[:2]]) == []  # too soon after the last
    monkeypatch.setattr(record_module, "PROGRESS_S", 0)
    for count in (2, 4, 6):
        live.move(live.progress([manifests[:1], manifests[1:count]]))
    found = Record(target_of(campaign))
    run = found.parent()
    assert run.info.status == "RUNNING"
    assert found.curve(run, "shards_done") == [(2, 2), (4, 4), (6, 6)]
    assert found.curve(run, "rows_done")[-1] == (6, 40)
    assert all(value > 0 for _, value in found.curve(run, "rows_per_s"))
    best = best_of(each.best for each in manifests)
    assert best is not None
    assert run.data.metrics["best_tc_k"] == best["tc_k"]
    times = [point.timestamp for point in found.client.get_metric_history(run.info.run_id, "shards_done")]
    assert began - 1 < min(times) / 1000 <= max(times) / 1000 < time.time() + 1
    live.end()
    assert found.curve(found.parent(), "shards_done") == [(2, 2), (4, 4), (6, 6)]


def test_a_person_reads_what_a_run_is_whose_and_when(recorded: tuple[Campaign, Record]) -> None:
    campaign, found = recorded
    parent = found.parent()
    best = json.loads((campaign.folder / "summary.json").read_text())["best"]
    note = parent.data.tags["mlflow.note.content"]
    assert "campaign `small`: a search for new superconductors" in note
    assert best[0]["formula"] in note if best else "0 pass the screens" in note
    for name, run in found.children().items():
        assert f"Base: {campaign.plan.search(name).base}" in run.data.tags["mlflow.note.content"]
    assert {run.data.tags["mlflow.user"] for run in found.runs()} == {getpass.getuser()}
    at = datetime.fromtimestamp(parent.info.start_time / 1000)
    named = datetime.strptime(parent.info.run_name, "small %Y-%m-%d %H:%M:%S")
    assert abs(at - named).total_seconds() < 5
    experiment = found.client.get_experiment(parent.info.experiment_id)
    assert "proposes new superconductors" in experiment.tags["mlflow.note.content"]


def test_long_curves_are_thinned_to_their_ends(recorded: tuple[Campaign, Record]) -> None:
    campaign, _ = recorded
    results = read_results(campaign.location / "searches" / campaign.names[0], SearchResults)
    assert results is not None
    steps = list(range(1201))
    curves = pa.table(
        {
            "step": pa.array(steps, pa.int32()),
            **{
                f"{quantity}_{statistic}": [None if step % 7 == 1 else float(step) for step in steps]
                for quantity in QUANTITIES
                for statistic in ("mean", "p50")
            },
        }
    )
    points = [point for point in search_points(results, curves) if point.key == "curve/tc_k_mean"]
    assert CURVE_POINTS * 0.8 < len(points) <= CURVE_POINTS
    assert (points[0].step, points[-1].step) == (0, 1200)
    assert all(point.value == point.step and point.step % 7 != 1 for point in points)


def test_settings_are_for_the_while_and_the_users_stand(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    before, during = dict(os.environ), dict[str, str]()

    def part_entry(*about: object) -> None:
        during.update(os.environ)
        raise LookupError(about)

    monkeypatch.setattr(record_module, "part_entry", part_entry)
    track(campaign)
    assert during["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "3"
    assert during["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
    assert during["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert dict(os.environ) == before
