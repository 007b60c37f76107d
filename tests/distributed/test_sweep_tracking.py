"""What MLflow has of a sweep, worked out from its directory: a run a trial, once; what failed first is sent later."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from kiago_ray.storage.location import Location
from kiago_ray.storage.run_directory import open_run, read_run
from kiago_ray.sweep.metrics import METRICS, Score
from kiago_ray.sweep.results import gather, write_results
from kiago_ray.sweep.spec import SweepSpec
from kiago_ray.sweep.trials import Ledger, trial_name
from kiago_ray.tracking.record import TrackingReport, record, recorded_whole
from kiago_ray.tracking.target import TrackingTarget

from .sweeps import request_for, small_sweep
from .tracked_campaigns import name_of


@pytest.fixture
def sweep() -> SweepSpec:
    return small_sweep(trials=3)


@pytest.fixture
def place(tmp_path: Path, sweep: SweepSpec) -> Location:
    """A sweep whose trials are finished, stopped and failed, as they lie on storage."""
    folder = tmp_path / "out"
    request = request_for(sweep, folder)
    open_run(folder, request.identity, {"sweep_id": "0123456789abcdef", **request.about})
    location = Location.of(folder)
    ledger = Ledger(location, sweep)
    for number, (status, seeds) in enumerate((("finished", 2), ("stopped", 1), ("failed", 0))):
        ledger.begin(number, {"alpha": 1.0 + number, "learning_rate": 0.03})
        for seed in sweep.seeds[:seeds]:
            values = dict.fromkeys(METRICS, float(10 * number + seed))
            scores = [Score(base, seed, values, 48, 1.0) for base in sweep.bases]
            ledger.keep(trial_name(number), seed, scores)
        ledger.end(number, status, "no such element" if status == "failed" else None)  # type: ignore[arg-type]
    return location


def target(folder: Path) -> TrackingTarget:
    return TrackingTarget(f"sqlite:///{folder / 'mlflow.db'}", "small")


def track(place: Location, sweep: SweepSpec, where: TrackingTarget) -> TrackingReport:
    return record(read_run(place), sweep, where)


def runs(where: TrackingTarget) -> dict[str, Run]:
    client = MlflowClient(tracking_uri=where.uri)
    (experiment,) = [each for each in client.search_experiments() if each.name == "small"]
    found = client.search_runs([experiment.experiment_id])
    assert len({run.info.run_name for run in found}) == len(found)
    return {name_of(run): run for run in found}


def test_each_trial_is_a_run_below_the_sweeps(place: Location, sweep: SweepSpec, tmp_path: Path) -> None:
    report = track(place, sweep, target(tmp_path))
    assert (report.recorded, report.pending, report.problem) == (3, (), None)
    found = runs(target(tmp_path))
    parent = found.pop("small")
    assert parent.data.tags["mlflow.source.name"] == "kiago sweep"
    assert parent.data.params["space.alpha.loguniform"] == "[0.5, 100.0]"
    assert {name: run.info.status for name, run in found.items()} == {
        "trial 0": "FINISHED",
        "trial 1": "FINISHED",
        "trial 2": "FAILED",
    }
    assert all(run.data.tags["mlflow.parentRunId"] == parent.info.run_id for run in found.values())
    assert found["trial 0"].data.metrics["gap_k"] == 0.5
    assert found["trial 0"].data.params == {"alpha": "1.0", "learning_rate": "0.03"}
    assert found["trial 1"].data.tags["kiago.status"] == "stopped"
    assert found["trial 2"].data.tags["kiago.cause"] == "no such element"


def test_the_best_and_the_comparison_are_the_sweeps_own(
    place: Location, sweep: SweepSpec, tmp_path: Path
) -> None:
    write_results(gather(place, sweep), place)
    track(place, sweep, target(tmp_path))
    parent = runs(target(tmp_path))["small"]
    assert parent.data.metrics["trials.finished"] == 1
    assert parent.data.metrics["best.trusted_delta_tc_k"] == 0.5
    files = MlflowClient(tracking_uri=target(tmp_path).uri).list_artifacts(parent.info.run_id)
    assert {file.path for file in files} >= {
        "best.yaml",
        "trials.parquet",
        "report.html",
        "summary.json",
        "spec.yaml",
    }


def test_a_damaged_summary_is_a_problem_and_no_sweep_that_was_killed(
    place: Location, sweep: SweepSpec, tmp_path: Path
) -> None:
    write_results(gather(place, sweep), place)
    summary = place / "summary.json"
    content = summary.read_bytes()
    summary.write_bytes(content[:100])
    report = track(place, sweep, target(tmp_path))
    assert (report.recorded, report.pending) == (3, ())
    assert report.problem == f"{summary.text} is damaged; run the sweep again"
    assert not recorded_whole(place)
    assert runs(target(tmp_path))["small"].info.status == "RUNNING"
    summary.write_bytes(content)
    assert track(place, sweep, target(tmp_path)).problem is None
    assert recorded_whole(place)
    (place / "tracking.json").write_bytes(b'{"ended": true, "problem": null}')
    assert not recorded_whole(place)


def test_of_two_runs_of_one_sweep_the_oldest_stays(place: Location, sweep: SweepSpec, tmp_path: Path) -> None:
    track(place, sweep, target(tmp_path))
    client = MlflowClient(tracking_uri=target(tmp_path).uri)
    first = runs(target(tmp_path))["small"].info
    own = {"kiago.run": "0123456789abcdef"}
    client.create_run(first.experiment_id, first.start_time + 1000, own, "twin")
    track(place, sweep, target(tmp_path))
    assert runs(target(tmp_path))["small"].info.run_id == first.run_id
    assert "twin" not in runs(target(tmp_path))


def test_tracking_again_doubles_nothing_and_a_trial_run_again_replaces_its_run(
    place: Location, sweep: SweepSpec, tmp_path: Path
) -> None:
    track(place, sweep, target(tmp_path))
    before = runs(target(tmp_path))
    track(place, sweep, target(tmp_path))
    assert {name: run.info.run_id for name, run in runs(target(tmp_path)).items()} == {
        name: run.info.run_id for name, run in before.items()
    }
    for seed in sweep.seeds:
        scores = [Score(base, seed, dict.fromkeys(METRICS, 7.0), 48, 1.0) for base in sweep.bases]
        Ledger(place, sweep).keep(trial_name(2), seed, scores)
    Ledger(place, sweep).end(2, "finished")
    track(place, sweep, target(tmp_path))
    after = runs(target(tmp_path))
    assert after["trial 0"].info.run_id == before["trial 0"].info.run_id
    assert after["trial 2"].info.run_id != before["trial 2"].info.run_id
    assert (after["trial 2"].info.status, after["trial 2"].data.metrics["gap_k"]) == ("FINISHED", 7.0)


def test_a_store_that_is_away_costs_the_record_alone_until_it_is_back(
    place: Location, sweep: SweepSpec, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    report = track(place, sweep, TrackingTarget(f"http://127.0.0.1:{port}", "small"))
    assert report.problem is not None
    assert report.pending == ("00000", "00001", "00002")
    assert not recorded_whole(place)
    assert track(place, sweep, target(tmp_path)).problem is None
    assert recorded_whole(place)
    assert len(runs(target(tmp_path))) == 4
