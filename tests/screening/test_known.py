"""What is known near a composition, what an improvement over it is, and what was tried: worked by hand."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.stats import norm

from kiago_ray.chemistry.formula import fractions, parse, parse_fractions
from kiago_ray.data.compositions import nearest_emd
from kiago_ray.data.tables import known_table, landmarks
from kiago_ray.screening.known import (
    LENGTH,
    PRIOR_SUCCESS,
    PRIOR_WEIGHT,
    KnownMaterials,
    TriedMaterials,
    contradicted,
    expected_improvement_k,
    with_odds,
)

from ..conftest import known_of

Floats = NDArray[np.float64]


def shipped() -> KnownMaterials:
    found = known_table()
    assert found is not None
    return KnownMaterials.from_table(found.table, found.source)


def measured(known: KnownMaterials, formula: str) -> tuple[str | None, float, float]:
    """The known composition that is the same, its T_c in K and its pressure in GPa."""
    (name,), (tc_k,), (pressure_gpa,) = known.measured(fractions(parse(formula))[None])
    return name, float(tc_k), float(pressure_gpa)


def test_what_was_measured_is_that_of_the_same_composition_alone() -> None:
    known = known_of(["MgB2", "La1.85Sr0.15CuO4", "SmFe0.96Ni0.04AsO"], [39.0, 36.0, 7.5])
    assert measured(known, "La3.7Sr0.3Cu2O8")[:2] == ("La1.85Sr0.15CuO4", 36.0)
    assert measured(known, "La1.86Sr0.14CuO4")[:2] == ("La1.85Sr0.15CuO4", 36.0)  # 0.3 % of the atoms
    assert measured(known, "La1.93Sr0.07CuO4")[0] is None
    name, tc_k, _ = measured(
        known, "SmFeAsO"
    )  # 7.5 K are of another composition, though 1 % of the atoms away
    assert name is None
    assert np.isnan(tc_k)


def test_the_known_one_and_its_tc_are_one() -> None:
    """Ba2YCu4O7 was new by one tolerance and known by another."""
    known = shipped()
    assert measured(known, "Ba2YCu4O7")[:2] == ("Ba2YCu4O6.998", 90.5)
    rows = parse_fractions(["Ba2YCu4O7", "SmFeAsO"])
    columns = known.columns(rows, 0.2, base=None, emd=False)
    assert columns["known"] == ["Ba2YCu4O6.998", "SmFeAsO"]
    np.testing.assert_array_equal(columns["measured_tc_k"], [90.5, 53.8])


def test_the_tc_of_undetermined_oxygen_is_none_of_any_one_amount() -> None:
    table = pd.DataFrame({"formula": ["Ba2YCu4", "MgB2"], "tc_k": [74.6, 39.0], "oxygen": ["any", "stated"]})
    known = KnownMaterials.from_table(table)
    name, tc_k, _ = measured(known, "Ba2YCu4O7.4")
    assert name == "Ba2YCu4Oz"
    assert np.isnan(tc_k)
    assert measured(known, "MgB2")[:2] == ("MgB2", 39.0)


def test_a_pressure_comes_with_what_was_measured_under_it() -> None:
    known = known_of(["H3S", "MgB2"], [203.0, 39.0], pressure_gpa=[155.0, 0.0])
    assert measured(known, "H3S") == ("H3S", 203.0, 155.0)
    assert measured(known, "MgB2") == ("MgB2", 39.0, 0.0)


@pytest.mark.parametrize(
    ("tc_k", "std_k", "measured_k", "pressure_gpa", "expected"),
    [
        (0.0, 1.3, 80.0, np.nan, True),
        (0.0, 1.3, 80.0, 0.0, True),
        (0.0, 1.3, 80.0, 14.0, None),  # La3Ni2O7: the model's T_c is another quantity
        (36.0, 4.0, 39.0, np.nan, False),
        (50.0, 4.9, 40.0, np.nan, False),  # more than 2 σ, but no more than 10 K
        (50.1, 4.9, 40.0, np.nan, True),
        (60.0, 10.0, 40.0, np.nan, False),  # more than 10 K, but no more than 2 σ
        (60.1, 10.0, 40.0, np.nan, True),
        (20.0, 2.0, 0.0, np.nan, True),  # not found to superconduct
        (50.0, np.nan, 39.0, np.nan, True),  # without a σ
        (50.0, 4.0, np.nan, np.nan, None),
        (np.nan, 4.0, 39.0, np.nan, None),
    ],
)
def test_a_measurement_contradicts_a_prediction_beyond_two_sigma_and_ten_kelvin(
    tc_k: float, std_k: float, measured_k: float, pressure_gpa: float, expected: bool | None
) -> None:
    assert contradicted(*(np.array([each]) for each in (tc_k, std_k, measured_k, pressure_gpa))) == [expected]


def test_of_a_table_with_and_without_pressures() -> None:
    table = landmarks()
    known = KnownMaterials.from_table(table, "landmarks")
    assert (len(known.formulas), known.source) == (len(table), "landmarks")
    np.testing.assert_array_equal(known.pressure_gpa, table["pressure_gpa"])
    np.testing.assert_allclose(known.fractions.sum(axis=1), 1)
    assert measured(known, "YBa2Cu3O7")[1] == 92.0
    untold = KnownMaterials.from_table(table.drop(columns="pressure_gpa"), "")
    assert np.isnan(untold.pressure_gpa).all()
    assert measured(untold, "H3S")[1] == 203.0


def test_each_formula_needs_its_values() -> None:
    with pytest.raises(ValueError, match="length"):
        known_of(["MgB2", "NbN"], [39.0])


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
    weighed = known(rows).weighed_tc_k
    # Around the first are 0 and 30 K, around the second 40 and 30 K, around the third 40 and 0 K, around MgB2 nothing.
    np.testing.assert_allclose(weighed, [(40 + 15) / 2, (0 + 35) / 4, (270 + 20) / 10, 39.0])


def test_what_was_measured_under_pressure_neither_counts_nor_weighs() -> None:
    rows = [("LaH10", 250.0, 1), ("LaH9.5", 10.0, 1), ("H3S", 203.0, 5)]
    materials = known(rows, {"LaH10": 170.0, "H3S": 150.0})
    np.testing.assert_array_equal(materials.weighed_tc_k, [np.nan, 10.0, np.nan])
    tc_k, index = materials.best_nearby(parse_fractions(["LaH10", "H3S"]))
    np.testing.assert_array_equal(tc_k, [10.0, np.nan])
    assert index.tolist() == [1, -1]


def test_best_nearby_agrees_with_every_distance() -> None:
    materials = shipped()
    queries = materials.fractions[np.random.default_rng(0).integers(0, len(materials.formulas), 40)]
    queries = (queries + parse_fractions(["LaFeAsO"] * 40) * 0.05) / 1.05
    tc_k, index = materials.best_nearby(queries, 0.15)
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
    alone, index = materials.best_nearby(rows)
    np.testing.assert_array_equal(alone, [50.0, np.nan, 39.0])
    assert index.tolist() == [1, -1, 2]
    with_base, index = materials.best_nearby(rows, base=base)
    np.testing.assert_array_equal(with_base, [50.0, 26.0, 39.0])
    assert index.tolist() == [1, 0, 2]


def test_the_shipped_table_around_known_families() -> None:
    materials = shipped()
    formulas = ["MgB2", "NbSe2", "YBa2Cu3O7", "LaNiAsO", "La2CuO4"]
    tc_k, _ = materials.best_nearby(parse_fractions(formulas))
    np.testing.assert_allclose(tc_k, [39, 7, 93, 3.8, 41], atol=0.7)
    at = materials.formulas.index("Sr0.02La1.98CuO4.09")  # one report of 40 K
    assert materials.reports[at] == 1
    assert 30 < materials.weighed_tc_k[at] < 35


def test_what_came_of_each_is_told() -> None:
    table = pd.DataFrame({"formula": ["LaFeAsO", "CaFeAsH", "Cu"], "tc_k": [26.0, 0.0, 0.0]})
    tried = TriedMaterials.from_table(table.assign(down_to_k=[2.0, 1.8, float("nan")]))
    rows = parse_fractions(["La2Fe2As2O2", "CaFeAsH", "Cu", "MgB2"])
    assert tried.compositions.same_as(rows) == [
        "LaFeAsO: 26 K",
        "CaFeAsH: none down to 1.8 K",
        "Cu: none",
        None,
    ]
    assert TriedMaterials.from_table(table).compositions.same_as(rows[1:2]) == ["CaFeAsH: none"]


def test_samples_re_weigh_by_what_the_model_says_of_them() -> None:
    table = pd.DataFrame({"formula": ["LaFeAsO", "MgB2"], "tc_k": [0.0, 39.0]})
    tried = TriedMaterials.from_table(table)
    rows = parse_fractions(["LaFeAsO"])
    asked = replace(tried, tc_predicted_k=np.full(2, 11.0))
    found = reweighed(rows, np.array([30.0]), np.array([-1.0]), asked)
    # The sample itself weighs 1, MgB2 next to nothing, the model 0.1; 1 K is the middle down to 2 K.
    np.testing.assert_allclose(found.tc_k, [30 - 10 / 1.1], atol=0.01)
    assert found.log_plausibility[0] < -1.0
    assert tried.reweigh(rows, np.array([30.0]))[0].tolist() == [30.0]


NAN = float("nan")
P = np.log(np.array([0.2]))


def outcomes(*samples: tuple[str, float, float, float]) -> TriedMaterials:
    """Of formula, measured T_c, temperature down to which it was measured, and predicted T_c of each."""
    table = pd.DataFrame(list(samples), columns=["formula", "tc_k", "down_to_k", "said"])
    table = table.astype({"formula": "str", "tc_k": "float64", "down_to_k": "float64"})
    return replace(TriedMaterials.from_table(table), tc_predicted_k=table["said"].to_numpy(dtype=float))


def reweighed(fractions: Floats, tc_k: Floats, log_p: Floats, tried: TriedMaterials) -> SimpleNamespace:
    """With the logarithm of the plausibility by the odds."""
    names, found = ("tc_k", "log_odds", "nearest", "distance"), tried.reweigh(fractions, tc_k)
    values = dict(zip(names, found, strict=True))
    return SimpleNamespace(**values, log_plausibility=with_odds(log_p, values["log_odds"]))


def one(formula: str) -> Floats:
    return parse_fractions([formula])


def test_without_samples_nothing_changes() -> None:
    tc_k, log_p = np.array([20.0, NAN, -0.5]), np.log([0.2, 1.0, 1e-9])
    found = reweighed(parse_fractions(["LaFeAsO", "MgB2", "NaCl"]), tc_k, log_p, outcomes())
    np.testing.assert_array_equal(found.tc_k, tc_k)
    np.testing.assert_array_equal(found.log_plausibility, log_p)
    assert found.nearest.tolist() == [-1, -1, -1]
    assert np.isnan(found.distance).all()


def test_many_samples_of_the_very_composition_prevail_over_the_model() -> None:
    failed = outcomes(*[("LaFeAsO", 0.0, 4.0, 30.0)] * 1000)
    found = reweighed(one("LaFeAsO"), np.array([30.0]), P, failed)
    assert found.tc_k[0] == pytest.approx(2.0, abs=0.01)  # the middle of 0 to 4 K
    assert found.log_plausibility[0] < np.log(1e-4)
    there = reweighed(one("LaFeAsO"), np.array([30.0]), P, outcomes(*[("LaFeAsO", 26.0, 2.0, 30.0)] * 1000))
    assert there.tc_k[0] == pytest.approx(26.0, abs=0.01)
    assert there.log_plausibility[0] > np.log(0.99)


def test_one_sample_weighs_as_the_formula_says() -> None:
    found = reweighed(one("LaFeAsP"), np.array([20.0]), P, outcomes(("LaFeAsO", 0.0, NAN, 30.0)))
    distance = float(nearest_emd(one("LaFeAsP"), one("LaFeAsO"))[1][0])
    weight = np.exp(-distance / LENGTH)
    assert found.distance[0] == distance
    # No lowest temperature is given, so it is 2 K and the middle 1 K.
    assert found.tc_k[0] == pytest.approx(20 + weight * (1 - 30) / (PRIOR_WEIGHT + weight))
    p0 = PRIOR_SUCCESS
    ratio = PRIOR_WEIGHT * p0 / (PRIOR_WEIGHT * (1 - p0) + weight) * (1 - p0) / p0
    odds = 0.2 / 0.8 * ratio
    assert np.exp(found.log_plausibility[0]) == pytest.approx(odds / (1 + odds))
    assert found.log_odds[0] == pytest.approx(np.log(ratio))


def test_the_nearer_a_failure_the_less_is_hoped_for() -> None:
    formulas = ["LaFeAsO", "La0.95Ce0.05FeAsO", "La0.5Ce0.5FeAsO", "CeFeAsO", "GdFeAsO", "BaBiO3", "NaCl"]
    n = len(formulas)
    failed = outcomes(("LaFeAsO", 0.0, 2.0, 30.0))
    found = reweighed(parse_fractions(formulas), np.full(n, 30.0), np.full(n, np.log(0.2)), failed)
    assert (np.diff(found.distance) > 0).all()
    assert (np.diff(found.tc_k) > 0).all()
    assert (np.diff(found.log_plausibility) > 0).all()
    # Table salt has nothing to do with it.
    assert found.tc_k[-1] == pytest.approx(30.0, abs=1e-6)
    assert found.log_plausibility[-1] == pytest.approx(np.log(0.2), abs=1e-6)


def test_a_failure_never_raises_and_a_success_lowers_no_plausibility() -> None:
    """The model says 0.3 K of it; that nothing was found down to 4 K isn't against it."""
    failed = reweighed(one("LaFeAsO"), np.array([0.3]), P, outcomes(("LaFeAsO", 0.0, 4.0, 0.3)))
    assert failed.tc_k[0] == 0.3
    lower = reweighed(one("LaFeAsO"), np.array([30.0]), P, outcomes(("LaFeAsO", 5.0, NAN, 30.0)))
    assert 5.0 < lower.tc_k[0] < 30.0
    assert lower.log_plausibility[0] > P[0]


def test_t_c_is_not_negative_and_what_is_not_known_stays_so() -> None:
    failed = outcomes(("LaFeAsO", 0.0, 2.0, 90.0))
    found = reweighed(parse_fractions(["LaFeAsO"] * 2), np.array([5.0, NAN]), np.array([NAN, P[0]]), failed)
    assert found.tc_k[0] == 0.0
    assert np.isnan(found.tc_k[1])
    assert np.isnan(found.log_plausibility[0])
    assert found.log_plausibility[1] < P[0]


def test_a_sample_of_which_the_model_knows_nothing_says_nothing_of_t_c() -> None:
    found = reweighed(one("LaFeAsO"), np.array([30.0]), P, outcomes(("LaFeAsO", 0.0, 2.0, NAN)))
    assert found.tc_k[0] == 30.0
    assert found.log_plausibility[0] < P[0]


def test_odds_leave_certainty_alone_and_keep_tiny_probabilities_apart() -> None:
    found = with_odds(np.array([0.0, -800.0, -1e-12, -np.inf]), np.array([-3.0, 2.0, -3.0, 2.0]))
    assert found[0] == 0.0
    assert found[3] == -np.inf
    assert found[1] == pytest.approx(-798.0)
    assert -1e-10 < found[2] < 0


def test_rows_are_the_same_in_any_company(monkeypatch: pytest.MonkeyPatch) -> None:
    formulas = ["LaFeAsO", "CeFeAsO", "BaFe2As2", "MgB2", "YBa2Cu3O7"]
    samples = outcomes(("PrFeAsO", 0.0, 2.0, 30.0), ("SrFe2As2", 21.0, NAN, 12.0))
    arguments = parse_fractions(formulas), np.full(5, 20.0), np.full(5, np.log(0.1)), samples
    whole = reweighed(*arguments)
    monkeypatch.setattr("kiago_ray.screening.known.MAX_BLOCK_BYTES", 32)
    parts = reweighed(*arguments)
    for name in vars(whole):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-12)
