"""Training the oracle: which rows a fit sees, what the card says of them, and the command line."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import lightgbm
import numpy as np
import pytest
from sklearn.model_selection import GroupKFold

from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.cli.main import main
from kiago_ray.errors import InputError
from kiago_ray.predictors.oracle import composition_statistics, load_oracle
from kiago_ray.training import oracle as oracle_fit
from kiago_ray.training.fit import RunOptions
from kiago_ray.training.oracle import OracleFit, OracleSettings, train_oracle
from kiago_ray.training.tables import TcTables, TrainingTable

SMALL = OracleSettings(most_rounds=30, leaves=7, non_superconductors_a_member=10)


def table(first: str, second: str, count: int, highest_tc_k: float) -> TrainingTable:
    """Binaries A_n B: their T_c follows from the elements, so that trees can learn it."""
    a, b = first.split(), second.split()
    pairs = [(a[i % len(a)], b[(i // len(a)) % len(b)]) for i in range(count)]
    formulas = [f"{x}{n}{y}" for n, (x, y) in enumerate(pairs, start=1)]
    values = np.array([a.index(x) / len(a) * highest_tc_k for x, _ in pairs], dtype=np.float32)
    systems = ["-".join(sorted(pair)) for pair in pairs]
    return TrainingTable(formulas, systems, parse_fractions(formulas).astype(np.float32), values)


KNOWN = table("Nb V Ta Zr Ti Mo", "C N Si Ge Sn Al Ga", 240, 90)
ZEROS = table("Na K Li Ca Mg Ba", "Cl F Br I S Se", 120, 0)
HELD_BACK = table("Pb Hg", "Bi In", 6, 120)


def keys(rows: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in rows}


def test_no_fit_sees_what_its_split_holds_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[set[bytes], set[bytes]]] = []
    fit = oracle_fit.lightgbm.train

    def watched(parameters: dict, data: lightgbm.Dataset, rounds: int, **more: object) -> lightgbm.Booster:
        left_out = [keys(valid.data) for valid in more.get("valid_sets", [])]
        seen.append((keys(data.data), set().union(*left_out)))
        return fit(parameters, data, rounds, **more)

    monkeypatch.setattr(oracle_fit.lightgbm, "train", watched)
    told: list[str] = []
    card = train_oracle(
        TcTables(KNOWN, ZEROS, HELD_BACK), SMALL, RunOptions(out=tmp_path, on_step=told.append)
    )

    held_back = keys(composition_statistics(HELD_BACK.fractions))
    folds = iter(seen)
    for split in ("random", "system"):
        hidden = set().union(
            *(keys(composition_statistics(t.pick(t.held_out(split)).fractions)) for t in (KNOWN, ZEROS))
        )
        train = KNOWN.pick(~KNOWN.held_out(split))
        stopped_on = []
        for _ in range(SMALL.members):
            rows, left_out = next(folds)
            assert len(rows) > SMALL.non_superconductors_a_member
            assert not (rows | left_out) & (hidden | held_back)
            assert not rows & left_out
            stopped_on.append(left_out)
        assert set().union(*stopped_on) == keys(composition_statistics(train.fractions))
        scores = card["splits"][split]
        assert (
            scores["oracle"]["rows"]
            == scores["nearest_neighbour"]["rows"]
            == int(KNOWN.held_out(split).sum())
        )
        assert scores["train_rows"] == len(train.values)
        assert 1 <= scores["rounds"] <= SMALL.most_rounds
    assert len(list(folds)) == 20
    assert len(told) == 4

    stored = json.loads((tmp_path / "tc_oracle.json").read_text())
    assert stored["splits"] == card["splits"]
    assert card["literature"]["rows"] == 6
    assert card["cross_validation"]["random"]["rows"] == 240
    test = KNOWN.held_out("random")
    mean, _ = load_oracle(tmp_path).predict(KNOWN.fractions[test])
    error = float(np.abs(mean - KNOWN.values[test]).mean())
    assert error == pytest.approx(card["splits"]["random"]["oracle"]["mae"], abs=1e-3)


def test_it_learns_what_trees_can_learn_and_twice_the_same() -> None:
    settings = replace(SMALL, most_rounds=300, rows_a_leaf=2, feature_share=0.6)
    one, other = (OracleFit(KNOWN, ZEROS, settings).members() for _ in range(2))
    mean, spread = one.predict(KNOWN.fractions)
    assert np.abs(mean - KNOWN.values).mean() < 5
    assert (one.predict(ZEROS.fractions)[0] < 15).mean() > 0.9
    np.testing.assert_array_equal(other.predict(KNOWN.fractions), (mean, spread))
    third = OracleFit(KNOWN, ZEROS, replace(settings, seed=1)).members()
    assert (third.predict(KNOWN.fractions)[0] != mean).any()


def test_members_stop_where_the_folds_left_out_are_predicted_best() -> None:
    settings = replace(SMALL, learning_rate=0.5, most_rounds=40, rows_a_leaf=1)
    fit = OracleFit(KNOWN, ZEROS, settings)
    oracle = fit.members()
    folds = list(GroupKFold(settings.members).split(KNOWN.values, groups=KNOWN.systems))

    def error(rounds: int) -> float:
        return sum(
            float(((member.predict(fit.inputs[out], num_iteration=rounds) - KNOWN.values[out]) ** 2).sum())
            for member, (_, out) in zip(oracle.members, folds, strict=True)
        )

    errors = [error(rounds) for rounds in range(1, 41)]
    assert {member.best_iteration for member in oracle.members} == {int(np.argmin(errors)) + 1}
    assert min(errors) < errors[-1]


def test_cross_validation_predicts_every_row_without_it() -> None:
    """Noise can't be predicted by a model that hasn't seen it; one that has would come close."""
    noise = replace(KNOWN, values=np.random.default_rng(0).random(240, dtype=np.float32) * 90)
    settings = replace(SMALL, leaves=31, rows_a_leaf=1, learning_rate=0.3)
    for split in ("random", "system"):
        predicted = OracleFit(noise, ZEROS, settings).cross_validated(split, 60)
        assert predicted.shape == (240,)
        assert np.corrcoef(predicted, noise.values)[0, 1] < 0.3
    fitted = OracleFit(noise, ZEROS, replace(settings, most_rounds=60)).members()
    assert np.corrcoef(fitted.predict(KNOWN.fractions)[0], noise.values)[0, 1] > 0.3


def test_too_few_systems_are_told() -> None:
    few = KNOWN.pick(np.isin(KNOWN.systems, sorted(set(KNOWN.systems))[:3]))
    with pytest.raises(InputError, match="3 chemical systems"):
        OracleFit(few, ZEROS, SMALL).members()


def test_the_command_refuses_a_table_of_another_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    literature = Path(__file__).parents[1] / "data" / "literature_tc.tsv"
    command = ["kiago", "train", "oracle", "--data", literature, "--non-superconductors", literature]
    monkeypatch.setattr(sys, "argv", [*map(str, command), "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert "is a supercon table" in capsys.readouterr().err
