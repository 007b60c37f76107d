"""Neutrality and the Pauling rule: SMACT as the referee, brute force on small cases, known formulas."""

from __future__ import annotations

import itertools
from itertools import combinations, product

import numpy as np
import pytest
import smact
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pymatgen.core.composition import Composition
from smact.screening import pauling_test, smact_validity

from kiago_ray.chemistry import oxidation
from kiago_ray.chemistry.balance import write_shares
from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS, SYMBOLS
from kiago_ray.chemistry.formula import parse
from kiago_ray.chemistry.neutrality import (
    MAX_ATOMS,
    MAX_VALENCE_ATOMS,
    Neutrality,
    Valences,
    atom_valences,
    check,
    likeliest_valences,
)
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


def test_ten_elements_of_up_to_25_atoms_have_their_states() -> None:
    """SMACT tries the product of all states, some 10⁷ here."""
    rng = np.random.default_rng(5)
    known = [z for z, states in enumerate(oxidation.states(OxidationSet.SMACT14)) if len(states) > 3]
    counts = np.zeros((100, 118), dtype=np.int64)
    for row in counts:
        row[rng.choice(known, 10, replace=False)] = rng.integers(1, 26, 10)
    found = check(counts, OxidationSet.SMACT14)
    assert found.assigned.sum() > 90
    assert_certified(counts, found, OxidationSet.SMACT14)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (np.full((1, 118), 0.5), "whole and not negative; there is 0.5 of H in row 0"),
        (np.full((1, 118), np.nan), "whole and not negative"),
        (-np.ones((2, 118)), "whole and not negative"),
        (np.eye(118)[[3, 4]] * [[1], [0]], "row 1 of the amounts holds no atoms"),
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


def mixed(rows: np.ndarray) -> tuple[list[Valences], np.ndarray]:
    return likeliest_valences(rows, mixed=True)


def balanced(rows: np.ndarray) -> np.ndarray:
    return np.isfinite(mixed(rows)[1])


def cheapest_by_trying(row: np.ndarray) -> float:
    """Every choice of one or two states for each element, and every way to share its atoms between them: the least
    nats an atom of those that balance, inf without any.
    """
    scale, table = oxidation.electronegativities(), oxidation.state_nats()
    best = np.inf
    present = np.flatnonzero(row)
    options = []
    for z in present:
        n = int(row[z])
        ways = [((s, n),) for s in table[z]]
        ways += [((s, a), (t, n - a)) for s, t in combinations(table[z], 2) for a in range(1, n)]
        options.append(ways)
    for chosen in product(*options):
        if sum(s * a for way in chosen for s, a in way):
            continue
        cations = [scale[z] for z, way in zip(present, chosen, strict=True) for s, _ in way if s > 0]
        anions = [scale[z] for z, way in zip(present, chosen, strict=True) for s, _ in way if s < 0]
        one_side = all(len({np.sign(s) for s, _ in way}) == 1 for way in chosen)
        if one_side and (not cations or not anions or max(cations) < min(anions)):
            cost = sum(a * table[z][s] for z, way in zip(present, chosen, strict=True) for s, a in way)
            best = min(best, cost / row.sum())
    return best


def test_known_mixed_valences() -> None:
    assignments, nats = mixed(counts_of("YBa2Cu3O7", "Fe3O4", "LaNiAsO", "Pb3O4"))
    assert np.isfinite(nats).all()
    assert [write_shares(each) for each in assignments] == [
        "Ba+2 Y+3 Cu+2*2 Cu+3*1 O-2",
        "Fe+3*2 Fe+2*1 O-2",
        "La+3 Ni+2 As-3 O-2",
        "Pb+2*2 Pb+4*1 O-2",
    ]


def test_the_states_are_the_likeliest_of_all() -> None:
    """SMACT's screens find YBa2Cu3O7 neutral by yttrium(+4), of which the ICSD holds 39."""
    (row,) = counts_of("YBa2Cu3O7")
    assert check(row[None]).states[0, INDEX["Y"]] == 4
    (assignment,), (nats,) = mixed(row[None])
    cost = oxidation.state_nats()
    assert nats * 13 == pytest.approx(
        sum(atoms * cost[z][s] for z, pairs in assignment.items() for s, atoms in pairs)
    )
    rows = random_formulas(4, 30, 4)
    assert mixed(rows)[1] == pytest.approx(np.array([cheapest_by_trying(row) for row in rows]))


def test_what_nothing_balances_has_no_assignment() -> None:
    assignments, nats = mixed(counts_of("NaF2", "LaPt2B2C", "HeO", "NbTi"))
    assert np.isinf(nats).all()
    assert assignments == [{}, {}, {}, {}]
    assert not balanced(counts_of(f"Na{MAX_VALENCE_ATOMS}Cl{MAX_VALENCE_ATOMS - 1}")).any()


def random_formulas(seed: int, number: int, most: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    pool = [INDEX[s] for s in ("Ba", "La", "Ce", "Fe", "Cu", "Sn", "B", "C", "S", "O", "F")]
    rows = np.zeros((number, N_ELEMENTS), dtype=np.int64)
    for row in rows:
        row[rng.choice(pool, rng.integers(2, 4), replace=False)] = 1
        row *= rng.integers(1, most, N_ELEMENTS)
        row //= np.gcd.reduce(row)
    return rows


def test_verdicts_are_those_of_trying_everything() -> None:
    rows = random_formulas(1, 60, 5)
    expected = [bool(np.isfinite(cheapest_by_trying(row))) for row in rows]
    assert balanced(rows).tolist() == expected
    assert 10 < sum(expected) < 50


def test_assignments_add_up_keep_the_rule_and_use_two_states_at_most() -> None:
    rows = random_formulas(2, 200, 9)
    scale, table = oxidation.electronegativities(), oxidation.states()
    for row, assignment, nats in zip(rows, *mixed(rows), strict=True):
        assert np.isfinite(nats) == bool(assignment)
        if not assignment:
            continue
        assert set(assignment) == set(np.flatnonzero(row))
        assert sum(s * atoms for pairs in assignment.values() for s, atoms in pairs) == 0
        for z, pairs in assignment.items():
            assert sum(atoms for _, atoms in pairs) == row[z]
            assert {s for s, _ in pairs} <= set(table[z])
            assert len(pairs) <= 2
        positive = [scale[z] for z, pairs in assignment.items() if pairs[0][0] > 0]
        negative = [scale[z] for z, pairs in assignment.items() if pairs[0][0] < 0]
        assert max(positive) < min(negative)


def test_it_accepts_all_that_smacts_pauling_screen_assigns() -> None:
    rows = random_formulas(3, 200, 7)
    verdicts = check(rows)
    strict = verdicts.pauling & ~verdicts.alloy & ~verdicts.elemental
    assert balanced(rows)[strict].all()
    assert 20 < strict.sum() < balanced(rows).sum()


def test_one_state_before_two() -> None:
    (assignment,) = mixed(counts_of("La2CuO4"))[0]
    assert all(len(pairs) == 1 for pairs in assignment.values())


@pytest.mark.parametrize("oxidation_set", [OxidationSet.ICSD24, OxidationSet.SMACT14])
def test_without_mixed_valence_verdicts_are_those_of_smacts_pauling_screen(
    oxidation_set: OxidationSet,
) -> None:
    rows = random_formulas(5, 300, 9)
    verdicts = check(rows, oxidation_set, include_alloys=False)
    assignments, nats = likeliest_valences(rows, oxidation_set, mixed=False)
    neutral = np.isfinite(nats)
    assert neutral.tolist() == (verdicts.pauling & ~verdicts.elemental).tolist()
    assert 40 < neutral.sum() < 260
    cost = oxidation.state_nats(oxidation_set)
    for row in np.flatnonzero(neutral):
        assert all(len(pairs) == 1 for pairs in assignments[row].values())
        given = sum(n * cost[z][int(verdicts.states[row, z])] for z, n in enumerate(rows[row]) if n)
        assert nats[row] <= given / rows[row].sum() + 1e-12
