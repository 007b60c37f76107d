from __future__ import annotations

import gzip
import hashlib
import json
import os
import pickle
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from kiago_ray.data.files import (
    MAX_EXAMPLES,
    MAX_LINE_BYTES,
    Contents,
    DataError,
    LoadReport,
    finite,
    leave_out,
    load_rows,
    read_columns,
    read_lines,
    sha256,
)

WriteFile = Callable[[str, str | bytes], Path]
TEXT = "formula,energy\nFeSe,-0.3\nMgB2,-0.1\n"
TEXT_ROWS = [(2, ("FeSe", "-0.3")), (3, ("MgB2", "-0.1"))]
COLUMNS = ("formula", "energy")
PACKED = gzip.compress(TEXT.encode() * 500, mtime=0)


def test_columns_in_the_order_asked_for(write_file: WriteFile) -> None:
    path = write_file("a.csv", "x,energy,formula\n1, -0.3 ,FeSe\n\n2,-0.1,MgB2\n")
    contents = read_columns(path, COLUMNS, ("absent", "x"))
    assert contents.rows == [(2, ("FeSe", "-0.3", "", "1")), (4, ("MgB2", "-0.1", "", "2"))]
    assert contents.file == "a.csv"
    assert contents.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert contents.warnings == []


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv"])
def test_gzip_is_recognised_by_its_contents(write_file: WriteFile, name: str) -> None:
    packed = gzip.compress(TEXT.encode())
    contents = read_columns(write_file(name, packed), COLUMNS)
    assert contents.rows == TEXT_ROWS
    assert contents.sha256 == hashlib.sha256(packed).hexdigest()


def test_byte_order_mark_and_windows_line_ends(write_file: WriteFile) -> None:
    path = write_file("a.csv", b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    assert read_columns(path, COLUMNS).rows == TEXT_ROWS


def test_quoted_fields_hold_commas_and_line_ends(write_file: WriteFile) -> None:
    path = write_file("a.csv", 'formula,title\nFeSe,"one, ""two""\nthree"\nMgB2,four\n')
    contents = read_columns(path, ("formula", "title"))
    assert contents.rows == [(3, ("FeSe", 'one, "two"\nthree')), (4, ("MgB2", "four"))]


def test_tabs_are_not_quoted(write_file: WriteFile) -> None:
    path = write_file("a.tsv", 'formula\tname\nFeSe\t"half a quote\n')
    assert read_columns(path, ("formula", "name"), tabs=True).rows == [(2, ("FeSe", '"half a quote'))]


def test_missing_line_end_is_a_warning(write_file: WriteFile) -> None:
    contents = read_columns(write_file("a.csv", TEXT.rstrip()), COLUMNS)
    assert len(contents.rows) == 2
    assert "last line" in contents.warnings[0]


@pytest.mark.parametrize(
    ("name", "contents", "said"),
    [
        ("empty.csv", b"", "the file is empty"),
        ("empty.csv.gz", gzip.compress(b"", mtime=0), "the file is empty"),
        ("header.csv", b"formula,energy\n", "a header and no rows"),
        ("columns.csv", b"formula,value\nFeSe,1\n", "line 1: the header lacks 'energy'"),
        ("twice.csv", b"formula,energy,energy\nFeSe,1,2\n", "names a column twice"),
        ("short.csv", b"formula,energy\nFeSe,-0.3\nMg", "line 3: this row has 1 columns, the header has 2"),
        ("long.csv", b"formula,energy\nFeSe,-0.3,7\n", "line 2: this row has 3 columns, the header has 2"),
        ("quote.csv", b'formula,energy\nFeSe,"-0.3\nMgB2,1\n', "the file ends inside a quoted field"),
        ("csv.csv", b'formula,energy\nFeSe,"-0.3"x\n', "line 2: not well-formed CSV"),
        (
            "latin1.csv",
            "formula,energy\nFeSe,é\n".encode("latin-1"),
            "line 2: byte 0xe9 at column 6 is not UTF-8",
        ),
        ("utf16.csv", TEXT.encode("utf-16"), "line 1: the file is in UTF-16"),
        ("utf16be.csv", TEXT.encode("utf-16-be"), "line 1: this is a binary file"),
        ("table.xlsx", b"PK\x03\x04\x14\x00\x06\x00\x08\x00rest", "line 1: this is a binary file"),
        ("late.csv", TEXT.encode() + b"Fe\x00Se,1\n", "line 4: this is a binary file"),
        ("cut.csv.gz", PACKED[: len(PACKED) // 2], "the gzip archive ends too early"),
        ("no-crc.csv.gz", PACKED[:-6], "the gzip archive ends too early"),
        ("crc.csv.gz", PACKED[:-8] + b"\0\0\0\0" + PACKED[-4:], "the gzip archive is damaged"),
        ("damaged.csv.gz", PACKED[:20] + b"\xff\xff\xff" + PACKED[23:], "the gzip archive is damaged"),
        (
            "line.csv",
            b"formula,energy\n" + b"F" * (MAX_LINE_BYTES + 1),
            f"line 2: a line of more than {MAX_LINE_BYTES}",
        ),
    ],
)
def test_broken_files(write_file: WriteFile, name: str, contents: bytes, said: str) -> None:
    path = write_file(name, contents)
    with pytest.raises(DataError) as caught:
        read_columns(path, COLUMNS)
    message = str(caught.value)
    assert said in message
    assert message.startswith(str(path))
    assert "; " in message  # what to do
    assert "\n" not in message


def test_a_line_that_never_ends_is_not_held(write_file: WriteFile) -> None:
    path = write_file("bomb.csv.gz", gzip.compress(b"x" * 50_000_000))
    with pytest.raises(DataError, match="a line of more than"):
        read_columns(path, COLUMNS)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.csv: there is no such file"):
        read_columns(tmp_path / "absent.csv", COLUMNS)
    with pytest.raises(DataError, match=r"absent\.csv: there is no such file"):
        sha256(tmp_path / "absent.csv")


def test_directory(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="this is a directory"):
        list(read_lines(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable(write_file: WriteFile) -> None:
    path = write_file("a.csv", TEXT)
    path.chmod(0)
    with pytest.raises(DataError, match="can't be read: Permission denied"):
        read_columns(path, COLUMNS)


def read(text: str) -> int:
    leave_out(text.startswith("x"), "rare", text)
    leave_out(not text.isdigit(), "frequent", text)
    return int(text)


def loaded(*texts: str) -> tuple[list[int], LoadReport]:
    rows = [(line, (text,)) for line, text in enumerate(texts, start=2)]
    found: list[int] = []

    def merge(values: list[int]) -> set[int]:
        found.extend(values)
        return set(values)

    _, report = load_rows(Contents("a.csv", "00ff", rows, ["a warning"]), "oqmd", read, merge)
    return found, report


def test_the_account_adds_up_and_keeps_examples() -> None:
    found, report = loaded("1", "x" * 200, *(f"value {line}" for line in range(4, 12)), "1", "2", "2")
    assert found == [1, 1, 2, 2]
    assert dict(report.dropped) == {"frequent": 8, "rare": 1}
    assert list(report.dropped) == ["frequent", "rare"]
    assert (report.rows_read, report.duplicates_merged, report.rows_kept) == (13, 2, 2)
    assert report.examples["frequent"][0] == "line 4: 'value 4'"
    assert len(report.examples["frequent"]) == MAX_EXAMPLES
    assert len(report.examples["rare"][0]) < 100
    assert report.warnings == ["a warning"]


def test_plain_dict_survives_json_and_the_report_a_pickle() -> None:
    _, report = loaded("Fe?", "7")
    plain = asdict(report)
    assert json.loads(json.dumps(plain)) == plain
    assert plain["examples"] == {"frequent": ["line 2: 'Fe?'"]}
    assert pickle.loads(pickle.dumps(report)) == report


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4.2", 4.2),
        ("-1e-3", -0.001),
        ("", None),
        ("<4.2", None),
        ("nan", None),
        ("inf", None),
        ("1_0", None),
    ],
)
def test_finite(text: str, value: float | None) -> None:
    assert finite(text) == value
