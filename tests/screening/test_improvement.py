from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.screening.improvement import best_nearby, expected_improvement_k, weighed_tc_k
from kiago_ray.screening.known import KnownMaterials


@pytest.mark.parametrize(
    ("mean", "std", "best"), [(30.0, 10.0, 40.0), (50.0, 5.0, 40.0), (40.0, 1.0, 40.0), (5.0, 2.0, 0.0)]
)
def test_expected_improvement_is_the_integral(mean: float, std: float, best: float) -> None:
    expected, _ = quad(lambda t: (t - best) * norm.pdf(t, mean, std), best, mean + 12 * std)
    found = expected_improvement_k(np.array([mean]), np.array([std]), np.array([best]))
    assert found[0] == pytest.approx(expected, rel=1e-8)


def test_a_spread_without_bounds_counts_as_a_fifth_of_t_c_and_two_kelvin() -> None:
    wild, bounded = (
        expected_improvement_k(np.array([80.0]), np.array([std]), np.array([90.0])) for std in (60, 20)
    )
    assert wild == bounded


KELVIN = st.floats(0, 300)


@given(KELVIN, st.floats(0, 80), KELVIN)
def test_expected_improvement_is_no_less_than_the_sure_gain_and_grows_with_the_spread(
    mean: float, std: float, best: float
) -> None:
    narrow, wide = (
        float(expected_improvement_k(np.array([mean]), np.array([each]), np.array([best]))[0])
        for each in (std, std + 1.0)
    )
    assert max(mean - best, 0.0) - 1e-9 <= narrow <= wide + 1e-9


def test_without_a_spread_the_gain_is_sure_and_without_a_tc_it_is_unknown() -> None:
    found = expected_improvement_k(
        np.array([50.0, 30.0, np.nan, 30.0]),
        np.array([np.nan, 0.0, 5.0, 5.0]),
        np.array([40.0, 40.0, 40.0, np.nan]),
    )
    np.testing.assert_array_equal(found, [10.0, 0.0, np.nan, np.nan])


def known(rows: list[tuple[str, float, int]], pressure: dict[str, float] | None = None) -> KnownMaterials:
    import pandas as pd

    table = pd.DataFrame(rows, columns=["formula", "tc_k", "reports"])
    table["pressure_gpa"] = [(pressure or {}).get(formula, np.nan) for formula, _, _ in rows]
    return KnownMaterials.from_table(table, "these")


def test_single_reports_are_weighed_down_worked_by_hand() -> None:
    rows = [
        ("La1.98Sr0.02CuO4", 40.0, 1),
        ("La2CuO4", 0.0, 3),
        ("La1.9Sr0.1CuO4", 30.0, 9),
        ("MgB2", 39.0, 1),
    ]
    weighed = weighed_tc_k(known(rows))
    # Around the first are 0 and 30 K, around the second 40 and 30 K, around the third 40 and 0 K, around MgB2 nothing.
    np.testing.assert_allclose(weighed, [(40 + 15) / 2, (0 + 35) / 4, (270 + 20) / 10, 39.0])


def test_what_was_measured_under_pressure_neither_counts_nor_weighs() -> None:
    rows = [("LaH10", 250.0, 1), ("LaH9.5", 10.0, 1), ("H3S", 203.0, 5)]
    materials = known(rows, {"LaH10": 170.0, "H3S": 150.0})
    np.testing.assert_array_equal(weighed_tc_k(materials), [np.nan, 10.0, np.nan])
    tc_k, index = best_nearby(parse_fractions(["LaH10", "H3S"]), materials)
    np.testing.assert_array_equal(tc_k, [10.0, np.nan])
    assert index.tolist() == [1, -1]


def test_best_nearby_agrees_with_every_distance() -> None:
    materials = KnownMaterials.shipped()
    queries = materials.fractions[np.random.default_rng(0).integers(0, len(materials.formulas), 40)]
    queries = (queries + parse_fractions(["LaFeAsO"] * 40) * 0.05) / 1.05
    tc_k, index = best_nearby(queries, materials, 0.15)
    ambient = ~(materials.pressure_gpa > 0)
    for query, found, at in zip(queries, tc_k, index, strict=True):
        near = (np.round(np.abs(materials.fractions - query).sum(axis=1), 12) <= 0.15) & ambient
        assert (at >= 0) == near.any()
        if near.any():
            assert near[at]
            assert found == materials.weighed_tc_k[near].max() == materials.weighed_tc_k[at]


def test_the_base_and_what_is_near_it_count_for_every_row() -> None:
    materials = known([("LaFeAsO0.9F0.1", 26.0, 50), ("SmFeAsO0.9F0.1", 50.0, 9), ("MgB2", 39.0, 150)])
    rows, base = parse_fractions(["SmFeAsO", "LaNiPO", "Mg0.95Al0.05B2"]), parse_fractions(["LaFeAsO"])[0]
    alone, index = best_nearby(rows, materials)
    np.testing.assert_array_equal(alone, [50.0, np.nan, 39.0])
    assert index.tolist() == [1, -1, 2]
    with_base, index = best_nearby(rows, materials, base=base)
    np.testing.assert_array_equal(with_base, [50.0, 26.0, 39.0])
    assert index.tolist() == [1, 0, 2]


def test_the_shipped_table_around_known_families() -> None:
    materials = KnownMaterials.shipped()
    formulas = ["MgB2", "NbSe2", "YBa2Cu3O7", "LaNiAsO", "La2CuO4"]
    tc_k, _ = best_nearby(parse_fractions(formulas), materials)
    np.testing.assert_allclose(tc_k, [39, 7, 93, 3.8, 41], atol=0.7)
    at = materials.formulas.index("Sr0.02La1.98CuO4.09")  # one report of 40 K
    assert materials.reports[at] == 1
    assert 30 < materials.weighed_tc_k[at] < 35
