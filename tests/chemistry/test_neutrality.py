"""Neutrality and the Pauling rule: SMACT as the referee, brute force on small cases, known formulas."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
import smact
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pymatgen.core.composition import Composition
from smact.screening import pauling_test, smact_validity

from kiago_ray.chemistry import oxidation
from kiago_ray.chemistry.elements import INDEX, SYMBOLS
from kiago_ray.chemistry.formula import parse
from kiago_ray.chemistry.neutrality import MAX_ATOMS, Neutrality, check
from kiago_ray.chemistry.oxidation import OxidationSet


def counts_of(*formulas: str) -> NDArray[np.int64]:
    counts = np.zeros((len(formulas), 118), dtype=np.int64)
    for row, formula in enumerate(formulas):
        for symbol, amount in parse(formula).items():
            counts[row, INDEX[symbol]] = int(amount)
    return counts


def random_counts(sizes: list[int], seed: int) -> NDArray[np.int64]:
    """Half from SMACT's 103 elements, half from its metals and one to three of its anions."""
    rng = np.random.default_rng(seed)
    anions = [INDEX[symbol] for symbol in smact.anions]
    metals = [INDEX[symbol] for symbol in smact.metals if symbol not in smact.anions]
    counts = np.zeros((len(sizes), 118), dtype=np.int64)
    for row, k in enumerate(sizes):
        if rng.random() < 0.5:
            chosen = rng.choice(103, k, replace=False)
        else:
            n_anions = int(rng.integers(1, min(3, k - 1) + 1))
            chosen = np.concatenate(
                [rng.choice(metals, k - n_anions, replace=False), rng.choice(anions, n_anions, replace=False)]
            )
        counts[row, chosen] = rng.integers(1, 13, k)
    return counts


def smacts_verdicts(
    counts: NDArray[np.int64], states: OxidationSet, include_alloys: bool
) -> list[list[bool]]:
    """What SMACT says of each formula: neutral, and neutral with the Pauling rule."""
    name = None if states is OxidationSet.ICSD24_FILTER else states.value
    formulas = [Composition({SYMBOLS[z]: int(row[z]) for z in np.flatnonzero(row)}) for row in counts]
    return [
        [
            smact_validity(f, use_pauling_test=p, include_alloys=include_alloys, oxidation_states_set=name)
            for p in (False, True)
        ]
        for f in formulas
    ]


def assert_certified(counts: NDArray[np.int64], found: Neutrality, states: OxidationSet) -> None:
    """Each assignment uses the set's states, is neutral, and is a Pauling one where the verdict needs it."""
    table = oxidation.states(states)
    assert not found.states[counts == 0].any()
    assert not found.states[~found.assigned].any()
    for row in np.flatnonzero(found.assigned):
        present = np.flatnonzero(counts[row])
        given_states = [int(state) for state in found.states[row, present]]
        assert all(state in table[z] for state, z in zip(given_states, present, strict=True))
        reduced = counts[row, present] // np.gcd.reduce(counts[row, present])
        assert smact.neutral_ratios(given_states, stoichs=[[int(amount)] for amount in reduced])
        if found.pauling[row] and not (found.alloy[row] or found.elemental[row]):
            assert pauling_test(given_states, [oxidation.electronegativities()[z] for z in present])


@pytest.mark.parametrize(
    ("states", "n"),
    [
        (OxidationSet.SMACT14, 800),
        (OxidationSet.ICSD24, 800),
        (OxidationSet.ICSD24_FILTER, 200),
        (OxidationSet.ICSD16, 100),
        (OxidationSet.PYMATGEN_SP, 200),
        pytest.param(OxidationSet.WIKI, 200, marks=pytest.mark.filterwarnings("ignore:This set of")),
    ],
)
def test_smact_says_the_same_of_random_formulas(states: OxidationSet, n: int) -> None:
    sizes = ([2, 3, 3, 4, 4, 4, 5, 5] * n)[: n - n // 20] + [6, 7] * (n // 40)
    counts = random_counts(sizes, seed=7)
    found = check(counts, states)
    verdicts = np.array(smacts_verdicts(counts, states, include_alloys=True))
    assert np.array_equal(found.neutral, verdicts[:, 0])
    assert np.array_equal(found.pauling, verdicts[:, 1])
    assert_certified(counts, found, states)
    # The sample says something: many pass by their states, and not all of those the Pauling rule.
    if n == 800:
        by_states = found.assigned & ~found.alloy
        assert 50 < (by_states & found.pauling).sum() < by_states.sum() - 20 < n - 200


@pytest.mark.parametrize("states", [OxidationSet.SMACT14, OxidationSet.ICSD24])
def test_smact_says_the_same_without_alloys(states: OxidationSet) -> None:
    rng = np.random.default_rng(3)
    metals = np.flatnonzero(oxidation.metals())
    counts = np.zeros((60, 118), dtype=np.int64)
    for row in counts:
        k = int(rng.integers(1, 5))
        row[rng.choice(metals, k, replace=False)] = rng.integers(1, 6, k)
    found = check(counts, states, include_alloys=False)
    assert smacts_verdicts(counts, states, include_alloys=False) == [
        [bool(neutral), bool(pauling)] for neutral, pauling in zip(found.neutral, found.pauling, strict=True)
    ]
    assert_certified(counts, found, states)
    accepted = check(counts, states)
    assert accepted.neutral.all()
    assert accepted.pauling.all()
    assert np.array_equal(accepted.alloy, (counts > 0).sum(axis=1) > 1)
    assert np.array_equal(accepted.states, found.states)


# Ties in electronegativity (1.3, 1.9, 2.2, 2.55), states of both signs, and an element without a value (Pm).
TIED_AND_TWO_SIGNED = [
    *("H", "Ru", "Pd", "Os", "At", "Re", "Cu", "Si", "Th", "Am", "C", "Se"),
    *("N", "O", "S", "Mn", "P", "As", "Xe", "La", "B", "I", "Pm"),
]


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(TIED_AND_TWO_SIGNED),
        st.integers(1, 9),
        min_size=2,
        max_size=5,
    ),
    st.sampled_from([OxidationSet.SMACT14, OxidationSet.ICSD24, OxidationSet.WIKI]),
)
def test_brute_force_finds_the_same(amounts: dict[str, int], states: OxidationSet) -> None:
    counts = np.zeros((1, 118), dtype=np.int64)
    for symbol, amount in amounts.items():
        counts[0, INDEX[symbol]] = amount
    scale = [oxidation.electronegativities()[INDEX[symbol]] for symbol in amounts]
    neutral = pauling = False
    for combination in itertools.product(*(oxidation.states(states)[INDEX[symbol]] for symbol in amounts)):
        if sum(s * n for s, n in zip(combination, amounts.values(), strict=True)):
            continue
        neutral = True
        ups = [x for s, x in zip(combination, scale, strict=True) if s > 0]
        downs = [x for s, x in zip(combination, scale, strict=True) if s < 0]
        in_order = all(x < y for x in ups for y in downs if x is not None and y is not None)
        pauling = pauling or (None not in scale and in_order)
    found = check(counts, states, include_alloys=False)
    assert (bool(found.neutral[0]), bool(found.pauling[0])) == (neutral, pauling)
    assert_certified(counts, found, states)


@pytest.mark.parametrize(
    ("formula", "states", "neutral", "pauling"),
    [
        ("MgB2", OxidationSet.ICSD24, True, True),
        ("MgB2", OxidationSet.SMACT14, False, False),
        ("H3S", OxidationSet.ICSD24, True, False),
        ("H3S", OxidationSet.SMACT14, True, False),
        ("NaCl", OxidationSet.SMACT14, True, True),
        ("LaH10", OxidationSet.ICSD24, False, False),
        ("Mg3O", OxidationSet.ICSD24, False, False),
        ("NF3", OxidationSet.ICSD24, True, True),
        ("HeO", OxidationSet.ICSD24, False, False),
        ("OgO2", OxidationSet.ICSD24, False, False),
        ("PmCl3", OxidationSet.SMACT14, True, False),  # Pm has no electronegativity in SMACT
    ],
)
def test_known_formulas(formula: str, states: OxidationSet, neutral: bool, pauling: bool) -> None:
    found = check(counts_of(formula), states)
    assert (bool(found.neutral[0]), bool(found.pauling[0])) == (neutral, pauling)
    assert not found.alloy[0]


def test_formulas_accepted_unseen_are_told_apart() -> None:
    found = check(counts_of("MgCNi3", "MgCoNi3", "Nb", "H", "LaNiAsO"))
    assert found.alloy.tolist() == [False, True, False, False, False]
    assert found.elemental.tolist() == [False, False, True, True, False]
    assert found.neutral[1:4].all()
    assert found.pauling[1:4].all()
    assert found.assigned.tolist() == [bool(found.neutral[0]), False, False, False, True]


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("LaNiAsO", "La+3 Ni+2 As-3 O-2"),
        ("LiFePO4", "Li+1 Fe+2 P+5 O-2"),
        ("BaTiO3", "Ba+2 Ti+4 O-2"),
        ("La2CuO4", "La+3 Cu+2 O-2"),
        ("MgAl2O4", "Mg+2 Al+3 O-2"),
    ],
)
def test_the_states_chosen_are_a_chemists(formula: str, expected: str) -> None:
    counts = counts_of(formula)
    states = check(counts).states[0]
    words = {f"{SYMBOLS[z]}{int(states[z]):+d}" for z in np.flatnonzero(counts[0])}
    assert words == set(expected.split())


def test_the_choice_depends_on_nothing_but_the_formula() -> None:
    counts = random_counts([3, 4, 5] * 30, seed=11)
    together = check(counts, OxidationSet.SMACT14)
    doubled = check(counts * 6, OxidationSet.SMACT14)
    assert np.array_equal(together.states, doubled.states)
    for row in range(0, len(counts), 9):
        assert np.array_equal(
            check(counts[row : row + 1], OxidationSet.SMACT14).states[0], together.states[row]
        )


def test_ten_elements_of_up_to_25_atoms_take_milliseconds() -> None:
    rng = np.random.default_rng(5)
    known = [z for z, states in enumerate(oxidation.states(OxidationSet.SMACT14)) if len(states) > 3]
    counts = np.zeros((100, 118), dtype=np.int64)
    for row in counts:
        row[rng.choice(known, 10, replace=False)] = rng.integers(1, 26, 10)
    start = time.process_time()
    found = check(counts, OxidationSet.SMACT14)
    assert time.process_time() - start < 0.5
    assert_certified(counts, found, OxidationSet.SMACT14)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (np.full((1, 118), 0.5), "make the formula integer first: 0.5 of H in row 0"),
        (np.full((1, 118), np.nan), "whole and not negative"),
        (-np.ones((2, 118)), "whole and not negative"),
        (np.eye(118)[[3, 4]] * [[1], [0]], "row 1 of the counts holds no atoms"),
        (np.ones(118), r"shape \(118,\)"),
        (np.ones((2, 86)), r"shape \(2, 86\)"),
        (counts_of(f"LaO{MAX_ATOMS}"), f"row 0 has {MAX_ATOMS + 1} atoms"),
    ],
)
def test_counts_that_are_none_are_refused(counts: NDArray[np.float64], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(counts)


def test_no_formulas_give_no_verdicts() -> None:
    found = check(np.zeros((0, 118), dtype=np.int64))
    assert found.neutral.shape == (0,)
    assert found.states.shape == (0, 118)
