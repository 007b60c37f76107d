from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.data import neighbours
from kiago_ray.data.neighbours import CompositionIndex, nearest, nearest_composition, within


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
