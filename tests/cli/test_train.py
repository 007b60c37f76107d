"""`kiago data` and `kiago train`: accounts of files, shipped tables built anew, and tiny models trained."""

from __future__ import annotations

import gzip
import itertools
import json
import sys
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from kiago_ray.baselines.superdiff import load_superdiff
from kiago_ray.data.files import sha256
from kiago_ray.data.tables import COUNTS
from kiago_ray.plausibility.model import load_prospects
from kiago_ray.predictors.weights import PLAUSIBILITY, load_card

from .conftest import Kiago

LITERATURE = Path(__file__).parents[1] / "data" / "literature_tc.tsv"


def test_check_tells_what_was_kept(kiago: Kiago) -> None:
    ended = kiago("data", "check", LITERATURE, "--json")
    assert ended.code == 0
    (report,) = json.loads(ended.out)["files"]
    assert report["kind"] == "supercon"
    assert report["rows_read"] == report["rows_kept"] == 40
    assert "rows_kept 40" in " ".join(kiago("data", "check", LITERATURE).out.split())


@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02", b"a,b\n1,2\n", b"\x1f\x8b\x08\x00cut"])
def test_files_that_are_no_table_are_told_in_one_line(kiago: Kiago, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "file.csv"
    file.write_bytes(content)
    ended = kiago("data", "check", file)
    assert ended.code == 2
    assert "file.csv" in ended.err
    assert len(ended.err.strip().splitlines()) == 1


def raw_files(folder: Path) -> list[object]:
    """Tiny files in the publishers' forms, as options of `kiago data pack`."""
    (folder / "mp.csv").write_text(
        "formula,formation_energy_ev_per_atom,decomposition_energy_ev_per_atom\nMgB2,-0.15,-0.1\nHeO2,0.2,0.2\n"
    )
    (folder / "cod.csv").write_text(
        "formula,code,spacegroup,e_hull_ev_per_atom\nMgB2,7,191,\nMg0.9995B2,3,191,\n"
    )
    (folder / "then.txt.gz").write_bytes(gzip.compress(b"B2Mg\nCH4\nNbC\n"))
    (folder / "tried.csv").write_text("matter, Tc \n1T-TaS2, 0.0 \nLaIrPn, 0.0\n")
    named = {"--phases": "mp.csv", "--made": "cod.csv", "--made-2007": "then.txt.gz", "--tried": "tried.csv"}
    return ["--supercon", LITERATURE, *(each for key, name in named.items() for each in (key, folder / name))]


def test_pack_builds_the_tables_that_ship(kiago: Kiago, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["data", "pack", *raw_files(tmp_path), "--out", out]
    refused = kiago(*command)
    assert refused.code == 2
    assert "does not exist" in refused.err
    out.mkdir()
    ended = kiago(*command)
    assert ended.code == 0, ended.err
    assert "phases.parquet: 2 rows" in ended.out
    phases = pd.read_parquet(out / "phases.parquet").set_index("formula")
    assert list(phases.columns) == ["ef_ev_per_atom", "decomposition_ev_per_atom"]
    made = pd.read_parquet(out / "made.parquet").set_index("formula")
    assert made.index.tolist() == ["MgB2", "NbC"]
    assert made.loc["MgB2", ["code", "spacegroup", "in_2007"]].tolist() == [3, 191, True]
    assert pd.isna(made.loc["NbC", "code"])
    assert (out / "tried.csv").read_text() == "formula,tc_k\nTaS2,0.0\n"
    assert len(pd.read_parquet(out / "superconductors.parquet")) == 40
    counts = COUNTS.validate_json((out / "element_counts.json").read_bytes())
    assert (counts["supercon"].compositions, counts["supercon"].file) == (40, LITERATURE.name)
    assert (counts["supercon"].sha256, counts["non_superconductors"].file) == (sha256(LITERATURE), "mp.csv")
    assert counts["non_superconductors"].counts["He"] == 1
    assert counts["supercon"].counts["O"] > 10
    assert str(tmp_path) not in (out / "element_counts.json").read_text()


HEADER = "a\tb\nc\td\nnum\tname\telement\tstr3\tutc\ttc\tjournal\n"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """24 pnictides, two a year from 1995 to 2006."""
    formulas = itertools.product(("La", "Ce", "Pr", "Nd"), ("Fe", "Ni", "Co"), ("As", "P"))
    rows = [
        f"{number}\t\t{a}1{b}1{c}1O1\t\tK\t{5 + number}\tJ. ({1995 + 5 * number % 12})"
        for number, (a, b, c) in enumerate(formulas)
    ]
    path = tmp_path / "primary.tsv"
    path.write_text(HEADER + "\n".join(rows) + "\n")
    return path


def test_plausibility_learns_from_what_was_printed_before_a_year(
    kiago: Kiago, table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ended = kiago(
        "train",
        "plausibility",
        "--data",
        table,
        "--before",
        2003,
        "--out",
        out,
        "--threads",
        1,
        "--no-tracking",
    )
    assert ended.code == 0, ended.err
    prospects, card = load_prospects(out), load_card(PLAUSIBILITY, out)
    assert prospects.literature.year == card["year"] == 2003
    assert prospects.literature.first_year.max() == 2002
    assert card["compositions"] == len(prospects.literature.fractions) == 16
    assert card["data"][0]["dropped"] == {"not printed before 2003": 8}
    assert card["command"] == "kiago train plausibility --seed 0 --data primary.tsv --before 2003"
    assert 0 <= json.loads(ended.out)["held_out"]["auc"] <= 1
    assert "fitting to all 16 chemical systems" in ended.err


def test_wrong_input_of_plausibility_ends_with_2(kiago: Kiago, table: Path, tmp_path: Path) -> None:
    for arguments, told in (
        (("--before", 2003), "give SuperCon's primary.tsv as --data"),
        (("--data", table, "--before", 1990), "no dated superconductor"),
    ):
        ended = kiago("train", "plausibility", "--out", tmp_path / "out", *arguments)
        assert (ended.code, ended.out) == (2, "")
        assert told in ended.err
        assert ended.err.count("\n") == 1


@pytest.fixture
def cuprates(tmp_path: Path) -> Path:
    rows = [f"{i}\t\tLa{2 - i / 1000}Sr{i / 1000}CuO4\t\tK\t20\tJ. (1990)" for i in range(100, 300)]
    path = tmp_path / "primary.tsv"
    path.write_text(HEADER + "\n".join(rows) + "\n")
    return path


def test_superdiff_trains_and_says_how_well(kiago: Kiago, cuprates: Path, tmp_path: Path) -> None:
    held = tmp_path / "held.tsv"
    held.write_text(HEADER + "1\t\tLa1.85Sr0.15CuO4\t\tK\t37\tJ.\n")
    out = tmp_path / "out"
    ended = kiago(
        *("train", "superdiff", "--data", cuprates, "--held-back", held, "--out", out),
        *("--epochs", 1, "--width", 8, "--samples", 0, "--no-tracking"),
    )
    assert ended.code == 0, ended.err
    figures = json.loads(ended.out)
    card = load_superdiff(out).card
    assert figures["sha256"] == card["sha256"]
    assert card["train_rows"] + card["held_out_loss"]["rows"] == 199  # of 200, the one held back is gone
    assert "epoch 1/1" in ended.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--width", 12), "give a multiple of 8"),
        (("--depth", 9), "depth is 9"),
        (("--device", "cuda:99"), "cuda:99"),
    ],
)
def test_wrong_settings_of_superdiff_end_with_2(
    kiago: Kiago, cuprates: Path, tmp_path: Path, arguments: tuple[object, ...], message: str
) -> None:
    ended = kiago("train", "superdiff", "--data", cuprates, "--out", tmp_path / "out", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err
    assert ended.err.count("\n") == 1


def test_without_diffusers_superdiff_says_what_to_install(
    kiago: Kiago, cuprates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    ended = kiago("train", "superdiff", "--data", cuprates, "--out", tmp_path / "out")
    assert ended.code == 2
    assert "pip install 'kiago-ray[superdiff]'" in ended.err


def test_a_training_is_a_run_of_mlflows(
    kiago: Kiago, cuprates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    out = tmp_path / "out"
    ended = kiago(
        "train", "superdiff", "--data", cuprates, "--out", out, "--epochs", 2, "--width", 8, "--samples", 0
    )
    assert ended.code == 0, ended.err
    assert "MLflow has the record" in ended.err
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("kiago predictors")
    (run,) = client.search_runs([experiment.experiment_id])
    card = load_superdiff(out).card
    assert (run.info.status, run.data.params["sha256"]) == ("FINISHED", card["sha256"])
    losses = client.get_metric_history(run.info.run_id, "loss/superdiff")
    assert [point.step for point in losses] == [1, 2]
    (data,) = run.inputs.dataset_inputs
    assert card["data"][0]["sha256"].startswith(data.dataset.digest)
    assert {file.path for file in client.list_artifacts(run.info.run_id)} >= {"superdiff.json"}
