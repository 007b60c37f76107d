"""How compositions are written, which are the same, and the nearest by L1 and by element mover's distance: brute
force, SciPy and a linear programme as referees.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.sparse import csr_matrix
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS, SYMBOLS
from kiago_ray.chemistry.formula import fractions, parse, parse_fractions, reduce_counts, write_row
from kiago_ray.data.compositions import (
    SAME_TOLERANCE,
    SCALE,
    TRACE,
    CompositionIndex,
    KnownCompositions,
    canonical,
    composition_key,
    compositions,
    cumulative,
    nearest,
    nearest_emd,
)

whole_amounts = st.dictionaries(st.sampled_from(SYMBOLS), st.integers(1, 60), min_size=1, max_size=7)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("LaNiAsO", "La2Ni2As2O2"),
        ("LaNiAsO", "OAsNiLa"),
        ("La1.85Sr0.15CuO4", "La3.7Sr0.3Cu2O8"),
        ("La1.85Sr0.15CuO4", "La37Sr3Cu20O80"),
        ("Nb75Al25", "Nb3Al"),
        ("Nb0.75Al0.25", "Nb3Al"),
        ("(La0.9Sr0.1)2CuO4", "La1.8Sr0.2CuO4"),
    ],
)
def test_same_composition(one: str, other: str) -> None:
    assert composition_key(parse(one)) == composition_key(parse(other))


@pytest.mark.parametrize(
    ("one", "other"), [("FeSe", "FeS"), ("YBa2Cu3O6.99", "YBa2Cu3O7"), ("Al99.995Mn0.005", "Al99.99Mn0.01")]
)
def test_different_composition(one: str, other: str) -> None:
    assert composition_key(parse(one)) != composition_key(parse(other))


@given(amounts=whole_amounts, scale=st.floats(0.01, 100))
def test_key_does_not_change_with_scale(amounts: dict[str, int], scale: float) -> None:
    assert composition_key({s: n * scale for s, n in amounts.items()}) == composition_key(amounts)


@pytest.mark.parametrize("scale", [0.1, 0.3, 0.7, 1.1, 3.3])
def test_key_on_a_rounding_boundary(scale: float) -> None:
    # 1/128 = 7812.5 millionths
    assert composition_key({"Al": 127 * scale, "Mn": scale}) == composition_key({"Al": 127, "Mn": 1})


@given(amounts=whole_amounts)
def test_key_is_rounded_fractions(amounts: dict[str, int]) -> None:
    key = composition_key(amounts)
    row = fractions(amounts)
    assert key[::2] == tuple(np.flatnonzero(row))
    np.testing.assert_allclose(np.array(key[1::2]) / 1e6, row[row > 0], atol=0.51e-6)


@given(amounts=whole_amounts)
def test_canonical_whole_amounts_agree_with_the_integer_writer(amounts: dict[str, int]) -> None:
    counts = np.zeros(N_ELEMENTS, dtype=np.int64)
    for symbol, count in amounts.items():
        counts[INDEX[symbol]] = count
    assert canonical(amounts) == write_row(reduce_counts(counts))


def test_canonical_keeps_fractional_amounts_as_given() -> None:
    assert canonical(parse("CuO4La1.85Sr0.15")) == "Sr0.15La1.85CuO4"
    assert canonical(parse("Hg1Ba2Ca2Cu3O8.3")) == "Ba2Ca2Cu3HgO8.3"


def test_chemical_system_is_alphabetical() -> None:
    assert compositions([parse("LaNiAsO")])[1] == ["As-La-Ni-O"]


def test_rows_of_one_composition_share_the_shortest_formula() -> None:
    formulas, systems = compositions([parse("La1.5Ni1.5"), parse("Ni2La2"), parse("FeSe")])
    assert formulas == ["LaNi", "LaNi", "FeSe"]
    assert systems == ["La-Ni", "La-Ni", "Fe-Se"]


@settings(max_examples=50)
@given(
    rows=st.lists(st.tuples(whole_amounts, st.sampled_from([0.5, 1, 1.5, 3])), max_size=8),
    data=st.data(),
)
def test_formulas_do_not_depend_on_the_order(
    rows: list[tuple[dict[str, int], float]], data: st.DataObject
) -> None:
    amounts = [{s: n * scale for s, n in row.items()} for row, scale in rows]
    order = data.draw(st.permutations(range(len(rows))))
    formulas, _ = compositions(amounts)
    shuffled, _ = compositions([amounts[i] for i in order])
    assert shuffled == [formulas[i] for i in order]


def test_a_key_is_of_columns_and_millionths() -> None:
    assert composition_key(parse("H3S")) == (INDEX["H"], 750_000, INDEX["S"], 250_000)


def test_known_distances() -> None:
    known = parse_fractions(["La2CuO4", "NaCl", "La1.9Sr0.1CuO4"])
    index, distance = nearest(parse_fractions(["La1.9Sr0.1CuO4", "La1.99Sr0.01CuO4", "KBr"]), known)
    assert index.tolist() == [2, 0, 0]
    np.testing.assert_allclose(distance, [0, 0.02 / 7, 2], atol=1e-15)
    assert distance[0] == 0


def test_equally_near_rows_give_the_lowest_index() -> None:
    known = parse_fractions(["KCl", "NaBr", "NaCl", "Na2Cl2", "NaCl"])
    index, distance = nearest(parse_fractions(["NaCl", "NaI"]), known)
    assert index.tolist() == [2, 1]
    assert distance.tolist() == [0, 1]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(0, 9), known=st.integers(1, 30))
def test_agrees_with_brute_force_in_any_block(seed: int, rows: int, known: int) -> None:
    rng = np.random.default_rng(seed)
    queries, points = rng.dirichlet(np.full(118, 0.05), rows), rng.dirichlet(np.full(118, 0.05), known)
    distances = np.abs(queries[:, None, :] - points[None, :, :]).sum(axis=2).round(12)
    index, distance = nearest(queries, points)
    assert index.tolist() == distances.argmin(axis=1).tolist()
    np.testing.assert_allclose(distance, distances.min(axis=1, initial=np.inf), rtol=0, atol=2e-12)
    for row in range(rows):
        alone = nearest(queries[row : row + 1], points)
        assert (alone[0][0], alone[1][0]) == (index[row], distance[row])


def test_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    queries, points = rng.dirichlet(np.ones(118), 50), rng.dirichlet(np.ones(118), 40)
    whole = nearest(queries, points)
    monkeypatch.setattr("kiago_ray.data.compositions.MAX_BLOCK_BYTES", 8 * 40 * 7)  # seven rows at once
    split = nearest(queries, points)
    assert (whole[0] == split[0]).all()
    assert (whole[1] == split[1]).all()


def test_bad_input() -> None:
    row = np.full((1, 118), 1 / 118)
    with pytest.raises(ValueError, match="no known composition"):
        nearest(row, row[:0])
    with pytest.raises(ValueError, match="don't fit"):
        nearest(row[0], row)
    with pytest.raises(ValueError, match="not finite"):
        nearest(row * np.nan, row)


@given(st.integers(0, 2**32), st.integers(0, 30), st.integers(1, 60))
def test_of_compositions_the_faster_way_gives_the_same(seed: int, rows: int, known: int) -> None:
    generator = np.random.default_rng(seed)
    points, queries = (
        generator.integers(0, 4, (n, 118)) * (generator.random((n, 118)) < 0.05) for n in (known, rows)
    )
    points[:, 7] += 1
    queries[:, 7] += 1
    points, queries = (each / each.sum(axis=1, keepdims=True) for each in (points, queries))
    slow, fast = nearest(queries, points), CompositionIndex(points).nearest(queries)
    np.testing.assert_allclose(fast[1], slow[1], atol=1e-11)
    ties = np.abs(points[fast[0]] - queries).sum(axis=1) - slow[1]
    np.testing.assert_allclose(ties, 0, atol=1e-11)


def test_those_within_a_distance_are_found_by_their_rarest_element() -> None:
    known = parse_fractions(["La2CuO4", "NaCl", "La1.9Sr0.1CuO4", "La1.8Sr0.2CuO4", "KCl"])
    queries = parse_fractions(["La1.85Sr0.15CuO4", "NaCl", "MgB2"])
    index = CompositionIndex(known)
    assert [rows.tolist() for rows in index.within(queries, 0.02)] == [[2, 3], [1], []]
    assert [rows.tolist() for rows in index.within(queries, 0.1)] == [[0, 2, 3], [1], []]
    none = CompositionIndex(known[:0])
    assert [rows.tolist() for rows in none.within(queries, 0.1)] == [[], [], []]


def test_what_is_no_composition_is_refused() -> None:
    with pytest.raises(ValueError, match="must sum to 1"):
        CompositionIndex(np.ones((1, 118)))
    with pytest.raises(ValueError, match="must sum to 1"):
        CompositionIndex(parse_fractions(["H"])).nearest(np.ones((1, 118)))


PLACE = {symbol: place for place, symbol in enumerate(SCALE, start=1)}


def distance(one: str, other: str) -> float:
    return float(nearest_emd(parse_fractions([one]), parse_fractions([other]))[1][0])


def random_compositions(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Of up to six elements each, among those on the scale."""
    x = np.zeros((rows, 118))
    for row in x:
        elements = rng.choice(len(SCALE), rng.integers(1, 7), replace=False)
        row[elements] = rng.dirichlet(np.ones(len(elements)))
    return x


def test_the_scale_holds_the_elements_up_to_lawrencium_once() -> None:
    assert sorted(SCALE) == sorted(SYMBOLS[:103])
    # Places from the paper's table.
    places = {"He": 1, "Li": 12, "Ba": 14, "La": 32, "Sc": 48, "Fe": 71, "Cu": 68, "B": 86, "O": 97, "H": 103}
    assert {symbol: PLACE[symbol] for symbol in places} == places


def test_distances_worked_by_hand() -> None:
    assert distance("BaO", "SrO") == pytest.approx(0.5)
    assert distance("Ba", "F") == PLACE["F"] - PLACE["Ba"] == 88
    assert distance("La1.85Ba0.15CuO4", "La1.85Sr0.15CuO4") == pytest.approx(0.15 / 7)
    assert distance("Mg2B4", "MgB2") == 0
    # L1 can't tell these two apart; a chemist can.
    one, others = parse_fractions(["BaO"]), parse_fractions(["ClO", "SrO"])
    assert nearest(one, others)[0].tolist() == [0]
    assert nearest_emd(one, others)[0].tolist() == [1]


def test_elements_after_lawrencium_stand_with_their_homologues() -> None:
    assert distance("RfO2", "HfO2") == 0
    assert distance("Og", "Rn") == 0
    assert cumulative(parse_fractions(["RfO2"]))[0, -1] == pytest.approx(1)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_it_is_scipys_wasserstein_distance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries, known = random_compositions(rng, 3), random_compositions(rng, 7)
    places = [PLACE[symbol] for symbol in SYMBOLS[:103]]
    expected = np.array(
        [[wasserstein_distance(places, places, x[:103], y[:103]) for y in known] for x in queries]
    )
    index, found = nearest_emd(queries, known)
    np.testing.assert_allclose(found, expected.min(axis=1), atol=1e-10)
    np.testing.assert_allclose(expected[np.arange(3), index], found, atol=1e-10)


def test_it_is_the_least_cost_of_carrying_atoms() -> None:
    rng = np.random.default_rng(5)
    elements = ["Ba", "Y", "Fe", "Cu", "O"]
    cost = np.array([[abs(PLACE[a] - PLACE[b]) for b in elements] for a in elements])
    for _ in range(5):
        x, y = rng.dirichlet(np.ones(5), 2)
        size = len(elements)
        rows, columns = np.kron(np.eye(size), np.ones(size)), np.kron(np.ones(size), np.eye(size))
        least = linprog(cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([x, y])).fun
        full = np.zeros((2, 118))
        full[:, [INDEX[e] for e in elements]] = [x, y]
        assert nearest_emd(full[:1], full[1:])[1][0] == pytest.approx(least, abs=1e-8)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="give"):
        nearest_emd(np.ones((1, 103)), np.ones((1, 118)))
    with pytest.raises(ValueError, match="at least one row"):
        nearest_emd(np.ones((1, 118)), np.zeros((0, 118)))


def same(known: KnownCompositions, *formulas: str) -> list[str | None]:
    return known.same_as(parse_fractions(formulas))


def test_one_per_cent_of_the_atoms_may_differ() -> None:
    known = KnownCompositions.of(["La1.85Sr0.15CuO4", "MgB2"])
    # 0.07 of 7 atoms exchanged is an L1 distance of 0.02.
    assert same(known, "La3.7Sr0.3Cu2O8", "La1.92Sr0.08CuO4", "La1.93Sr0.07CuO4") == [
        "La1.85Sr0.15CuO4",
        "La1.85Sr0.15CuO4",
        None,
    ]
    assert same(known, "Mg0.99Al0.01B2", "MgB1.9C0.1", "MgB2H0.01") == ["MgB2", None, "MgB2"]


def test_the_same_composition_has_the_same_elements() -> None:
    known = KnownCompositions.of(["SmFe0.96Ni0.04AsO", "Ba2YCu4O6.998"])  # 1 % of the atoms are Ni, 7.5 K
    assert same(known, "SmFeAsO", "SmFe0.95Ni0.05AsO", "Ba2YCu4O7") == [
        None,
        "SmFe0.96Ni0.04AsO",
        "Ba2YCu4O6.998",
    ]
    assert same(KnownCompositions.of(["SmFe0.98Ni0.02AsO"]), "SmFeAsO") == ["SmFe0.98Ni0.02AsO"]  # a trace


def test_the_nearest_counts_and_of_equals_the_first() -> None:
    known = KnownCompositions.of(["La1.88Sr0.12CuO4", "La1.85Sr0.15CuO4", "La3.7Sr0.3Cu2O8"])
    assert same(known, "La1.86Sr0.14CuO4", "La1.87Sr0.13CuO4") == ["La1.85Sr0.15CuO4", "La1.88Sr0.12CuO4"]


def test_undetermined_oxygen_is_the_same_as_any() -> None:
    known = KnownCompositions.of(["Ba2YCu3", "Ba2YCu3O7"], any_oxygen=np.array([True, False]))
    assert same(known, "YBa2Cu3O7", "YBa2Cu3O6.2", "YBa2Cu3", "YBa2Cu3.01O6", "YBa2Cu2.8O6.2", "O2") == [
        "Ba2YCu3O7",  # what is determined goes before
        "Ba2YCu3Oz",
        None,  # no oxygen
        "Ba2YCu3Oz",
        None,
        None,
    ]


def doping_series(seed: int, rows: int) -> np.ndarray:
    """Doping series of five elements, as near to one another as the tolerance."""
    generator = np.random.default_rng(seed)
    found = np.zeros((rows, N_ELEMENTS))
    found[:, [2, 7, 28, 55, 56]] = generator.integers(0, 12, (rows, 5))
    found[:, 7] += 20
    return found / found.sum(axis=1, keepdims=True)


@given(st.integers(0, 2**32), st.integers(1, 60))
def test_it_agrees_with_the_nearest_by_brute_force(seed: int, rows: int) -> None:
    points, queries = doping_series(seed, rows), doping_series(seed + 1, 40)
    known = KnownCompositions(
        tuple(map(str, range(rows))), csr_matrix(points), np.zeros(rows, dtype=np.bool_)
    )
    alike = ((queries[:, None] > TRACE) == (points > TRACE)).all(axis=2)
    far = np.where(alike, cdist(queries, points, metric="cityblock"), np.inf)
    index, distance = far.argmin(axis=1), far.min(axis=1)
    clear = np.abs(distance - SAME_TOLERANCE) > 1e-8
    expected = np.where(distance <= SAME_TOLERANCE, index, -1)
    np.testing.assert_array_equal(known.nearest_same(queries)[clear], expected[clear])


def test_nothing_known_and_nothing_asked() -> None:
    assert same(KnownCompositions.of([]), "MgB2") == [None]
    assert KnownCompositions.of(["MgB2"]).same_as(np.zeros((0, N_ELEMENTS))) == []


def test_what_is_no_composition_is_the_same_as_nothing() -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        KnownCompositions.of(["MgB2"]).same_as(np.ones((1, N_ELEMENTS)))
