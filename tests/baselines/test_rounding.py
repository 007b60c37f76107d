"""Rounding by rule: known formulas by hand, what rounding to the nearest is, and nothing repaired."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kiago_ray.baselines.rounding import round_to_atoms
from kiago_ray.chemistry.formula import parse, parse_fractions, write_integers


@pytest.mark.parametrize(
    ("formula", "atoms", "rounded"),
    [
        ("LaNiAsO", 4, "LaNiAsO"),
        ("La1.85Sr0.15CuO4", 14, "La2CuO4"),  # Sr: 0.3 atoms
        ("La1.85Sr0.15CuO4", 28, "La7SrCu4O16"),
        ("Ca0.23Sr0.27O0.5", 4, "CaSrO2"),  # the paper's Fig. 2
        ("YBa2Cu3O7", 5, "BaCuO3"),  # 0.38, 0.77, 1.15, 2.69 atoms
    ],
)
def test_known_formulas(formula: str, atoms: int, rounded: str) -> None:
    result = round_to_atoms(parse_fractions([formula]), atoms)
    assert parse(write_integers(result.counts[0])) == parse(rounded)
    assert not result.empty[0]


def test_nothing_is_repaired_and_a_row_with_nothing_left_is_marked() -> None:
    amounts = np.zeros((3, 118))
    amounts[0, :3] = 1  # thirds of 5 atoms: 1.67 each, 2 + 2 + 2
    amounts[1, :118] = 1  # 5/118 each: nothing
    result = round_to_atoms(amounts, 5)  # row 2: nothing to begin with
    assert result.counts.sum(axis=1).tolist() == [6, 0, 0]
    assert result.empty.tolist() == [False, True, True]


@settings(max_examples=50, deadline=None)
@given(arrays(np.float64, (4, 6), elements=st.floats(0, 50)), st.integers(1, 200))
def test_every_count_is_within_half_an_atom(amounts: np.ndarray, atoms: int) -> None:
    counts = round_to_atoms(amounts, atoms).counts
    held = amounts.sum(axis=1) > 0
    exact = atoms * amounts[held] / amounts[held].sum(axis=1, keepdims=True)
    assert np.abs(counts[held] - exact).max(initial=0) <= 0.5 + 1e-9
    assert not counts[~held].any()


def test_whole_fractions_stay_and_scaling_changes_nothing() -> None:
    generator = np.random.default_rng(0)
    whole = generator.integers(0, 9, (200, 118))
    for row in whole[:20]:
        assert np.array_equal(round_to_atoms(row[None] * 0.37, int(row.sum())).counts[0], row)


@pytest.mark.parametrize(
    ("amounts", "atoms", "message"),
    [
        (np.ones(118), 4, r"\(118,\)"),
        (np.full((1, 118), -1.0), 4, "is -1.0"),
        (np.full((1, 118), np.nan), 4, "is nan"),
        (np.ones((1, 118)), 0, "atoms is 0"),
    ],
)
def test_wrong_input_is_named(amounts: np.ndarray, atoms: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        round_to_atoms(amounts, atoms)
