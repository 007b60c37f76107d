"""Fetching SuperCon over real HTTP from a server on this machine: what must work, and everything that can go wrong."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest

from kiago_ray.datasets.cache import RECORD
from kiago_ray.datasets.fetch import (
    MIN_USABLE_ROWS,
    Limits,
    cached_supercon,
    fetch_supercon,
    is_shipped_version,
    supercon_folder,
    unpack,
)
from kiago_ray.datasets.files import DataError

from .conftest import supercon_text
from .web_site import Route, Site, answer

LIMITS = Limits(download_bytes=200_000, table_bytes=100_000, usable_rows=3)
TABLE = supercon_text(
    [(f"Nb{n}Sn1", "K", "18.3", "Phys.Rev.,95(1954)1435") for n in range(1, 5)] + [("Mg1B2OZ", "K", "1", "")]
).encode()


def archive(*files: tuple[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as made:
        for name, data in files:
            made.writestr(name, data)
    return content.getvalue()


GOOD = archive(("mdr/readme.txt", b"hello"), ("mdr/primary.tsv", TABLE), ("__MACOSX/._primary.tsv", b"x"))


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KIAGO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def everything(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.mark.parametrize("body", [GOOD, TABLE], ids=["archive", "plain"])
def test_what_is_fetched_is_found_again_with_its_record(site: Site, cache: Path, body: bytes) -> None:
    assert cached_supercon() is None
    url = site("/supercon", answer(body))
    fetched = fetch_supercon(url, limits=LIMITS)
    assert fetched.path.name == "primary.tsv"
    assert fetched.path.read_bytes() == TABLE
    assert fetched.sha256 == hashlib.sha256(TABLE).hexdigest()
    record = json.loads((supercon_folder() / RECORD).read_text())
    assert record["url"] == url
    assert record["download_sha256"] == hashlib.sha256(body).hexdigest()
    assert (record["licence"], record["doi"], record["usable_rows"]) == (
        "CC BY 4.0",
        "10.48505/nims.3837",
        "4",
    )
    assert cached_supercon() == fetched
    assert len(everything(cache)) == 2
    assert not is_shipped_version(fetched.sha256)


def test_a_length_that_was_not_announced_is_no_fault(site: Site) -> None:
    assert fetch_supercon(site("/a.zip", answer(GOOD, length=None)), limits=LIMITS).path.read_bytes() == TABLE
    assert (
        fetch_supercon(site("/a.tsv", answer(TABLE, length=None)), limits=LIMITS).path.read_bytes() == TABLE
    )
    with pytest.raises(DataError, match="cut short in its last line"):
        fetch_supercon(site("/cut.tsv", answer(TABLE[:-1], length=None)), limits=LIMITS)


def test_a_pinned_hash_is_that_of_the_download_or_of_its_table(site: Site) -> None:
    url = site("/good.zip", answer(GOOD))
    for content in (GOOD, TABLE):
        digest = hashlib.sha256(content).hexdigest()
        assert fetch_supercon(url, pinned=digest.upper(), limits=LIMITS).path.exists()
    with pytest.raises(DataError, match="no SHA-256"):
        fetch_supercon(url, pinned="abc", limits=LIMITS)


def bad_crc() -> bytes:
    content = bytearray(archive(("primary.tsv", TABLE), compression=zipfile.ZIP_STORED))
    content[content.index(b"18.3")] = ord("9")
    return bytes(content)


def encrypted() -> bytes:
    content = bytearray(GOOD)
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := content.find(signature, at + 1)) >= 0:
            content[at + flags] |= 1
    return bytes(content)


BOMB = archive(("primary.tsv", b"\0" * 10_000_000))
FAULTS: dict[str, tuple[Route, str]] = {
    "404": (answer(b"gone", status=404), "answers 404 Not Found"),
    "500": (answer(b"", status=500), "answers 500"),
    "204": (answer(b"", status=204), "answers 204"),
    "truncated archive": (
        answer(GOOD[:400], length=len(GOOD)),
        f"broke off after 400 of {len(GOOD):,} bytes",
    ),
    "truncated table": (answer(TABLE[:-9], length=len(TABLE)), "broke off after"),
    "truncated unannounced archive": (answer(GOOD[:-30], length=None), "the archive is damaged"),
    "announced too large": (answer(b"x", length=10**12), "larger than 0.2 MB"),
    "too large unannounced": (answer(b"x" * 300_000, length=None), "larger than 0.2 MB"),
    "zip bomb": (answer(BOMB), "unfolds to more than 0.1 MB"),
    "large table": (answer(TABLE * 500), "primary.tsv has more than 0.1 MB"),
    "no table inside": (
        answer(archive(("a/readme.txt", b"hello"))),
        r"holds 0 files named primary.tsv \('a/readme.txt'\)",
    ),
    "empty archive": (answer(archive()), r"holds 0 files named primary.tsv \(nothing"),
    "two tables": (answer(archive(("a/primary.tsv", TABLE), ("b/primary.tsv", TABLE))), "holds 2 files"),
    "wrong check sum": (answer(bad_crc()), r"the archive is damaged \(Bad CRC-32"),
    "encrypted": (answer(encrypted()), "the archive is encrypted"),
    "web page": (
        answer(b"<!DOCTYPE html>\n<title>Sign in</title>\n<p>\n"),
        "neither an archive nor primary.tsv",
    ),
    "nothing": (answer(b""), "neither an archive nor primary.tsv"),
    "gzip": (answer(b"\x1f\x8b\x08\x00" + bytes(99)), "this is a gzip file"),
    "archive of something else": (
        answer(archive(("primary.tsv", b"a,b\n1,2\n"))),
        "the archive's primary.tsv can't be read",
    ),
    "few rows": (answer(supercon_text([("Nb3Sn1", "K", "18", "")]).encode()), "1 usable rows"),
    "redirect in a circle": (answer(b"", status=302, location="/fault"), "redirects in a circle"),
    "redirect to plain http": (
        answer(b"", status=302, location="http://example.org/a.zip"),
        "not be encrypted",
    ),
    "redirect to a file": (answer(b"", status=302, location="file:///etc/passwd"), "answers 302"),
    "redirect to nowhere": (answer(b"", status=302, location="https://"), "no address of a web server"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_in_one_line_and_leaves_the_cache_as_it_was(
    site: Site, cache: Path, fault: str
) -> None:
    route, told = FAULTS[fault]
    url = site("/fault", route)
    with pytest.raises(DataError, match=told) as failed:
        fetch_supercon(url, limits=LIMITS)
    assert "10.48505/nims.3837" in str(failed.value) or "primary.tsv by --known" in str(failed.value)
    assert "\n" not in str(failed.value)
    assert everything(cache) == {}

    kept = fetch_supercon(site("/good.zip", answer(GOOD)), limits=LIMITS)
    before = everything(cache)
    with pytest.raises(DataError, match=told):
        fetch_supercon(url, limits=LIMITS)
    assert everything(cache) == before
    assert cached_supercon() == kept
    assert {entry.name for entry in supercon_folder().iterdir()} == {RECORD, kept.path.parent.name}


def test_a_wrong_hash_is_told_with_both_and_nothing_is_kept(site: Site, cache: Path) -> None:
    with pytest.raises(DataError, match=f"is {hashlib.sha256(GOOD).hexdigest()}, not {'0' * 64}"):
        fetch_supercon(site("/good.zip", answer(GOOD)), pinned="0" * 64, limits=LIMITS)
    assert everything(cache) == {}


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://127.0.0.1:1/a.zip", "can't be reached"),
        ("https://no-such-host.invalid/a.zip", "can't be reached"),
        ("http://example.org/a.zip", "not be encrypted"),
        ("file:///etc/passwd", "no address of a web server"),
        ("ftp://example.org/a", "no address of a web server"),
        ("data:text/plain,x", "no address of a web server"),
        ("primary.tsv", "no address of a web server"),
        ("https://[::1/a", "this is no address"),
        ("https://example.org:port/", "this is no address"),
        ("https://user:secret@example.org/a.zip", "user name or password"),
        ("http://127.0.0.1:1/a b\n", "can't be|failed"),
    ],
)
def test_addresses_that_are_not_asked(url: str, told: str, cache: Path) -> None:
    with pytest.raises(DataError, match=told) as failed:
        fetch_supercon(url, limits=LIMITS)
    assert "secret" not in str(failed.value)
    assert everything(cache) == {}


def test_a_damaged_archive_is_told_whatever_is_wrong_with_it(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    outcomes = set()
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        whole = np.frombuffer(archive(("a/primary.tsv", TABLE), compression=kind), dtype=np.uint8)
        for _ in range(150):
            content = whole.copy()
            content[generator.integers(4, len(content), 3)] = generator.integers(0, 256, 3)
            (tmp_path / "archive").write_bytes(content.tobytes())
            try:
                unpack("url", tmp_path / "archive", tmp_path / "table", LIMITS.table_bytes)
            except DataError as error:
                outcomes.add(str(error)[:30])
            else:  # what was hit doesn't matter to the table
                assert (tmp_path / "table").read_bytes() == TABLE
    assert len(outcomes) > 1


def test_redirects_are_followed(site: Site) -> None:
    site("/good.zip", answer(GOOD))
    first = site("/first", answer(b"", status=301, location=site.address("/second")))
    site("/second", answer(b"", status=307, location="/good.zip"))
    assert fetch_supercon(first, limits=LIMITS).about["url"] == first
    assert site.asked == ["/first", "/second", "/good.zip"]


def test_chunks_that_break_off_are_no_whole_file(site: Site, cache: Path) -> None:
    def route(handler: BaseHTTPRequestHandler) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"%x\r\n" % len(TABLE) + TABLE + b"\r\n40\r\nhalf")
        handler.close_connection = True

    with pytest.raises(DataError, match="broke off"):
        fetch_supercon(site("/chunks", route), limits=LIMITS)
    assert everything(cache) == {}


def test_what_a_killed_fetch_left_is_removed_once_it_is_old(site: Site, cache: Path) -> None:
    supercon_folder().mkdir(parents=True)
    for name, age_s in (("old", 7200), ("running", 60)):
        left = supercon_folder() / f".fetch-{name}"
        left.mkdir()
        (left / "download").write_bytes(b"half")
        os.utime(left, (time.time() - age_s,) * 2)
    fetch_supercon(site("/a", answer(GOOD)), limits=LIMITS)
    assert [entry.name for entry in supercon_folder().glob(".fetch-*")] == [".fetch-running"]


def test_a_newer_table_replaces_the_older(site: Site, cache: Path) -> None:
    old = fetch_supercon(site("/a", answer(GOOD)), limits=LIMITS)
    new = fetch_supercon(site("/b", answer(TABLE.replace(b"18.3", b"18.1"))), limits=LIMITS)
    assert new.sha256 != old.sha256
    assert cached_supercon() == new
    assert not old.path.exists()
    assert len(everything(cache)) == 2


def test_a_cached_file_that_changed_is_not_used(site: Site, cache: Path) -> None:
    url = site("/a", answer(GOOD))
    kept = fetch_supercon(url, limits=LIMITS)
    kept.path.write_bytes(TABLE[:-20])
    with pytest.raises(
        DataError, match="has changed since it was fetched; `kiago data fetch supercon --force`"
    ):
        cached_supercon()
    kept.path.unlink()
    with pytest.raises(DataError, match="No such file or directory"):
        cached_supercon()
    assert fetch_supercon(url, limits=LIMITS) == cached_supercon()


def test_a_cache_that_cannot_be_written_is_told(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("KIAGO_CACHE", str(tmp_path / "file" / "below"))
    assert cached_supercon() is None
    with pytest.raises(DataError, match=r"can't be written: Not a directory; .* KIAGO_CACHE"):
        fetch_supercon(site("/a", answer(GOOD)), limits=LIMITS)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no resource limits")
@pytest.mark.parametrize(("body", "limit"), [(GOOD, 100), (GOOD, 500), (TABLE, 200)])
def test_a_full_disk_is_told_and_leaves_nothing(site: Site, cache: Path, body: bytes, limit: int) -> None:
    # A limit on the size of files is the nearest thing to a full disk that a test may ask the system for.
    code = (
        "import resource, sys; from kiago_ray.datasets.fetch import Limits, fetch_supercon;"
        "from kiago_ray.datasets.files import DataError\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        f"try: fetch_supercon({site('/a', answer(body))!r}, limits=Limits(usable_rows=3))\n"
        "except DataError as error: print(error); sys.exit(7)\n"
    )
    assert limit < len(body) or limit < len(TABLE)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert ended.returncode == 7, ended.stderr
    assert "can't be written: File too large; make room there, or set KIAGO_CACHE" in ended.stdout
    assert everything(cache) == {}


def test_the_limits_fit_the_public_table() -> None:
    # 23,983 rows and 2 MB in 2022, see the shipped element counts.
    assert Limits().usable_rows == MIN_USABLE_ROWS == 10_000
    assert Limits().download_bytes == 200_000_000
    assert Limits().table_bytes == 100_000_000
