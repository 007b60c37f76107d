"""Delimited text files, plain or gzipped, read strictly, and the account of what became of their rows.

A row without all its columns is a DataError: publishers' exports are read as they come, so that their SHA-256 can be
cited, and a damaged download must not pass for a smaller data set.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import math
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from kiago_ray.chemistry.formula import FormulaError, parse
from kiago_ray.errors import InputError

MAX_LINE_BYTES = 100_000  # COD's fields have at most 65,535; Python's csv module takes 131,072 in one
MAX_ROWS = 5_000_000  # ten times COD, and what a small archive may unfold to at most
MAX_EXAMPLES = 5  # a reason
MAX_EXAMPLE_LENGTH = 80  # characters
NO_LINE_END = "the last line has no line end; if the file was cut short, its last value is wrong"
AN_ELEMENT = "an element, at 0 eV/atom by definition"  # why a row is no competing phase
FOREIGN = "an element that the predictor doesn't know"
_GZIP = b"\x1f\x8b"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")

PathLike = str | os.PathLike[str]
Row = TypeVar("Row")
Merged = TypeVar("Merged", bound=Sized)


class DataError(InputError):
    """A data file that can't be used; the message is one line: file, line, what is wrong, what to do."""


def fail(path: PathLike, line: int | None, problem: str, advice: str) -> NoReturn:
    """Raise the DataError that says this."""
    place = f"{os.fspath(path)}: " if line is None else f"{os.fspath(path)}: line {line}: "
    raise DataError(f"{place}{problem}; {advice}")


def sha256(path: PathLike) -> str:
    """SHA-256 of the bytes on the disk (of the archive, for a gzipped file). Raises DataError."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        _unreadable(path, error)


def _unreadable(path: PathLike, error: OSError) -> NoReturn:
    known = {FileNotFoundError: "there is no such file", IsADirectoryError: "this is a directory"}
    problem = known.get(type(error), f"can't be read: {error.strerror or error}")
    fail(path, None, problem, "check the path and its permissions")


def read_lines(path: PathLike) -> Iterator[str]:
    """The lines of a text file, plain or gzipped, each with its line end; a byte order mark is left out. Raises
    DataError at a line that is not text in UTF-8, is longer than `MAX_LINE_BYTES`, or can't be read or unpacked.
    """
    path = Path(path)
    number = 0
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP  # by its first bytes and not by its name
            file.seek(0)
            unpacked = gzip.GzipFile(fileobj=file) if packed else file
            while raw := unpacked.readline(MAX_LINE_BYTES + 1):
                number += 1
                yield _decoded(path, number, raw)
    except EOFError:
        fail(path, number + 1, "the gzip archive ends too early", "it was cut short; fetch it again")
    except (gzip.BadGzipFile, zlib.error) as error:
        fail(path, number + 1, f"the gzip archive is damaged ({error})", "fetch it again")
    except OSError as error:
        _unreadable(path, error)


def _decoded(path: Path, number: int, raw: bytes) -> str:
    if len(raw) > MAX_LINE_BYTES:
        fail(path, number, f"a line of more than {MAX_LINE_BYTES} bytes", "this is none of the known tables")
    if number == 1 and raw.startswith(_UTF16):
        fail(path, number, "the file is in UTF-16", "save it as UTF-8")
    if b"\0" in raw or (number == 1 and _CONTROL.search(raw)):
        fail(path, number, "this is a binary file, not text", "export the table as CSV or TSV in UTF-8")
    try:
        return raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        problem = f"byte {raw[error.start]:#04x} at column {error.start + 1} is not UTF-8"
        fail(path, number, problem, "save the file as UTF-8 (for instance: iconv -f latin1 -t utf-8)")


@dataclass(frozen=True)
class Contents:
    """The columns asked for of one file: of each row the number of its last line, and their texts."""

    file: str  # without its folder
    sha256: str
    rows: list[tuple[int, tuple[str, ...]]]
    warnings: list[str]


def read_columns(
    path: PathLike,
    columns: Sequence[str],
    optional: Sequence[str] = (),
    *,
    tabs: bool = False,
    header_line: int = 1,
) -> Contents:
    """The named columns of a file with a header, as stripped text; "" for an optional one that is absent.

    Comma-separated with CSV quoting, or tab-separated without any (`tabs`). `header_line` counts from 1. Blank rows
    don't count. Raises DataError for a file that is missing, empty, binary, cut short, not UTF-8, or without one of
    `columns`, and for the first row that has another number of columns than the header.
    """
    path = Path(path)
    records = _records(path, tabs)
    line, names = next((record for record in records if record[0] >= header_line), (0, []))
    if not names:
        fail(path, None, "the file is empty, or ends before its header", "fetch it again")
    header = [name.strip() for name in names]
    if missing := [name for name in columns if name not in header]:
        lacks, has = ", ".join(map(repr, missing)), ", ".join(map(repr, header))[:200]
        advice = f"the columns {', '.join(columns)} are needed"
        fail(path, line, f"the header lacks {lacks} and has {has}", advice)
    if len(set(header)) != len(header):
        fail(path, line, "the header names a column twice", "fetch or export the file again")
    places = [header.index(name) if name in header else -1 for name in (*columns, *optional)]
    rows: list[tuple[int, tuple[str, ...]]] = []
    for line, fields in records:
        if len(fields) != len(header):
            problem = f"this row has {len(fields)} columns, the header has {len(header)}"
            fail(path, line, problem, "the file was cut short or edited; fetch it again")
        if len(rows) == MAX_ROWS:
            fail(path, line, f"more than {MAX_ROWS} rows", "split the file")
        rows.append((line, tuple(fields[at].strip() if at >= 0 else "" for at in places)))
    if not rows:
        fail(path, None, "the file has a header and no rows", "fetch it again")
    return Contents(path.name, sha256(path), rows, [] if _ends_whole(path) else [NO_LINE_END])


def _records(path: Path, tabs: bool) -> Iterator[tuple[int, list[str]]]:
    """Records with the number of their last line, as quoted fields may hold line ends."""
    form: Any = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabs else {}
    reader = csv.reader(read_lines(path), strict=True, **form)
    try:
        for fields in reader:
            if any(map(str.strip, fields)):
                yield reader.line_num, fields
    except csv.Error as error:
        problem, advice = f"not well-formed CSV ({error})", "fetch or export the file again"
        if "unexpected end" in str(error):
            problem, advice = "the file ends inside a quoted field", "it was cut short; fetch it again"
        fail(path, reader.line_num, problem, advice)


def _ends_whole(path: Path) -> bool:
    """A plain file cut inside its last field only lacks the line end; gzip checks itself."""
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
        file.seek(-1, os.SEEK_END)
        return packed or file.read(1) in b"\r\n"


class UnusableRow(ValueError):
    """A row that a table leaves out: the reason to count it by, and what is wrong in it."""


def leave_out(where: bool, reason: str, value: str) -> None:
    """Raise UnusableRow there."""
    if where:
        raise UnusableRow(reason, value)


def read_amounts(text: str) -> dict[str, float]:
    """A formula's amounts. Raises UnusableRow with the parser's reason."""
    try:
        return parse(text)
    except FormulaError as error:
        raise UnusableRow(error.reason, text) from None


def finite(text: str) -> float | None:
    """The number in a field, or None where it is not a finite one."""
    try:
        value = float(text.replace("_", "?"))  # float() would take 1_0 for 10
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def read_number(text: str, reason: str, shown: str) -> float:
    """The number in a field. Raises UnusableRow for the reason, showing this, where it is not a finite one."""
    value = finite(text)
    if value is None:
        raise UnusableRow(reason, shown)
    return value


@dataclass(frozen=True)
class LoadReport:
    """The account of one loaded file: rows read = dropped + merged into another + kept. file: without its folder.
    sha256: as it lies on the disk. dropped: rows by reason, most frequent first. examples: up to five of each.
    """

    kind: str
    file: str
    sha256: str
    rows_read: int
    dropped: Mapping[str, int]
    examples: Mapping[str, list[str]]
    duplicates_merged: int
    rows_kept: int
    warnings: list[str] = field(default_factory=list)


def load_rows(
    contents: Contents, kind: str, read: Callable[..., Row], merge: Callable[[list[Row]], Merged]
) -> tuple[Merged, LoadReport]:
    """The table that `merge` makes of what `read` takes of a row (it may raise UnusableRow), and the account."""
    found: list[Row] = []
    dropped: Counter[str] = Counter()  # rows by reason
    examples: dict[str, list[str]] = {}
    for line, fields in contents.rows:
        try:
            found.append(read(*fields))
        except UnusableRow as row:
            reason, value = row.args
            shown = value if len(value) <= MAX_EXAMPLE_LENGTH else f"{value[: MAX_EXAMPLE_LENGTH - 1]}…"
            dropped[reason] += 1
            if dropped[reason] <= MAX_EXAMPLES:
                examples.setdefault(reason, []).append(f"line {line}: {shown!r}")
    ordered = sorted(dropped, key=lambda reason: (-dropped[reason], reason))
    table = merge(found)
    return table, LoadReport(
        kind=kind,
        file=contents.file,
        sha256=contents.sha256,
        rows_read=len(contents.rows),
        dropped={reason: dropped[reason] for reason in ordered},
        examples={reason: examples[reason] for reason in ordered},
        duplicates_merged=len(found) - len(table),
        rows_kept=len(table),
        warnings=contents.warnings,
    )
