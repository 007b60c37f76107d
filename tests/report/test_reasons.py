"""Each condition on a made row: the side it is on, and the numbers in its sentence."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from kiago_ray.report import reasons
from kiago_ray.report.reasons import Reason, reasons_of, unseen

EF_ERROR = 0.069  # eV/atom
ROW: dict[str, Any] = {
    "rank": 1,
    "formula": "LaBa2CaCu3O8",
    "base": "LaNiAsO",
    "passed": True,
    "neutral": True,
    "pauling": True,
    "known": None,
    "alloy": False,
    "n_elements": 5,
    "trusted_tc_k": 85.0,
    "tc_k": 100.0,
    "tc_std_k": 12.0,
    "tc_oracle_k": 85.0,
    "tc_oracle_std_k": 9.0,
    "extrapolation": 0.62,
    "extrapolated": False,
    "delta_tc_k": 95.0,
    "ef_ev_per_atom": -2.1,
    "nearest_known": "Ba2CaCu3O7",
    "nearest_distance": 0.12,
    "nearest_tc_k": 80.0,
    "nearest_pressure_gpa": None,
    "balanced": True,
    "charge_kind": "ionic",
    "oxidation_states": "Ba+2 Ca+2 La+3 Cu+2*2 Cu+3*1 O-2",
}


@pytest.fixture(autouse=True)
def _counts(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"Ba": 3000, "Ca": 1700, "Cu": 4000, "O": 5000, "La": 2000, "Be": 90, "H": 250}
    known = {"supercon": SimpleNamespace(compositions=10_000, counts=counts)}
    monkeypatch.setattr(reasons, "shipped_element_counts", lambda: known)


def told(ef_error: float | None = EF_ERROR, **changed: Any) -> list[Reason]:
    return reasons_of({**ROW, **changed}, ef_error)


def one(word: str, **changed: Any) -> Reason:
    """The only reason whose sentence has this word."""
    found = [reason for reason in told(**changed) if word in reason.sentence]
    assert len(found) == 1, [reason.sentence for reason in found]
    return found[0]


def test_a_good_row_has_one_thing_against_it() -> None:
    against = [reason for reason in told() if reason.side == "against"]
    assert [reason.sentence.split(":")[0] for reason in against] == [
        "Whether it is stable against other compounds was not checked"
    ]
    assert len(told()) == 8


@pytest.mark.parametrize(
    ("tc", "oracle", "std", "oracle_std", "side", "words"),
    [
        (100.0, 85.0, 12.0, 9.0, "for", "within their spreads"),  # 15 K apart, √(12² + 9²) = 15
        (100.0, 84.0, 12.0, 9.0, "against", "16 K below the 100 K of the search's model: more than"),
        (100.0, 69.0, 12.0, 9.0, "against", "the search may have found a mistake"),
        (100.0, 120.0, 12.0, 9.0, "for", "above the 100 K"),
        (5.0, 3.5, 0.5, 0.5, "for", "within their spreads"),  # two models never agree better than 2 K
        (100.0, 81.0, None, None, "for", "much the same"),
        (100.0, 79.0, None, None, "against", "21 K below"),
        (100.0, None, 12.0, None, "against", "No independent model"),
    ],
)
def test_the_oracle(
    tc: float, oracle: float | None, std: float | None, oracle_std: float | None, side: str, words: str
) -> None:
    word = "Boosted trees" if oracle is not None else "independent"
    values = {"tc_k": tc, "tc_oracle_k": oracle, "tc_std_k": std, "tc_oracle_std_k": oracle_std}
    reason = one(word, **values)
    assert reason.side == side
    assert words in reason.sentence
    assert oracle is None or f"put T_c at {oracle:.0f} K" in reason.sentence or oracle < 10


def test_no_tc_means_no_word_on_it() -> None:
    assert not any("T_c at" in reason.sentence or "±" in reason.sentence for reason in told(tc_k=None))


@pytest.mark.parametrize(
    ("tc", "std", "side"),
    [(100.0, 25.0, "for"), (100.0, 25.1, "against"), (8.0, 5.0, "for"), (8.0, 5.1, "against")],
)
def test_the_spread(tc: float, std: float, side: str) -> None:
    reason = one("The networks", tc_k=tc, tc_std_k=std)
    assert reason.side == side
    assert f"{tc:.1f} ± {std:.1f} K" in reason.sentence
    assert ("don't agree" in reason.sentence) == (side == "against")


@pytest.mark.parametrize(
    ("score", "side"), [(0.62, "for"), (1.0, "for"), (1.01, "against"), (None, "against")]
)
def test_extrapolation(score: float | None, side: str) -> None:
    reason = one("what the predictors have learnt from", extrapolation=score)
    assert reason.side == side
    assert (f"{score:.2f}" in reason.sentence) if score is not None else "isn't known" in reason.sentence


@pytest.mark.parametrize(
    ("changed", "side", "words"),
    [
        ({}, "for", "Ba2CaCu3O7 (L1 distance 0.12), measured at 80 K."),
        ({"nearest_tc_k": 59.0}, "against", "measured at 59 K, far below"),
        ({"nearest_tc_k": 0.0}, "against", "not found to superconduct"),
        ({"nearest_distance": 0.31}, "against", "too far off"),
        ({"nearest_pressure_gpa": 20.0}, "against", "measured at 80 K under 20 GPa: what holds there"),
        ({"nearest_pressure_gpa": 0.0}, "for", "measured at 80 K."),
        ({"known": "Ba2CaCu3Oz"}, "against", "It is known already: Ba2CaCu3Oz."),
        ({"nearest_known": None, "nearest_distance": None}, "against", "held against no known"),
    ],
)
def test_the_nearest_known(changed: dict[str, Any], side: str, words: str) -> None:
    assert one(words, **changed).side == side


KNOWN = {"known": "Ba2CaCu3O7", "nearest_distance": 0.01, "measured_tc_k": 80.0, "contradicted": False}


def test_what_was_measured_comes_first() -> None:
    first, *others = told(**KNOWN)
    assert first.sentence == "It is known already: Ba2CaCu3O7, measured at 80 K; 100.0 ± 12.0 K is predicted."
    assert (first.side, first.alarm) == ("against", False)
    assert any(reason.side == "for" for reason in others)
    assert not any("known composition is" in reason.sentence for reason in others)


def test_a_measurement_that_contradicts_is_not_covered_by_reasons_to_believe() -> None:
    first, *others = told(**{**KNOWN, "measured_tc_k": 7.5, "contradicted": True})
    assert first.sentence == (
        "A measurement contradicts the prediction: Ba2CaCu3O7 was measured at 7.5 K, and 100.0 ± 12.0 K is predicted."
    )
    assert first.alarm
    assert {reason.side for reason in others} == {"against"}


def test_of_what_was_measured_under_pressure_nothing_is_called_a_prediction() -> None:
    changed = {
        "known": "La3Ni2O7",
        "measured_tc_k": 80.0,
        "measured_pressure_gpa": 14.0,
        "contradicted": None,
    }
    first, *others = told(**changed, tc_k=0.0, tc_std_k=1.3)
    assert first.sentence == (
        "It is known already: La3Ni2O7, measured at 80 K under 14 GPa. The models know nothing of pressure: their 0.0 "
        "± 1.3 K is no prediction of that."
    )
    assert first.alarm
    assert {reason.side for reason in others} <= {"against"}


def test_a_near_one_that_is_as_good_leaves_no_gain() -> None:
    assert "no gain" in one("Ba2CaCu3O7 has been measured no lower", nearest_tc_k=85.0).sentence
    for changed in ({"nearest_tc_k": 84.9}, {"nearest_tc_k": 90.0, "nearest_distance": 0.5}):
        assert not any("no gain" in reason.sentence for reason in told(**changed))


@pytest.mark.parametrize(("trusted", "side"), [(85.0, "for"), (5.0, "against"), (0.0, "against")])
def test_the_lower_bound_against_the_base(trusted: float, side: str) -> None:
    reason = one("LaNiAsO is predicted at 5.0 K", trusted_tc_k=trusted)
    assert reason.side == side
    assert not any("lower bound" in each.sentence for each in told(trusted_tc_k=None))
    assert not any("lower bound" in each.sentence for each in told(delta_tc_k=None))


@pytest.mark.parametrize(
    ("changed", "side", "words"),
    [
        (
            {"oxidation_states": "La+3 Ni+2 As-3 O-2"},
            "for",
            "Its charges balance, and cations are the less electronegative: La+3 Ni+2",
        ),
        ({"undoped": True}, "against", "It is a cuprate that is undoped as written"),
        ({"charge_kind": "metallic", "oxidation_states": "metallic"}, "against", "judged as a metal"),
        ({"balanced": False}, "against", "balance only by unlikely states: Ba+2"),
        ({"alloy": True, "oxidation_states": None}, "against", "made of metals only"),
        ({"alloy": True, "n_elements": 1}, "against", "It is one element"),
        ({"balanced": False, "oxidation_states": None}, "against", "a cation that is more electronegative"),
        (
            {"balanced": False, "neutral": False, "oxidation_states": None},
            "against",
            "No likely oxidation states",
        ),
        (
            {},
            "for",
            "balance, atoms of one element differing, and cations are the less electronegative: Ba+2",
        ),
    ],
)
def test_charges(changed: dict[str, Any], side: str, words: str) -> None:
    assert one(words, **changed).side == side


@pytest.mark.parametrize(
    ("ef", "side", "words"),
    [
        (
            -2.1,
            "for",
            "E_f is predicted at -2.100 eV/atom; its error on chemical systems never seen is 0.069",
        ),
        (-0.05, "against", "It may not even be stable against its elements"),
        (0.2, "against", "It may not even be stable"),
    ],
)
def test_formation_energy(ef: float, side: str, words: str) -> None:
    assert one(words, ef_ev_per_atom=ef).side == side


def test_stability_against_other_compounds_is_never_known() -> None:
    for ef in (-2.1, 0.2, None):
        assert one("was not checked", ef_ev_per_atom=ef).side == "against"


def test_elements_that_are_rare_in_the_data() -> None:
    reason = one("know little of some of its elements", formula="BeHXeO2")
    assert reason.side == "against"
    assert "Be in 90, Xe in 0 of 10,000 known superconductors" in reason.sentence
    assert reason.brief == "rare Be, Xe"
    assert not any("its error" in each.sentence for each in told(None))


def test_failed_screens_come_first() -> None:
    first = told(passed=False, pauling=False, ef_negative=False)[0]
    assert (first.side, first.sentence) == ("against", "It fails screens: neutral and Pauling rule, E_f < 0.")


def test_an_empty_row_says_what_is_missing_and_nothing_else() -> None:
    found = [reason.sentence for reason in reasons_of({}, EF_ERROR)]
    assert len(found) == 3
    assert any("isn't known" in text for text in found)
    assert any("no known compositions" in text for text in found)


def test_every_sentence_is_one() -> None:
    rows = [ROW, {**ROW, "tc_oracle_k": 20.0, "extrapolation": 2.0, "tc_std_k": 60.0}, {**ROW, "alloy": True}]
    for row in rows:
        for reason in reasons_of(row, EF_ERROR):
            assert reason.sentence[0].isupper()
            assert reason.sentence.endswith(".")
            assert "nan" not in reason.sentence
            assert "None" not in reason.sentence
            assert len(reason.brief) < 60
    assert math.hypot(12, 9) == 15


@pytest.mark.parametrize(("gain", "side"), [(True, "for"), (False, "against")])
def test_a_gain_over_what_is_known_nearby(gain: bool, side: str) -> None:
    best = {
        "best_nearby": "YBa2Cu3O7",
        "best_nearby_tc_k": 93.0,
        "expected_improvement_k": 3.21,
        "gain": gain,
    }
    reason = one("over what is known", **best)
    assert reason.side == side
    assert "YBa2Cu3O7 with 93 K, and an improvement of 3.2 K" in reason.sentence
    # It stands in place of the word on the nearest one alone.
    assert not any("measured no lower" in each.sentence for each in told(nearest_tc_k=90.0, **best))
    assert not any("over what is known" in each.sentence for each in told(known="YBa2Cu3O7", **best))


@pytest.mark.parametrize(("existence", "side"), [(0.62, "for"), (0.05, "against")])
def test_what_is_known_of_its_relatives_is_told(existence: float, side: str) -> None:
    why = "Sr replaced Ba wholly in 41 known relatives"
    reason = one("relatives", existence=existence, plausibility=0.004, plausibility_reason=why)
    assert reason.side == side
    assert f"exists with a probability of {existence:.2f}" in reason.sentence
    assert "with one of 0.004" in reason.sentence
    assert why in reason.sentence


@pytest.mark.parametrize(("above", "side"), [(0.0, "for"), (0.423, "against")])
def test_the_hull_is_told_where_it_was_asked(above: float, side: str) -> None:
    reason = one("hull of competing phases", e_hull_ev_per_atom=above)
    assert reason.side == side
    assert f"{above:.3f} eV/atom" in reason.sentence
    assert not [each for each in told(e_hull_ev_per_atom=above) if "was not checked" in each.sentence]


def test_what_neutrality_accepts_unseen_is_named() -> None:
    assert unseen({"alloy": True, "n_elements": 2}) == "metals only"
    assert unseen({"alloy": True, "n_elements": 1}) == "one element"
    assert unseen({"alloy": False, "n_elements": 3}) == ""
    assert unseen({"alloy": None}) == ""
