"""SuperCon from its publisher into the cache: downloaded, unpacked, read once by the loader, and recorded."""

from __future__ import annotations

import lzma
import os
import re
import shutil
import struct
import tempfile
import time
import zipfile
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from kiago_ray.datasets import cache
from kiago_ray.datasets.download import MAX_TIME_S, Writer, download
from kiago_ray.datasets.files import DataError, fail, sha256
from kiago_ray.datasets.statistics import load_element_counts
from kiago_ray.datasets.supercon import load_supercon

SOURCE = "SuperCon, MDR SuperCon Datasheet, National Institute for Materials Science (NIMS)"
DOI = "10.48505/nims.3837"
LICENCE = "CC BY 4.0"
URL = "https://mdr.nims.go.jp/datasets/5d8000f3-a8cd-4ad5-bcdb-2447a5166839.zip"
VERSION = "220808"  # of the table that the shipped weights and element counts were made from
TABLE = "primary.tsv"

MAX_DOWNLOAD_BYTES = 200_000_000
MAX_TABLE_BYTES = 100_000_000  # the table of 2022 has 2 MB
MIN_USABLE_ROWS = 10_000  # the table of 2022 has 18,678

AGAIN = "kiago data fetch supercon --force"
BY_HAND = f"try again later, or download it yourself from https://doi.org/{DOI} and give {TABLE} by --known"
_BLOCK_BYTES = 2**20
_WORKPLACE = ".fetch-"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_GZIP = b"\x1f\x8b"  # the loader would unfold it without a bound
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, OSError, RuntimeError, ValueError, LookupError, OverflowError),
)


@dataclass(frozen=True)
class Limits:
    """How large a download and its table may be in bytes, and how many usable rows there must be."""

    download_bytes: int = MAX_DOWNLOAD_BYTES
    table_bytes: int = MAX_TABLE_BYTES
    usable_rows: int = MIN_USABLE_ROWS


def supercon_folder() -> Path:
    """Where the fetched table is kept. It need not exist."""
    return cache.cache_directory() / "supercon"


def cached_supercon() -> cache.CachedFile | None:
    """The fetched table, checked against its record; None where none was fetched. Raises DataError."""
    return cache.find(supercon_folder(), TABLE, AGAIN)


def fetch_supercon(
    url: str = URL, *, pinned: str | None = None, limits: Limits | None = None
) -> cache.CachedFile:
    """Download SuperCon's archive, or a plain primary.tsv, and keep its table; what was kept before is replaced.

    pinned: the SHA-256 that the download, or the table in it, must have. Without one completeness is all that can be
    checked: the announced length, the archive's check sums, and that the loader finds enough rows. Raises DataError,
    in one line that says what to do; then the cache is as it was.
    """
    limits = limits or Limits()
    if pinned is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", pinned):
        raise DataError(f"{pinned!r} is no SHA-256; give 64 hexadecimal digits, or leave it out")
    folder = supercon_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        workplace = tempfile.TemporaryDirectory(prefix=_WORKPLACE, dir=folder, ignore_cleanup_errors=True)
    except OSError as error:
        cache.unwritable(folder, error)
    with workplace as inside:
        archive, table = Path(inside) / "download", Path(inside) / TABLE
        got = download(url, archive, max_bytes=limits.download_bytes, advice=BY_HAND)
        packed = _is_zip(url, archive)
        if packed:
            unpack(url, archive, table, limits.table_bytes)
        else:
            os.replace(archive, table)
        if pinned is not None and pinned.lower() not in (got.sha256, sha256(table)):
            problem = f"its SHA-256 is {got.sha256}, not {pinned.lower()}"
            fail(url, None, problem, "check both; nothing was kept")
        usable_rows = _checked(url, table, limits, packed=packed, whole=packed or got.length_known)
        about = {
            "source": SOURCE,
            "doi": DOI,
            "licence": LICENCE,
            "url": url,
            "fetched_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "download_sha256": got.sha256,
            "usable_rows": str(usable_rows),
        }
        return cache.store(folder, table, about)


def is_shipped_version(table_sha256: str) -> bool:
    """Whether this is the table that the shipped element counts were made from, version `VERSION`."""
    return table_sha256 == load_element_counts().supercon.sha256


def _remove_leftovers(folder: Path) -> None:
    """What a fetch that was killed left behind; one that may still be running is younger."""
    for left in folder.glob(f"{_WORKPLACE}*"):
        if time.time() - left.stat().st_mtime > 1.5 * MAX_TIME_S:
            shutil.rmtree(left, ignore_errors=True)


def _is_zip(url: str, archive: Path) -> bool:
    with archive.open("rb") as file:
        start = file.read(4)
    if start.startswith(_GZIP):
        fail(url, None, f"this is a gzip file, not a zip archive or {TABLE}", BY_HAND)
    return start in _ZIP


def unpack(url: str, archive: Path, table: Path, max_bytes: int) -> None:
    """Write the archive's one primary.tsv to `table`; reading it to its end checks its CRC."""
    try:
        with zipfile.ZipFile(archive) as unpacked:
            files = [info for info in unpacked.infolist() if not info.filename.endswith("/")]
            named = [info for info in files if PurePosixPath(info.filename).name == TABLE]
            if len(named) != 1:
                held = ", ".join(sorted(repr(info.filename) for info in files))[:200] or "nothing"
                fail(url, None, f"the archive holds {len(named)} files named {TABLE} ({held})", BY_HAND)
            if named[0].flag_bits & 1:
                fail(url, None, "the archive is encrypted", BY_HAND)
            size = 0
            with unpacked.open(named[0]) as packed, Writer(table) as plain:
                while block := packed.read(_BLOCK_BYTES):
                    size += len(block)
                    if size > max_bytes:
                        fail(url, None, f"{TABLE} unfolds to more than {max_bytes / 1e6:g} MB", BY_HAND)
                    plain.write(block)
    except DataError:
        raise
    except _DAMAGED as error:
        fail(url, None, f"the archive is damaged ({str(error) or type(error).__name__})", BY_HAND)


def _checked(url: str, table: Path, limits: Limits, *, packed: bool, whole: bool) -> int:
    """The usable rows of the table. whole: something else has shown that it is not cut short."""
    if table.stat().st_size > limits.table_bytes:
        fail(url, None, f"{TABLE} has more than {limits.table_bytes / 1e6:g} MB", BY_HAND)
    try:
        report = load_supercon(table)[1]
    except DataError as error:
        problem = str(error).removeprefix(f"{table}: ")
        what = f"the archive's {TABLE} can't be read" if packed else f"this is neither an archive nor {TABLE}"
        fail(url, None, f"{what} ({problem})", BY_HAND)
    if not whole and report.warnings:
        fail(url, None, f"{TABLE} was cut short in its last line", BY_HAND)
    usable = report.rows_read - sum(report.dropped.values())
    if usable < limits.usable_rows:
        problem = f"{TABLE} has {usable:,} usable rows; of SuperCon there are {limits.usable_rows:,} and more"
        fail(url, None, problem, BY_HAND)
    return usable
