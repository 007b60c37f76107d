from __future__ import annotations

import numpy as np
import pytest

from kiago_ray.chemistry.elements import INDEX
from kiago_ray.plausibility.literature import element_sets
from kiago_ray.plausibility.odds import completion_counts, likeness, swap_odds

LA, Y, OX, F, B = (INDEX[symbol] for symbol in ("La", "Y", "O", "F", "B"))
SYSTEMS = element_sets(["La-O", "O-Y", "F-La", "F-Y", "B-La"])


def test_how_often_two_elements_complete_the_same_rest() -> None:
    counts, beside = completion_counts(SYSTEMS)
    assert counts[LA, Y] == counts[Y, LA] == 2  # beside O and beside F
    assert counts[OX, F] == 2
    assert counts[OX, B] == 1  # beside La
    assert beside[LA, Y, OX] == beside[LA, Y, F] == 1
    assert beside[LA, Y, B] == beside[LA, Y, LA] == 0
    assert counts.diagonal().sum() == 0
    assert counts.sum() == 2 * (2 + 2 + 1 + 1)


def test_odds_are_counts_over_how_often_the_elements_occur() -> None:
    odds = swap_odds(SYSTEMS)
    assert odds[LA, Y] == pytest.approx(2 / np.sqrt((3 + 5) * (2 + 5)))
    assert odds[OX, B] == pytest.approx(1 / np.sqrt((2 + 5) * (1 + 5)))
    np.testing.assert_array_equal(odds, odds.T)
    assert odds.max() < 1
    assert not odds.diagonal().any()


def test_nothing_known_gives_no_odds() -> None:
    assert not swap_odds(SYSTEMS[:0]).any()


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
