""""""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.data.neighbours import nearest_emd
from kiago_ray.screening.tried import (
    LENGTH,
    PRIOR_SUCCESS,
    PRIOR_WEIGHT,
    Outcomes,
    TriedMaterials,
    reweigh,
    with_odds,
)


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
    asked = tried.predicted(lambda fractions: 10.0 + fractions.sum(axis=1))
    assert asked.tc_predicted_k is not None
    np.testing.assert_allclose(asked.tc_predicted_k, [11.0, 11.0])
    found = asked.reweigh(rows, np.array([30.0]), np.array([-1.0]))
    # The sample itself weighs 1, MgB2 next to nothing, the model 0.1; 1 K is the middle down to 2 K.
    np.testing.assert_allclose(found.tc_k, [30 - 10 / 1.1], atol=0.01)
    assert found.log_plausibility[0] < -1.0
    assert tried.reweigh(rows, np.array([30.0]), np.array([-1.0])).tc_k.tolist() == [30.0]


NAN = float("nan")
P = np.log(np.array([0.2]))


def outcomes(*samples: tuple[str, float, float, float]) -> Outcomes:
    """Of formula, measured T_c, temperature down to which it was measured, and predicted T_c of each."""
    columns = [np.array(each, dtype=np.float64) for each in zip(*(s[1:] for s in samples), strict=True)]
    return Outcomes.of(parse_fractions([s[0] for s in samples]), *columns)


def one(formula: str) -> NDArray[np.float64]:
    return parse_fractions([formula])


def test_without_samples_nothing_changes() -> None:
    none = Outcomes.of(np.empty((0, 118)), np.empty(0), np.empty(0), np.empty(0))
    tc_k, log_p = np.array([20.0, NAN, -0.5]), np.log([0.2, 1.0, 1e-9])
    found = reweigh(parse_fractions(["LaFeAsO", "MgB2", "NaCl"]), tc_k, log_p, none)
    np.testing.assert_array_equal(found.tc_k, tc_k)
    np.testing.assert_array_equal(found.log_plausibility, log_p)
    assert found.nearest.tolist() == [-1, -1, -1]
    assert np.isnan(found.distance).all()


def test_many_samples_of_the_very_composition_prevail_over_the_model() -> None:
    failed = outcomes(*[("LaFeAsO", 0.0, 4.0, 30.0)] * 1000)
    found = reweigh(one("LaFeAsO"), np.array([30.0]), P, failed)
    assert found.tc_k[0] == pytest.approx(2.0, abs=0.01)  # the middle of 0 to 4 K
    assert found.log_plausibility[0] < np.log(1e-4)
    there = reweigh(one("LaFeAsO"), np.array([30.0]), P, outcomes(*[("LaFeAsO", 26.0, 2.0, 30.0)] * 1000))
    assert there.tc_k[0] == pytest.approx(26.0, abs=0.01)
    assert there.log_plausibility[0] > np.log(0.99)


def test_one_sample_weighs_as_the_formula_says() -> None:
    found = reweigh(one("LaFeAsP"), np.array([20.0]), P, outcomes(("LaFeAsO", 0.0, NAN, 30.0)))
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
    found = reweigh(parse_fractions(formulas), np.full(n, 30.0), np.full(n, np.log(0.2)), failed)
    assert (np.diff(found.distance) > 0).all()
    assert (np.diff(found.tc_k) > 0).all()
    assert (np.diff(found.log_plausibility) > 0).all()
    # Table salt has nothing to do with it.
    assert found.tc_k[-1] == pytest.approx(30.0, abs=1e-6)
    assert found.log_plausibility[-1] == pytest.approx(np.log(0.2), abs=1e-6)


def test_a_failure_never_raises_and_a_success_lowers_no_plausibility() -> None:
    """The model says 0.3 K of it; that nothing was found down to 4 K isn't against it."""
    failed = reweigh(one("LaFeAsO"), np.array([0.3]), P, outcomes(("LaFeAsO", 0.0, 4.0, 0.3)))
    assert failed.tc_k[0] == 0.3
    lower = reweigh(one("LaFeAsO"), np.array([30.0]), P, outcomes(("LaFeAsO", 5.0, NAN, 30.0)))
    assert 5.0 < lower.tc_k[0] < 30.0
    assert lower.log_plausibility[0] > P[0]


def test_t_c_is_not_negative_and_what_is_not_known_stays_so() -> None:
    failed = outcomes(("LaFeAsO", 0.0, 2.0, 90.0))
    found = reweigh(parse_fractions(["LaFeAsO"] * 2), np.array([5.0, NAN]), np.array([NAN, P[0]]), failed)
    assert found.tc_k[0] == 0.0
    assert np.isnan(found.tc_k[1])
    assert np.isnan(found.log_plausibility[0])
    assert found.log_plausibility[1] < P[0]


def test_a_sample_of_which_the_model_knows_nothing_says_nothing_of_t_c() -> None:
    found = reweigh(one("LaFeAsO"), np.array([30.0]), P, outcomes(("LaFeAsO", 0.0, 2.0, NAN)))
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
    whole = reweigh(*arguments)
    monkeypatch.setattr("kiago_ray.screening.tried.MAX_BLOCK_BYTES", 32)
    parts = reweigh(*arguments)
    for name in vars(whole):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-12)
