from __future__ import annotations

import pytest

from kiago_ray.chemistry.elements import GROUPS, INDEX, SYMBOLS, named_elements


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
