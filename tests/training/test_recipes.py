"""Training from tables to weights with a card: a small run of each recipe, and its command line."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.cli.main import main
from kiago_ray.errors import InputError
from kiago_ray.predictors import load_predictors
from kiago_ray.training import recipes
from kiago_ray.training.augmentation import MadeUp
from kiago_ray.training.evaluation import TcTables, TrainingTable
from kiago_ray.training.recipes import TC_SETTINGS, RunOptions, rows_id, train_tc

FEW = MadeUp(small_jitter=60, large_jitter=20, mixed=20, substituted=20, enriched=20)


def table(pairs: list[tuple[str, str]], values: np.ndarray) -> TrainingTable:
    formulas = [f"{a}{n}{b}" for n, (a, b) in enumerate(pairs, start=1)]
    systems = ["-".join(sorted(pair)) for pair in pairs]
    return TrainingTable(
        formulas, systems, parse_fractions(formulas).astype(np.float32), values.astype(np.float32)
    )


def binaries(first: str, second: str, count: int) -> list[tuple[str, str]]:
    a, b = first.split(), second.split()
    return [(a[i % len(a)], b[(i // len(a)) % len(b)]) for i in range(count)]


@pytest.mark.slow
def test_a_small_tc_run_writes_weights_and_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taught_from: list[np.ndarray] = []
    teach = recipes.tree_labels

    def watched(train: np.ndarray, values: np.ndarray, made: np.ndarray, *, seed: int) -> np.ndarray:
        taught_from.append(train)
        return teach(train, values, made, seed=seed)

    monkeypatch.setattr(recipes, "tree_labels", watched)
    generator = np.random.default_rng(1)
    known = table(binaries("Nb V Ta Zr Ti Mo", "C N Si Ge Sn Al Ga", 240), generator.random(240) * 90)
    zeros = table(binaries("Na K Li Ca Mg Ba", "Cl F Br I S Se", 120), np.zeros(120))
    literature = table(binaries("Pb Hg", "Bi In", 6), np.array([7.0, 4, 8, 3, 60, 70]))
    settings = replace(TC_SETTINGS, epochs=1, batch_rows=32)
    options = RunOptions(out=tmp_path, bfloat16=False)
    card = train_tc(TcTables(known, zeros, literature), settings, options, FEW)

    stored = json.loads((tmp_path / "tc.json").read_text())
    assert stored["splits"] == card["splits"]
    for split in ("random", "system"):
        scores = card["splits"][split]
        held = int(known.held_out(split).sum())
        assert scores["resnet18"]["rows"] == scores["extra_trees"]["rows"] == held > 0
        assert scores["train_rows"] == 240 - held
        assert scores["nearest_neighbour"]["mae"] > 0
    assert card["literature"]["rows"] == 6
    assert 0 < card["half_precision_storage"]["mean_absolute_change"] < 1
    assert stored["settings"]["epochs"] == 1

    for split, rows in zip(("random", "system"), taught_from, strict=True):
        seen = {row.tobytes() for row in rows}
        for whole in (known, zeros):
            held_out = whole.pick(whole.held_out(split)).fractions
            assert not seen & {row.tobytes() for row in held_out}
        assert not seen & {row.tobytes() for row in literature.fractions}

    fewer = known.pick(np.arange(240) != int(np.flatnonzero(~known.held_out("random"))[0]))
    with pytest.raises(InputError, match="other settings or data"):
        train_tc(TcTables(fewer, zeros, literature), settings, options, FEW)


def test_what_a_fit_learns_from_is_in_its_identity() -> None:
    known = table(binaries("Nb V", "C N", 20), np.arange(20.0))
    other = replace(known, values=known.values + 1)
    ids = {rows_id(known, recipe={}), rows_id(other, recipe={}), rows_id(known, recipe={"waves": 2})}
    assert len(ids) == 3
    assert rows_id(known, recipe={}) in ids


def test_the_two_splits_never_share_a_key() -> None:
    known = table(binaries("Nb V Ta", "C N Si", 300), np.zeros(300))
    out = known.held_out("system")
    systems = np.array(known.systems)
    assert not set(systems[out]) & set(systems[~out])


@pytest.mark.slow
def test_the_command_trains_resumes_and_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = np.random.default_rng(4)
    rows = [
        f"{a}{n}{b}" for n, (a, b) in enumerate(binaries("Fe Ni Co Ti V Nb", "O S N C B Si", 700), start=1)
    ]
    energies = -3 * generator.random(700)
    text = "formula,formation_energy_ev_per_atom\n" + "".join(
        f"{f},{e:.4f}\n" for f, e in zip(rows, energies, strict=True)
    )
    (tmp_path / "oqmd.csv").write_text(text)

    def train(*arguments: str) -> tuple[int, str]:
        command = [
            "kiago",
            "train",
            "ef",
            "--data",
            str(tmp_path / "oqmd.csv"),
            "--out",
            str(tmp_path / "out"),
        ]
        monkeypatch.setattr(sys, "argv", [*command, *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        assert isinstance(stop.value.code, int)
        return stop.value.code, capsys.readouterr().err

    code, err = train("--epochs", "1")
    assert code == 0, err
    assert "random split: epoch 1/1" in err
    assert "system split: epoch 1/1" in err
    card = json.loads((tmp_path / "out" / "ef.json").read_text())
    assert card["data"][0]["rows_read"] == 700
    code, err = train("--epochs", "1")
    assert code == 0
    assert "epoch" not in err
    assert train("--epochs", "2")[0] == 2
    assert train("--splits", "system")[0] == 2
    assert train("--splits", "random,sytem")[0] == 2
    (tmp_path / "oqmd.csv").write_text("formula,formation_energy_ev_per_atom\n")
    assert train("--epochs", "1")[0] == 2


def test_the_shipped_predictors_know_their_elements() -> None:
    predictors = load_predictors()
    assert int(predictors.supported.sum()) == 86
