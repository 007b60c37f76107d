"""The predictors in MLflow's registry: one model from code, without pickle, that answers as the package does."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient, pyfunc
from mlflow.exceptions import MlflowException

from kiago_ray.api import score
from kiago_ray.data import NONE
from kiago_ray.models import load_models
from kiago_ray.predictors.weights import load_card, shipped_weights, weights_hashes
from kiago_ray.storage.run_directory import RunDirectory
from kiago_ray.tracking.model import COLUMNS, MODEL, Registered, register
from kiago_ray.tracking.record import record
from kiago_ray.tracking.store import mlflow_at_hand
from kiago_ray.tracking.target import TrackingTarget

from .tracked_campaigns import Campaign

FORMULAS = ["MgB2", "YBa2Cu3O7", "no formula", "LaFeAsO0.9F0.1"]


@pytest.fixture(scope="module")
def store(mlflow_database: Path, tmp_path_factory: pytest.TempPathFactory) -> TrackingTarget:
    folder = tmp_path_factory.mktemp("registry")
    shutil.copy(mlflow_database, folder / "mlflow.db")
    return TrackingTarget(f"sqlite:///{folder / 'mlflow.db'}", "any")


@pytest.fixture(scope="module")
def client(store: TrackingTarget) -> MlflowClient:
    return MlflowClient(tracking_uri=store.uri)


def registered_in(store: TrackingTarget, weights: Path | None = None) -> Registered:
    with mlflow_at_hand():
        return register(store, (Path(store.uri[10:]).parent / "artifacts").as_uri(), weights)


@pytest.fixture(scope="module")
def registered(store: TrackingTarget) -> Registered:
    return registered_in(store)


@pytest.fixture(scope="module")
def folder(registered: Registered, client: MlflowClient) -> Path:
    """The model as it lies in the store."""
    return Path(client.get_logged_model(registered.model_id).artifact_location.removeprefix("file://"))


def test_it_answers_as_the_package_does(folder: Path) -> None:
    model = pyfunc.load_model(str(folder))
    found = model.predict(pd.DataFrame({"formula": FORMULAS}))
    expected = score(FORMULAS, load_models(phases=NONE)).to_pandas()
    assert list(found.columns) == list(COLUMNS)
    assert found["formula"].tolist() == FORMULAS
    shared = [name for name in COLUMNS if name in expected]
    plain = expected[shared].astype(object)
    pd.testing.assert_frame_equal(found[shared], plain.where(plain.notna(), None), rtol=1e-5)
    assert (found["ef_std_ev_per_atom"].isna() == (found["error"].notna())).all()
    assert found["ef_std_ev_per_atom"].dropna().between(0.001, 1).all()
    assert found.loc[0, "measured_tc_k"] == pytest.approx(38.6, abs=1)
    with pytest.raises(MlflowException, match="formula"):
        model.predict(pd.DataFrame({"composition": FORMULAS}))


def test_it_is_code_and_weights_alone(folder: Path) -> None:
    model = pyfunc.load_model(str(folder)).metadata
    assert [column.name for column in model.signature.inputs] == ["formula"]
    assert [column.name for column in model.signature.outputs] == list(COLUMNS)
    assert "MgB2" in (folder / "input_example.json").read_text()
    files = {path.name for path in folder.rglob("*") if path.is_file()}
    assert not [name for name in files if name.endswith((".pkl", ".pickle", ".pt", ".bin"))]
    assert {path.read_bytes() for path in folder.rglob("tc_ensemble.safetensors")} == {
        (shipped_weights() / "tc_ensemble.safetensors").read_bytes()
    }
    assert "served_model.py" in files


def test_its_figures_are_the_cards_and_its_data_is_named(
    registered: Registered, client: MlflowClient
) -> None:
    model = client.get_logged_model(registered.model_id)
    figures = {metric.key: (metric.value, metric.dataset_name) for metric in model.metrics}
    for kind, of in (("tc_ensemble", "ensemble"), ("tc_oracle", "oracle"), ("ef", "elemnet")):
        for split, scores in load_card(kind)["splits"].items():
            name = "oqmd" if kind == "ef" else "supercon"
            assert figures[f"{kind}/{split}.{of}.mae"] == (scores[of]["mae"], name)
    assert figures["plausibility/held_out.auc"][0] == load_card("plausibility")["held_out"]["auc"]
    run = client.get_run(model.source_run_id)
    assert [each.model_id for each in run.outputs.model_outputs] == [registered.model_id]
    assert {each.dataset.name for each in run.inputs.dataset_inputs} == {
        "supercon",
        "materials_project",
        "oqmd",
    }
    used = {each.dataset.digest: each.tags[0].value for each in run.inputs.dataset_inputs}
    learnt, _, held_back = load_card("tc_ensemble")["data"]
    assert (used[learnt["sha256"][:36]], used[held_back["sha256"][:36]]) == ("training", "evaluation")
    version = client.get_model_version(MODEL, registered.version)
    assert "`tc_k`: Critical temperature" in version.description


def test_the_same_weights_are_registered_once_and_others_anew(
    registered: Registered, store: TrackingTarget, client: MlflowClient, tmp_path: Path
) -> None:
    assert registered_in(store) == registered
    for file in shipped_weights().glob("plausibility.*"):
        shutil.copy(file, tmp_path)
    assert registered_in(store, tmp_path) == registered  # a folder with the same weights
    card = json.loads((tmp_path / "plausibility.json").read_text())
    shutil.copy(shipped_weights() / "ef.safetensors", tmp_path / "ef.safetensors")
    (tmp_path / "plausibility.json").write_text(json.dumps({**card, "sha256": "0" * 64}))
    with pytest.raises(Exception, match=r"plausibility\.safetensors has SHA-256"):
        registered_in(store, tmp_path)
    assert len(client.search_model_versions(f"name = '{MODEL}'")) == 1


def test_a_campaign_names_the_model_that_it_used(
    registered: Registered,
    store: TrackingTarget,
    client: MlflowClient,
    finished_campaign: Campaign,
    tmp_path: Path,
) -> None:
    shutil.copytree(finished_campaign.folder, tmp_path / "small")
    campaign = Campaign(finished_campaign.plan, tmp_path / "small")
    directory = RunDirectory(campaign.location, {**campaign.directory.record, "weights": weights_hashes()})
    for _ in range(2):
        report = record(directory, campaign.plan, store)
        assert report.problem is None
        run = client.get_run(report.run_id or "")
        assert [each.model_id for each in run.inputs.model_inputs] == [registered.model_id]
        assert run.data.tags["kiago.model"] == registered.uri == f"models:/{MODEL}/1"
    other = RunDirectory(
        campaign.location, {**directory.record, "campaign_id": "f" * 16, "weights": {"tc": "0"}}
    )
    report = record(other, campaign.plan, store)
    assert report.problem is None
    assert not client.get_run(report.run_id or "").inputs.model_inputs  # whose weights aren't here


@pytest.mark.long
def test_mlflow_serves_it(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder), "--env-manager", "local"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow looks for uvicorn there
    server = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)], env={**os.environ, "PATH": path}
    )
    try:
        body = json.dumps({"dataframe_records": [{"formula": formula} for formula in FORMULAS]}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"}
        )
        until = time.monotonic() + 240
        while True:
            try:
                answer = json.load(urllib.request.urlopen(request, timeout=60))["predictions"]
                break
            except OSError:
                assert server.poll() is None
                assert time.monotonic() < until
                time.sleep(1)
    finally:
        server.terminate()
        server.wait(60)
    assert [row["formula"] for row in answer] == FORMULAS
    assert answer[0]["tc_k"] == pytest.approx(score(["MgB2"], load_models(phases=NONE))["tc_k"][0].as_py())
    assert answer[2]["tc_k"] is None
    assert "no formula" in answer[2]["error"]
