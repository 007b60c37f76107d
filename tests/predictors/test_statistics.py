"""Statistics of element properties against a plain reading of their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS, properties
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.predictors.oracle import STEP, composition_statistics, statistic_names

FORMULAS = ["YBa2Cu3O7", "MgB2", "LaNiAsO", "Nb", "Hg0.8Tl0.2Ba2Ca2Cu3O8.33", "La1.85Sr0.15CuO4"]


def column(rows: np.ndarray, name: str) -> np.ndarray:
    return rows[:, statistic_names().index(name)]


def by_definition(row: np.ndarray) -> list[float]:
    """One composition's statistics, written with numpy's weighted functions over the elements that it holds."""
    held = np.flatnonzero(row)
    x, found = row[held], []
    values = properties().values[held]
    mean = np.average(values, axis=0, weights=x)
    found += [*mean, *np.sqrt(np.average((values - mean) ** 2, axis=0, weights=x))]
    found += [*values.min(0), *values.max(0), *np.ptp(values, axis=0)]
    found += [*np.average(abs(values - mean), axis=0, weights=x), *values[x.argmax()]]
    norms = [np.linalg.norm(x, power) for power in (2, 3, 7)]
    return [*found, len(held), *norms, -float((x * np.log(x)).sum()), x.max()]


def steps() -> np.ndarray:
    """What each column is rounded to."""
    return STEP * np.concatenate([np.tile(properties().values.std(axis=0), 7), np.ones(6)])


def test_they_are_what_the_definitions_give() -> None:
    rows = parse_fractions(FORMULAS)
    found = composition_statistics(rows)
    assert found.shape == (len(FORMULAS), len(statistic_names()))
    off = np.abs(found - [by_definition(row) for row in rows])
    assert (off <= 0.51 * steps()).all()


def test_known_figures_of_magnesium_diboride() -> None:
    rows = composition_statistics(parse_fractions(["MgB2"]))
    assert column(rows, "mean_atomic_number") == pytest.approx((12 + 2 * 5) / 3, abs=2e-3)
    assert column(rows, "range_electronegativity_pauling") == pytest.approx(2.04 - 1.31, abs=1e-4)
    assert column(rows, "most_abundant_atomic_number") == pytest.approx(5, abs=2e-3)
    assert column(rows, "entropy") == pytest.approx(np.log(3) - 2 / 3 * np.log(2), abs=1e-4)
    assert column(rows, "norm_2") == pytest.approx(np.sqrt(5) / 3, abs=1e-4)


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    generator = np.random.default_rng(0)
    wide = generator.dirichlet(np.ones(N_ELEMENTS), size=5)
    rows = np.concatenate([parse_fractions(FORMULAS), wide])
    together = composition_statistics(rows)
    alone = np.concatenate([composition_statistics(row[None]) for row in rows])
    np.testing.assert_array_equal(together, alone)


def test_the_last_digits_of_amounts_change_nothing() -> None:
    rows = parse_fractions(FORMULAS)
    found = composition_statistics(rows)
    np.testing.assert_array_equal(composition_statistics(rows.astype(np.float32)), found)
    shaken = rows * (1 + 1e-7 * np.random.default_rng(0).normal(size=rows.shape))
    same = composition_statistics(shaken.astype(np.float32)) == found
    assert same.mean() > 0.995
    # Cu, Ni and Zn all stand in period 4: a deviation of exactly 0, however their fractions are rounded.
    assert column(composition_statistics(parse_fractions(["Cu3Ni2Zn2"])), "deviation_period") == 0


def test_of_equal_amounts_the_lightest_counts_as_the_most_abundant() -> None:
    assert column(
        composition_statistics(parse_fractions(["LaNiAsO"])), "most_abundant_atomic_number"
    ) == pytest.approx(8, abs=2e-3)


def test_no_column_is_one_element() -> None:
    """A change of one element alone moves many columns: amounts are read through properties only."""
    names = statistic_names()
    assert len(set(names)) == len(names) == 7 * len(properties().names) + 6
    one, other = composition_statistics(parse_fractions(["La2CuO4", "Nd2CuO4"]))
    assert (one != other).sum() > 50


def test_what_is_no_composition_is_refused() -> None:
    rows = parse_fractions(["MgB2", "Nb"])
    with pytest.raises(ValueError, match=r"\(N, 118\), not \(118,\)"):
        composition_statistics(rows[0])
    for wrong in (-0.1, np.nan, np.inf):
        bad = rows.copy()
        bad[1, INDEX["O"]] = wrong
        with pytest.raises(ValueError, match="negative, infinite or missing"):
            composition_statistics(bad)
    with pytest.raises(ValueError, match="row 1 holds no element"):
        composition_statistics(rows * np.array([[1], [0]]))
    assert composition_statistics(rows[:0]).shape == (0, len(statistic_names()))
