"""The element tables against pymatgen's."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from pymatgen.core.periodic_table import Element

from kiago_ray.chemistry.elements import (
    BLOCKS,
    ELECTRONEGATIVITY,
    ELEMNET_INDEX,
    ELEMNET_SYMBOLS,
    GROUPS,
    INDEX,
    N_ELEMENTS,
    SYMBOLS,
    WRITING_ORDER,
    element_map,
    named_elements,
    position,
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


def test_every_word_stands_for_elements_by_atomic_number() -> None:
    for symbols in GROUPS.values():
        assert list(symbols) == sorted(set(symbols), key=INDEX.__getitem__)
        assert set(symbols) <= set(SYMBOLS)


def test_the_radioactive_are_those_without_a_stable_isotope() -> None:
    assert {"Tc", "Pm", "Po", "Ac", "Th", "U", "Pu", "Og"} <= set(GROUPS["radioactive"])
    assert not {"Bi", "Pb", "La", "Ru", "Sm"} & set(GROUPS["radioactive"])
    assert len(GROUPS["radioactive"]) == 2 + 118 - 83


def test_words_and_symbols_add_up() -> None:
    assert named_elements(["noble-gas", "O"]) == ["He", "O", "Ne", "Ar", "Kr", "Xe", "Rn", "Og"]
    assert named_elements(["arsenic", "As"]) == ["As"]
    assert named_elements([]) == []


def test_a_word_leaves_the_base_s_own_elements_and_a_symbol_does_not() -> None:
    thallium = frozenset(("Tl", "Ba", "Cu", "O"))
    assert "Tl" not in named_elements(["toxic", "rare"], thallium)
    assert "Hg" in named_elements(["toxic"], thallium)
    assert "Tl" in named_elements(["toxic", "Tl"], thallium)


def test_what_is_no_word_is_refused() -> None:
    with pytest.raises(ValueError, match="'smelly' is neither an element nor one of toxic, radioactive"):
        named_elements(["smelly"])


def test_one_flag_an_element_all_in_different_places() -> None:
    flags = element_map()
    assert flags.shape == (118, 4, 7, 32)
    assert flags.dtype == np.float32
    assert (flags.reshape(118, -1).sum(axis=1) == 1).all()
    assert set(np.unique(flags)) == {0, 1}
    assert len(set(flags.reshape(118, -1).argmax(axis=1).tolist())) == 118
    # Even without the channels no two elements share a cell.
    assert flags.sum(axis=(0, 1)).max() == 1


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_blocks_and_rows_are_pymatgens(symbol: str) -> None:
    element = Element(symbol)
    block, row, column = np.argwhere(element_map()[INDEX[symbol]])[0]
    # The one departure: pymatgen counts helium, 1s², to the p block.
    assert BLOCKS[block] == ("s" if symbol == "He" else element.block)
    assert row == element.row - 1
    if element.block == "f":
        assert 2 <= column <= 15
    elif symbol != "He":
        assert column == (element.group - 1 if element.group <= 2 else element.group + 13)


@pytest.mark.parametrize(
    ("symbol", "place"),
    [
        ("H", ("s", 1, 0)),
        ("He", ("s", 1, 31)),
        ("Be", ("s", 2, 1)),
        ("B", ("p", 2, 26)),
        ("Sc", ("d", 4, 16)),
        ("Zn", ("d", 4, 25)),
        ("La", ("f", 6, 2)),
        ("Yb", ("f", 6, 15)),
        ("Lu", ("d", 6, 16)),
        ("Ac", ("f", 7, 2)),
        ("No", ("f", 7, 15)),
        ("Lr", ("d", 7, 16)),
        ("Og", ("p", 7, 31)),
    ],
)
def test_known_places(symbol: str, place: tuple[str, int, int]) -> None:
    assert position(INDEX[symbol] + 1) == place


@pytest.mark.parametrize("z", [0, -1, 119])
def test_other_atomic_numbers_are_refused(z: int) -> None:
    with pytest.raises(ValueError, match=f"atomic number {z}"):
        position(z)
