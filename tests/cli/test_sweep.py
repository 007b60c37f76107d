"""`kiago sweep`: the ready sweeps, what is refused, and sweeps in processes of their own that are killed."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
import yaml
from mlflow import MlflowClient

from kiago_ray.runs.spec import read_preset
from kiago_ray.search.spec import build_spec
from kiago_ray.sweep.spec import SweepSpec

from .conftest import Kiago, Start, wait_for

CONFIGS = sorted((Path(__file__).parents[2] / "tune_configs").glob("*.yaml"))
SWEEP: dict[str, Any] = {
    "name": "medium",
    "bases": ["MgB2"],
    "seeds": [0, 1],
    "search": {"candidates": 16, "steps": [15, 15]},
    "space": {"alpha": {"loguniform": [0.5, 100]}, "kappa": {"uniform": [0, 2]}},
    "trials": 4,
    "top": 3,
    "scheduler": {"kind": "none"},
    "searcher": {"kind": "random"},
    "compare": {"seeds": [10, 11]},
    "concurrency": 1,
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "medium.yaml"
    path.write_text(yaml.safe_dump(SWEEP))
    return path


def test_the_ready_sweeps_are_those_that_are_named() -> None:
    named = {"alpha_beta_lr", "start_noise", "substitution", "hydride", "trust"}
    assert {path.stem for path in CONFIGS} == named
    assert {SweepSpec.read(path).name for path in CONFIGS} == named


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_ready_sweep_says_what_came_of_it_and_checks_out(path: Path, kiago: Kiago) -> None:
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(line.startswith("# Why: ") for line in head)
    assert any(line.startswith("# Result: ") for line in head)
    told = kiago("sweep", path, "--dry-run", "--json")
    assert told.code == 0, told.err
    plan = json.loads(told.out)
    assert plan["sweep"] == path.stem
    assert plan["searches_at_most"] == plan["trials"] * plan["searches_a_trial"]


FIRST = "alpha_beta_lr"  # the others run in `make test-long`


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=[] if path.stem == FIRST else pytest.mark.long)
        for path in CONFIGS
    ],
)
def test_a_ready_sweep_runs_two_tiny_trials(path: Path, kiago: Kiago, tmp_path: Path) -> None:
    values = yaml.safe_load(path.read_text())
    values["search"] |= {"candidates": 8, "steps": [4, 4]}
    values |= {"trials": 2, "seeds": [0], "bases": values["bases"][:1], "top": 3, "concurrency": 1}
    values["compare"] = {**values["compare"], "seeds": [1000, 1001], "bases": values["bases"][:1]}
    if "steps.0" in values["space"]:
        values["space"]["steps.0"] = {"randint": [2, 5]}
    small = tmp_path / path.name
    small.write_text(json.dumps(values))  # which is YAML without aliases
    ended = kiago(
        "sweep", small, "--out", tmp_path / "out", "--no-tracking", "--json", "--known", "landmarks"
    )
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    assert told["trials"] == {"finished": 2, "stopped": 0, "failed": 0, "unfinished": 0}
    assert told["best"]["trial"] in (0, 1)
    assert {each["other"] for each in told["differences"]} == set(values["compare"]["against"])
    page = (tmp_path / "out" / "report.html").read_text()
    assert values["description"] in page
    best = tmp_path / "out" / "best.yaml"
    assert build_spec({"preset": read_preset(best)}).candidates == 8
    if path.stem == FIRST:
        again = kiago("search", "--spec", best, values["bases"][0], "--out", tmp_path / "s")
        assert again.code == 0, again.err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"space": {"alfa": {"uniform": [0, 1]}}}, "alfa: unknown key"),
        ({"space": {"alpha": {"uniform": [1, 1]}}}, "the range from 1 to 1 is empty"),
        ({"space": {"alpha": {"loguniform": [0, 1]}}}, "can't begin at 0"),
        ({"metrics": "tc"}, "nothing reports 'tc'"),
        ({"bases": ["PoO2"], "compare": {"seeds": [7, 8]}}, "the predictors don't know Po"),
        ({"known": "nowhere.tsv"}, "nowhere.tsv"),
        ({"weights": "nowhere"}, "nowhere"),
    ],
)
def test_what_makes_no_sense_is_refused_before_ray_starts(
    kiago: Kiago, tmp_path: Path, changes: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setattr(ray, "init", lambda *_, **__: pytest.fail("Ray was started"))
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump({**SWEEP, **changes}))
    ended = kiago("sweep", path, "--out", tmp_path / "out")
    assert ended.code == 2
    assert said in ended.err
    assert len(ended.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_options_that_contradict_are_refused(kiago: Kiago, file: Path) -> None:
    ended = kiago("sweep", file, "--no-tracking", "--tracking-uri", "sqlite:///x.db")
    assert (ended.code, "contradict" in ended.err) == (2, True)
    assert kiago("sweep", file, "--gpus-per-trial", "1.5").code == 2
    assert kiago("sweep", "nowhere.yaml").code == 2


def test_a_preset_may_be_a_file(kiago: Kiago, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("alpha: 7\nbeta: {start: 2, end: 3}\ncandidates: 8\nsteps: [2, 2]\n")
    options = ("--preset", tmp_path / "mine.yaml", "--set", "beta.end=5", "--json", "--out", tmp_path / "out")
    ended = kiago("search", "MgB2", *options)
    assert ended.code == 0, ended.err
    record = yaml.safe_load((tmp_path / "out" / "spec.yaml").read_text())
    assert record["search"]["alpha"] == 7
    assert record["search"]["beta"] == {"start": 2.0, "end": 5.0}
    repeated = kiago(
        "search", "--spec", tmp_path / "out" / "spec.yaml", "--out", tmp_path / "again", "--json"
    )
    assert repeated.code == 0, repeated.err
    campaign = tmp_path / "campaign.yaml"
    campaign.write_text("name: a\nbases: [MgB2]\nsearch: {preset: mine.yaml}\n")
    plan = kiago("campaign", "run", campaign, "--dry-run", "--json")
    assert plan.code == 0, plan.err
    assert json.loads(plan.out)["candidates"] == 8
    (tmp_path / "wrong.yaml").write_text("alfa: 7\n")
    wrong = kiago("search", "MgB2", "--preset", tmp_path / "wrong.yaml")
    assert (wrong.code, "did you mean 'alpha'" in wrong.err) == (2, True)
    assert kiago("search", "MgB2", "--preset", tmp_path / "none.yaml").code == 2


@pytest.mark.long
def test_a_sweep_whose_driver_is_killed_and_terminated_ends_the_same(
    start: Start, file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    command = ("sweep", file, "--out", folder)

    def seeds() -> int:
        return len(list(folder.glob("trials/*/seed-*.json")))

    first = start(*command)
    wait_for(lambda: seeds() >= 2, first)
    workers = [
        process
        for process in psutil.Process(first.pid).children(recursive=True)
        if re.match("ray::(SweepTrial|ResourceTrainable)", " ".join(process.cmdline()))
    ]
    first.kill()  # kill -9
    first.communicate()
    assert psutil.wait_procs(workers, timeout=60)[1] == []  # they may end a seed after their driver
    kept = {path: path.read_bytes() for path in folder.glob("trials/*/seed-*.json")}
    points = {path: path.read_bytes() for path in folder.glob("trials/*/point.json")}

    second = start(*command)
    before = seeds()
    wait_for(lambda: seeds() > before, second)
    second.send_signal(signal.SIGTERM)
    _, err = second.communicate(timeout=90)
    if second.returncode != 0:  # else it was quicker than the signal
        assert second.returncode == 1, err
        assert "the same command goes on" in err
        assert "Traceback" not in err

    third = start(*command)
    out, err = third.communicate(timeout=240)
    assert third.returncode == 0, err
    assert "Traceback" not in err
    assert "ray" not in out.lower()
    assert all(path.read_bytes() == content for path, content in {**kept, **points}.items())
    rows = pq.read_table(folder / "trials.parquet").to_pylist()
    assert [(row["trial"], row["status"], row["seeds"]) for row in rows] == [
        (number, "finished", 2) for number in range(SWEEP["trials"])
    ]

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = [each for each in client.search_experiments() if each.name == "medium"]
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert sorted(run.info.run_name for run in children) == [
        f"trial {number}" for number in range(SWEEP["trials"])
    ], err
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {artifact.path for artifact in client.list_artifacts(parent.info.run_id)} >= {
        "best.yaml",
        "trials.parquet",
        "report.html",
        "spec.yaml",
    }
    by_name = {run.info.run_name: run for run in children}
    for row in rows:
        run = by_name[f"trial {row['trial']}"]
        assert float(run.data.params["alpha"]) == row["field.alpha"]
        assert run.data.metrics["trusted_delta_tc_k"] == pytest.approx(row["trusted_delta_tc_k"])
        curve = client.get_metric_history(run.info.run_id, "trusted_delta_tc_k")
        assert [point.step for point in curve] == [1, 2]


def test_help_names_the_ready_sweeps(kiago: Kiago) -> None:
    assert "tune_configs" in kiago("sweep", "--help").out
