"""What was known when, counted on literatures made by hand, and the systems one element away from what was known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kiago_ray.chemistry.elements import INDEX
from kiago_ray.plausibility.literature import (
    Literature,
    added_systems,
    elements_at_hand,
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
