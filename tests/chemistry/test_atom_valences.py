"""Neutrality with a valence for each atom: against brute force, and the paper's own example."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from kiago_ray.chemistry import oxidation
from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.chemistry.formula import parse
from kiago_ray.chemistry.neutrality import MAX_VALENCE_ATOMS, atom_valences, check
from kiago_ray.chemistry.oxidation import OxidationSet


def counts_of(*formulas: str) -> np.ndarray:
    rows = np.zeros((len(formulas), N_ELEMENTS), dtype=np.int64)
    for row, text in zip(rows, formulas, strict=True):
        for symbol, amount in parse(text).items():
            row[INDEX[symbol]] = int(amount)
    return rows


def brute_force(row: np.ndarray, table: tuple[tuple[int, ...], ...]) -> bool:
    """Every combination of a state for each atom."""
    present = np.flatnonzero(row)
    if len(present) == 1:
        return True
    choices = [
        {sum(each) for each in itertools.combinations_with_replacement(table[z], int(row[z]))}
        for z in present
    ]
    return any(sum(each) == 0 for each in itertools.product(*choices))


@pytest.mark.parametrize("states", [OxidationSet.SMACT14, OxidationSet.ICSD24])
def test_the_verdict_is_that_of_brute_force(states: OxidationSet) -> None:
    rng = np.random.default_rng(0)
    table = oxidation.states(states)
    rows = np.zeros((400, N_ELEMENTS), dtype=np.int64)
    for row in rows:
        chosen = rng.choice(94, size=rng.integers(1, 4), replace=False)
        row[chosen] = rng.integers(1, 6, size=len(chosen))
    found = atom_valences(rows, states)
    assert [bool(each) for each in found] == [brute_force(row, table) for row in rows]
    assert 50 < sum(bool(each) for each in found) < 390  # both kinds are there


@pytest.mark.parametrize("states", [OxidationSet.SMACT14, OxidationSet.ICSD24])
def test_what_is_given_balances_by_known_states(states: OxidationSet) -> None:
    rng = np.random.default_rng(1)
    table = oxidation.states(states)
    rows = np.zeros((300, N_ELEMENTS), dtype=np.int64)
    for row in rows:
        chosen = rng.choice(94, size=3, replace=False)
        row[chosen] = rng.integers(1, 12, size=3)
    for row, valences in zip(rows, atom_valences(rows, states), strict=True):
        if not valences:
            continue
        assert {z: sum(n for _, n in pairs) for z, pairs in valences.items()} == {
            int(z): int(row[z]) for z in np.flatnonzero(row)
        }
        assert sum(state * n for pairs in valences.values() for state, n in pairs) == 0
        assert all(state in table[z] for z, pairs in valences.items() for state, _ in pairs)


def test_lah10_is_neutral_by_atoms_and_not_by_elements() -> None:
    rows = counts_of("LaH10", "SrH6", "PtH", "Fe3O4")
    assert [bool(each) for each in atom_valences(rows, OxidationSet.SMACT14)] == [True] * 4
    assert not check(rows[:1], OxidationSet.SMACT14).neutral[0]
    (magnetite,) = atom_valences(counts_of("Fe3O4"))
    assert magnetite == {INDEX["Fe"]: ((3, 2), (2, 1)), INDEX["O"]: ((-2, 4),)}


def test_smact_neutral_is_neutral_by_atoms() -> None:
    rng = np.random.default_rng(2)
    rows = np.zeros((300, N_ELEMENTS), dtype=np.int64)
    for row in rows:
        row[rng.choice(90, size=3, replace=False)] = rng.integers(1, 5, size=3)
    one_each = check(rows, include_alloys=False).neutral
    by_atoms = np.array([bool(each) for each in atom_valences(rows)])
    assert one_each.any()
    assert by_atoms[one_each].all()


def test_elements_without_states_and_elements_alone() -> None:
    (alone, noble) = atom_valences(counts_of("Nb3", "HeO"))
    assert alone == {INDEX["Nb"]: ((0, 3),)}
    assert noble == {}


@pytest.mark.parametrize(
    ("row", "said"),
    [({"H": 0.5}, "whole"), ({"H": -1}, "whole"), ({}, "no atoms"), ({"H": MAX_VALENCE_ATOMS + 1}, "atoms")],
)
def test_what_is_no_formula_is_refused(row: dict[str, float], said: str) -> None:
    counts = np.zeros((1, N_ELEMENTS))
    for symbol, amount in row.items():
        counts[0, INDEX[symbol]] = amount
    with pytest.raises(ValueError, match=said):
        atom_valences(counts)
    with pytest.raises(ValueError, match="shape"):
        atom_valences(counts[:, :5])
