"""`kiago data`: the account of a file, and files that are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Kiago = Callable[..., Any]
LITERATURE = Path(__file__).parents[1] / "data" / "literature_tc.tsv"


def test_check_tells_what_was_kept(kiago: Kiago) -> None:
    ended = kiago("data", "check", LITERATURE, "--json")
    assert ended.code == 0
    (report,) = json.loads(ended.out)["files"]
    assert report["kind"] == "supercon"
    assert report["rows_read"] == report["rows_kept"] == 40
    assert "compositions kept" in kiago("data", "check", LITERATURE).out


@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02", b"a,b\n1,2\n", b"\x1f\x8b\x08\x00cut"])
def test_files_that_are_no_table_are_told_in_one_line(kiago: Kiago, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "file.csv"
    file.write_bytes(content)
    ended = kiago("data", "check", file)
    assert ended.code == 2
    assert "file.csv" in ended.err
    assert len(ended.err.strip().splitlines()) == 1
