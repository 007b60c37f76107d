"""`kiago search`: a small search from end to end, the same again, a stop, options, every kind of wrong input."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient

from kiago_ray.chemistry.formula import parse
from kiago_ray.cli.search import doped, forbidden, overrides_from
from kiago_ray.data.tables import landmarks
from kiago_ray.errors import InputError
from kiago_ray.search.spec import load_preset
from kiago_ray.storage.run_directory import CANDIDATES
from kiago_ray.storage.table import read_table

Kiago = Callable[..., Any]
SMALL = ("--preset", "open", "--candidates", 40, "--steps", "15,15")
FILES = {
    "spec.yaml",
    "candidates.parquet",
    "top.csv",
    "report.html",
    "tc_against_ef.png",
    "pareto.png",
    "search_against_oracle.png",
    "trajectory.png",
    "section.png",
    "curves.parquet",
    "summary.json",
}


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_search_writes_its_run_directory_and_runs_once(kiago: Kiago, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = kiago("search", "LaNiAsO", *SMALL, "--out", out, "--json")
    assert first.code == 0, first.err
    told = json.loads(first.out)
    assert told["summary"]["rows"] == 40
    assert told["summary"]["base"]["formula"] == "LaNiAsO"
    written = contents(out)
    assert set(written) == FILES
    spec = yaml.safe_load(written["spec.yaml"])
    assert spec["finished"] is True
    assert spec["search"]["steps"] == [15, 15]
    assert len(spec["weights"]["tc"]) == 64

    table = read_table(str(out / CANDIDATES)).to_pylist()
    assert [row["rank"] for row in table] == list(range(1, len(table) + 1))
    assert len({row["formula"] for row in table}) == len(table) == told["summary"]["unique"]
    for row in table:
        amounts = parse(row["formula"])
        assert row["n_atoms"] == sum(amounts.values()) <= 25
        assert row["n_elements"] == len(amounts) <= 7
        assert row["passed"] == all(
            row[name] for name in ("neutral", "pauling", "ef_negative", "few_elements")
        )
        assert row["ef_negative"] == (row["ef_ev_per_atom"] < 0)

    again = kiago("search", "LaNiAsO", *SMALL, "--out", out, "--json")
    assert again.code == 0
    assert "already holds" in again.err
    assert json.loads(again.out) == told
    assert contents(out) == written

    other = kiago("search", "LaNiAsO", *SMALL, "--seed", 1, "--out", out)
    assert other.code == 2
    assert "another run" in other.err
    assert contents(out) == written


def test_the_table_for_a_person_and_the_known_neighbours(kiago: Kiago, tmp_path: Path) -> None:
    known = Path(__file__).parents[1] / "data" / "literature_tc.tsv"
    ended = kiago("search", "Nb3Al", *SMALL, "--out", tmp_path / "run", "--known", known, "--top", 3)
    assert ended.code == 0, ended.err
    assert "Proposals from Nb3Al" in ended.out
    assert "measured 18.8 K" in ended.out
    assert "exploitation gap" in ended.out
    assert "for (+) and against (−) believing them" in ended.out
    rows = read_table(str(tmp_path / "run" / CANDIDATES)).to_pylist()
    assert all(row["nearest_known"] and 0 <= row["nearest_distance"] <= 2 for row in rows)


def test_out_of_the_box_a_search_knows_what_is_known_and_made_and_the_competing_phases(
    kiago: Kiago, tmp_path: Path
) -> None:
    ended = kiago("search", "MgB2", *SMALL, "--out", tmp_path / "run")
    assert ended.code == 0, ended.err
    assert "known compositions: SuperCon" in ended.err
    assert "competing phases" in ended.err
    rows = read_table(str(tmp_path / "run" / CANDIDATES)).to_pylist()
    passed = [row for row in rows if row["passed"]]
    assert passed
    assert all(row["e_hull_ev_per_atom"] >= 0 for row in passed)
    assert [bool(row["known"]) for row in passed] == sorted(bool(row["known"]) for row in passed)
    assert all(row["nearest_reports"] >= 1 for row in rows)

    bare = kiago("search", "MgB2", *SMALL, "--out", tmp_path / "bare", "--phases", "none")
    assert bare.code == 0, bare.err
    alone = read_table(str(tmp_path / "bare" / CANDIDATES)).to_pylist()
    assert all(row["e_hull_ev_per_atom"] is None for row in alone)
    assert [row["formula"] for row in alone] == [row["formula"] for row in rows]


def test_the_rows_can_be_held_against_the_landmarks_or_nothing(kiago: Kiago, tmp_path: Path) -> None:
    small = ("search", "H3S", *SMALL, "--phases", "none")
    ended = kiago(*small, "--out", tmp_path / "run", "--json", "--known", "landmarks")
    assert ended.code == 0, ended.err
    assert "275 known compositions: landmark superconductors" in ended.err
    rows = read_table(str(tmp_path / "run" / CANDIDATES)).to_pylist()
    known = landmarks().set_index("formula")
    for row in rows:
        nearest, by_emd = known.loc[row["nearest_known"]], known.loc[row["nearest_emd_known"]]
        assert (row["nearest_tc_k"], row["nearest_pressure_gpa"]) == (nearest.tc_k, nearest.pressure_gpa)
        assert (row["nearest_emd_tc_k"], row["nearest_emd_pressure_gpa"]) == (
            by_emd.tc_k,
            by_emd.pressure_gpa,
        )
        assert row["known"] is None or row["nearest_distance"] <= 0.02
        assert row["nearest_emd"] >= 0
    record = yaml.safe_load((tmp_path / "run" / "spec.yaml").read_text())
    assert record["known_source"] == "landmark superconductors from the literature"

    named = kiago(*small, "--out", tmp_path / "run", "--known", "landmarks")
    assert named.code == 0
    assert "already holds" in named.err
    other = kiago(*small, "--out", tmp_path / "run", "--known", "none")
    assert other.code == 2
    assert "another run" in other.err

    without = kiago(*small, "--out", tmp_path / "none", "--known", "none")
    assert without.code == 0, without.err
    assert "no known compositions" in without.err
    bare = read_table(str(tmp_path / "none" / CANDIDATES)).to_pylist()
    assert all(row["nearest_known"] is row["nearest_emd"] is row["known"] is None for row in bare)
    assert [row["formula"] for row in bare] == [row["formula"] for row in rows]


def test_a_run_can_be_repeated_from_its_own_spec(kiago: Kiago, tmp_path: Path) -> None:
    kiago("search", "MgB2", *SMALL, "--forbid", "Hg,Tl", "--set", "alpha=7", "--out", tmp_path / "a")
    ended = kiago("search", "--spec", tmp_path / "a" / "spec.yaml", "--out", tmp_path / "b")
    assert ended.code == 0, ended.err
    a, b = (read_table(str(tmp_path / name / CANDIDATES)) for name in "ab")
    assert a.equals(b)
    assert "note" not in ended.err
    altered = (tmp_path / "a" / "spec.yaml").read_text().replace("  tc: ", "  tc: 0")
    (tmp_path / "altered.yaml").write_text(altered)
    other = kiago("search", "--spec", tmp_path / "altered.yaml", "--out", tmp_path / "c")
    assert "other weights" in other.err
    assert yaml.safe_load((tmp_path / "a" / "spec.yaml").read_text())["search"]["alpha"] == 7


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["Xx2O3"], "Xx"),
        ([""], "empty"),
        (["LaO7-x"], "undetermined"),
        (["LaNiAsO", "--steps", "0,0"], "steps"),
        (["LaNiAsO", "--steps", "many"], "--steps"),
        (["LaNiAsO", "--candidates", "0"], "candidates"),
        (["LaNiAsO", "--candidates", "100000000"], "candidates"),
        (["LaNiAsO", "--fixed", "O=1"], "fixed"),
        (["LaNiAsO", "--fixed", "O=1.5"], "fixed"),
        (["LaNiAsO", "--fixed", "O"], "--fixed"),
        (["LaNiAsO", "--allow", "La,O", "--forbid", "O,La"], "leave no element"),
        (["LaNiAsO", "--allow", "He"], "mask leaves no element"),
        (["LaNiAsO", "--preset", "open", "--substitute", "Fe:+2"], "Fe is not in LaNiAsO"),
        (["LaNiAsO", "--substitute", "La"], "--substitute"),
        (["LaNiAsO", "--substitute", "La:+3,La:+2"], "La is given twice"),
        (["LaNiAsO", "--substitute", "La:+3*x"], "--substitute: 'La:+3*x'"),
        (["LaNiAsO", "--preset", "open", "--substitute", "La:+3,O:-2*1"], "substitute_by"),
        (["LaNiAsO", "--substitute", "La:+3"], "choose the preset 'open'"),
        (["LaNiAsO", "--fixed", "O=0.25"], "choose the preset 'open'"),
        (["LaNiAsO", "--without", "smelly"], "--without: 'smelly' is neither an element nor one of toxic"),
        (["LaNiAsO", "--keep", "Cu"], "family.keep: Cu is not in LaNiAsO"),
        (["LaNiAsO", "--keep", "Xx"], "unknown element 'Xx'"),
        (["LaNiAsO", "--dope", "La"], "--dope: 'La' can't be read; write such as La:Sr,Ba"),
        (["LaNiAsO", "--dope", "La:Sr", "--dope", "La:Ba"], "--dope: La is given twice"),
        (["LaNiAsO", "--dope", "Cu:Ni"], "family.dope: Cu is not in LaNiAsO"),
        (["LaNiAsO", "--dope", "La:Sr", "--keep", "La"], "La is to be kept as well"),
        (["LaNiAsO", "--range", "0.3"], "'0.3' is not two shares of a site such as 0:0.3"),
        (["LaNiAsO", "--range", "0:much"], "family.range.1"),
        (["LaNiAsO", "--range", "0.3:0.1"], "0.3 is above 0.1"),
        (["LaNiAsO", "--range", "0:2"], "less than or equal to 1"),
        (["LaNiAsO", "--preset", "open", "--keep", "La"], "choose the preset 'default'"),
        (["LaNiAsO", "--set", "aplha=4"], "unknown key"),
        (["LaNiAsO", "--preset", "best"], "no preset 'best'"),
        (["LaNiAsO", "--device", "abacus"], "--device"),
        (["LaNiAsO", "--known", "missing.tsv"], "missing.tsv"),
        (["LaNiAsO", "--known", "/dev/null"], "/dev/null"),
        (["LaNiAsO", "--phases", "missing.csv"], "missing.csv"),
        (["LaNiAsO", "--tried", "missing.csv"], "missing.csv"),
        (["LaNiAsO", "--weights", "missing"], "missing"),
        (["RaO"], "don't know Ra"),
        (["LaNiAsO", "--nonsense"], "--nonsense"),
        (["LaNiAsO", "--steps", "100000000,1"], "steps"),
        (["LaNiAsO", "--fixed", "O=0.25", "--fixed", "O=0.5"], "given twice"),
        (["LaNiAsO", "--seed", "1", "--set", "seed=2"], "give it once"),
        (["LaNiAsO", "--set", "alpha=2001-99-99"], "--set"),
        (["LaNiAsO", "--set", "alpha=" + "[" * 3000], "--set"),
        (["LaNiAsO", "--spec", "/dev/zero"], "larger than"),
        (["LaNiAsO", "--device", "meta"], "--device"),
        (["LaNiAsO", "--preset", "substitution"], "--substitute"),
        ([], "base"),
    ],
)
def test_wrong_input_ends_with_2_and_one_line(
    kiago: Kiago, tmp_path: Path, arguments: list[str], complaint: str
) -> None:
    out = tmp_path / "run"
    ended = kiago("search", *arguments, "--out", out)
    assert ended.code == 2
    assert ended.out == ""
    assert complaint in ended.err
    assert len(ended.err.strip().splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("formula,tc_k\nMgB2,39\nLaOX,0\n", "line 3: the formula 'LaOX' can't be read"),
        ("formula,tc_k\nMgB2,warm\n", "line 2: tc_k is 'warm'"),
        ("formula,tc_k,down_to_k\nMgB2,0,-4\n", "line 2: down_to_k is '-4'"),
        ("formula\nMgB2\n", "tc_k"),
    ],
)
def test_a_wrong_file_of_what_was_tried_is_refused_with_line_and_value(
    kiago: Kiago, tmp_path: Path, text: str, complaint: str
) -> None:
    file = tmp_path / "tried.csv"
    file.write_text(text)
    ended = kiago("search", "LaNiAsO", "--tried", file, "--out", tmp_path / "run")
    assert (ended.code, ended.out) == (2, "")
    assert complaint in ended.err
    assert len(ended.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_what_was_tried_is_not_proposed_again_and_tells_of_what_is_near(kiago: Kiago, tmp_path: Path) -> None:
    small = ("search", "LaNiAsO", *SMALL, "--phases", "none")
    assert kiago(*small, "--out", tmp_path / "before").code == 0
    before = {row["formula"]: row for row in read_table(str(tmp_path / "before" / CANDIDATES)).to_pylist()}
    assert all(row["tried_nearby"] is row["tc_given_tried_k"] is None for row in before.values())
    best = next(formula for formula, row in before.items() if row["passed"] and not row["known"])
    file = tmp_path / "tried.csv"
    file.write_text(f"formula,tc_k,down_to_k\n{best},0,1.8\n")

    ended = kiago(*small, "--tried", file, "--out", tmp_path / "after")
    assert ended.code == 0, ended.err
    assert f"1 samples were tried, 0 of them superconduct: {file}" in ended.err
    after = {row["formula"]: row for row in read_table(str(tmp_path / "after" / CANDIDATES)).to_pylist()}
    assert {f: row["tc_k"] for f, row in after.items()} == {f: row["tc_k"] for f, row in before.items()}
    assert after[best]["tried"] == f"{best}: none down to 1.8 K"
    assert after[best]["tried_nearby"] == f"{best}: none down to 1.8 K (0 places away)"
    assert after[best]["tc_given_tried_k"] < after[best]["tc_k"] / 2
    assert all(row["tc_given_tried_k"] <= row["tc_k"] for row in after.values())
    new = [row["rank"] for row in after.values() if row["passed"] and not row["known"] and not row["tried"]]
    assert after[best]["rank"] > max(new)
    assert "tried_nearby" in (tmp_path / "after" / "top.csv").read_text().splitlines()[0]

    record = yaml.safe_load((tmp_path / "after" / "spec.yaml").read_text())
    assert record["tried"] == hashlib.sha256(file.read_bytes()).hexdigest()
    other = kiago(*small, "--tried", "shipped", "--out", tmp_path / "after")
    assert other.code == 2
    assert "another run" in other.err


def test_an_out_that_cannot_be_used_is_refused(kiago: Kiago, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    for out in (file, file / "below"):
        ended = kiago("search", "LaNiAsO", *SMALL, "--out", out)
        assert ended.code == 2, ended.err
        assert len(ended.err.strip().splitlines()) == 1
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "thesis.tex").write_text("mine")
    assert kiago("search", "LaNiAsO", *SMALL, "--out", folder).code == 2
    assert contents(folder) == {"thesis.tex": b"mine"}
    assert file.read_text() == "mine"


@pytest.mark.parametrize("out", ["", "~nosuchuser/run", "gopher://run"])
def test_an_out_that_names_no_place_is_refused(kiago: Kiago, out: str) -> None:
    ended = kiago("search", "LaNiAsO", *SMALL, "--out", out)
    assert ended.code == 2
    assert len(ended.err.strip().splitlines()) == 1


def test_a_preset_is_named_once(kiago: Kiago, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text("preset: hydride")
    command = (
        "search",
        "PdH",
        "--spec",
        tmp_path / "spec.yaml",
        "--preset",
        "paper",
        "--out",
        tmp_path / "run",
    )
    assert "names hydride" in kiago(*command).err


@pytest.mark.parametrize("text", ["alhpa: 4", "- 1", "alpha: [", "start: {kind: guess}"])
def test_a_wrong_spec_file_is_refused(kiago: Kiago, tmp_path: Path, text: str) -> None:
    (tmp_path / "spec.yaml").write_text(text)
    ended = kiago("search", "LaNiAsO", "--spec", tmp_path / "spec.yaml", "--out", tmp_path / "run")
    assert ended.code == 2
    assert len(ended.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_an_interrupt_writes_what_is_done(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "kiago_ray",
        "search",
        "LaNiAsO",
        "--preset",
        "open",
        "--candidates",
        "16",
        "--steps",
        "20000,1",
    ]
    process = subprocess.Popen(
        [*command, "--out", str(out)],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 120
    while not (out / "spec.yaml").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    assert "Stopped at step" in err
    rows = read_table(str(out / CANDIDATES)).to_pylist()
    assert len(rows) > 0
    assert np.isfinite([row["tc_k"] for row in rows]).all()
    assert yaml.safe_load((out / "spec.yaml").read_text())["finished"] is False
    assert "Stopped at step" in (out / "report.html").read_text()


def test_what_isnt_given_is_left_out() -> None:
    assert overrides_from({"base": None, "steps": None, "fixed": []}, []) == {}


def test_easy_words_become_the_family_section() -> None:
    given = overrides_from(
        {"family.keep": "Fe, As", "family.dope": ["La:Sr,Ba", "O:F"], "family.range": "0:0.3"}, []
    )
    assert given == {
        "family.keep": ["Fe", "As"],
        "family.dope": {"La": ["Sr", "Ba"], "O": ["F"]},
        "family.range": ["0", "0.3"],
    }
    spec = load_preset(
        "default", {"base": "LaFeAsO", **{k: v for k, v in given.items() if k != "family.keep"}}
    )
    assert spec.family.dope == {"La": ("Sr", "Ba"), "O": ("F",)}
    assert spec.family.range == (0, 0.3)


@pytest.mark.parametrize("texts", [["La:Sr,Ba;O:F"], ["La:Sr,Ba", "O:F"], [" La : Sr, Ba ", "O:F"]])
def test_dopants_stand_in_one_option_or_in_several(texts: list[str]) -> None:
    found = overrides_from({"family.dope": texts}, [])
    assert found == {"family.dope": {"La": ["Sr", "Ba"], "O": ["F"]}}


def test_without_adds_to_what_is_forbidden_and_spares_a_family_s_base() -> None:
    spec = load_preset("default", {"base": "Tl2Ba2CuO6", "elements.forbid": ["Ni"]})
    found = forbidden("toxic,F", spec)
    assert found == ["Be", "F", "Ni", "Cd", "Os", "Hg", "Pb"]
    assert "Tl" in forbidden("toxic,Tl", spec)
    assert "Tl" in forbidden("toxic", load_preset("open", {"base": "Tl2Ba2CuO6"}))


def test_amounts_of_a_dopant_are_shares_of_its_site() -> None:
    assert doped(["La:Sr,Ba:0.05:0.3"], None, "La2CuO4") == (["La:Sr,Ba"], "0.025:0.15")
    assert doped(["La:Sr:0:0.3"], None, "La1.85Sr0.15CuO4") == (["La:Sr"], "0:0.15")
    assert doped(["La:Sr;O:F"], "0:0.1", "La2CuO4") == (["La:Sr", "O:F"], "0:0.1")
    for texts, span, formula, message in (
        (["La:Sr:0:3"], None, "La2CuO4", "La2CuO4 has 2"),
        (["La:Sr:0.3:0.1"], None, "La2CuO4", "from least to most"),
        (["La:Sr:0.3"], None, "La2CuO4", "can't be read"),
        (["La:Sr:0:x"], None, "La2CuO4", "can't be read"),
        (["La:Sr:0:0.3"], None, None, "give FORMULA"),
        (["La:Sr:0:0.3"], "0:0.1", "La2CuO4", "one range"),
        (["La:Sr:0:0.3", "O:F:0:0.3"], None, "La2CuO4", "one range"),
    ):
        with pytest.raises(InputError, match=message):
            doped(texts, span, formula)


@pytest.mark.slow
def test_a_search_keeps_a_record_where_it_is_asked_to(
    kiago: Kiago, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ("search", "LaNiAsO", "--candidates", 8, "--steps", "3,3", "--out", "runs/one")
    refused = kiago(*small, "--tracking-uri", "nowhere")
    assert refused.code == 2
    assert "is no MLflow store" in refused.err
    assert not (tmp_path / "runs").exists()
    for _ in range(2):  # the second finds it done, and doubles nothing
        ended = kiago(*small, "--track")
        assert ended.code == 0, ended.err
        assert "mlflow ui --backend-store-uri" in ended.err
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("kiago searches")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["candidates"] == "8"
    assert len(client.get_metric_history(run.info.run_id, "curve/tc_k_mean")) == 7
    assert len(client.get_run(run.info.run_id).inputs.model_inputs) == 1  # `search_runs` leaves them out
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"candidates.json", "report.html", "spec.yaml", "top.csv"} <= files
