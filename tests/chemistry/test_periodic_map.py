"""The periodic-table map against pymatgen's blocks, rows and groups."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core.periodic_table import Element

from kiago_ray.chemistry.elements import BLOCKS, INDEX, SYMBOLS, element_map, position


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
