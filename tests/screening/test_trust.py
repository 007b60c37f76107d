from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiago_ray.screening.trust import EXTRAPOLATED, SecondOpinions, is_extrapolated, trusted_tc_k

NAN = float("nan")


def bound(tc: float, std: float = NAN, oracle: float = NAN, score: float = NAN) -> float:
    columns = (np.array([value]) for value in (tc, std, oracle, score))
    return float(trusted_tc_k(*columns)[0])


@pytest.mark.parametrize(
    ("given_values", "expected"),
    [
        ((100.0, 10.0, 95.0, 0.5), 85.0),  # σ off the oracle's T_c, the smaller one
        ((100.0, 10.0, 40.0, 0.5), 30.0),
        ((70.0, 10.0, 95.0, 0.5), 60.0),  # off the search's
        ((100.0, 10.0, 95.0, 1.01), 0.0),  # beyond what anybody knows
        ((100.0, 10.0, 95.0, EXTRAPOLATED), 85.0),  # the flag is above 1, not at it
        ((5.0, 10.0, 8.0, 0.5), 0.0),  # never below 0
        ((100.0, NAN, 95.0, NAN), 95.0),  # without a spread
        ((100.0, 10.0, NAN, NAN), 90.0),  # without an oracle
        ((100.0, NAN, NAN, 0.5), 100.0),
        ((100.0, NAN, NAN, 2.0), 0.0),
    ],
)
def test_worked_by_hand(given_values: tuple[float, float, float, float], expected: float) -> None:
    assert bound(*given_values) == expected


def test_without_any_other_opinion_or_without_tc_it_is_unknown() -> None:
    assert np.isnan(bound(100.0))
    assert np.isnan(bound(NAN, 10.0, 95.0, 0.5))
    assert np.isnan(bound(NAN, 10.0, 95.0, 2.0))


VALUES = st.floats(0, 300)


@given(VALUES, VALUES, VALUES, st.floats(0, 3))
def test_it_is_never_above_any_opinion(tc: float, std: float, oracle: float, score: float) -> None:
    trusted = bound(tc, std, oracle, score)
    assert 0 <= trusted <= min(tc, oracle)
    assert trusted == 0 or score <= EXTRAPOLATED
    assert bound(tc, std, oracle + 1, score) >= trusted
    assert bound(tc, std + 1, oracle, score) <= trusted


def test_an_unknown_score_raises_no_flag() -> None:
    assert is_extrapolated(np.array([0.9, 1.0, 1.1, NAN])).tolist() == [False, False, True, False]


def test_opinions_are_of_all_rows_or_of_none() -> None:
    opinions = SecondOpinions(tc_oracle_k=np.array([1.0, 2.0]))
    assert opinions.column("tc_oracle_k", 2).tolist() == [1.0, 2.0]
    assert np.isnan(opinions.column("tc_std_k", 2)).tolist() == [True, True]
    with pytest.raises(ValueError, match="tc_oracle_k is of 2 rows, the search of 3"):
        opinions.column("tc_oracle_k", 3)
