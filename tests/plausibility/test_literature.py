"""What was known when, counted on literatures made by hand, and the systems one element away from what was known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kiago_ray.chemistry.elements import INDEX
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.plausibility.literature import (
    Literature,
    Reasons,
    added_systems,
    doping_counts,
    elements_at_hand,
    known_vacancies,
    largest_share,
    likeness,
    site_odds,
    swapped_systems,
    system_names,
)

from .conftest import YEAR, MakeLiterature

LA, Y, OX, F, B = (INDEX[symbol] for symbol in ("La", "Y", "O", "F", "B"))
SQUARE = ("LaO", "YO", "LaF", "YF", "LaB")
FORMULAS = ("LaO", "La2O3", "YO", "YF", "MgB2")


def test_systems_and_what_they_hold(make_literature: MakeLiterature) -> None:
    known = make_literature(FORMULAS, tc_k=[1, 12, 3, 4, 39], years=[1990, 2006, 2005, 2004, np.nan])
    names = ["B-Mg", "F-Y", "La-O", "O-Y"]
    assert system_names(known.systems) == names
    assert known.system.tolist() == [2, 2, 3, 1, 0]
    assert known.recent.tolist() == [0, 0, 1, 1]  # of the five years before 2010; 2004 is one too early
    assert known.highest_tc_k.tolist() == [39, 4, 12, 3]
    np.testing.assert_allclose(known.weights, np.log1p([0, 0, 1, 1]) + 0.2 * np.log1p([1, 1, 2, 1]))
    assert known.fractions[0, INDEX["O"]] == pytest.approx(0.5)
    np.testing.assert_allclose(known.fractions.sum(axis=1), 1)


def test_before_a_year_leaves_later_reports_out_and_keeps_undated_ones(
    make_literature: MakeLiterature,
) -> None:
    known = make_literature(FORMULAS, years=[1990, 2006, 2005, 2004, np.nan])
    then = known.before(2005)
    assert then.year == 2005
    assert then.first_year.tolist() == [1990, 2004, 0]
    assert system_names(then.systems) == ["B-Mg", "F-Y", "La-O"]
    assert then.system.tolist() == [2, 1, 0]
    assert known.year == YEAR


def test_only_some_of_it_has_their_systems_alone(make_literature: MakeLiterature) -> None:
    known = make_literature(FORMULAS)
    some = known.only(known.fractions[:, INDEX["Y"]] > 0)
    assert system_names(some.systems) == ["F-Y", "O-Y"]
    assert some.year == known.year


def test_a_table_without_a_dated_superconductor_is_refused() -> None:
    table = pd.DataFrame(
        {"formula": ["MgB2", "NaCl"], "oxygen": "stated", "tc_k": [39.0, 0.0], "reports": 1}
    ).assign(year_first=pd.array([None, 1990], dtype="Int64"))
    with pytest.raises(ValueError, match="no dated superconductor"):
        Literature.of(table)


def test_elements_at_hand() -> None:
    at_hand = elements_at_hand()
    assert [at_hand[INDEX[symbol]] for symbol in ("H", "Tc", "Pu")] == [True] * 3
    assert not any(at_hand[INDEX[symbol]] for symbol in ("He", "Xe", "Po", "Fr", "Am", "Og"))


def test_how_often_two_elements_complete_the_same_rest(make_literature: MakeLiterature) -> None:
    counts, beside = make_literature(SQUARE).swap_counts
    assert counts[LA, Y] == counts[Y, LA] == 2  # beside O and beside F
    assert counts[OX, F] == 2
    assert counts[OX, B] == 1  # beside La
    assert beside[LA, Y, OX] == beside[LA, Y, F] == 1
    assert beside[LA, Y, B] == beside[LA, Y, LA] == 0
    assert counts.diagonal().sum() == 0
    assert counts.sum() == 2 * (2 + 2 + 1 + 1)


def test_odds_are_counts_over_how_often_the_elements_occur(make_literature: MakeLiterature) -> None:
    odds = make_literature(SQUARE).swap_odds
    assert odds[LA, Y] == pytest.approx(2 / np.sqrt((3 + 5) * (2 + 5)))
    assert odds[OX, B] == pytest.approx(1 / np.sqrt((2 + 5) * (1 + 5)))
    np.testing.assert_array_equal(odds, odds.T)
    assert odds.max() < 1
    assert not odds.diagonal().any()


def test_nothing_known_gives_no_odds(make_literature: MakeLiterature) -> None:
    known = make_literature(SQUARE)
    assert not known.only(known.tc_k < 0).swap_odds.any()


def test_a_square_with_a_corner_missing_is_closed_by_a_swap(make_literature: MakeLiterature) -> None:
    known = make_literature(["LaO", "YO", "LaF"])
    found = swapped_systems(known, elements_at_hand(), 10)
    assert system_names(found.systems) == ["F-Y"]
    la_y, o_f = 1 / np.sqrt((2 + 5) * (1 + 5)), 1 / np.sqrt((2 + 5) * (1 + 5))
    assert found.support[0] == pytest.approx(known.weights[0] * (la_y + o_f))
    assert not found.added
    assert {int(found.lost[0]), int(found.new[0])} in ({INDEX["La"], INDEX["Y"]}, {INDEX["O"], INDEX["F"]})


def test_an_addition_shares_a_known_site(make_literature: MakeLiterature) -> None:
    known = make_literature(["LaO", "YO"])
    found = added_systems(known, elements_at_hand(), 10)
    assert system_names(found.systems) == ["La-O-Y"]
    assert found.added
    assert {int(found.lost[0]), int(found.new[0])} == {INDEX["La"], INDEX["Y"]}


def test_the_best_supported_come_first_and_none_is_known(make_literature: MakeLiterature) -> None:
    known = make_literature(["LaO", "YO", "LaF", "CeO", "CeN", "LaN", "LaNi"])
    found = swapped_systems(known, elements_at_hand(), 100)
    assert (np.diff(found.support) <= 0).all()
    sets = {row.tobytes() for row in known.systems}
    assert not any(row.tobytes() in sets for row in found.systems)
    assert len(swapped_systems(known, elements_at_hand(), 2).systems) == 2


def test_what_is_not_at_hand_never_comes_in(make_literature: MakeLiterature) -> None:
    known = make_literature(["LaO", "YO", "LaF"])
    without = elements_at_hand()
    without[[INDEX["F"], INDEX["Y"]]] = False
    assert len(swapped_systems(known, without, 10).systems) == 0
    added = added_systems(known, without, 10)
    assert set(added.new.tolist()) == {INDEX["La"], INDEX["O"]}  # La beside Y, O beside F


SR, CU = INDEX["Sr"], INDEX["Cu"]
SERIES = ("La2CuO4", "La1.9Sr0.1CuO4", "La1.85Sr0.15CuO4", "LaFeAsO", "LaFeAsO0.9F0.1")


def test_strontium_gave_way_for_lanthanum_and_fluorine_for_oxygen(make_literature: MakeLiterature) -> None:
    counts = doping_counts(make_literature(SERIES))
    assert counts[LA, SR] == counts[OX, F] == 1
    assert counts.sum() == 2


def test_odds_of_sites_heed_likeness(make_literature: MakeLiterature) -> None:
    odds = site_odds(make_literature(SERIES))
    assert odds[LA, SR] > 0
    assert odds[OX, F] > 0
    assert odds[LA, F] == odds[CU, SR] == 0
    assert not odds.diagonal().any()
    assert 0 <= odds.min() <= odds.max() <= 1


def test_vacancies_are_oxygens_where_three_compositions_show_them(make_literature: MakeLiterature) -> None:
    base = parse_fractions(["YBa2Cu3O7"])[0]
    series = ["YBa2Cu3O7", "YBa2Cu3O6.9", "YBa2Cu3O6.8", "YBa2Cu3O6.7"]
    assert np.flatnonzero(known_vacancies(make_literature(series), base)).tolist() == [OX]
    assert not known_vacancies(make_literature(series[:3]), base).any()
    others = ["YBa2Cu3O7", "YBa1.9Cu3O6.9", "YBa1.8Cu3O6.8", "YBa1.7Cu3O6.7"]  # barium differs as well
    assert not known_vacancies(make_literature(others), base).any()


def test_largest_share_of_a_site(make_literature: MakeLiterature) -> None:
    known = make_literature(SERIES)
    assert largest_share(known, LA, SR) == pytest.approx(0.15 / 2)
    assert largest_share(known, CU, SR) == pytest.approx(0.15 / 1.15)
    assert largest_share(known, SR, F) == 0


def test_metals_stand_for_metals_and_anions_for_anions() -> None:
    alike = likeness()
    of = {
        name: alike[INDEX[name.split("-")[0]], INDEX[name.split("-")[1]]]
        for name in ("La-Ce", "La-Cu", "O-F", "La-O")
    }
    assert of["La-Ce"] > 0.9 > of["La-Cu"] > 0
    assert 0 < of["O-F"] < 1
    assert of["La-O"] == 0
    assert alike[INDEX["As"], INDEX["Sb"]] > 0
    np.testing.assert_array_equal(alike, alike.T)
    assert (alike.diagonal() == 1).all()
    assert alike.min() == 0


def test_hydrogen_stands_for_anions_alone() -> None:
    hydrogen = likeness()[INDEX["H"]]
    assert hydrogen[INDEX["F"]] == 0.5  # of the same valence
    assert hydrogen[INDEX["La"]] == hydrogen[INDEX["Fe"]] == 0
    assert hydrogen[INDEX["O"]] == pytest.approx(0.5 * np.exp(-((1 / 1.5) ** 4)))


def test_anions_of_other_valence_stand_for_one_another_less() -> None:
    oxygen = likeness()[INDEX["O"]]
    assert oxygen[INDEX["F"]] > 0.3
    assert oxygen[INDEX["C"]] == likeness()[INDEX["Se"], INDEX["C"]] == 0
    assert likeness()[INDEX["Se"], INDEX["S"]] > 0.9


def test_anions_of_another_size_do_not_stand_for_one_another() -> None:
    alike = likeness()
    of = {
        name: alike[INDEX[name.split("-")[0]], INDEX[name.split("-")[1]]]
        for name in ("B-C", "B-Te", "O-Te", "O-S")
    }
    assert of["B-Te"] == of["O-Te"] == 0
    assert of["B-C"] > 0.3
    assert of["O-S"] > 0


KNOWN = ("LaFeAsO", "LaNiAsO", "LaFeAsO0.8F0.2", "CeFeAsO", "CeNiAsO", "LaFePO", "MgB2")


@pytest.mark.parametrize(
    ("formula", "base", "told"),
    [
        ("CeFePO", "CeFeAsO", "P replaced As wholly in 1 known relative"),
        ("LaFe0.5Ni0.5AsO", "LaFeAsO", "Ni replaced Fe wholly in 2 known relatives"),
        ("LaFeAsO0.5", "LaFeAsO", "other amounts of a known system"),
        ("LaFeAs", "LaFeAsO", "a part of a known system"),
        ("LaFeAsOXe", "LaFeAsO", "Xe replaced none of its elements in a known relative"),
        ("CeNiPO", None, "P replaced As wholly in 1 known relative"),
        ("NaCl", None, "no known system is one element away"),
    ],
)
def test_what_is_said(make_literature: MakeLiterature, formula: str, base: str | None, told: str) -> None:
    row = parse_fractions([formula])[0]
    origin = None if base is None else parse_fractions([base])[0]
    assert Reasons(make_literature(KNOWN)).of(row, origin) == told


def test_what_happened_elsewhere_is_told_with_the_largest_part(make_literature: MakeLiterature) -> None:
    row, base = parse_fractions(["CeFeAsO0.9F0.1", "CeFeAsO"])
    elsewhere = (*KNOWN, "SrO", "SrF2", "CaO", "CaF2")
    sentence = Reasons(make_literature(elsewhere)).of(row, base)
    assert sentence == "F replaced O elsewhere (2 times), never beside these; in part up to 20 %"


def test_several_new_elements_are_told_one_by_one(make_literature: MakeLiterature) -> None:
    row, base = parse_fractions(["CeNiAsO", "LaFeAsO"])
    sentence = Reasons(make_literature(KNOWN)).of(row, base)
    assert sentence.split("; ")[0].startswith("Ni replaced Fe")
    assert sentence.split("; ")[1].startswith("Ce replaced La")
