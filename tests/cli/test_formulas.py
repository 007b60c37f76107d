"""`kiago predict` and `kiago hull`: rows in order, bad formulas beside good ones, files checked before any work."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.hull import EnergyHull
from kiago_ray.predictors.ensemble import CalibratedEnsemble
from kiago_ray.predictors.oracle import load_oracle
from kiago_ray.predictors.weights import load_predictors, shipped_weights
from kiago_ray.storage.table import PREDICTED

Kiago = Callable[..., Any]


def test_arguments_give_what_the_predictors_say(kiago: Kiago) -> None:
    formulas = ["YBa2Cu3O7", "MgB2", "LaNiAsO"]
    ended = kiago("predict", *formulas, "--json")
    assert ended.code == 0
    rows = json.loads(ended.out)["predictions"]
    predictors = load_predictors()
    x = torch.from_numpy(parse_fractions(formulas)).float()
    assert [row["formula"] for row in rows] == formulas
    assert [row["tc_k"] for row in rows] == pytest.approx(
        predictors.tc(x).relu().tolist(), rel=1e-5, abs=1e-4
    )
    ef = predictors.energies["ensemble"](x)
    assert [row["ef_ev_per_atom"] for row in rows] == pytest.approx(ef.tolist(), rel=1e-5)
    mean, spread = load_oracle().predict(x.numpy())
    assert [row["tc_oracle_k"] for row in rows] == mean.tolist()
    assert [row["tc_oracle_std_k"] for row in rows] == spread.tolist()
    ensemble = predictors.named("ensemble")
    assert isinstance(ensemble, CalibratedEnsemble)
    _, std, _, extrapolation = ensemble.estimates(x.numpy())
    assert [row["tc_std_k"] for row in rows] == pytest.approx(std.tolist(), rel=1e-5)
    assert [row["extrapolation"] for row in rows] == pytest.approx(extrapolation.tolist(), rel=1e-5)
    assert all(row["error"] is None for row in rows)
    assert list(rows[0]) == ["formula", *PREDICTED, "error"]
    assert [row["known"] is not None for row in rows] == [True, True, True]
    assert [row["passed"] for row in rows] == [True, True, True]
    assert rows[0]["nearest_reference"]
    shown = kiago("predict", formulas[0]).out
    assert f"{mean[0]:.1f}" in shown
    assert max(len(line) for line in shown.splitlines()) <= 80
    for header in ("T_c (K)", "oracle", "exists", "gain", "ΔE_hull", "passed", "measured"):
        assert header in shown.splitlines()[0]


def test_rows_are_held_against_what_is_given(kiago: Kiago, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("formula,tc_k\nMgB2,12.5\n")
    (tmp_path / "phases.csv").write_text("formula\nMgB2\nMgB4\n")
    given = ["--known", tmp_path / "mine.csv", "--phases", tmp_path / "phases.csv"]
    ended = kiago("predict", "MgB2", "Nb3Sn", "--json", *given)
    assert ended.code == 0
    mine, other = json.loads(ended.out)["predictions"]
    assert (mine["nearest_known"], mine["nearest_tc_k"], mine["best_nearby_tc_k"]) == ("MgB2", 12.5, 12.5)
    assert (mine["known"], other["known"], other["best_nearby"]) == ("MgB2", None, None)
    assert other["e_hull_ev_per_atom"] == max(other["ef_ev_per_atom"], 0)  # no phase of Nb and Sn was given
    (bare,) = json.loads(kiago("predict", "MgB2", "--json", "--known", "none", "--phases", "none").out)[
        "predictions"
    ]
    nothing = ("nearest_known", "known", "best_nearby", "expected_improvement_k", "e_hull_ev_per_atom")
    assert [bare[name] for name in nothing] == [None] * 5
    assert bare["tc_k"] == pytest.approx(mine["tc_k"], abs=1e-3)
    assert bare["passed"]
    for option, complaint in (("--known", "there-is-none.csv"), ("--phases", "there-is-none.csv")):
        refused = kiago("predict", "MgB2", option, "there-is-none.csv")
        assert refused.code == 2
        assert complaint in refused.err
        assert len(refused.err.strip().splitlines()) == 1


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_file_keeps_its_rows_in_order(kiago: Kiago, tmp_path: Path, ending: str) -> None:
    formulas = ["YBa2Cu3O7", "Xx2", "", "NaN", "LaO7-x", "RaO", "Nb3Sn", "YBa₂Cu₃O₇", "null"] * 40
    source = tmp_path / "in.csv"
    with source.open("w", newline="") as file:
        csv.writer(file).writerows([["id", "formula"], *enumerate(formulas)])
    output = tmp_path / f"out.{ending}"
    ended = kiago("predict", "--input", source, "--output", output)
    assert ended.code == 3
    table = pd.read_csv(output, keep_default_na=False) if ending == "csv" else pd.read_parquet(output)
    assert table["formula"].tolist() == formulas
    assert table["id"].astype(int).tolist() == list(range(len(formulas)))
    good = table["error"].isin(["", None]) | table["error"].isna()
    assert good[:9].tolist() == [
        True,
        False,
        False,
        True,
        False,
        False,
        True,
        True,
        False,
    ]  # NaN is sodium nitride
    assert table["tc_k"][0] == table["tc_k"][7]
    for name in ("tc_k", "tc_oracle_k", "tc_oracle_std_k", "ef_ev_per_atom"):
        assert (pd.to_numeric(table[name], errors="coerce") >= -10).tolist() == good.tolist()


def test_wrong_input_is_refused_before_any_work(kiago: Kiago, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("formula\nMgB2\n")
    (tmp_path / "there.csv").write_text("mine")
    (tmp_path / "latin.csv").write_bytes(b"formula\n\xff\xfe\n")
    (tmp_path / "column.csv").write_text("composition\nMgB2\n")
    (tmp_path / "empty.csv").write_text("")
    for arguments, complaint in [
        ([], "--input"),
        (["MgB2", "--input", source], "one of the two"),
        (["--input", tmp_path / "none.csv"], "none.csv"),
        (["--input", tmp_path / "latin.csv"], "UTF-8"),
        (["--input", tmp_path / "column.csv"], "no single column `formula`"),
        (["--input", tmp_path / "empty.csv"], "is empty"),
        (["--input", source, "--output", tmp_path / "there.csv"], "exists"),
        (["--input", source, "--output", tmp_path / "out.xlsx"], ".csv or .parquet"),
        (["--input", source, "--output", tmp_path / "no" / "out.csv"], "no folder"),
    ]:
        ended = kiago("predict", *arguments)
        assert ended.code == 2, arguments
        assert complaint in ended.err
        assert len(ended.err.strip().splitlines()) == 1
    assert (tmp_path / "there.csv").read_text() == "mine"


def test_a_column_that_predict_fills_is_not_overwritten(kiago: Kiago, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("formula,tc_oracle_k\nMgB2,7\n")
    ended = kiago("predict", "--input", tmp_path / "in.csv")
    assert ended.code == 2
    assert "already has 'tc_oracle_k'" in ended.err


def test_networks_of_another_folder_are_judged_by_the_shipped_oracle(kiago: Kiago, tmp_path: Path) -> None:
    for kind in ("tc_ensemble", "ef"):
        for file in shipped_weights().glob(f"{kind}.*"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    rows = [
        json.loads(kiago("predict", "MgB2", "--json", *weights).out)["predictions"]
        for weights in ([], ["--weights", tmp_path])
    ]
    assert rows[0] == rows[1]
    (tmp_path / "tc_oracle.json").write_text("{}")
    ended = kiago("predict", "MgB2", "--weights", tmp_path)
    assert ended.code == 2
    assert "tc_oracle.json is not a model card" in ended.err


def test_a_bad_argument_is_told_beside_the_good_one(kiago: Kiago) -> None:
    ended = kiago("predict", "MgB2", "Xx", "[/b]")
    assert ended.code == 3
    assert "MgB2" in ended.out
    assert "[/b]" in ended.out
    assert "2 of 3 formulas" in ended.err
    alone = kiago("predict", "Xx")
    assert alone.code == 2
    assert len(alone.err.strip().splitlines()) == 1


def test_blank_lines_are_skipped_and_long_rows_are_refused(kiago: Kiago, tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("formula\nMgB2\n\nNb3Sn\n")
    kiago("predict", "--input", tmp_path / "one.csv", "--output", tmp_path / "one.parquet")
    assert pd.read_parquet(tmp_path / "one.parquet")["formula"].tolist() == ["MgB2", "Nb3Sn"]
    (tmp_path / "long.csv").write_text("id,formula\n1,MgB2,\n")
    ended = kiago("predict", "--input", tmp_path / "long.csv")
    assert ended.code == 2
    assert "row 1: 3 fields under 2 names" in ended.err
    (tmp_path / "quoted.csv").write_text('formula,id\n"Mg"B2,1\n')
    ended = kiago("predict", "--input", tmp_path / "quoted.csv")
    assert ended.code == 2
    assert "is not a CSV file" in ended.err


ADDED = [
    "ef_ev_per_atom",
    "e_hull_ev_per_atom",
    "e_hull_std_ev_per_atom",
    "decomposition",
    "e_decomposition_ev_per_atom",
    "n_phases",
    "is_phase",
    "error",
]


@pytest.fixture
def phases(tmp_path: Path) -> Path:
    path = tmp_path / "phases.csv.gz"
    rows = "mp-1,TiO2,-3.0\nmp-2,Ti2O3,-2.9\nmp-3,TiO,-2.0\nmp-4,Ti2O4,-2.8\nmp-5,Ti,0\nmp-6,RaO,-2\n"
    path.write_bytes(gzip.compress(f"material_id,formula_pretty,formation_energy_per_atom\n{rows}".encode()))
    return path


def test_the_files_own_energies(kiago: Kiago, phases: Path) -> None:
    ended = kiago("hull", "Ti2O4", "TiO", "Ti", "RaO", "--phases", phases, "--energies", "file", "--json")
    assert ended.code == 0, ended.err
    assert "4 competing phases of 6 rows, their source's energies" in ended.err
    assert "dropped 1: an element, at 0 eV/atom by definition" in ended.err
    told = json.loads(ended.out)
    assert (told["energies"], told["phases"]["duplicates_merged"]) == ("file", 1)
    rows = {row["formula"]: row for row in told["hull"]}
    assert list(rows["TiO"]) == ["formula", *ADDED]
    assert rows["Ti2O4"]["e_hull_ev_per_atom"] == 0
    assert rows["Ti2O4"]["e_decomposition_ev_per_atom"] == pytest.approx(-3 + 2.9 * 5 / 6)
    assert rows["TiO"]["e_hull_ev_per_atom"] == pytest.approx(-2 + 2.9 * 5 / 6)
    assert rows["TiO"]["decomposition"] == "3 TiO → Ti2O3 + Ti"
    assert (rows["TiO"]["n_phases"], rows["TiO"]["is_phase"], rows["TiO"]["error"]) == (4, True, None)
    assert (rows["Ti"]["ef_ev_per_atom"], rows["Ti"]["e_hull_ev_per_atom"]) == (0, 0)


def test_predicted_energies_by_default(kiago: Kiago, phases: Path) -> None:
    ended = kiago("hull", "Ti3O5", "Ti1.9Fe0.1O3", "Ra2O", "--phases", phases, "--json")
    assert ended.code == 3
    assert "the predictor doesn't know Ra" in ended.err
    rows = json.loads(ended.out)["hull"]
    for row in rows[:2]:
        assert row["e_hull_ev_per_atom"] >= 0
        assert row["e_hull_ev_per_atom"] == max(row["e_decomposition_ev_per_atom"], 0) or row["is_phase"]
        assert row["e_hull_std_ev_per_atom"] > 0
    assert rows[0]["n_phases"] == 5  # three, and the elements
    assert [row["error"] for row in rows] == [None, None, "the predictor doesn't know Ra"]
    shown = kiago("hull", "Ti3O5", "--phases", phases)
    assert shown.code == 0
    assert "ΔE_hull" in shown.out
    assert f"{rows[0]['e_hull_ev_per_atom']:.3f}" in shown.out


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_file_keeps_its_rows_and_its_own_energies(
    kiago: Kiago, tmp_path: Path, phases: Path, ending: str
) -> None:
    given = [
        ("Ti3O5", "-2.5"),
        ("Ti3O5", ""),
        ("Xx", "-1"),
        ("TiO", "many"),
        ("TiO2", ""),
        ("", ""),
        ("TiO", "inf"),
    ]
    with (tmp_path / "in.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["formula", "ef_ev_per_atom", "e_hull_ev_per_atom"], *((*r, "9") for r in given)]
        )
    output = tmp_path / f"out.{ending}"
    options = ("--phases", phases, "--energies", "file", "--output", output)
    ended = kiago("hull", "--input", tmp_path / "in.csv", *options)
    assert ended.code == 3
    assert "computed anew, in place of the input's: e_hull_ev_per_atom" in ended.err
    assert "5 of 7 formulas" in ended.err
    table = pd.read_csv(output, keep_default_na=False) if ending == "csv" else pd.read_parquet(output)
    assert table["formula"].tolist() == [formula for formula, _ in given]
    assert list(table.columns) == ["formula", *ADDED]
    errors = table["error"].fillna("").tolist()
    assert [bool(text) for text in errors] == [False, True, True, True, False, True, True]
    assert errors[3] == "ef_ev_per_atom: 'many' is not a number"
    above = pd.to_numeric(table["e_hull_ev_per_atom"], errors="coerce")
    assert above[0] == pytest.approx(-2.5 + (2.9 * 0.625 + 3.0 * 0.375), abs=1e-4)
    assert above[4] == 0
    assert above.isna().tolist() == [False, True, True, True, False, True, True]
    assert pd.to_numeric(table["ef_ev_per_atom"], errors="coerce").isna().tolist() == above.isna().tolist()


def test_without_a_file_the_shipped_phases_compete(kiago: Kiago) -> None:
    ended = kiago("hull", "MgO", "Mg2O", "--json")
    assert ended.code == 0, ended.err
    assert "85,014 competing phases" in ended.err
    stable, mixture = json.loads(ended.out)["hull"]
    assert (stable["is_phase"], mixture["is_phase"]) == (True, False)
    assert mixture["e_hull_ev_per_atom"] > 0
    assert "MgO" in mixture["decomposition"]


def test_predicted_energies_are_not_held_against_the_files(
    kiago: Kiago, tmp_path: Path, phases: Path
) -> None:
    (tmp_path / "top.csv").write_text("formula,tc_k,ef_ev_per_atom\nTi3O5,3.0,-2.5\n")
    ended = kiago("hull", "--input", tmp_path / "top.csv", "--phases", phases, "--energies", "file")
    assert ended.code == 2
    assert "is predicted and not to be held against the file's energies" in ended.err


def test_the_inputs_energies_are_computed_anew(kiago: Kiago, tmp_path: Path, phases: Path) -> None:
    (tmp_path / "top.csv").write_text("rank,formula,ef_ev_per_atom\n1,Ti3O5,99\n")
    ended = kiago("hull", "--input", tmp_path / "top.csv", "--phases", phases, "--json")
    assert ended.code == 0, ended.err
    assert "computed anew, in place of the input's: ef_ev_per_atom" in ended.err
    (row,) = json.loads(ended.out)["hull"]
    assert -4 < row["ef_ev_per_atom"] < 0
    assert row["rank"] == "1"


def test_wrong_input_is_refused_in_one_line(kiago: Kiago, tmp_path: Path, phases: Path) -> None:
    files = {
        "empty.csv": b"",
        "column.csv": b"material,e_form\nTiO2,-3\n",
        "energies.csv": b"formula\nTiO2\n",
        "nan.csv": b"formula,e_form\nTiO2,nan\n",
        "cut.csv.gz": phases.read_bytes()[:-10],
        "taken.csv": b"formula,n_phases\nTiO2,x\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    own = ("--energies", "file")
    for arguments, complaint in [
        (["--phases", phases], "give formulas or --input"),
        (["TiO2", "--phases", tmp_path / "none.csv"], "o such file"),
        (["TiO2", "--phases", tmp_path / "empty.csv"], "the file is empty"),
        (["TiO2", "--phases", tmp_path / "column.csv"], "no column of formulas"),
        (["TiO2", "--phases", tmp_path / "energies.csv", *own], "no column of formation energies"),
        (["TiO2", "--phases", tmp_path / "nan.csv", *own], "1 energy not a number"),
        (["TiO2", "--phases", tmp_path / "cut.csv.gz"], "ends too early"),
        (["TiO2", "--phases", phases, "--energies", "dft"], "'predicted', 'file'"),
        (["TiO2", "--phases", phases, *own, "--weights", tmp_path], "--weights"),
        (["TiO2", "--phases", phases, "--output", tmp_path / "out.xlsx"], ".csv or .parquet"),
        (["--input", tmp_path / "taken.csv", "--phases", phases], "already has 'n_phases'"),
        (["TiO2", "--phases", phases, "--weights", tmp_path], "no model card"),
        (["TiO2", "--phases", phases, "--plot", tmp_path / "out.jpg"], ".png or .svg"),
        (["TiO2", "--phases", phases, "--plot", tmp_path / "empty.csv"], ".png or .svg"),
        (["YBa2Cu3O7", "--phases", phases, "--plot", tmp_path / "out.png"], "two or three elements"),
        (["Ti2Xx", "--phases", phases, "--plot", tmp_path / "out.png"], "Xx"),
        (["TiO2", "--phases", phases, "--section", tmp_path / "out.png"], "give two"),
        (["TiO2", "Ti2O4", "--phases", phases, "--section", tmp_path / "out.png"], "one composition"),
        (["TiO", "TiO2", "--phases", phases, *own, "--section", tmp_path / "out.png"], "--energies file out"),
    ]:
        ended = kiago("hull", *arguments)
        assert ended.code == 2, arguments
        assert complaint in ended.err, arguments
        assert len(ended.err.strip().splitlines()) == 1, arguments
    alone = kiago("hull", "Xx", "--phases", phases)
    assert alone.code == 2


def test_diagrams_and_sections_are_written_in_the_form_of_their_names(
    kiago: Kiago, tmp_path: Path, phases: Path
) -> None:
    image, drawing = tmp_path / "out.png", tmp_path / "out.svg"
    ended = kiago("hull", "TiO", "Ti3O5", "--phases", phases, "--plot", image, "--section", drawing)
    assert ended.code == 0, ended.err
    assert f"written to {drawing}" in ended.err
    assert "3 TiO → Ti2O3 + Ti" in " ".join(ended.out.split())
    assert image.read_bytes().startswith(b"\x89PNG")
    assert all(name in drawing.read_text() for name in (">TiO<", ">Ti₃O₅<", ">Ti₂O₃<"))
    again = kiago("hull", "TiO", "--phases", phases, "--plot", image)
    assert again.code == 2
    assert "exists" in again.err
    own = kiago(
        "hull", "TiO", "TiO2", "--phases", phases, "--energies", "file", "--section", tmp_path / "a.svg"
    )
    assert own.code == 2
    assert "leave --energies file out" in own.err


def test_a_search_with_phases_fills_the_column_and_judges_by_it(kiago: Kiago, tmp_path: Path) -> None:
    path = tmp_path / "phases.tsv"
    path.write_text("formula\te_form\nLa2O3\t-3\nNiAs\t-0.1\nLaNi2As2\t-0.5\nCuO\t-0.8\nBaO\t-2.8\nCaO\t-3\n")
    small = ("search", "LaNiAsO", "--candidates", 24, "--steps", "12,12", "--known", "none")
    screens = "screens.names=[ef_negative,near_hull]"
    limit = "screens.max_e_hull_ev_per_atom=0.3"
    refused = kiago(*small, "--set", screens, "--out", tmp_path / "none", "--phases", "none")
    assert refused.code == 2
    assert "near_hull needs competing phases" in refused.err
    assert not (tmp_path / "none").exists()

    out = tmp_path / "run"
    ended = kiago(*small, "--set", screens, "--set", limit, "--phases", path, "--out", out)
    assert ended.code == 0, ended.err
    assert "ΔE_hull" in ended.out
    rows = pd.read_parquet(out / "candidates.parquet")
    first = rows["formula"][rows["passed"]].iloc[0]
    assert f"from LaNiAsO to the first proposal, {first}" in (out / "report.html").read_text()
    assert (out / "section.png").read_bytes().startswith(b"\x89PNG")
    hull = EnergyHull.of(path)
    assert rows["e_hull_ev_per_atom"].notna().all()
    x = parse_fractions(rows["formula"].tolist())
    energies, std = hull.energies(x)
    assert rows["e_hull_ev_per_atom"].tolist() == pytest.approx(hull.e_hull(x, energies).tolist(), abs=1e-4)
    assert rows["e_hull_std_ev_per_atom"].tolist() == pytest.approx(std.tolist(), rel=1e-3, nan_ok=True)
    assert rows["decomposition"].notna().equals(rows["e_hull_ev_per_atom"] > 0)
    assert (rows["near_hull"] == (rows["e_hull_ev_per_atom"] <= 0.3)).all()
    assert (rows["passed"] == (rows["ef_negative"] & rows["near_hull"])).all()
    top = pd.read_csv(out / "top.csv")
    assert {"e_hull_ev_per_atom", "near_hull"} <= set(top.columns)

    without = kiago(*small, "--set", screens, "--set", limit, "--out", out)
    assert without.code == 2  # the same directory, another question
