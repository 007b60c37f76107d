"""Requests that no good client sends, as bytes on a socket: what a library for HTTP would refuse to write."""

from __future__ import annotations

import json
import random
import socket
from contextlib import closing
from dataclasses import dataclass

WAIT_S = 60.0
IDS = [
    "0",
    "..",
    "%2e%2e%2f",
    "%00",
    "%FF",
    "a" * 300,
    "a" * 5000,
    "é",
    "0" * 32,
    "null",
    "-1",
    " ",
    "%0d%0aX: y",
    "//",
]
QUERIES = [
    "",
    "",
    "?limit=-1",
    "?limit=1e9",
    "?after=%FF",
    "?limit=1&limit=2",
    "?" + "a=b&" * 500,
    "?[]",
    "?%",
]
LOCAL = ["localhost", "127.0.0.1", "[::1]:8000"]
HOSTS = [
    "[",
    "",
    "[::1",
    "]",
    "a" * 300,
    "évil.example",
    "localhost:99999",
    "localhost:x",
    "@localhost",
    "a,b",
    "%",
]
ORIGINS = [
    *("http://localhost", "http://127.0.0.1", "http://[::1]:8000"),
    "http://[",
    "null",
    "http://",
    "://",
    "http://localhost:x",
    "https://evil.example",
    "[",
    "http://a b",
    "",
]
KINDS = [
    "text/plain",
    "",
    "application/json; charset=\xff",
    "multipart/form-data",
    "multipart/form-data; boundary=a",
    "/",
    "json",
]
LENGTHS = ["-1", "+5", "0x10", "1, 1", "9" * 30, "99999999", "", "\xb2", "5 5"]
VALUES = [
    "",
    "[",
    "0",
    "?1",
    "nan",
    "\xb2",
    "9" * 30,
    "*/*",
    "a,b",
    "\t",
    "a" * 3000,
    "\x01",
    "=",
    "Bearer ",
    "bytes=-1-",
]
NAMES = [
    "X-Request-Id",
    "X-Request-Timeout-Seconds",
    "x_request_timeout_seconds",
    "X-Request-Disconnect-Disabled",
    "X-Session-Id",
    "serve_multiplexed_model_id",
    "X-Forwarded-For",
    "Authorization",
    "Accept",
    "Accept-Encoding",
    "Range",
    "Cookie",
    "If-Modified-Since",
    "Upgrade",
    "Expect",
    "bad name",
]
GOOD: dict[str, object] = {
    "/v1/predict": {"formulas": ["MgB2"]},
    "/v1/explain": {"formula": "MgB2"},
    "/v1/scan": {"formula": "La2CuO4", "changes": [{"site": "La", "dopants": "Sr", "x": "0:0.2:0.1"}]},
    "/v1/section": {"first": "La2CuO4", "last": "Sr2CuO4"},
    "/v1/searches": {"base": "MgB2", "candidates": 8, "steps": [1, 1]},
}
FIELDS = ["formulas", "formula", "base", "preset", "start", "fixed", "candidates", "x"]
HALF = "half-sent"


@dataclass(frozen=True)
class Strange:
    """A request. kind: what is strange about it. left: whether its client goes away in the middle of it."""

    kind: str
    content: bytes
    left: bool = False


def nested(rng: random.Random) -> bytes:
    """JSON of up to 20,000 levels below a field that some route knows."""
    depth = rng.choice([1, 63, 64, 65, 200, 980, 1000, 20_000])
    left, right = rng.choice([("[", "]"), ('{"a": ', "}"), ('[{"base": ', "}]")])
    return f'{{"{rng.choice(FIELDS)}": {left * depth}1{right * depth}}}'.encode()


def body_of(rng: random.Random, path: str) -> bytes:
    """What a POST may carry, good or bad."""
    good = json.dumps(GOOD.get(path, {})).encode()
    wrong = {rng.choice(FIELDS): rng.choice([None, [], {}, -1, 1e308, "", "\ud800", "Xx2", ["MgB2"] * 3])}
    return rng.choice(
        [
            good,
            good,
            nested(rng),
            json.dumps(wrong).encode(),
            b"",
            b"\xff\xfe",
            rng.randbytes(40),
            good[:-1],
            b"NaN",
            b"null",
        ]
    )


def strange_request(rng: random.Random, known_id: str) -> Strange:
    """One request, some of them good. known_id: of a search that there is."""
    search_id = rng.choice([known_id, rng.choice(IDS)])
    gets = [
        *(
            "/",
            "/docs",
            "/healthz",
            "/v1/models",
            "/v1/openapi.json",
            "/assets/app.js",
            "/assets/../app.py",
            "*",
        ),
        *("/v1/runs", f"/v1/runs/{search_id}", "/v1/searches", "/v1/%", "//", "http://localhost/healthz"),
        *(f"/v1/searches/{search_id}{end}" for end in ("", "/events", "/candidates", "/plots/..")),
    ]
    path, method = rng.choice(gets), rng.choice(["GET"] * 8 + ["HEAD", "DELETE", "OPTIONS", "PUT", "G\x00T"])
    if rng.random() < 0.6:
        path, method = rng.choice([*GOOD]), "POST"
    kind = rng.choice(
        ["plain", "headers", "doubled headers", "host", "origin", "content type", "length", "chunks", HALF]
    )
    body = body_of(rng, path) if method in ("POST", "PUT") else b""
    headers = [("Host", rng.choice(LOCAL)), ("Content-Type", "application/json"), ("Connection", "close")]
    length = [("Content-Length", str(len(body)))]
    some = [(rng.choice(NAMES), rng.choice(VALUES)) for _ in range(rng.randint(1, 4))]
    left = False
    match kind:
        case "headers":
            headers += some
        case "doubled headers":
            doubled = rng.choice([some, some, headers[1:2], headers[:1], length])
            headers += [*some, *((name, rng.choice([value, *VALUES])) for name, value in doubled)]
        case "host":
            headers = [*(("Host", rng.choice(HOSTS)) for _ in range(rng.choice([0, 1, 1, 2]))), *headers[1:]]
        case "origin":
            headers += [("Origin", rng.choice(ORIGINS)) for _ in range(rng.randint(1, 2))]
        case "content type":
            headers[1] = ("Content-Type", rng.choice(KINDS))
        case "length":
            length = [("Content-Length", rng.choice(LENGTHS))]
        case "chunks":
            length = [("Transfer-Encoding", rng.choice(["chunked"] * 4 + ["gzip", "chunked, chunked"]))]
            whole = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
            body = rng.choice([whole, whole, b"zz\r\n", b"-1\r\n\r\n", b"0\r\nX: y\r\n\r\n"])
        case _ if kind == HALF:
            length = [("Content-Length", str(len(body) + rng.choice([1, 99, 100_000])))]
            left = rng.random() < 0.5
    lines = "".join(f"{name}: {value}\r\n" for name, value in [*headers, *length])
    head = f"{method} {path}{rng.choice(QUERIES)} HTTP/1.1\r\n{lines}\r\n"
    return Strange(kind, head.encode(rng.choice(["utf-8", "latin-1"]), "replace") + body, left)


def asked(place: tuple[str, int], request: Strange) -> tuple[str, list[str]]:
    """What a server answers to these bytes: its status, or `none`, and the ids that it gives the request."""
    with closing(socket.create_connection(place, timeout=WAIT_S)) as connection:
        try:
            connection.sendall(request.content)
            if request.left:
                return "left", []
            found = b""
            while b"\r\n\r\n" not in found.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n"):
                part = connection.recv(1 << 16)
                if not part:
                    return "none", []
                found += part
        except (BrokenPipeError, ConnectionResetError):
            return "none", []
    head = found.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").partition(b"\r\n\r\n")[0].decode("latin-1")
    first, *lines = head.split("\r\n")
    ids = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("x-request-id:")]
    return first.split(" ")[1], ids
