"""Small files in the publishers' own formats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

SUPERCON_HEADER = (
    "1\t4\t6\t67\t85\t92\t198\n"
    "data number\tcommon formula of materials\tchemical formula\tcommon name of structure\tunit of Tc\t"
    "Tc (of this sample) recommended\tjournal\n"
    "num\tname\telement\tstr3\tutc\ttc\tjournal\n"
)

SHORT_HEADER = "1\n2\nnum\tname\telement\tstr3\tutc\ttc\tjournal\n"
Measured = tuple[str, str, float, str]  # formula, structure, T_c in K, journal
SuperconRow = tuple[str, str, str, str]  # formula, unit, T_c, journal


def supercon_text(rows: Sequence[SuperconRow]) -> str:
    lines = [
        f"{number}\t\t{formula}\tT\t{unit}\t{tc}\t{journal}\n"
        for number, (formula, unit, tc, journal) in enumerate(rows, start=2)
    ]
    return SUPERCON_HEADER + "".join(lines)


@pytest.fixture
def write_supercon(tmp_path: Path) -> Callable[[Sequence[SuperconRow]], Path]:
    def write(rows: Sequence[SuperconRow]) -> Path:
        path = tmp_path / "primary.tsv"
        path.write_text(supercon_text(rows), encoding="utf-8")
        return path

    return write


@pytest.fixture
def write_file(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """Write a file of this name with these contents."""

    def write(name: str, contents: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(contents.encode() if isinstance(contents, str) else contents)
        return path

    return write


@pytest.fixture
def write_measurements(tmp_path: Path) -> Callable[[Sequence[Measured]], Path]:
    def write(rows: Sequence[Measured]) -> Path:
        path = tmp_path / "primary.tsv"
        lines = [
            f"{number}\t\t{formula}\t{structure}\tK\t{tc}\t{journal}\n"
            for number, (formula, structure, tc, journal) in enumerate(rows, start=2)
        ]
        path.write_text(SHORT_HEADER + "".join(lines), encoding="utf-8")
        return path

    return write
