"""One file from the web onto the disk: whole and of bounded size, or not at all.

Only https, but for a server on this machine (loopback); a redirect may leave neither rule. Certificates are checked,
proxies are those of the environment.
"""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from kiago_ray import __version__
from kiago_ray.datasets.cache import unwritable
from kiago_ray.datasets.files import fail

BLOCK_BYTES = 2**18
SILENCE_S = 30.0  # without a byte, the server is taken for gone
MAX_TIME_S = 3600.0


@dataclass(frozen=True)
class Downloaded:
    """What came: SHA-256 and bytes. `length_known`: the server said before how much it would be, and it was."""

    sha256: str
    size: int
    length_known: bool


def download(
    url: str, target: Path, *, max_bytes: int, advice: str, silence_s: float = SILENCE_S
) -> Downloaded:
    """Download `url` to `target`, which must not matter before: it is written as the bytes come.

    Raises DataError, with `advice` on what to do instead, for an address that is not safe, a server that isn't there
    or answers anything but 200, more than `max_bytes`, and less than the server announced.
    """
    here = checked(url, "give one that starts with https://")
    request = urllib.request.Request(
        url, headers={"User-Agent": f"kiago-ray/{__version__}", "Accept-Encoding": "identity"}
    )
    received = 0
    try:
        with _opener(here, advice).open(request, timeout=silence_s) as response:
            if response.status != 200:
                fail(url, None, f"the server answers {response.status} {response.reason}", advice)
            announced: int | None = response.length
            if announced is not None and announced > max_bytes:
                _too_large(url, max_bytes, advice)
            digest = hashlib.sha256()
            until = time.monotonic() + MAX_TIME_S
            with Writer(target) as writer:
                while block := response.read1(BLOCK_BYTES):
                    received += len(block)
                    if received > max_bytes:
                        _too_large(url, max_bytes, advice)
                    if time.monotonic() > until:
                        fail(url, None, f"it takes longer than {MAX_TIME_S / 60:.0f} minutes", advice)
                    digest.update(block)
                    writer.write(block)
    except urllib.error.HTTPError as error:
        circle = "redirect" in str(error.reason) and error.code in (301, 302, 303, 307, 308)
        answer = "redirects in a circle" if circle else f"answers {error.code} {error.reason}"
        fail(url, None, f"the server {answer}", advice)
    except urllib.error.URLError as error:
        fail(url, None, f"the server can't be reached ({_cause(error.reason)})", advice)
    except http.client.IncompleteRead:
        fail(url, None, f"the download broke off after {received:,} bytes", advice)
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        fail(url, None, f"the download failed after {received:,} bytes ({_cause(error)})", advice)
    if announced is not None and received != announced:
        fail(url, None, f"the download broke off after {received:,} of {announced:,} bytes", advice)
    return Downloaded(digest.hexdigest(), received, announced is not None)


def checked(url: str, advice: str, *, from_loopback: bool = True) -> bool:
    """Whether the address is on this machine. Raises DataError for one that `download` doesn't take."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        fail(url, None, f"this is no address ({error})", advice)
    if parts.scheme not in ("http", "https") or not host:
        fail(url, None, "this is no address of a web server", advice)
    if parts.username or parts.password:
        fail("the address", None, "it holds a user name or password, which would be recorded", advice)
    here = _is_loopback(host)
    if here and not from_loopback:
        fail(url, None, "the server redirects to this machine itself", advice)
    if parts.scheme == "http" and not here:
        fail(url, None, "the connection would not be encrypted (http)", advice)
    return here


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect to an address that is as safe as the first."""

    def __init__(self, advice: str, from_loopback: bool) -> None:
        self.advice = advice
        self.from_loopback = from_loopback

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        self.from_loopback &= checked(newurl, self.advice, from_loopback=self.from_loopback)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class Writer:
    """A file whose errors say that it is the disk and not the server."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __enter__(self) -> Writer:
        try:
            self.file = self.target.open("wb", buffering=0)
        except OSError as error:
            unwritable(self.target.parent, error)
        return self

    def write(self, block: bytes) -> None:
        try:
            left = memoryview(block)
            while left:
                left = left[self.file.write(left) :]
        except OSError as error:
            unwritable(self.target.parent, error)

    def __exit__(self, *_: object) -> None:
        self.file.close()


def _opener(here: bool, advice: str) -> urllib.request.OpenerDirector:
    """Of urllib's handlers only those for http and https: no file://, ftp:// and data:. here: the first address is."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler({} if here else None),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(advice, here),
    ):
        opener.add_handler(handler)
    return opener


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _too_large(url: str, max_bytes: int, advice: str) -> NoReturn:
    fail(url, None, f"the file is larger than {max_bytes / 1e6:g} MB", advice)


def _cause(reason: object) -> str:
    text = getattr(reason, "strerror", None) or str(reason)
    return " ".join(str(text).split()) or type(reason).__name__
