"""`kiago hull`: rows in order, an error where one has no place, both sorts of energies, files checked before work."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.hull import EnergyHull

Kiago = Callable[..., Any]
ADDED = [
    "ef_ev_per_atom",
    "e_hull_ev_per_atom",
    "e_decomposition_ev_per_atom",
    "decomposition",
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
    assert "4 competing phases of 6 rows, the file's energies" in ended.err
    assert "dropped 1: an element, at 0 eV/atom by definition" in ended.err
    told = json.loads(ended.out)
    assert (told["energies"], told["phases"]["duplicates_merged"]) == ("file", 1)
    rows = {row["formula"]: row for row in told["hull"]}
    assert list(rows["TiO"]) == ["formula", *ADDED]
    assert rows["Ti2O4"]["e_hull_ev_per_atom"] == 0
    assert rows["Ti2O4"]["e_decomposition_ev_per_atom"] == pytest.approx(-3 + 2.9 * 5 / 6)
    assert rows["TiO"]["e_hull_ev_per_atom"] == pytest.approx(-2 + 2.9 * 5 / 6)
    assert rows["TiO"]["decomposition"] == "0.8333 Ti2O3 + 0.1667 Ti"
    assert (rows["TiO"]["n_phases"], rows["TiO"]["is_phase"], rows["TiO"]["error"]) == (4, True, None)
    assert (rows["Ti"]["ef_ev_per_atom"], rows["Ti"]["e_hull_ev_per_atom"]) == (0, 0)


def test_elemnets_energies_by_default(kiago: Kiago, phases: Path) -> None:
    ended = kiago("hull", "Ti3O5", "Ti1.9Fe0.1O3", "RaO", "--phases", phases, "--json")
    assert ended.code == 3
    assert "the predictor doesn't know Ra" in ended.err
    rows = json.loads(ended.out)["hull"]
    hull = EnergyHull.of(phases)
    for row in rows[:2]:
        assert row["e_hull_ev_per_atom"] >= 0
        assert row["e_hull_ev_per_atom"] == max(row["e_decomposition_ev_per_atom"], 0) or row["is_phase"]
    assert rows[0]["n_phases"] == len(hull.phases.formulas) + 2 == 5
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


def test_with_elemnet_the_inputs_energies_are_computed_anew(
    kiago: Kiago, tmp_path: Path, phases: Path
) -> None:
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
        "taken.csv": b"formula,decomposition\nTiO2,x\n",
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
        (["TiO2", "--phases", phases, "--energies", "dft"], "choose elemnet or file"),
        (["TiO2", "--phases", phases, *own, "--weights", tmp_path], "--weights"),
        (["TiO2", "--phases", phases, "--output", tmp_path / "out.xlsx"], ".csv or .parquet"),
        (["--input", tmp_path / "taken.csv", "--phases", phases], "already has 'decomposition'"),
        (["TiO2", "--phases", phases, "--weights", tmp_path], "no model card"),
    ]:
        ended = kiago("hull", *arguments)
        assert ended.code == 2, arguments
        assert complaint in ended.err, arguments
        assert len(ended.err.strip().splitlines()) == 1, arguments
    alone = kiago("hull", "Xx", "--phases", phases)
    assert alone.code == 2


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
    hull = EnergyHull.of(path)
    computed = rows[rows["e_hull_ev_per_atom"].notna()]
    assert set(computed["formula"]) == set(rows[rows["ef_negative"]]["formula"])
    x = parse_fractions(computed["formula"].tolist())
    again = hull.e_hull(x, computed["ef_ev_per_atom"].to_numpy())
    assert computed["e_hull_ev_per_atom"].tolist() == pytest.approx(again.tolist(), abs=1e-6)
    assert (computed["near_hull"] == (computed["e_hull_ev_per_atom"] <= 0.3)).all()
    assert (rows["passed"] == (rows["ef_negative"] & rows["near_hull"].eq(True))).all()
    top = pd.read_csv(out / "top.csv")
    assert {"e_hull_ev_per_atom", "near_hull"} <= set(top.columns)

    without = kiago(*small, "--set", screens, "--set", limit, "--out", out)
    assert without.code == 2  # the same directory, another question
