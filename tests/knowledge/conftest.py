"""SuperCon's file with a few rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

HEADER = "1\n2\nnum\tname\telement\tstr3\tutc\ttc\tjournal\n"
Row = tuple[str, str, float, str]  # formula, structure, T_c in K, journal


@pytest.fixture
def write_supercon(tmp_path: Path) -> Callable[[Sequence[Row]], Path]:
    def write(rows: Sequence[Row]) -> Path:
        path = tmp_path / "primary.tsv"
        lines = [
            f"{number}\t\t{formula}\t{structure}\tK\t{tc}\t{journal}\n"
            for number, (formula, structure, tc, journal) in enumerate(rows, start=2)
        ]
        path.write_text(HEADER + "".join(lines), encoding="utf-8")
        return path

    return write
