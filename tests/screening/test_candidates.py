from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from smact.screening import smact_validity

from kiago_ray.chemistry import neutrality
from kiago_ray.chemistry.oxidation import OxidationSet
from kiago_ray.screening.candidates import collect
from kiago_ray.screening.known import EXTRAPOLATED, TriedMaterials, trusted_tc_k
from kiago_ray.search.result import SearchResult
from kiago_ray.search.spec import SearchSpec

from ..conftest import known_of

MakeResult = Callable[[list[tuple[str | None, float, float]]], SearchResult]
FORMULAS = ["LaNiAsO", "MgB2", "La2CuO4", "NaCl2", "MgCoNi3", "YBa2Cu3O7", "H3S", "Fe", "FeSe", "CsO5Cl"]


SPEC = SearchSpec()


def rows(*formulas: str | None) -> list[tuple[str | None, float, float]]:
    return [(formula, 10.0, -1.0) for formula in formulas]


@pytest.mark.parametrize("oxidation_set", [OxidationSet.SMACT14, OxidationSet.ICSD24])
def test_neutrality_is_that_of_smact_by_the_set_asked_for(
    make_result: MakeResult, oxidation_set: OxidationSet
) -> None:
    candidates = collect(make_result(rows(*FORMULAS)), SearchSpec(oxidation_set=oxidation_set))
    for at, formula in enumerate(FORMULAS):
        expected = smact_validity(formula, use_pauling_test=True, oxidation_states_set=oxidation_set.value)
        assert candidates["pauling"][at].as_py() == expected, formula


def test_states_of_each_row_are_its_own(make_result: MakeResult) -> None:
    candidates = collect(make_result(rows(None, "LaNiAsO", "H3S", "LaNiAsO")), SPEC)
    texts = candidates["oxidation_states"].to_pylist()
    assert texts[0] is None
    assert texts[1] == texts[3] == "La+3 Ni+2 As-3 O-2"


def test_the_likeliest_states_are_given(make_result: MakeResult) -> None:
    """Sc(3+) with Cu(1+) balances as Sc(2+) with Cu(2+) does; the ICSD holds far more of the former."""
    candidates = collect(make_result(rows("BaCa3Sc4Cu4O12", "LaNi3Sn", "NaCl2")), SPEC)
    assert candidates["oxidation_states"].to_pylist() == ["Ba+2 Ca+2 Sc+3 Cu+1 O-2", "metallic", None]


def test_rows_without_a_formula_have_nothing(make_result: MakeResult) -> None:
    candidates = collect(make_result(rows(None, "MgB2")), SPEC)
    assert candidates["formula"].to_pylist() == [None, "MgB2"]
    assert candidates["n_elements"].to_pylist() == [None, 2]
    for name in ("tc_k", "neutral"):
        assert candidates[name].is_valid().to_pylist() == [False, True]


def test_a_search_in_which_every_row_failed(make_result: MakeResult) -> None:
    known = known_of(["MgB2"], [39.0])
    tried = TriedMaterials.from_table(pd.DataFrame({"formula": ["MgB2"], "tc_k": [39.0]}))
    spec = SearchSpec(screens={"names": ["neutral_atoms"]}, charge={"mixed_valence": True})
    candidates = collect(make_result(rows(None, None)), spec, known=known, tried=tried)
    for name in ("formula", "nearest_known", "tried", "neutral_atoms", "neutral_mixed"):
        assert candidates[name].to_pylist() == [None, None]


def test_counts_are_reduced(make_result: MakeResult) -> None:
    candidates = collect(make_result(rows("Mg2B4")), SPEC)
    assert candidates["formula"].to_pylist() == ["MgB2"]
    assert candidates["n_atoms"].to_pylist() == [3]


def test_fractional_amounts_that_add_up_are_neutral(make_result: MakeResult) -> None:
    # Y and Al can be +3 as La is, so what they share of its site keeps LaNiAsO's balance. K is +1 and Ca +2.
    candidates = collect(make_result(rows("Y0.1234Al0.8766NiAsO", "K0.1234Ca0.8766NiAsO")), SPEC)
    assert candidates["neutral"].to_pylist() == [True, False]
    assert candidates["n_atoms"].null_count == 2
    assert candidates["n_elements"].to_pylist() == [5, 5]


def test_fractional_amounts_that_cannot_be_judged_are_not_neutral(make_result: MakeResult) -> None:
    too_large = f"Y0.1234Ga0.8766N{neutrality.MAX_ATOMS}"
    candidates = collect(make_result(rows("Y0.12345Ga0.87655N", too_large)), SPEC)
    assert candidates["neutral"].to_pylist() == [False, False]


def test_nearest_known_composition(make_result: MakeResult) -> None:
    known = known_of(["MgB2", "La1.9Sr0.1CuO4", "Nb3Sn"], [39.0, 25.0, 18.0])
    candidates = collect(make_result(rows("La2CuO4", None, "Mg2B4")), SPEC, known=known)
    for name in ("nearest_known", "nearest_emd_known"):
        assert candidates[name].to_pylist() == [known.formulas[1], None, "MgB2"]
    # 0.1 of 7 atoms is exchanged: twice that in L1.
    np.testing.assert_allclose(candidates["nearest_distance"], [0.2 / 7, np.nan, 0], atol=1e-12)
    # From La, the 32nd place of the modified Pettifor scale, to Sr, the 15th.
    np.testing.assert_allclose(candidates["nearest_emd"], [17 * 0.1 / 7, np.nan, 0], atol=1e-12)


def test_a_row_does_not_depend_on_the_others(make_result: MakeResult) -> None:
    known = known_of(["MgB2", "LaFeAsO"], [39.0, 26.0])
    together = collect(make_result(rows(*FORMULAS, None, *FORMULAS)), SPEC, known=known).drop_columns("row")
    for at, formula in enumerate(FORMULAS):
        alone = collect(make_result(rows(formula)), SPEC, known=known).drop_columns("row").to_pylist()
        assert together.slice(at, 1).to_pylist() == alone
        assert together.slice(at + len(FORMULAS) + 1, 1).to_pylist() == alone


def test_what_was_tried_nearby_is_told_and_re_weighs(make_result: MakeResult) -> None:
    table = pd.DataFrame({"formula": ["LaNiAsO"], "tc_k": [0.0], "down_to_k": [4.0]})
    tried = replace(TriedMaterials.from_table(table), tc_predicted_k=np.array([12.0]))
    formulas = rows("LaNiAsO", "CeNiAsO", None, "MgB2", "La2Ni2As2O2")
    found = collect(make_result(formulas), SPEC, tried=tried)
    told = "LaNiAsO: none down to 4 K"
    assert found["tried_nearby"].to_pylist() == [
        f"{told} (0 places away)",
        f"{told} (0.25 places away)",  # Ce stands beside La on the scale, and is a quarter of the atoms
        None,
        None,
        f"{told} (0 places away)",
    ]
    assert found["tried"].to_pylist() == [told, None, None, None, told]
    weight = np.exp(-0.25 / 0.5)
    # 2 K, the middle of 0 to 4 K, less the 12 K that the model says of it.
    expected = [max(0.0, 10 - 10 / 1.1), 10 - 10 * weight / (0.1 + weight), np.nan, 10.0, 10 - 10 / 1.1]
    np.testing.assert_allclose(found["tc_given_tried_k"], expected, atol=1e-6)
    odds = found["tried_log_odds"].to_pylist()
    assert odds[0] < odds[1] < -0.1
    assert (odds[2], odds[3]) == (None, pytest.approx(0.0, abs=1e-6))


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
