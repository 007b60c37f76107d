"""Cells are computed once, for what they are of, in a directory that rests on one set of weights and data."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kiago_ray.paper.cells import Cell, Store
from kiago_ray.storage.run_directory import RunDirectoryError

CELL = Cell("materials", "LaNiAsO", "kiago", 0, {"search": {"steps": [1, 2], "beta": None}})


def test_a_cell_is_computed_once(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "out"), {"weights": "a"})
    calls = []

    def compute() -> dict:
        calls.append(1)
        return {"value": 0.5, "rows": (1, 2)}

    assert store.read(CELL) is None
    assert store.get(CELL, compute) == {"value": 0.5, "rows": [1, 2]}
    again = Store.open(str(tmp_path / "out"), {"weights": "a"})
    assert again.get(CELL, compute) == {"value": 0.5, "rows": [1, 2]}
    assert len(calls) == 1


def test_another_size_lies_beside_it(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "out"), {})
    larger = replace(CELL, about={"search": {"steps": [5, 5], "beta": None}})
    store.get(CELL, lambda: {"value": 1})
    assert store.read(larger) is None
    store.get(larger, lambda: {"value": 2})
    assert store.read(CELL) == {"value": 1}
    assert store.read(larger) == {"value": 2}


def test_a_failing_cell_leaves_nothing(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "out"), {})

    def compute() -> dict:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.get(CELL, compute)
    assert not list((tmp_path / "out" / "cells").iterdir())


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"about": {}, "found": {}}', b'{"found": 3}'])
def test_a_damaged_cell_is_computed_again(tmp_path: Path, content: bytes) -> None:
    store = Store.open(str(tmp_path / "out"), {})
    store.get(CELL, lambda: {"value": 1})
    file = tmp_path / "out" / "cells" / CELL.file
    assert json.loads(file.read_bytes())["found"] == {"value": 1}
    file.write_bytes(content)
    assert store.get(CELL, lambda: {"value": 2}) == {"value": 2}


def test_other_weights_are_refused(tmp_path: Path) -> None:
    Store.open(str(tmp_path / "out"), {"weights": "a"}).get(CELL, lambda: {"value": 1})
    with pytest.raises(RunDirectoryError, match=r"paper\.weights is a there, b here"):
        Store.open(str(tmp_path / "out"), {"weights": "b"})
