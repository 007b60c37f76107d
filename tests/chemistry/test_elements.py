"""The element tables against pymatgen's."""

from __future__ import annotations

import math
import warnings

import pytest
from pymatgen.core.periodic_table import Element

from kiago_ray.chemistry.elements import (
    ELECTRONEGATIVITY,
    ELEMNET_INDEX,
    ELEMNET_SYMBOLS,
    INDEX,
    N_ELEMENTS,
    SYMBOLS,
    WRITING_ORDER,
)


def test_the_118_symbols_are_pymatgens_by_atomic_number() -> None:
    assert N_ELEMENTS == 118
    assert tuple(Element.from_Z(z).symbol for z in range(1, 119)) == SYMBOLS
    assert [INDEX[symbol] for symbol in SYMBOLS] == list(range(118))


def test_electronegativities_are_pymatgens() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns where it has none
        theirs = [Element(symbol).X for symbol in SYMBOLS]
    assert [math.inf if math.isnan(x) else x for x in theirs] == list(ELECTRONEGATIVITY)


def test_writing_order_starts_with_francium_and_ends_with_the_elements_without_a_value() -> None:
    assert sorted(WRITING_ORDER) == list(range(118))
    assert SYMBOLS[WRITING_ORDER[0]] == "Fr"
    assert [SYMBOLS[z] for z in WRITING_ORDER].index("F") == 118 - 15 - 3 - 1  # then He, Ne, Ar, Rf to Og
    # Cu and Si both have 1.9: the lighter one first.
    assert WRITING_ORDER.index(INDEX["Si"]) < WRITING_ORDER.index(INDEX["Cu"])


def test_elemnets_86_are_not_the_first_86() -> None:
    assert len(ELEMNET_SYMBOLS) == 86
    assert set(SYMBOLS[:83]) - set(ELEMNET_SYMBOLS) == {"He", "Ne", "Ar"}
    assert ELEMNET_SYMBOLS[-7:] == ("Bi", "Ac", "Th", "Pa", "U", "Np", "Pu")
    assert [SYMBOLS[index] for index in ELEMNET_INDEX] == list(ELEMNET_SYMBOLS)
    assert list(ELEMNET_INDEX) == sorted(ELEMNET_INDEX)


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        INDEX["H"] = 5  # type: ignore[index]
