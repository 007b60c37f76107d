"""Element mover's distance: SciPy and a linear programme as referees, and distances worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.stats import wasserstein_distance

from kiago_ray.chemistry.elements import INDEX, SYMBOLS
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.data.neighbours import SCALE, cumulative, nearest, nearest_emd

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
