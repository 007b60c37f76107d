from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from kiago_ray.data.files import DataError
from kiago_ray.data.formats import KINDS, UNDERSTOOD, detect, load

WriteFile = Callable[[str, str | bytes], Path]

OQMD = "formula,formation_energy_ev_per_atom\nSr1Ti5,0.35\n"
MP = "formula,formation_energy_ev_per_atom,decomposition_energy_ev_per_atom\nSr1Ti5,0.35,0.4\n"
COD = "file,a,sg,formula,calcformula\n9003308,5.64,F m -3 m,- Cl Na -,- Cl Na -\n"


@pytest.mark.parametrize(("text", "kind"), [(OQMD, "oqmd"), (MP, "materials_project"), (COD, "cod")])
def test_comma_separated(write_file: WriteFile, text: str, kind: str) -> None:
    for path in (write_file("plain", text), write_file("packed", gzip.compress(text.encode()))):
        assert detect(path) == kind
        table, report = load(path)
        assert report.kind == kind
        assert len(table) == 1
    assert kind in KINDS


def test_supercon(write_supercon: Callable[[Sequence[tuple[str, str, str, str]]], Path]) -> None:
    path = write_supercon([("Mg1B2", "K", "39", "Nature 410(2001)63")])
    assert detect(path) == "supercon"
    assert load(path)[1].kind == "supercon"


@pytest.mark.parametrize(
    "contents", [b"a,b\n1,2\n", b"<!DOCTYPE html>\n<html>\n", b"\n\n\n", b"1\t4\t6\nnum\tname\telement\n"]
)
def test_unknown_header(write_file: WriteFile, contents: bytes) -> None:
    path = write_file("some.csv", contents)
    with pytest.raises(DataError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: line 1: the header ")
    assert str(caught.value).endswith(UNDERSTOOD)


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        (b"", "the file is empty"),
        (b"\x89PNG\r\n\x1a\n", "byte 0x89|binary"),
        (MP.encode("utf-16"), "UTF-16"),
        (gzip.compress(MP.encode(), mtime=0)[:30], "ends too early"),
    ],
)
def test_unreadable(write_file: WriteFile, contents: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        detect(write_file("some.csv", contents))


def test_directory_and_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="this is a directory"):
        detect(tmp_path)
    with pytest.raises(DataError, match="there is no such file"):
        detect(tmp_path / "absent")
