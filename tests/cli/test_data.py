"""`kiago data`: the account of a file, files that are none, and SuperCon fetched from a server on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
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


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder and writes no log."""

    def log_message(self, *_: Any) -> None:
        pass


class Stalling(BaseHTTPRequestHandler):
    """Announces a megabyte, sends a little of it, and then nothing more."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        self.wfile.write(b"PK\x03\x04" + bytes(1000))
        self.wfile.flush()
        time.sleep(60)

    def log_message(self, *_: Any) -> None:
        pass


def served(handler: Any) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.block_on_close = False
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[str]:
    """The address of a folder with `supercon.zip`: a table of 40 compositions, each 250 times."""
    folder = tmp_path / "site"
    folder.mkdir()
    lines = LITERATURE.read_text().splitlines(keepends=True)
    with zipfile.ZipFile(folder / "supercon.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("supercon/primary.tsv", "".join(lines[:3] + 250 * lines[3:]))
    yield from served(partial(Quiet, directory=str(folder)))


def test_fetch_keeps_the_table_and_says_on_what_terms(kiago: Kiago, publisher: str, tmp_path: Path) -> None:
    url = f"{publisher}/supercon.zip"
    first = kiago("data", "fetch", "supercon", "--url", url)
    assert first.code == 0, first.err
    for told in ("NIMS", "CC BY 4.0", "https://doi.org/10.48505/nims.3837", "10,000", url, "220808"):
        assert told in first.out
    facts = json.loads(kiago("data", "fetch", "supercon", "--json").out)
    assert facts["url"] == url
    content = Path(facts["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == facts["sha256"]
    assert content.startswith(LITERATURE.read_bytes()[:500])

    (tmp_path / "site" / "supercon.zip").unlink()
    again = kiago("data", "fetch", "supercon", "--url", url, "--sha256", facts["download_sha256"])
    assert again.code == 0
    assert "there already" in again.err
    for command in (["--force"], ["--sha256", "0" * 64]):
        failed = kiago("data", "fetch", "supercon", "--url", url, *command)
        assert failed.code == 2
        assert "404" in failed.err.splitlines()[-1]
        assert failed.out == ""
    assert Path(facts["file"]).read_bytes() == content


def test_fetch_replaces_a_table_that_was_damaged(kiago: Kiago, publisher: str) -> None:
    command = ("data", "fetch", "supercon", "--url", f"{publisher}/supercon.zip", "--json")
    facts = json.loads(kiago(*command).out)
    Path(facts["file"]).write_text("damaged")
    search = kiago("search", "MgB2", "--candidates", 2, "--steps", "1,1")
    assert search.code == 2
    assert "has changed since it was fetched" in search.err
    repaired = kiago(*command)
    assert "has changed" in repaired.err
    assert json.loads(repaired.out)["sha256"] == facts["sha256"]
    assert hashlib.sha256(Path(facts["file"]).read_bytes()).hexdigest() == facts["sha256"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["oqmd"], "oqmd"),
        (["supercon", "--sha256", "abc"], "64 hexadecimal digits"),
        (["supercon", "--url", "http://example.org/a.zip"], "not be encrypted"),
        (["supercon", "--url", "http://127.0.0.1:1/a.zip"], "can't be reached"),
    ],
)
def test_a_fetch_that_cannot_be_ends_with_2(kiago: Kiago, arguments: list[str], told: str) -> None:
    ended = kiago("data", "fetch", *arguments)
    assert ended.code == 2
    assert told in ended.err
    assert ended.out == ""


def test_an_interrupted_fetch_leaves_nothing(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    stalling = served(Stalling)
    command = [sys.executable, "-m", "kiago_ray", "data", "fetch", "supercon", "--url", next(stalling)]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"KIAGO_CACHE": str(cache)},
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.default_int_handler
        ),  # in a background job: ignored
    )
    deadline = time.monotonic() + 60
    while not any(file.stat().st_size for file in cache.rglob("download")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert [path for path in cache.rglob("*") if path.is_file()] == []
    stalling.close()
