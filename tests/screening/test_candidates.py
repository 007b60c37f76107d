from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from smact.screening import smact_validity

from kiago_ray.chemistry import neutrality
from kiago_ray.chemistry.oxidation import OxidationSet
from kiago_ray.screening.candidates import EXTRAPOLATED, collect, is_extrapolated, trusted_tc_k
from kiago_ray.screening.known import KnownMaterials, TriedMaterials
from kiago_ray.search.result import SearchResult

MakeResult = Callable[[list[tuple[str | None, float, float]]], SearchResult]
FORMULAS = ["LaNiAsO", "MgB2", "La2CuO4", "NaCl2", "MgCoNi3", "YBa2Cu3O7", "H3S", "Fe", "FeSe", "CsO5Cl"]


def rows(*formulas: str | None) -> list[tuple[str | None, float, float]]:
    return [(formula, 10.0, -1.0) for formula in formulas]


@pytest.mark.parametrize("oxidation_set", [OxidationSet.SMACT14, OxidationSet.ICSD24])
def test_neutrality_is_that_of_smact_by_the_set_asked_for(
    make_result: MakeResult, oxidation_set: OxidationSet
) -> None:
    candidates = collect(make_result(rows(*FORMULAS)), oxidation_set=oxidation_set)
    for at, formula in enumerate(FORMULAS):
        expected = smact_validity(formula, use_pauling_test=True, oxidation_states_set=oxidation_set.value)
        assert candidates.neutrality.pauling[at] == expected, formula


def test_states_of_each_row_are_its_own(make_result: MakeResult) -> None:
    result = make_result(rows(None, "LaNiAsO", "H3S", "LaNiAsO"))
    candidates = collect(result)
    texts = candidates.balances.certificates
    assert texts[0] == ""
    assert texts[1] == texts[3] == "La+3 Ni+2 As-3 O-2"


def test_the_likeliest_states_are_given(make_result: MakeResult) -> None:
    """Sc(3+) with Cu(1+) balances as Sc(2+) with Cu(2+) does; the ICSD holds far more of the former."""
    candidates = collect(make_result(rows("BaCa3Sc4Cu4O12", "LaNi3Sn", "NaCl2")))
    assert candidates.balances.certificates == ("Ba+2 Ca+2 Sc+3 Cu+1 O-2", "metallic", "")


def test_rows_without_a_formula_have_nothing(make_result: MakeResult) -> None:
    candidates = collect(make_result(rows(None, "MgB2")))
    assert candidates.formulas == ("", "MgB2")
    assert candidates.ok.tolist() == [False, True]
    assert candidates.n_elements.tolist() == [0, 2]
    assert np.isnan(candidates.tc_k).tolist() == [True, False]
    assert not candidates.neutrality.neutral[0]


def test_a_search_in_which_every_row_failed(make_result: MakeResult) -> None:
    known = KnownMaterials.from_formulas(["MgB2"], [39.0])
    candidates = collect(make_result(rows(None, None)), known=known)
    assert candidates.formulas == ("", "")
    assert candidates.nearest.tolist() == [-1, -1]


def test_counts_are_reduced(make_result: MakeResult) -> None:
    candidates = collect(make_result(rows("Mg2B4")))
    assert candidates.formulas == ("MgB2",)
    assert candidates.counts.sum() == 3


def test_fractional_amounts_that_add_up_are_neutral(make_result: MakeResult) -> None:
    # Y and Al can be +3 as La is, so what they share of its site keeps LaNiAsO's balance. K is +1 and Ca +2.
    candidates = collect(make_result(rows("Y0.1234Al0.8766NiAsO", "K0.1234Ca0.8766NiAsO")))
    assert candidates.neutrality.neutral.tolist() == [True, False]
    assert not candidates.counts.any()
    assert candidates.n_elements.tolist() == [5, 5]


def test_fractional_amounts_that_cannot_be_judged_are_not_neutral(make_result: MakeResult) -> None:
    too_large = f"Y0.1234Ga0.8766N{neutrality.MAX_ATOMS}"
    candidates = collect(make_result(rows("Y0.12345Ga0.87655N", too_large)))
    assert candidates.neutrality.neutral.tolist() == [False, False]


def test_nearest_known_composition(make_result: MakeResult) -> None:
    known = KnownMaterials.from_formulas(["MgB2", "La1.9Sr0.1CuO4", "Nb3Sn"], [39.0, 25.0, 18.0])
    candidates = collect(make_result(rows("La2CuO4", None, "Mg2B4")), known=known)
    assert candidates.nearest.tolist() == [1, -1, 0]
    # 0.1 of 7 atoms is exchanged: twice that in L1.
    np.testing.assert_allclose(candidates.nearest_distance, [0.2 / 7, np.nan, 0], atol=1e-12)
    assert candidates.nearest_emd.tolist() == [1, -1, 0]
    # From La, the 32nd place of the modified Pettifor scale, to Sr, the 15th.
    np.testing.assert_allclose(candidates.nearest_emd_distance, [17 * 0.1 / 7, np.nan, 0], atol=1e-12)


def test_a_row_does_not_depend_on_the_others(make_result: MakeResult) -> None:
    known = KnownMaterials.from_formulas(["MgB2", "LaFeAsO"], [39.0, 26.0])

    def facts(candidates: Any, at: int) -> tuple[Any, ...]:
        verdicts = candidates.neutrality
        return (
            verdicts.neutral[at],
            verdicts.pauling[at],
            verdicts.alloy[at],
            candidates.nearest_distance[at],
            candidates.nearest_emd_distance[at],
        )

    together = collect(make_result(rows(*FORMULAS, None, *FORMULAS)), known=known)
    for at, formula in enumerate(FORMULAS):
        alone = facts(collect(make_result(rows(formula)), known=known), 0)
        assert facts(together, at) == alone == facts(together, at + len(FORMULAS) + 1)


def test_what_was_tried_nearby_is_told_and_re_weighs(make_result: MakeResult) -> None:
    table = pd.DataFrame({"formula": ["LaNiAsO"], "tc_k": [0.0], "down_to_k": [4.0]})
    tried = TriedMaterials.from_table(table).predicted(lambda fractions: np.full(len(fractions), 12.0))
    formulas = rows("LaNiAsO", "CeNiAsO", None, "MgB2", "La2Ni2As2O2")
    found = collect(make_result(formulas), tried=tried)
    told = "LaNiAsO: none down to 4 K"
    assert found.tried_nearby == (
        f"{told} (0 places away)",
        f"{told} (0.25 places away)",  # Ce stands beside La on the scale, and is a quarter of the atoms
        None,
        None,
        f"{told} (0 places away)",
    )
    assert found.tried == (told, None, None, None, told)
    weight = np.exp(-0.25 / 0.5)
    # 2 K, the middle of 0 to 4 K, less the 12 K that the model says of it.
    expected = [max(0.0, 10 - 10 / 1.1), 10 - 10 * weight / (0.1 + weight), np.nan, 10.0, 10 - 10 / 1.1]
    np.testing.assert_allclose(found.tc_given_tried_k, expected, atol=1e-6)
    assert found.tried_log_odds[0] < found.tried_log_odds[1] < -0.1
    assert found.tried_log_odds[2:4] == pytest.approx(0.0, abs=1e-6)
    without = collect(make_result(formulas))
    assert np.isnan(without.tc_given_tried_k).all()
    assert not without.tried_log_odds.any()
    assert not any(without.tried_nearby)


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
