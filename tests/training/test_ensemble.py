"""What the ensemble learns from: folds of whole systems, made-up rows, zeros; a run from end to end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.predictors.ensemble import CalibratedEnsemble
from kiago_ray.predictors.weights import load_network
from kiago_ray.training import ensemble as ensemble_recipe
from kiago_ray.training.augmentation import MadeUp
from kiago_ray.training.calibration import fit_extrapolation
from kiago_ray.training.ensemble import FOLD_SALT, FOLDS, SETTINGS, sampler, teach, train_tc_ensemble
from kiago_ray.training.evaluation import TcTables, TrainingTable, folds
from kiago_ray.training.recipes import RunOptions

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


def test_a_system_lies_in_one_fold_and_folds_are_about_equal() -> None:
    systems = [f"A-{n}" for n in range(4000)]
    fold = folds([*systems, *systems], FOLDS, salt=FOLD_SALT)
    assert (fold[:4000] == fold[4000:]).all()
    assert np.bincount(fold, minlength=FOLDS).min() > 300


def test_members_miss_their_fold_of_measured_rows_and_see_all_others() -> None:
    rows = known()
    taught = teach(rows, zeros().fractions, 0, FEW)
    epoch = sampler(rows, zeros().fractions, taught, 6)(torch.Generator().manual_seed(0))
    assert epoch.weights is not None
    measured = epoch.weights[:300]
    fold = folds(rows.systems, FOLDS, salt=FOLD_SALT)
    for member in range(6):
        assert (measured[:, member] == torch.from_numpy((fold != member).astype(np.float32))).all()
    assert (epoch.weights[300:] == 1).all()
    assert len(epoch.targets) == 300 + 120 + 140
    torch.testing.assert_close(epoch.fractions.sum(1), torch.ones(560), atol=1e-5, rtol=0)


def test_what_the_trees_say_lies_within_what_they_saw() -> None:
    taught = teach(known(), zeros().fractions, 0, FEW)
    assert taught.tc_k.min() >= 0
    assert taught.tc_k.max() <= known().values.max()
    again = teach(known(), zeros().fractions, 0, FEW)
    assert np.array_equal(taught.fractions, again.fractions)
    assert np.array_equal(taught.tc_k, again.tc_k)


@pytest.mark.slow
def test_a_small_run_writes_weights_that_load_and_a_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []
    real = ensemble_recipe.teach

    def watched(train: TrainingTable, zero: np.ndarray, seed: int, made: MadeUp) -> object:
        seen.append(np.concatenate([train.fractions, zero]))
        return real(train, zero, seed, made)

    monkeypatch.setattr(ensemble_recipe, "teach", watched)
    settings = replace(SETTINGS, epochs=1, batch_rows=64)
    literature = table("Pb Hg", "Bi In", 6, np.array([7.0, 4, 8, 3, 60, 70]))
    options = RunOptions(out=tmp_path, bfloat16=False)
    card = train_tc_ensemble(TcTables(known(), zeros(), literature), settings, options, FEW)
    assert json.loads((tmp_path / "tc_ensemble.json").read_text())["splits"] == card["splits"]
    for at, split in enumerate(("random", "system")):
        scores = card["splits"][split]
        held = known().pick(known().held_out(split))
        assert scores["ensemble"]["rows"] == scores["extra_trees"]["rows"] == len(held.values) > 0
        assert 0 <= scores["spread"]["within_1_sigma"] <= scores["spread"]["within_2_sigma"] <= 1
        assert scores["extrapolation"]["auc_against_random"] > 0.9
        rows = {row.tobytes() for row in seen[at]}
        assert not rows & {row.tobytes() for row in held.fractions}
        assert not rows & {row.tobytes() for row in literature.fractions}
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
