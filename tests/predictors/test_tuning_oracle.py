"""The oracle that sweeps choose by: other inputs, folds and errors than the one that reports."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kiago_ray.chemistry.elements import ELEMNET_INDEX, N_ELEMENTS, SYMBOLS
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.cli import train
from kiago_ray.cli.main import main
from kiago_ray.data.sources import load_supercon
from kiago_ray.predictors.oracle import (
    AMOUNT_STEP,
    INPUTS,
    Oracle,
    element_fractions,
    load_oracle,
    statistic_names,
)
from kiago_ray.predictors.weights import (
    ORACLE,
    TUNING_ORACLE,
    WeightsError,
    load_card,
    shipped_weights,
    weights_hashes,
)
from kiago_ray.training.fit import RunOptions
from kiago_ray.training.oracle import (
    TUNING_SETTINGS,
    OracleFit,
    OracleSettings,
    train_oracle,
)
from kiago_ray.training.tables import TcTables, random_compositions

from ..training.test_oracle import KNOWN, ZEROS

LITERATURE = Path(__file__).parents[1] / "data" / "literature_tc.tsv"
SMALL = replace(TUNING_SETTINGS, most_rounds=30, leaves=7, non_superconductors_a_member=10)


@pytest.fixture(scope="module")
def tuning() -> Oracle:
    return load_oracle(kind=TUNING_ORACLE)


@pytest.fixture(scope="module")
def literature() -> tuple[np.ndarray, np.ndarray]:
    """40 compositions that no fit saw, and their measured T_c in K."""
    rows, _ = load_supercon(LITERATURE)
    return parse_fractions(rows["formula"]).astype(np.float32), rows["tc_k"].to_numpy()


def test_it_reads_the_amounts_of_the_elements(tuning: Oracle) -> None:
    assert tuning.kind == TUNING_ORACLE
    assert len(tuning.members) == 5
    assert all(tuple(member.feature_name()) == SYMBOLS for member in tuning.members)
    assert load_oracle().kind == ORACLE
    assert tuple(load_oracle().members[0].feature_name()) == statistic_names()


def test_amounts_are_read_to_a_step_and_nothing_else_is_taken() -> None:
    rows = random_compositions(200, ELEMNET_INDEX, seed=0)
    read = element_fractions(rows)
    assert read.shape == (200, N_ELEMENTS)
    assert np.abs(read - rows).max() <= AMOUNT_STEP / 2
    formulas = parse_fractions(["YBa2Cu3O7", "LaFeAsO", "Nb3Sn"])
    last_digits_off = formulas * (1 + 2.0**-23)
    np.testing.assert_array_equal(element_fractions(last_digits_off), element_fractions(formulas))
    for wrong, complaint in [
        (rows[:, :86], "shape"),
        (-rows, "negative"),
        (rows * np.nan, "finite"),
        (rows * 0, "no atoms"),
    ]:
        with pytest.raises(ValueError, match=complaint):
            element_fractions(wrong)


def test_batches_threads_and_multiples_change_nothing(tuning: Oracle) -> None:
    rows = random_compositions(50, ELEMNET_INDEX, seed=1)
    mean, spread = tuning.predict(rows)
    np.testing.assert_array_equal(tuning.predict(rows, num_threads=2), (mean, spread))
    parts = [tuning.predict(rows[start : start + 7]) for start in range(0, 50, 7)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), (mean, spread))
    once, twice = ([f"Y{n}Ba{2 * n}Cu{3 * n}O{7 * n}", f"Mg{n}B{2 * n}"] for n in (1, 2))
    np.testing.assert_array_equal(
        tuning.predict(parse_fractions(once)), tuning.predict(parse_fractions(twice))
    )
    assert [values.shape for values in tuning.predict(rows[:0])] == [(0,), (0,)]


def test_it_knows_the_landmarks(tuning: Oracle) -> None:
    mean, spread = tuning.predict(parse_fractions(["YBa2Cu3O7", "MgB2", "Nb3Sn", "NaCl", "SiO2"]))
    assert mean[0] > 70
    assert mean[1:3] == pytest.approx([38, 18], abs=10)
    assert (mean[3:] < 15).all()
    assert (spread >= 0).all()


def test_its_errors_are_not_the_reporting_oracles(
    tuning: Oracle, literature: tuple[np.ndarray, np.ndarray]
) -> None:
    rows, tc_k = literature
    mine, theirs = tuning.predict(rows)[0] - tc_k, load_oracle().predict(rows)[0] - tc_k
    assert np.abs(mine - theirs).mean() > 0.5
    random = random_compositions(500, ELEMNET_INDEX, seed=2)
    apart = tuning.predict(random)[0], load_oracle().predict(random)[0]
    assert np.abs(apart[0] - apart[1]).mean() > 1
    assert np.corrcoef(*apart)[0, 1] < 0.8


def test_the_card_is_the_files_and_says_what_it_is_for(
    tuning: Oracle, literature: tuple[np.ndarray, np.ndarray]
) -> None:
    card, reporting = load_card(TUNING_ORACLE), load_card(ORACLE)
    file = shipped_weights() / "tc_tuning_oracle.txt.gz"
    assert card["kind"] == TUNING_ORACLE
    assert card["weights"] == file.name
    assert card["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert file.stat().st_size < 4e6
    assert tuple(card["recipe"]["inputs"]) == SYMBOLS
    assert "never reports" in " ".join(card["limits"])
    assert "agreement is no proof" in " ".join(card["limits"])
    for split, r2 in (("random", 0.88), ("system", 0.75)):
        assert card["splits"][split]["oracle"]["r2"] > r2
        assert card["cross_validation"][split]["r2"] > r2
        assert card["splits"][split]["train_rows"] == reporting["splits"][split]["train_rows"]
    assert card["data"] == reporting["data"]
    assert card["held_out"] == reporting["held_out"]
    error = np.abs(tuning.predict(literature[0])[0] - literature[1]).mean()
    assert error == pytest.approx(card["literature"]["mae"], abs=1e-3)


def test_no_search_rests_on_it() -> None:
    """That no module of the search imports the oracle's is a contract of the imports (pyproject.toml)."""
    assert TUNING_ORACLE not in weights_hashes()


def test_the_other_kinds_file_is_refused(tmp_path: Path) -> None:
    for kind, other, complaint in [
        (TUNING_ORACLE, ORACLE, "118 element fractions .*kiago train tuning-oracle"),
        (ORACLE, TUNING_ORACLE, "composition statistics .*kiago train oracle"),
    ]:
        for ending in ("json", "txt.gz"):
            shutil.copy(shipped_weights() / f"{other}.{ending}", tmp_path / f"{kind}.{ending}")
        with pytest.raises(WeightsError, match=complaint):
            load_oracle(tmp_path, kind)


def test_what_is_trained_comes_back_beside_the_other(tmp_path: Path) -> None:
    card = train_oracle(TcTables(KNOWN, ZEROS), SMALL, RunOptions(out=tmp_path), TUNING_ORACLE)
    train_oracle(TcTables(KNOWN, ZEROS), replace(SMALL, fold_seed=None), RunOptions(out=tmp_path))
    assert {file.name for file in tmp_path.iterdir()} == {
        f"{kind}.{ending}" for kind in (ORACLE, TUNING_ORACLE) for ending in ("json", "txt.gz")
    }
    content = (tmp_path / f"{TUNING_ORACLE}.txt.gz").read_bytes()
    assert card["sha256"] == hashlib.sha256(content).hexdigest()
    stored, other = (json.loads((tmp_path / f"{kind}.json").read_text()) for kind in (TUNING_ORACLE, ORACLE))
    assert stored["splits"] == card["splits"]
    assert stored["settings"]["fold_seed"] == 1
    assert "drawn by fold_seed" in stored["recipe"]["folds"]
    assert "fold_seed" not in other["settings"] | other["recipe"]
    test = KNOWN.held_out("random")
    mean, _ = load_oracle(tmp_path, TUNING_ORACLE).predict(KNOWN.fractions[test])
    assert float(np.abs(mean - KNOWN.values[test]).mean()) == pytest.approx(
        card["splits"]["random"]["oracle"]["mae"], abs=1e-3
    )
    with pytest.raises(WeightsError, match=r"tc_tuning_oracle\.json"):
        load_oracle(tmp_path / "none", TUNING_ORACLE)


def test_folds_are_drawn_by_the_seed_and_keep_systems_together() -> None:
    systems = np.array(KNOWN.systems)
    drawn = {}
    for seed in (None, 1, 2):
        fit = OracleFit(KNOWN, ZEROS, replace(SMALL, fold_seed=seed), TUNING_ORACLE)
        folds = [left_out for _, left_out in fit.folds("system", 5)]
        assert sorted(np.concatenate(folds)) == list(range(len(systems)))
        assert sum(len(set(systems[left_out])) for left_out in folds) == len(set(systems))
        drawn[seed] = {tuple(left_out) for left_out in folds}
    assert drawn[None] != drawn[1] != drawn[2]
    assert TUNING_SETTINGS.seed != OracleSettings().seed
    assert TUNING_SETTINGS.fold_seed is not None


def test_it_learns_from_amounts_and_twice_the_same() -> None:
    fit = OracleFit(KNOWN, ZEROS, replace(SMALL, most_rounds=300), TUNING_ORACLE)
    np.testing.assert_array_equal(fit.inputs, INPUTS[TUNING_ORACLE].of(KNOWN.fractions))
    one, other = (fit.members() for _ in range(2))
    mean, _ = one.predict(KNOWN.fractions)
    assert one.kind == TUNING_ORACLE
    assert np.abs(mean - KNOWN.values).mean() < 5
    np.testing.assert_array_equal(other.predict(KNOWN.fractions)[0], mean)


def test_the_command_trains_the_kind_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[Any, ...]] = []

    def trained(tables: Any, settings: Any, options: Any, kind: str) -> dict[str, Any]:
        asked.append((settings, options, kind))
        return {"sha256": "0", "splits": {}}

    monkeypatch.setattr(train.TcTables, "read", lambda *files: TcTables(KNOWN, ZEROS))
    monkeypatch.setattr("kiago_ray.cli.train.train_oracle", trained)
    files = ["--data", "a", "--non-superconductors", "b"]
    command = ["kiago", "train", "tuning-oracle", *files, "--threads", "1", "--out"]
    for more, settings in [
        ([], TUNING_SETTINGS),
        (["--seed", "4"], replace(TUNING_SETTINGS, seed=4, fold_seed=4)),
    ]:
        monkeypatch.setattr(sys, "argv", [*command, str(tmp_path / "out"), *more])
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code
        assert json.loads(capsys.readouterr().out)["sha256"] == "0"
        found, options, kind = asked.pop()
        assert (found, kind) == (settings, TUNING_ORACLE)
        assert options.out == tmp_path / "out"
