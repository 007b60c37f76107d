from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kiago_ray.data.files import DataError, sha256
from kiago_ray.data.known import load_tried

WriteFile = Callable[[str, str | bytes], Path]


def test_a_file_is_read(write_file: WriteFile) -> None:
    path = write_file("tried.csv", "formula,tc_k,down_to_k\nCaFeAsH,0,1.8\nFeAsLaO,26,\n")
    table, digest = load_tried(path)
    assert table["formula"].tolist() == ["CaFeAsH", "LaFeAsO"]
    assert table["tc_k"].tolist() == [0.0, 26.0]
    np.testing.assert_array_equal(table["down_to_k"], [1.8, np.nan])
    assert digest == sha256(path)
    short, _ = load_tried(write_file("short.csv", "formula,tc_k\nMgB2,39\n"))
    assert short["down_to_k"].isna().all()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("formula,Tc\nMgB2,39\n", "the header lacks 'tc_k'"),
        ("formula,tc_k\nMgBz,39\n", "line 2: the formula 'MgBz' can't be read"),
        ("formula,tc_k\nMgB2,\n", "line 2: tc_k is ''"),
        ("formula,tc_k\nMgB2,-1\n", "line 2: tc_k is '-1'"),
        ("formula,tc_k\nMgB2,nan\n", "line 2: tc_k is 'nan'"),
        ("formula,tc_k\nMgB2,300\n", "line 2: tc_k is '300'"),
        ("formula,tc_k,down_to_k\nMgB2,0,cold\n", "line 2: down_to_k is 'cold'"),
        ("formula,tc_k\nMgB2,0\n" + "MgB2,0\n" * 100_000, "more than 100,000 rows"),
    ],
)
def test_what_is_wrong_is_told_with_line_and_value(write_file: WriteFile, text: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        load_tried(write_file("tried.csv", text))
