"""Training from tables to weights with a card: a small run of each recipe, its command line; the spread's fit."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.cli.main import main
from kiago_ray.data.compositions import folds
from kiago_ray.errors import InputError
from kiago_ray.predictors.ensemble import CalibratedEnsemble, Spread
from kiago_ray.predictors.weights import load_network, load_predictors
from kiago_ray.training import tables
from kiago_ray.training.fit import RunOptions
from kiago_ray.training.recipes import (
    ENSEMBLE_LESSON,
    ENSEMBLE_SETTINGS,
    FOLD_SALT,
    FOLDS,
    TC_LESSON,
    TC_SETTINGS,
    HeldOut,
    coverage,
    fit_extrapolation,
    fit_spread,
    member_weights,
    train_tc,
    train_tc_ensemble,
)
from kiago_ray.training.tables import MadeUp, TcTables, TrainingTable

FEW = MadeUp(small_jitter=60, large_jitter=20, mixed=20, substituted=20, enriched=20)


def table(first: str, second: str, count: int, values: np.ndarray) -> TrainingTable:
    a, b = first.split(), second.split()
    pairs = [(a[i % len(a)], b[(i // len(a)) % len(b)]) for i in range(count)]
    formulas = [f"{x}{n}{y}" for n, (x, y) in enumerate(pairs, start=1)]
    fractions = parse_fractions(formulas).astype(np.float32)
    return TrainingTable(formulas, ["-".join(sorted(p)) for p in pairs], fractions, values.astype(np.float32))


def known(count: int = 300) -> TrainingTable:
    generator = np.random.default_rng(1)
    return table("Nb V Ta Zr Ti Mo", "C N Si Ge Sn Al Ga", count, generator.random(count) * 90)


def zeros() -> TrainingTable:
    return table("Na K Li Ca Mg Ba", "Cl F Br I S Se", 120, np.zeros(120))


LITERATURE = table("Pb Hg", "Bi In", 6, np.array([7.0, 4, 8, 3, 60, 70]))


def rows_of(*tables: TrainingTable) -> set[bytes]:
    return {row.tobytes() for table in tables for row in table.fractions}


@pytest.mark.slow
def test_a_small_tc_run_writes_weights_and_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taught_from: list[np.ndarray] = []
    teach = tables.tree_labels

    def watched(train: np.ndarray, *rest: np.ndarray, seed: int, trees: int) -> np.ndarray:
        if trees == TC_LESSON.teacher_trees:  # the yardsticks' trees are fewer
            taught_from.append(train)
        return teach(train, *rest, seed=seed, trees=trees)

    monkeypatch.setattr(tables, "tree_labels", watched)
    settings = replace(TC_SETTINGS, epochs=1, batch_rows=32)
    options = RunOptions(out=tmp_path, bfloat16=False)
    lesson = replace(TC_LESSON, made=FEW)
    card = train_tc(TcTables(known(240), zeros(), LITERATURE), settings, options, lesson)

    stored = json.loads((tmp_path / "tc.json").read_text())
    assert stored["splits"] == card["splits"]
    for split, rows in zip(("random", "system"), taught_from, strict=True):
        scores = card["splits"][split]
        held = known(240).parts(split)[1]
        assert scores["resnet18"]["rows"] == scores["extra_trees"]["rows"] == len(held.values) > 0
        assert scores["train_rows"] == 240 - len(held.values)
        assert scores["nearest_neighbour"]["mae"] > 0
        seen = {row.tobytes() for row in rows}
        assert not seen & rows_of(held, zeros().parts(split)[1], LITERATURE)
    assert card["literature"]["rows"] == 6
    assert 0 < card["half_precision_storage"]["mean_absolute_change"] < 1
    assert stored["settings"]["epochs"] == 1

    fewer = known(240).pick(np.arange(240) != int(np.flatnonzero(~known(240).held_out("random"))[0]))
    with pytest.raises(InputError, match="other settings or data"):
        train_tc(TcTables(fewer, zeros(), LITERATURE), settings, options, lesson)
    some = zeros()  # and as many zeros in another order, of which an epoch may see the same
    turned = replace(some, formulas=some.formulas[::-1], fractions=some.fractions[::-1].copy())
    with pytest.raises(InputError, match="other settings or data"):
        train_tc(TcTables(known(240), turned, LITERATURE), settings, options, lesson)


def test_the_two_splits_never_share_a_key() -> None:
    out = known().held_out("system")
    systems = np.array(known().systems)
    assert not set(systems[out]) & set(systems[~out])


@pytest.mark.slow
def test_the_command_trains_resumes_and_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = np.random.default_rng(4)
    rows = table("Fe Ni Co Ti V Nb", "O S N C B Si", 700, np.zeros(700)).formulas
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
    assert "ef-random: epoch 1/1" in err
    assert "ef-system: epoch 1/1" in err
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


def test_members_miss_their_fold_of_measured_rows_and_see_all_others() -> None:
    rows, lesson = known(), replace(ENSEMBLE_LESSON, made=FEW)
    taught, weights = lesson.taught(rows, zeros(), 0), member_weights(rows, 6)
    epoch = lesson.sampler(rows, zeros(), taught, weights)(torch.Generator().manual_seed(0))
    assert epoch.weights is not None
    measured = epoch.weights[:300]
    fold = folds(rows.systems, FOLDS, salt=FOLD_SALT)
    for member in range(6):
        assert (measured[:, member] == torch.from_numpy((fold != member).astype(np.float32))).all()
    assert (epoch.weights[300:] == 1).all()
    assert len(epoch.targets) == 300 + 120 + 140
    torch.testing.assert_close(epoch.fractions.sum(1), torch.ones(560), atol=1e-5, rtol=0)


def test_what_the_trees_say_lies_within_what_they_saw() -> None:
    lesson = replace(ENSEMBLE_LESSON, made=FEW)
    made, tc_k = lesson.taught(known(), zeros(), 0)
    assert tc_k.min() >= 0
    assert tc_k.max() <= known().values.max()
    again = lesson.taught(known(), zeros(), 0)
    assert np.array_equal(made, again[0])
    assert np.array_equal(tc_k, again[1])


@pytest.mark.slow
def test_a_small_ensemble_run_writes_weights_that_load_and_a_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[bytes]] = []
    real = tables.Lesson.taught

    def watched(lesson: tables.Lesson, train: TrainingTable, zero: TrainingTable, seed: int) -> object:
        seen.append(rows_of(train, zero))
        return real(lesson, train, zero, seed)

    monkeypatch.setattr(tables.Lesson, "taught", watched)
    settings = replace(ENSEMBLE_SETTINGS, epochs=1, batch_rows=64)
    options, lesson = RunOptions(out=tmp_path, bfloat16=False), replace(ENSEMBLE_LESSON, made=FEW)
    card = train_tc_ensemble(TcTables(known(), zeros(), LITERATURE), settings, options, lesson)
    assert json.loads((tmp_path / "tc_ensemble.json").read_text())["splits"] == card["splits"]
    for rows, split in zip(seen, ("random", "system"), strict=True):
        scores = card["splits"][split]
        held = known().parts(split)[1]
        assert scores["ensemble"]["rows"] == scores["extra_trees"]["rows"] == len(held.values) > 0
        assert 0 <= scores["spread"]["within_1_sigma"] <= scores["spread"]["within_2_sigma"] <= 1
        assert scores["extrapolation"]["auc_against_random"] > 0.9
        assert not rows & rows_of(held, LITERATURE)
    loaded = load_network("tc_ensemble", tmp_path)
    assert isinstance(loaded, CalibratedEnsemble)
    # Flagged in the unit that is served, the random split's: not 5 % by construction.
    out = known().held_out("system")
    alone = fit_extrapolation(known().fractions[~out], known().fractions[out], seed=settings.seed)
    served = alone.distance(torch.from_numpy(known().fractions[out])) / loaded.extrapolation.unit
    flagged = card["splits"]["system"]["extrapolation"]["held_out_flagged"]
    assert flagged == pytest.approx(float((served > 1).float().mean()), abs=1e-4)
    assert float(alone.unit) != pytest.approx(float(loaded.extrapolation.unit), rel=1e-3)
    test = known().pick(known().held_out("random"))
    tc_k = loaded.estimates(test.fractions).tc_k.clip(min=0)
    mae = float(np.abs(tc_k - test.values).mean())
    assert mae == pytest.approx(card["splits"]["random"]["ensemble"]["mae"], abs=1e-3)


def made(count: int, seed: int, further: float) -> HeldOut:
    """Errors of a normal distribution whose deviation grows with disagreement and extrapolation."""
    generator = np.random.default_rng(seed)
    disagreement = generator.exponential(3, count)
    extrapolation = np.abs(generator.normal(further, 0.2, count))
    mean = generator.uniform(5, 100, count)
    deviation = 2 * (1 + disagreement) ** 0.7 * np.exp(0.8 * extrapolation)
    measured = np.clip(mean, 0, None) + deviation * generator.standard_normal(count)
    terms = Spread.terms(*map(torch.from_numpy, (mean, disagreement, extrapolation))).numpy()
    return HeldOut(terms, np.abs(measured - mean))


def test_known_deviations_are_found_and_covered_on_both_splits() -> None:
    spread = fit_spread([made(3000, 0, 0.3), made(3000, 1, 1.0)])
    for seed, further in ((2, 0.3), (3, 1.0)):
        covered = coverage(spread, made(4000, seed, further))
        assert covered["within_1_sigma"] == pytest.approx(0.683, abs=0.03)
        assert covered["within_2_sigma"] == pytest.approx(0.954, abs=0.02)
    assert spread.coefficients[1] == pytest.approx(0.7, abs=0.12)
    assert spread.coefficients[3] == pytest.approx(0.8, abs=0.15)


def test_an_uncalibrated_spread_is_seen_to_cover_too_little() -> None:
    covered = coverage(Spread(), made(2000, 4, 1.0))
    assert covered["within_1_sigma"] < 0.5


def test_the_spread_has_a_slope_where_t_c_is_below_0() -> None:
    spread = Spread().double()
    spread.coefficients.copy_(torch.tensor([0.1, 0.6, 0.4, 0.5]))
    values = torch.tensor([[-20.0, 3.0], [0.5, 2.0], [0.2, 1.5]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: spread(Spread.terms(v[0], v[1], v[2])), (values,))
