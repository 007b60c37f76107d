"""The nearest composition by L1 and by element mover's distance: SciPy and a linear programme as referees."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.stats import wasserstein_distance

from kiago_ray.chemistry.elements import INDEX, SYMBOLS
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.data import neighbours
from kiago_ray.data.neighbours import (
    SCALE,
    CompositionIndex,
    cumulative,
    nearest,
    nearest_composition,
    nearest_emd,
    within,
)


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
    monkeypatch.setattr(neighbours, "MAX_BLOCK_BYTES", 8 * 40 * 7)  # seven rows at once
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
    slow, fast = nearest(queries, points), nearest_composition(queries, points)
    again = nearest_composition(queries, CompositionIndex.of(points))
    assert (again[0] == fast[0]).all()
    assert (again[1] == fast[1]).all()
    np.testing.assert_allclose(fast[1], slow[1], atol=1e-11)
    ties = np.abs(points[fast[0]] - queries).sum(axis=1) - slow[1]
    np.testing.assert_allclose(ties, 0, atol=1e-11)


def test_those_within_a_distance_are_found_by_their_rarest_element() -> None:
    known = parse_fractions(["La2CuO4", "NaCl", "La1.9Sr0.1CuO4", "La1.8Sr0.2CuO4", "KCl"])
    queries = parse_fractions(["La1.85Sr0.15CuO4", "NaCl", "MgB2"])
    index = CompositionIndex.of(known)
    assert [rows.tolist() for rows in within(queries, index, 0.02)] == [[2, 3], [1], []]
    assert [rows.tolist() for rows in within(queries, known, 0.1)] == [[0, 2, 3], [1], []]
    assert [rows.tolist() for rows in within(queries, known[:0], 0.1)] == [[], [], []]


def test_what_is_no_composition_is_refused() -> None:
    with pytest.raises(ValueError, match="must sum to 1"):
        nearest_composition(np.ones((1, 118)), np.ones((1, 118)))


PLACE = {symbol: place for place, symbol in enumerate(SCALE, start=1)}


def distance(one: str, other: str) -> float:
    return float(nearest_emd(parse_fractions([one]), parse_fractions([other]))[1][0])


def compositions(rng: np.random.Generator, rows: int) -> np.ndarray:
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
    queries, known = compositions(rng, 3), compositions(rng, 7)
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
