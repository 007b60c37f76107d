"""The recipe of E_f: corrections are found again, nothing held out is learnt, and the card's figures by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kiago_ray.chemistry.elements import INDEX, SYMBOLS
from kiago_ray.predictors.weights import load_card, load_energies
from kiago_ray.training.energy import SETTINGS, EnergyTables, signs, stability, train_energies
from kiago_ray.training.fit import RunOptions
from kiago_ray.training.tables import TrainingTable

SHIFTS = {"O": -0.3, "S": -0.4, "Ti": 0.05}


def made(count: int, seed: int, shifts: dict[str, float]) -> TrainingTable:
    """Binary and ternary compounds whose E_f is −|Δχ| by element number, moved by `shifts`."""
    rng = np.random.default_rng(seed)
    elements = ["O", "S", "Ti", "Fe", "Cu", "La", "Mg", "B", "Ba", "Y", "Nb", "Se"]
    rows: dict[str, tuple[str, np.ndarray]] = {}
    while len(rows) < count:
        chosen = sorted(rng.choice(elements, int(rng.integers(2, 4)), replace=False))
        amounts = rng.integers(1, 5, len(chosen))
        amounts //= np.gcd.reduce(amounts)
        x = np.zeros(118, dtype=np.float32)
        x[[INDEX[each] for each in chosen]] = amounts / amounts.sum()
        formula = "".join(f"{e}{n}" for e, n in zip(chosen, amounts, strict=True))
        rows[formula] = "-".join(chosen), x
    fractions = np.stack([x for _, x in rows.values()])
    weights = np.zeros(118)
    for symbol, shift in shifts.items():
        weights[INDEX[symbol]] = shift
    values = 0.8 - np.abs(fractions @ np.linspace(-2, 2, 118)) + fractions @ weights
    return TrainingTable(list(rows), [s for s, _ in rows.values()], fractions, values.astype(np.float32))


@pytest.fixture(scope="module")
def tables() -> EnergyTables:
    oqmd, theirs = made(900, 0, {}), made(900, 0, SHIFTS)
    above = theirs.values.astype(np.float64) - np.median(theirs.values)
    return EnergyTables(oqmd, theirs, above)


def test_corrections_are_found_again(tables: EnergyTables) -> None:
    found = {symbol: tables.corrections[INDEX[symbol]] for symbol in ("O", "S", "Ti", "Fe", "He")}
    assert found == pytest.approx({**SHIFTS, "Fe": 0, "He": 0}, abs=0.01)


def test_what_is_held_out_of_one_source_is_in_neither(tables: EnergyTables) -> None:
    rows = tables.together.fractions.numpy()
    for table in (tables.oqmd, tables.materials_project):
        for split in ("random", "system"):
            out = table.fractions[table.held_out(split)]
            assert len(out)
            assert not (np.abs(rows[None, :, :118] - out[:20, None]).max(axis=2) < 1e-6).any()
    # On one scale both sources say the same of one composition.
    half = len(rows) // 2
    targets = tables.together.targets.numpy()
    np.testing.assert_allclose(targets[:half], targets[half:], atol=0.01)


def test_a_small_run_writes_weights_that_load_and_a_card(tables: EnergyTables, tmp_path: Path) -> None:
    settings = replace(SETTINGS, epochs=1, batch_rows=64)
    card = train_energies(tables, settings, RunOptions(out=tmp_path))
    assert load_card("ef_ensemble", tmp_path) == card
    assert card["corrections_ev_per_atom"]["O"] == pytest.approx(-0.3, abs=0.01)
    for split in card["splits"].values():
        for scores in split.values():
            assert {"rows", "ensemble", "extra_trees", "nearest_neighbour", "elemnet"} == set(scores)
    network = load_energies(tmp_path)
    known = {SYMBOLS[z] for z in np.flatnonzero(network.supported.numpy())}
    assert known == {"O", "S", "Ti", "Fe", "Cu", "La", "Mg", "B", "Ba", "Y", "Nb", "Se"}
    _, std = network.estimates(tables.oqmd.fractions[:5])
    assert (std > 0).all()


def test_signs_by_hand() -> None:
    found = signs(np.array([-1.0, 0.1, 0.2, -0.3]), np.array([-0.5, -0.1, 0.4, 0.1]))
    assert found["negative_right"] == found["positive_right"] == 0.5
    assert found["bias"] == pytest.approx(-0.225)


def test_stability_by_hand() -> None:
    # Above the others' hull by DFT: −0.1, −0.02, 0.05, 0.3; the predicted E_f is wrong by 0.03, −0.01, −0.06, 0.1.
    true, above = np.array([-1.0, -1.0, -1.0, -1.0]), np.array([-0.1, -0.02, 0.05, 0.3])
    found = stability(true + np.array([0.03, -0.01, -0.06, 0.1]), true, above)
    assert found["mae"] == pytest.approx(0.05)
    assert (found["accuracy"], found["stable"], found["auc"]) == (0.75, 0.5, 1.0)
    assert found["f1"] == pytest.approx(0.8)
    assert found["pass_stable_and_unstable"]["0"] == [1.0, 0.5]
