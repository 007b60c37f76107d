"""The nearest integer formulas, and those of them that are charge neutral."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kiago_ray.chemistry import oxidation
from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.chemistry.formula import (
    feasible_totals,
    fractions,
    least_counts,
    parse,
    parse_fractions,
    reduce_counts,
    write_row,
)
from kiago_ray.chemistry.neutrality import check, likeliest_valences
from kiago_ray.chemistry.oxidation import OxidationSet
from kiago_ray.search.integers import (
    IMPOSSIBLE,
    IntegerCandidates,
    choose,
    exchanges,
    fractional_amounts,
    likely_assignments,
    nearest_counts,
    neutral_formulas,
    project,
)

NOTHING_FIXED = np.zeros(N_ELEMENTS)
UP_TO_25 = tuple(range(1, 26))


def fixed_of(**amounts: float) -> np.ndarray:
    row = np.zeros(N_ELEMENTS)
    for symbol, amount in amounts.items():
        row[INDEX[symbol]] = amount
    return row


def splits(total: int, parts: int) -> list[tuple[int, ...]]:
    return [counts for counts in product(range(total + 1), repeat=parts) if sum(counts) == total]


@st.composite
def simplex(draw: st.DrawFn, size: int = 4) -> np.ndarray:
    """Fractions of `size` elements, some of them equal, tiny or 0, with one above 0."""
    amounts = draw(
        st.lists(st.sampled_from([0, 1e-7, 0.1, 0.25, 0.3, 0.5, 0.77, 1.0]), min_size=size, max_size=size)
    )
    row = np.array(amounts) + draw(st.sampled_from([0.0, 0.01])) * np.arange(size)
    row[0] += 0.05
    return np.asarray(row / row.sum())


@settings(max_examples=200, deadline=None)
@given(x=simplex(), total=st.integers(1, 9))
def test_nearest_counts_are_the_best_of_all_splits(x: np.ndarray, total: int) -> None:
    zero, free = np.zeros((1, 4), dtype=np.int64), np.zeros((1, 4), dtype=bool)
    found = nearest_counts(x[None], total, zero, free)[0]
    assert found.sum() == total
    assert not found[x == 0].any()
    best = min(np.abs(np.array(counts) - total * x).sum() for counts in splits(total, 4))
    assert np.abs(found - total * x).sum() == pytest.approx(best, abs=1e-9)


@settings(max_examples=200, deadline=None)
@given(
    share=simplex(), floors=st.tuples(*[st.sampled_from([0.0, 0.1, 0.2, 0.3])] * 3), total=st.integers(1, 10)
)
def test_nearest_counts_above_floors_are_the_best_of_all_splits(
    share: np.ndarray, floors: tuple[float, ...], total: int
) -> None:
    bound = np.array([*floors, 0.0])
    x = bound + share * (1 - bound.sum())
    least = np.ceil(total * bound - 1e-6).astype(np.int64)
    possible = [counts for counts in splits(total, 4) if (np.array(counts) >= least).all()]
    if not possible:
        return
    found = nearest_counts(x[None], total, least[None], np.zeros((1, 4), dtype=bool))[0]
    assert tuple(found.tolist()) in possible
    best = min(np.abs(np.array(counts) - total * x).sum() for counts in possible)
    assert np.abs(found - total * x).sum() == pytest.approx(best, abs=1e-9)


def test_many_floors_leave_one_element_less_than_its_share() -> None:
    x = np.array([[0.1, 0.1, 0.1, 0.7]])
    least = np.array([[1, 1, 1, 0]])
    assert nearest_counts(x, 3, least, np.zeros((1, 4), dtype=bool)).tolist() == [[1, 1, 1, 0]]


def test_ties_go_to_the_lower_atomic_number() -> None:
    x = np.full((1, 4), 0.25)
    zero = np.zeros((1, 4), dtype=np.int64)
    assert nearest_counts(x, 2, zero, zero.astype(bool)).tolist() == [[1, 1, 0, 0]]


def test_totals_that_fixed_amounts_allow() -> None:
    assert feasible_totals(range(1, 26), NOTHING_FIXED, False) == UP_TO_25
    assert feasible_totals(range(1, 26), fixed_of(H=0.4), False) == (5, 10, 15, 20, 25)
    assert feasible_totals(range(1, 26), fixed_of(H=1 / 3, O=0.25), False) == (12, 24)
    assert feasible_totals(range(1, 26), fixed_of(H=0.37), False) == ()
    assert feasible_totals(range(1, 26), fixed_of(H=0.4), True) == UP_TO_25
    assert feasible_totals(range(1, 5), fixed_of(H=0.4, O=0.4), True) == (2, 4)
    assert least_counts(5, fixed_of(H=0.4))[INDEX["H"]] == 2
    assert least_counts(4, fixed_of(H=0.4))[INDEX["H"]] == 2


def test_known_formulas_are_found_again() -> None:
    formulas = ["LaFeAsO", "YBa2Cu3O7", "HgBa2Ca2Cu3O8", "H3S", "MgB2"]
    x = np.stack([fractions(parse(formula)) for formula in formulas])
    found = project(x, UP_TO_25, NOTHING_FIXED, False)
    assert found.distance[:, 0] == pytest.approx(np.zeros(5), abs=1e-9)
    for counts, formula in zip(found.counts[:, 0], formulas, strict=True):
        amounts = parse(formula)
        assert {z: n for z, n in enumerate(counts) if n} == {INDEX[s]: n for s, n in amounts.items()}


@st.composite
def candidates(draw: st.DrawFn) -> np.ndarray:
    """Three rows of fractions with up to eight elements each, in float32 precision."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x = np.zeros((3, N_ELEMENTS))
    for row in x:
        row[rng.choice(np.arange(1, N_ELEMENTS), draw(st.integers(1, 8)), replace=False)] = 1
        row *= rng.random(N_ELEMENTS) ** draw(st.sampled_from([1, 4]))
    x = (x / x.sum(axis=1, keepdims=True)).astype(np.float32).astype(np.float64)
    return np.asarray(x / x.sum(axis=1, keepdims=True))


@settings(max_examples=60, deadline=None)
@given(
    share=candidates(),
    amounts=st.sampled_from([{}, {"H": 0.4}, {"H": 1 / 3}, {"H": 0.25, "O": 0.25}]),
    may_grow=st.booleans(),
    keep=st.integers(1, 5),
    most=st.sampled_from([12, 25]),
)
def test_every_projection_satisfies_every_constraint(
    share: np.ndarray, amounts: dict[str, float], may_grow: bool, keep: int, most: int
) -> None:
    fixed = fixed_of(**amounts)
    if not may_grow:
        share = np.where(fixed > 0, 0, share)
        share[share.sum(axis=1) == 0, 50] = 1
        share = share / share.sum(axis=1, keepdims=True)
    x = fixed + share * (1 - fixed.sum())
    totals = feasible_totals(range(2, most + 1), fixed, may_grow)
    found = project(x, totals, fixed, may_grow, keep)
    exists = np.isfinite(found.distance)
    assert exists[:, 0].all()
    counts = found.counts[exists]
    source = np.repeat(np.arange(3), exists.sum(axis=1))
    size = counts.sum(axis=1)
    assert (counts >= 0).all()
    assert np.isin(size, totals).all()
    assert not counts[x[source] == 0].any()
    held = counts / size[:, None]
    if may_grow:
        assert (held >= fixed - 1e-6).all()
    else:
        assert held[:, fixed > 0] == pytest.approx(np.tile(fixed[fixed > 0], (len(held), 1)), abs=1e-6)
    assert found.distance[exists] == pytest.approx(np.abs(held - x[source]).sum(axis=1), abs=1e-8)
    for row in range(3):
        near = found.distance[row][exists[row]]
        assert (np.diff(near) >= 0).all()
        assert len({write_row(reduce_counts(each)) for each in found.counts[row][exists[row]]}) == len(near)


def test_the_nearest_total_wins_and_of_equal_ones_the_smallest() -> None:
    half = fractions(parse("La2O2"))[None]
    assert project(half, (2, 4, 6), NOTHING_FIXED, False).counts[0, 0].sum() == 2
    assert project(half, (4, 6), NOTHING_FIXED, False).counts[0, 0].sum() == 4
    odd = fractions(parse("La0.23O0.77"))[None]
    distances = {n: project(odd, (n,), NOTHING_FIXED, False).distance[0, 0] for n in UP_TO_25}
    assert project(odd, UP_TO_25, NOTHING_FIXED, False).counts[0, 0].sum() == min(
        distances, key=distances.__getitem__
    )


def test_choose_takes_the_cheapest_that_is_near() -> None:
    counts = np.arange(4)[None, :, None] * np.ones((3, 1, N_ELEMENTS), dtype=np.int64)
    distance = np.array([[0.01, 0.02, 0.03, 0.5]] * 3)
    cost = np.array([[3.0, 1.0, 2.0, -9.0], [1.0, 1.0, 1.0, 1.0], [np.nan, np.nan, np.nan, 0.0]])
    candidates = IntegerCandidates(counts, distance, np.zeros(distance.shape))
    picked = choose(candidates, cost, max_distance=0.1)
    assert picked[:, 0].tolist() == [1, 0, 0]
    assert choose(candidates, cost, max_distance=0.0)[:, 0].tolist() == [0, 0, 0]


def test_plain_rounding_does_not_add_up() -> None:
    thirds = fractions(parse("LaFeO"))[None]
    assert np.rint(thirds * 4).sum() == 3
    assert project(thirds, (4,), NOTHING_FIXED, False).counts.sum() == 4


def test_fractional_amounts_keep_the_rest_of_the_base_and_fill_the_site() -> None:
    fixed = fractions(parse("CeFeAsF0.2O0.8")) * 1.0
    fixed[INDEX["Ce"]] = 0
    rng = np.random.default_rng(0)
    site = np.zeros((5, N_ELEMENTS))
    site[:, [INDEX["Ag"], INDEX["Sm"], INDEX["Tb"]]] = rng.dirichlet([1, 1, 1], size=5)
    amounts = fractional_amounts(fixed + site * 0.25, fixed, False, 4.0)
    symbols = ("Fe", "As", "F", "O")
    assert amounts[:, [INDEX[s] for s in symbols]].tolist() == [[1.0, 1.0, 0.2, 0.8]] * 5
    filled = amounts[:, [INDEX[s] for s in ("Ag", "Sm", "Tb")]]
    assert filled.sum(axis=1) == pytest.approx(np.ones(5), abs=1e-12)
    assert filled == pytest.approx(site[:, [INDEX[s] for s in ("Ag", "Sm", "Tb")]], abs=1e-4)
    assert (np.round(filled, 4) == filled).all()


def test_fractional_amounts_above_a_floor() -> None:
    fixed = fixed_of(H=1 / 3)
    x = fixed + fractions(parse("La0.7H0.00001O0.3"))[None] * (2 / 3)
    amounts = fractional_amounts(x, fixed, True, 1.0)
    assert amounts.sum() == pytest.approx(1)
    assert amounts[0, INDEX["H"]] == 0.3334


UP_TO_25 = tuple(range(1, 26))
NOTHING_FIXED = np.zeros(N_ELEMENTS)


def found_near(
    x: np.ndarray, fixed: np.ndarray = NOTHING_FIXED, may_grow: bool = False, **changed: object
) -> IntegerCandidates:
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
    assert [write_row(reduce_counts(row)) for row in found.counts[:, 0]] == formulas
    assert found.distance[:, 0] == pytest.approx(np.zeros(5), abs=1e-9)


def test_what_does_not_balance_moves_to_what_does() -> None:
    """Sodium and fluorine have one state each, so that NaF alone balances."""
    found = found_near(parse_fractions(["NaF2", "Na5F4"]))
    assert [write_row(reduce_counts(row)) for row in found.counts[:, 0]] == ["NaF", "NaF"]
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
        assert len({write_row(reduce_counts(each)) for each in near}) == len(near)


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
    assert [write_row(reduce_counts(row[0])) for row in found.counts] == ["Fe2O3", "FeO3"]
    assert found.nats[0, 0] < 0.5 < 1.5 < found.nats[1, 0]


def test_metals_alone_pass_unseen() -> None:
    found = found_near(parse_fractions(["Nb3Sn"]), keep=1)
    assert write_row(reduce_counts(found.counts[0, 0])) == "Nb3Sn"
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
    assert write_row(reduce_counts(mixed.counts[0, 0])) == "BaNa3Cu2F8"
    copper = oxidation.state_shares()[INDEX["Cu"]]
    assert mixed.nats[0, 0] == pytest.approx(-np.log([copper[1], copper[2]]).sum() / 14)
    found = mixed.counts[0][np.isfinite(mixed.distance[0])]
    assert (np.isfinite(likeliest_valences(found, mixed=True)[1]) | check(found).pauling).all()
    assert not np.isfinite(mixed.distance[1]).any()


SET = OxidationSet.ICSD24


def columns(*symbols: str) -> np.ndarray:
    return np.sort(np.array([INDEX[symbol] for symbol in symbols]))


def every_pauling_assignment(elements: np.ndarray) -> dict[tuple[int, ...], np.ndarray]:
    """All states whose positive elements are all less electronegative than the negative ones, and their nats."""
    known = oxidation.state_nats()
    scale = oxidation.electronegativities()
    found = {}
    for states in product(*(known[z] for z in elements)):
        positive = [scale[z] for z, s in zip(elements, states, strict=True) if s > 0]
        negative = [scale[z] for z, s in zip(elements, states, strict=True) if s < 0]
        if not positive or not negative or max(positive) < min(negative):
            found[states] = np.array([known[z][s] for z, s in zip(elements, states, strict=True)])
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
