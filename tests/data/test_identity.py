from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.data.identity import SAME_TOLERANCE, KnownCompositions
from kiago_ray.data.neighbours import nearest


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
    assert same(known, "Mg0.99Al0.01B2", "MgB1.9C0.1", "MgB2H0.02") == ["MgB2", None, "MgB2"]


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


def compositions(seed: int, rows: int) -> NDArray[np.float64]:
    """Doping series of five elements, as near to one another as the tolerance."""
    generator = np.random.default_rng(seed)
    found = np.zeros((rows, N_ELEMENTS))
    found[:, [2, 7, 28, 55, 56]] = generator.integers(0, 12, (rows, 5))
    found[:, 7] += 20
    return found / found.sum(axis=1, keepdims=True)


@given(st.integers(0, 2**32), st.integers(1, 60))
def test_it_agrees_with_the_nearest_by_brute_force(seed: int, rows: int) -> None:
    points, queries = compositions(seed, rows), compositions(seed + 1, 40)
    known = KnownCompositions(
        tuple(map(str, range(rows))), csr_matrix(points), np.zeros(rows, dtype=np.bool_)
    )
    index, distance = nearest(queries, points)
    clear = np.abs(distance - SAME_TOLERANCE) > 1e-8
    expected = np.where(distance <= SAME_TOLERANCE, index, -1)
    np.testing.assert_array_equal(known.nearest_same(queries)[clear], expected[clear])


def test_nothing_known_and_nothing_asked() -> None:
    assert same(KnownCompositions.of([]), "MgB2") == [None]
    assert KnownCompositions.of(["MgB2"]).same_as(np.zeros((0, N_ELEMENTS))) == []


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="summing to 1"):
        KnownCompositions.of(["MgB2"]).same_as(np.ones((1, N_ELEMENTS)))
    with pytest.raises(ValueError, match="2 names"):
        KnownCompositions(("a", "b"), csr_matrix((1, N_ELEMENTS)), np.zeros(1, dtype=np.bool_))
