"""`kiago predict`: rows in order, bad formulas beside good ones, files checked before any work."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.predictors import load_predictors
from kiago_ray.predictors.ensemble import CalibratedEnsemble
from kiago_ray.predictors.oracle import load_oracle
from kiago_ray.predictors.weights import shipped_weights
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
    assert [row["ef_ev_per_atom"] for row in rows] == pytest.approx(predictors.ef(x).tolist(), rel=1e-5)
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
    for header in ("T_c (K)", "oracle", "exists", "gain", "ΔE_hull", "passed", "known"):
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


def test_blank_lines_and_short_rows_keep_their_places_and_long_rows_are_refused(
    kiago: Kiago, tmp_path: Path
) -> None:
    (tmp_path / "one.csv").write_text("formula\nMgB2\n\nNb3Sn\n")
    kiago("predict", "--input", tmp_path / "one.csv", "--output", tmp_path / "one.parquet")
    assert pd.read_parquet(tmp_path / "one.parquet")["formula"].tolist() == ["MgB2", "", "Nb3Sn"]
    (tmp_path / "long.csv").write_text("id,formula\n1,MgB2,\n")
    ended = kiago("predict", "--input", tmp_path / "long.csv")
    assert ended.code == 2
    assert "row 1: 3 fields under 2 names" in ended.err
