""""""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kiago_ray.chemistry import oxidation
from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.chemistry.formula import parse_fractions, write_integers
from kiago_ray.chemistry.neutrality import check, likeliest_valences
from kiago_ray.chemistry.oxidation import OxidationSet
from kiago_ray.search.integers import feasible_totals
from kiago_ray.search.neutral_formulas import (
    IMPOSSIBLE,
    NeutralCandidates,
    exchanges,
    likely_assignments,
    neutral_formulas,
)

UP_TO_25 = tuple(range(1, 26))
NOTHING_FIXED = np.zeros(N_ELEMENTS)


def found_near(
    x: np.ndarray, fixed: np.ndarray = NOTHING_FIXED, may_grow: bool = False, **changed: object
) -> NeutralCandidates:
    totals = feasible_totals(UP_TO_25, fixed, may_grow)
    options = {"oxidation_set": OxidationSet.ICSD24, "keep": 8, "max_distance": 0.5, **changed}
    return neutral_formulas(x, totals, fixed, may_grow, **options)  # type: ignore[arg-type]


def test_exchanges_are_all_small_moves_that_keep_the_total() -> None:
    for elements, atoms in ((3, 2), (4, 2), (5, 1)):
        expected = {
            move
            for move in product(range(-atoms, atoms + 1), repeat=elements)
            if sum(move) == 0 and sum(map(abs, move)) <= 2 * atoms
        }
        moves = [tuple(move) for move in exchanges(elements, atoms).tolist()]
        assert set(moves) == expected
        assert len(moves) == len(expected)
        assert not any(moves[0])


def test_a_neutral_formula_is_its_own_nearest() -> None:
    formulas = ["NaCl", "La2CuO4", "Ba2Ca2Cu3HgO8", "Ba2YCu4O8", "LaFeAsO"]
    found = found_near(parse_fractions(formulas))
    assert [write_integers(row) for row in found.counts[:, 0]] == formulas
    assert found.distance[:, 0] == pytest.approx(np.zeros(5), abs=1e-9)


def test_what_does_not_balance_moves_to_what_does() -> None:
    """Sodium and fluorine have one state each, so that NaF alone balances."""
    found = found_near(parse_fractions(["NaF2", "Na5F4"]))
    assert [write_integers(row) for row in found.counts[:, 0]] == ["NaF", "NaF"]
    assert found.distance[:, 0] == pytest.approx([1 / 3, 1 / 9], abs=1e-8)
    assert not np.isfinite(found.distance[:, 1:]).any()


@st.composite
def compositions(draw: st.DrawFn) -> np.ndarray:
    """Three rows of up to seven elements, of which one at least is an anion's."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x = np.zeros((3, N_ELEMENTS))
    for row in x:
        row[rng.choice(np.arange(1, 94), draw(st.integers(1, 6)), replace=False)] = 1
        row[INDEX[draw(st.sampled_from(["O", "F", "As", "S", "B"]))]] = 1
        row *= rng.random(N_ELEMENTS)
    return np.asarray(x / x.sum(axis=1, keepdims=True))


@settings(max_examples=40, deadline=None)
@given(
    share=compositions(),
    amounts=st.sampled_from([{}, {"H": 0.4}, {"O": 1 / 3}, {"Cu": 0.25, "O": 0.5}]),
    may_grow=st.booleans(),
    oxidation_set=st.sampled_from([OxidationSet.ICSD24, OxidationSet.SMACT14]),
)
def test_what_is_found_passes_smacts_screens_and_every_constraint(
    share: np.ndarray, amounts: dict[str, float], may_grow: bool, oxidation_set: OxidationSet
) -> None:
    fixed = np.zeros(N_ELEMENTS)
    for symbol, amount in amounts.items():
        fixed[INDEX[symbol]] = amount
    if not may_grow:
        share = np.where(fixed > 0, 0, share)
        share[share.sum(axis=1) == 0, INDEX["La"]] = 1
        share = share / share.sum(axis=1, keepdims=True)
    x = fixed + share * (1 - fixed.sum())
    found = found_near(x, fixed, may_grow, oxidation_set=oxidation_set)
    exists = np.isfinite(found.distance)
    counts = found.counts[exists]
    assert not found.counts[~exists].any()
    if not len(counts):
        return
    assert check(counts, oxidation_set).pauling.all()
    source, size = x[np.nonzero(exists)[0]], counts.sum(axis=1)
    held = counts / size[:, None]
    assert (counts >= 0).all()
    assert (size <= 25).all()
    assert not counts[source == 0].any()
    if may_grow:
        assert (held >= fixed - 1e-6).all()
    else:
        assert held[:, fixed > 0] == pytest.approx(np.tile(fixed[fixed > 0], (len(held), 1)), abs=1e-6)
    assert found.distance[exists] == pytest.approx(np.abs(held - source).sum(axis=1), abs=1e-8)
    assert (found.distance[exists] <= 0.5).all()
    assert (found.nats[exists] >= 0).all()
    for row in range(3):
        near = found.counts[row][exists[row]]
        assert (np.diff(found.distance[row][exists[row]]) >= 0).all()
        assert len({write_integers(each) for each in near}) == len(near)


def test_nothing_neutral_nearby_is_missed() -> None:
    """All formulas of up to 25 atoms in three elements, judged by `check`, against what the enumeration finds."""
    columns = [INDEX["La"], INDEX["Cu"], INDEX["O"]]
    every = np.array([c for c in product(range(26), repeat=3) if 0 < sum(c) <= 25 and np.gcd.reduce(c) == 1])
    wide = np.zeros((len(every), N_ELEMENTS), dtype=np.int64)
    wide[:, columns] = every
    neutral = wide[check(wide).pauling]
    rng = np.random.default_rng(3)
    x = np.zeros((12, N_ELEMENTS))
    x[:, columns] = rng.dirichlet([3, 3, 5], 12)
    found = found_near(x, keep=3, max_distance=0.1)
    for row, near in zip(x, found.distance, strict=True):
        distance = np.sort(np.abs(neutral / neutral.sum(axis=1, keepdims=True) - row).sum(axis=1))[:3]
        assert near == pytest.approx(np.where(distance <= 0.1, distance, np.inf), abs=1e-8)
    assert np.isfinite(found.distance).mean() > 0.5


def test_likely_states_have_fewer_nats() -> None:
    found = found_near(parse_fractions(["Fe2O3", "FeO3"]), keep=1)
    assert [write_integers(row[0]) for row in found.counts] == ["Fe2O3", "FeO3"]
    assert found.nats[0, 0] < 0.5 < 1.5 < found.nats[1, 0]


def test_metals_alone_pass_unseen() -> None:
    found = found_near(parse_fractions(["Nb3Sn"]), keep=1)
    assert write_integers(found.counts[0, 0]) == "Nb3Sn"
    assert found.nats[0, 0] == 0


def test_a_row_without_a_neutral_formula_has_none() -> None:
    found = found_near(parse_fractions(["LaPt2B2C", "NaCl"]), max_distance=0.2)
    assert np.isfinite(found.distance).any(axis=1).tolist() == [False, True]


def test_a_row_does_not_depend_on_the_others() -> None:
    x = parse_fractions(["La1.9Sr0.17CuO4", "Ba0.6K0.4Fe2As2", "BaLaTiFeCuHgO9", "MgB2"])
    together = found_near(x)
    for row in range(4):
        alone = found_near(x[row : row + 1])
        assert np.array_equal(alone.counts[0], together.counts[row])
        assert np.array_equal(alone.nats[0], together.nats[row])


def test_mixed_valence_is_an_option() -> None:
    """Na3BaCu2F8 needs Cu(1+) and Cu(2+) side by side, all others having one state."""
    x = parse_fractions(["Na3BaCu2F8", "NaF2"])
    strict, mixed = found_near(x, max_distance=0.1), found_near(x, max_distance=0.1, mixed_valence=True)
    assert strict.distance[0, 0] > 0
    assert mixed.distance[0, 0] == 0
    assert write_integers(mixed.counts[0, 0]) == "BaNa3Cu2F8"
    copper = dict(
        zip(oxidation.states_by_frequency()[INDEX["Cu"]], oxidation.state_shares()[INDEX["Cu"]], strict=True)
    )
    assert mixed.nats[0, 0] == pytest.approx(-np.log([copper[1], copper[2]]).sum() / 14)
    found = mixed.counts[0][np.isfinite(mixed.distance[0])]
    assert (likeliest_valences(found, mixed=True).neutral | check(found).pauling).all()
    assert not np.isfinite(mixed.distance[1]).any()


SET = OxidationSet.ICSD24


def columns(*symbols: str) -> np.ndarray:
    return np.sort(np.array([INDEX[symbol] for symbol in symbols]))


def every_pauling_assignment(elements: np.ndarray) -> dict[tuple[int, ...], np.ndarray]:
    """All states whose positive elements are all less electronegative than the negative ones, and their nats."""
    known, shares = oxidation.states_by_frequency(), oxidation.state_shares()
    scale = oxidation.electronegativities()
    found = {}
    for chosen in product(*(range(len(known[z])) for z in elements)):
        states = tuple(known[z][at] for z, at in zip(elements, chosen, strict=True))
        positive = [scale[z] for z, s in zip(elements, states, strict=True) if s > 0]
        negative = [scale[z] for z, s in zip(elements, states, strict=True) if s < 0]
        if not positive or not negative or max(positive) < min(negative):
            found[states] = np.array([-np.log(shares[z][at]) for z, at in zip(elements, chosen, strict=True)])
    return found


@pytest.mark.parametrize(
    "symbols", [("La", "Cu", "O"), ("Ba", "Fe", "As", "O"), ("La", "Pt", "B", "C"), ("Cu", "Bi", "Si", "O")]
)
def test_they_are_the_cheapest_of_all_that_keep_the_rule(symbols: tuple[str, ...]) -> None:
    elements = columns(*symbols)
    x = np.linspace(1, 2, len(elements)) / np.linspace(1, 2, len(elements)).sum()
    expected = every_pauling_assignment(elements)
    states_of, nats_of = likely_assignments(elements, x, SET, most=20_000)
    possible = (states_of != IMPOSSIBLE).all(axis=1)
    as_tuples = [tuple(row) for row in states_of[possible].tolist()]
    assert len(set(as_tuples)) == len(as_tuples)
    assert set(as_tuples) == set(expected)
    for states, nats in zip(as_tuples, nats_of[possible], strict=True):
        assert nats == pytest.approx(expected[states])
    cost = nats_of @ x
    assert (np.diff(cost) >= -1e-12).all()
    _, few = likely_assignments(elements, x, SET, most=7)
    assert few @ x == pytest.approx(cost[:7])


def test_the_first_is_what_a_chemist_would_write() -> None:
    elements = columns("La", "Cu", "O")
    states, _ = likely_assignments(elements, np.array([4, 1, 2]) / 7, SET)
    assert dict(zip(elements, states[0].tolist(), strict=True)) == {
        INDEX["O"]: -2,
        INDEX["Cu"]: 2,
        INDEX["La"]: 3,
    }


def test_an_element_without_a_state_on_its_side_is_impossible() -> None:
    states, _ = likely_assignments(columns("He", "O"), np.array([0.5, 0.5]), SET)
    assert (states[:, 0] == IMPOSSIBLE).all()
    assert states[0, 1] == -2
