"""Delimited text files, plain or gzipped, read strictly: a row without all its columns is a DataError.

Publishers' exports are read as they come, so that their SHA-256 can be cited; a damaged download must not
pass for a smaller data set.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from kiago_ray.errors import InputError

MAX_LINE_BYTES = 100_000  # COD's fields have at most 65,535; Python's csv module takes 131,072 in one
MAX_ROWS = 5_000_000  # ten times COD, and what a small archive may unfold to at most
_GZIP = b"\x1f\x8b"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")

PathLike = str | os.PathLike[str]


class DataError(InputError):
    """A data file that can't be used; the message is one line: file, line, what is wrong, what to do."""


@dataclass(frozen=True)
class Contents:
    """The columns asked for of one file: `rows[i]` holds their texts and stands on line `line_numbers[i]`."""

    file: str  # without its folder
    sha256: str
    rows: list[tuple[str, ...]]
    line_numbers: list[int]
    warnings: tuple[str, ...]

    def __iter__(self) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Each row with the number of its line."""
        return zip(self.line_numbers, self.rows, strict=True)


def read_columns(
    path: PathLike,
    columns: Sequence[str],
    optional: Sequence[str] = (),
    *,
    tabs: bool = False,
    header_line: int = 1,
) -> Contents:
    """The named columns of a file with a header, as stripped text; "" for an optional one that is absent.

    Comma-separated with CSV quoting, or tab-separated without any (`tabs`). `header_line` counts from 1.
    Raises DataError for a file that is missing, empty, binary, cut short, not UTF-8, or without one of
    `columns`, and for the first row that has another number of columns than the header.
    """
    path = Path(path)
    records = _tab_records(path) if tabs else _comma_records(path)
    header: list[str] | None = None
    positions: list[int] = []
    rows: list[tuple[str, ...]] = []
    line_numbers: list[int] = []
    for line, fields in records:
        if header is None:
            if line >= header_line:
                header = [name.strip() for name in fields]
                positions = _positions(path, line, header, columns, optional)
            continue
        if len(fields) != len(header):
            problem = f"this row has {len(fields)} columns, the header has {len(header)}"
            fail(path, line, problem, "the file was cut short or edited; fetch it again")
        if len(rows) == MAX_ROWS:
            fail(path, line, f"more than {MAX_ROWS} rows", "split the file")
        rows.append(tuple(fields[at].strip() if at >= 0 else "" for at in positions))
        line_numbers.append(line)
    if header is None:
        fail(path, None, "the file is empty, or ends before its header", "fetch it again")
    if not rows:
        fail(path, None, "the file has a header and no rows", "fetch it again")
    return Contents(path.name, sha256(path), rows, line_numbers, _end_warning(path))


def sha256(path: PathLike) -> str:
    """SHA-256 of the bytes on the disk (of the archive, for a gzipped file). Raises DataError."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        fail(path, None, f"can't be read: {error.strerror or error}", "check the path and its permissions")


def read_lines(path: PathLike) -> Iterator[str]:
    """The lines of a text file, plain or gzipped, each with its line end; a byte order mark is left out.

    Raises DataError as soon as a line is not text in UTF-8, is longer than `MAX_LINE_BYTES`, or can't be read
    or unpacked.
    """
    path = Path(path)
    number = 0
    try:
        with path.open("rb") as file, _unpacked(file) as unpacked:
            while raw := unpacked.readline(MAX_LINE_BYTES + 1):
                number += 1
                yield _decoded(path, number, raw)
    except EOFError:
        fail(
            path, number + 1, "the gzip archive ends too early", "the download was cut short; fetch it again"
        )
    except (gzip.BadGzipFile, zlib.error) as error:
        fail(path, number + 1, f"the gzip archive is damaged ({error})", "fetch it again")
    except FileNotFoundError:
        fail(path, None, "there is no such file", "check the path")
    except IsADirectoryError:
        fail(path, None, "this is a directory", "give a file in it")
    except OSError as error:
        fail(path, None, f"can't be read: {error.strerror or error}", "check the path and its permissions")


def fail(path: PathLike, line: int | None, problem: str, advice: str) -> NoReturn:
    """Raise the DataError that says this."""
    place = f"{os.fspath(path)}: " if line is None else f"{os.fspath(path)}: line {line}: "
    raise DataError(f"{place}{problem}; {advice}")


def _unpacked(file: io.BufferedReader) -> io.BufferedIOBase:
    """The file's contents, by its first bytes and not by its name."""
    packed = file.read(2) == _GZIP
    file.seek(0)
    return gzip.GzipFile(fileobj=file) if packed else file


def _decoded(path: Path, number: int, raw: bytes) -> str:
    if len(raw) > MAX_LINE_BYTES:
        fail(
            path, number, f"a line of more than {MAX_LINE_BYTES} bytes", "this is not one of the known tables"
        )
    if number == 1 and raw.startswith(_UTF16):
        fail(path, number, "the file is in UTF-16", "save it as UTF-8")
    if b"\0" in raw or (number == 1 and _CONTROL.search(raw)):
        fail(path, number, "this is a binary file, not text", "export the table as CSV or TSV in UTF-8")
    try:
        return raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        problem = f"byte {raw[error.start]:#04x} at column {error.start + 1} is not UTF-8"
        fail(path, number, problem, "save the file as UTF-8 (for instance: iconv -f latin1 -t utf-8)")


def _tab_records(path: Path) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(read_lines(path), start=1):
        if line.strip():
            yield number, line.rstrip("\r\n").split("\t")


def _comma_records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Records with the number of their last line, as quoted fields may hold line ends; no blank lines."""
    reader = csv.reader(read_lines(path), strict=True)
    try:
        for fields in reader:
            if fields:
                yield reader.line_num, fields
    except csv.Error as error:
        if "unexpected end" in str(error):
            fail(
                path,
                reader.line_num,
                "the file ends inside a quoted field",
                "it was cut short; fetch it again",
            )
        fail(path, reader.line_num, f"not well-formed CSV ({error})", "fetch or export the file again")


def _positions(
    path: Path, line: int, header: list[str], columns: Sequence[str], optional: Sequence[str]
) -> list[int]:
    """Where each column stands, -1 for an optional one that is absent."""
    missing = [name for name in columns if name not in header]
    if missing:
        problem = (
            f"the header lacks {', '.join(map(repr, missing))} and has {', '.join(map(repr, header))[:200]}"
        )
        fail(path, line, problem, f"the columns {', '.join(columns)} are needed")
    if len(set(header)) != len(header):
        fail(path, line, "the header names a column twice", "fetch or export the file again")
    return [header.index(name) if name in header else -1 for name in (*columns, *optional)]


def _end_warning(path: Path) -> tuple[str, ...]:
    """A plain file cut inside its last field only lacks the line end; gzip checks itself."""
    with path.open("rb") as file:
        if file.read(2) == _GZIP:
            return ()
        file.seek(-1, os.SEEK_END)
        whole = file.read(1) in b"\r\n"
    return (
        ()
        if whole
        else ("the last line has no line end; if the file was cut short, its last value is wrong",)
    )


MAX_EXAMPLES = 5  # a reason
MAX_EXAMPLE_LENGTH = 80  # characters


@dataclass(frozen=True)
class LoadReport:
    """The account of one loaded file; its rows add up: read = dropped + merged into another + kept.

    `kind` is one of `formats.KINDS`, `file` the name without its folder, `sha256` that of the file as it lies
    on the disk. `dropped` counts rows by reason, most frequent first, and `examples` gives up to five of
    each.
    """

    kind: str
    file: str
    sha256: str
    rows_read: int
    dropped: Mapping[str, int]
    examples: Mapping[str, tuple[str, ...]]
    duplicates_merged: int
    rows_kept: int
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        accounted = sum(self.dropped.values()) + self.duplicates_merged + self.rows_kept
        if accounted != self.rows_read:
            raise ValueError(f"{self.file}: {self.rows_read} rows read, {accounted} accounted for")

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain dicts, lists, numbers and texts, for JSON."""
        examples = {reason: list(examples) for reason, examples in self.examples.items()}
        return {
            **vars(self),
            "dropped": dict(self.dropped),
            "examples": examples,
            "warnings": list(self.warnings),
        }


class Tally:
    """Counts dropped rows while a loader goes through a file."""

    def __init__(self, kind: str, contents: Contents) -> None:
        self._kind = kind
        self._contents = contents
        self._dropped: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}

    def drop(self, reason: str, line: int, value: str) -> None:
        """Count one row out; `value` is what was wrong in it."""
        self._dropped[reason] += 1
        examples = self._examples.setdefault(reason, [])
        if len(examples) < MAX_EXAMPLES:
            shown = value if len(value) <= MAX_EXAMPLE_LENGTH else value[: MAX_EXAMPLE_LENGTH - 1] + "…"
            examples.append(f"line {line}: {shown!r}")

    def report(self, rows_kept: int) -> LoadReport:
        """The account, given how many rows (compositions) the merged table has."""
        rows_read = len(self._contents.rows)
        ordered = sorted(self._dropped.items(), key=lambda item: (-item[1], item[0]))
        return LoadReport(
            kind=self._kind,
            file=self._contents.file,
            sha256=self._contents.sha256,
            rows_read=rows_read,
            dropped=dict(ordered),
            examples={reason: tuple(self._examples[reason]) for reason, _ in ordered},
            duplicates_merged=rows_read - sum(self._dropped.values()) - rows_kept,
            rows_kept=rows_kept,
            warnings=self._contents.warnings,
        )
