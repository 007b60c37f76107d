"""Counts of swaps on chemical systems few enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from kiago_ray.chemistry.elements import INDEX
from kiago_ray.plausibility.literature import element_sets
from kiago_ray.plausibility.odds import completion_counts, swap_odds

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
