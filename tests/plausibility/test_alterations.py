"""What nobody would make."""

from __future__ import annotations

import numpy as np

from kiago_ray.chemistry.elements import INDEX
from kiago_ray.plausibility.alterations import amounts_altered, elements_at_hand, swapped_at_random

from .conftest import MakeLiterature


def test_elements_at_hand() -> None:
    at_hand = elements_at_hand()
    assert [at_hand[INDEX[symbol]] for symbol in ("H", "Tc", "Pu")] == [True] * 3
    assert not any(at_hand[INDEX[symbol]] for symbol in ("He", "Xe", "Po", "Fr", "Am", "Og"))


def test_a_swap_keeps_the_amounts_and_gives_no_known_system(make_literature: MakeLiterature) -> None:
    known = make_literature(["LaFeAsO"] * 50 + ["MgB2"] * 50)
    sets = {row.tobytes() for row in known.systems}
    swapped = swapped_at_random(known.fractions, sets, np.random.default_rng(0))
    assert len(swapped) == 100
    for row, other in zip(known.fractions, swapped, strict=True):
        assert (other > 0).tobytes() not in sets
        np.testing.assert_allclose(np.sort(row), np.sort(other))
        assert 1 <= ((row > 0) & (other == 0)).sum() <= 2
        assert (elements_at_hand() | (other == 0)).all()


def test_of_one_element_one_is_swapped(make_literature: MakeLiterature) -> None:
    row = make_literature(["Nb"]).fractions
    assert (swapped_at_random(row, set(), np.random.default_rng(0), two=1.0) > 0).sum() == 1


def test_altered_amounts_are_of_the_same_elements(make_literature: MakeLiterature) -> None:
    known = make_literature(["YBa2Cu3O7", "MgB2"] * 20)
    altered = amounts_altered(known.fractions, np.random.default_rng(1))
    assert ((altered > 0) == (known.fractions > 0)).all()
    np.testing.assert_allclose(altered.sum(axis=1), 1)
    assert (np.abs(altered - known.fractions).sum(axis=1) > 0.05).mean() > 0.8
