"""What is S3's own: the environment, refusals in one line, and uploads that fail, are killed or interrupted."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kiago_ray.storage import location
from kiago_ray.storage.location import Location, StorageError

BIG = b"y" * 11_500_000  # two parts
HIDDEN = "wJalrXUtnFEMIhidden"


def error(status: str, code: str, message: str = "said the server") -> tuple[str, str]:
    """An answer as S3 gives it."""
    return status, f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"


def refused(act: Callable[[], Any]) -> str:
    """What the StorageError of a failing act says: always one line, never long."""
    with pytest.raises(StorageError) as caught:
        act()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 450
    return message


def every_act(place: Location) -> list[Callable[[], Any]]:
    return [
        place.kind,
        place.entries,
        place.read_bytes,
        lambda: place.write_bytes(b"x"),
        lambda: place.write_bytes(BIG),
        place.delete,
    ]


# --- the environment


def test_credentials_and_region_come_from_the_environment(bucket: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "dummy-token")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    Location.of(f"s3://{bucket.name}/x").kind()
    headers = bucket.server.requests[-1][1]
    assert "Credential=dummy-id/" in headers["HTTP_AUTHORIZATION"]
    assert "/eu-central-1/s3/" in headers["HTTP_AUTHORIZATION"]
    assert headers["HTTP_X_AMZ_SECURITY_TOKEN"] == "dummy-token"
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    Location.of(f"s3://{bucket.name}/x").kind()
    assert "/eu-west-3/s3/" in bucket.server.requests[-1][1]["HTTP_AUTHORIZATION"]
    Location.of(f"s3://{bucket.name}/x?region=eu-north-1").kind()
    assert "/eu-north-1/s3/" in bucket.server.requests[-1][1]["HTTP_AUTHORIZATION"]


def test_credentials_may_come_from_a_profile(bucket: Any, monkeypatch: Any, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text("[lab]\naws_access_key_id=of-lab\naws_secret_access_key=dummy\n")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    Location.of(f"s3://{bucket.name}/x").kind()
    assert "Credential=of-lab/" in bucket.server.requests[-1][1]["HTTP_AUTHORIZATION"]


def test_a_proxy_is_asked_as_the_environment_says_and_never_for_this_machine(
    bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # where nobody listens
    Location.of(f"s3://{bucket.name}/a").write_bytes(b"a")
    monkeypatch.setenv("http_proxy", bucket.server.url.removeprefix("http://"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://s3.invalid")
    Location.of(f"s3://{bucket.name}/a").kind()
    assert bucket.server.requests[-1][1]["HTTP_HOST"] == "s3.invalid"
    monkeypatch.setenv("no_proxy", "s3.invalid")
    assert "no connection to S3" in refused(Location.of(f"s3://{bucket.name}/a").read_bytes)


def test_the_endpoint_of_s3_wins_over_that_of_all_services(bucket: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", bucket.server.url)
    assert Location.of(f"s3://{bucket.name}").kind() == "directory"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    address = bucket.server.url.removeprefix("http://")
    place = Location.of(f"s3://{bucket.name}/a?endpoint_override={address}&scheme=http")
    (place / "b").write_bytes(b"x")
    assert (place / "b").text == f"s3://{bucket.name}/a/b?endpoint_override={address}&scheme=http"
    assert Location.of((place / "b").text).read_bytes() == b"x"


@pytest.mark.parametrize(
    "text",
    [
        f"s3://AKIAEXAMPLE:{HIDDEN}@bucket/x",
        f"s3://AKIAEXAMPLE:{HIDDEN}/with/slash@bucket/x",
        f"s3://{HIDDEN}@bucket/x",
        f"s3://bucket/x?secret_key={HIDDEN}",
        f"s3://bucket/x?region=a&access_key={HIDDEN}",
        f"s3://bucket/x?session_token={HIDDEN}&region=a",
        f"s3://bucket/x?endpoint_override=http://me:{HIDDEN}@host",
    ],
)
def test_credentials_in_a_place_are_refused_and_not_printed(text: str, s3_server: Any) -> None:
    message = refused(lambda: Location.of(text))
    assert "credentials" in message
    assert HIDDEN not in message
    assert "AKIA" not in message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("s3://", "names its bucket"),
        ("s3:///x", "names its bucket"),
        ("s3://bucket/a//b", "empty part"),
        ("s3://bucket/a/../b", r"\.\."),
        ("s3://bucket/a%0Ab", "no character"),
        ("s3://bucket/a\nb", "no character"),
        ("s3://bucket/a%ff", "no character"),
        ("s3://bucket/a#b", "write %23"),
        ("s3://bucket/a?allow_bucket_creation=1", "unknown option; there are region"),
        ("s3://bucket/a?scheme=ftp", "http or https"),
        ("s3://bucket/a?endpoint_override=ftp://host", "endpoint ftp://host is no address"),
    ],
)
def test_places_that_cannot_be_meant(text: str, says: str, s3_server: Any) -> None:
    assert re.search(says, refused(lambda: Location.of(text)))


def test_trailing_slashes_and_spaces_name_the_same_place(bucket: Any) -> None:
    (Location.of(f"s3://{bucket.name}/my runs/") / "x").write_bytes(b"1")
    assert bucket.objects() == {"my runs/x": 1}
    assert Location.of(f"s3://{bucket.name}/my%20runs").entries() == ["x"]
    assert Location.of(f"s3://{bucket.name}/").entries() == ["my runs"]


def test_an_own_certificate_authority_is_trusted(
    bucket: Any, monkeypatch: Any, tmp_path: Path, https: tuple[str, str]
) -> None:
    url, certificate = https
    monkeypatch.setattr(location, "ATTEMPTS", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    assert "no connection to S3" in refused(Location.of(f"s3://{bucket.name}/x").kind)
    monkeypatch.setenv("AWS_CA_BUNDLE", certificate)
    Location.of(f"s3://{bucket.name}/x").write_bytes(b"1")
    assert bucket.objects() == {"x": 1}


@pytest.fixture
def https(s3_process: Any, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The same server behind TLS: its URL, and the certificate that it signed itself."""
    from werkzeug.serving import make_server, make_ssl_devcert

    certificate, key = make_ssl_devcert(str(tmp_path / "tls"), host="localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = make_server("127.0.0.1", 0, s3_process, threaded=True, ssl_context=context)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://localhost:{server.server_port}", certificate
    server.shutdown()


# --- refusals


def test_a_bucket_that_is_not_there(s3_server: Any) -> None:
    place = Location.of("s3://kiago-nowhere/x/y")
    for content in (b"x", BIG):
        message = refused(lambda content=content: place.write_bytes(content))  # type: ignore[misc]
        assert message == (
            "can't write s3://kiago-nowhere/x/y: there is no such bucket; create it, or correct the name"
        )
    assert place.kind() == "nothing"


def test_unknown_credentials_are_denied_by_the_server_itself(bucket: Any) -> None:
    def checks_from(request: str) -> None:
        url, plain = f"{bucket.server.url}/moto-api/reset-auth", {"Content-Type": "text/plain"}
        urllib.request.urlopen(urllib.request.Request(url, request.encode(), plain)).close()

    place = Location.of(f"s3://{bucket.name}/x")
    checks_from("0")
    try:
        for act in every_act(place):
            message = refused(act)
            assert f"s3://{bucket.name}/x: S3 refuses it; check AWS_ACCESS_KEY_ID" in message
            assert "dummy-secret" not in message
    finally:
        checks_from("inf")
    place.write_bytes(b"x")


@pytest.mark.parametrize(
    ("status", "code", "message", "says"),
    [
        ("403 Forbidden", "AccessDenied", "Access Denied", "S3 refuses it; check AWS_ACCESS_KEY_ID"),
        ("400 Bad Request", "ExpiredToken", "The provided token has expired.", "S3 refuses it; check AWS_"),
        (
            "301 Moved Permanently",
            "PermanentRedirect",
            "Use the specified endpoint.",
            "set AWS_REGION to the",
        ),
        ("503 Slow Down", "SlowDown", "Please reduce your request rate.", "S3 is busy or failing; try again"),
        ("500 Internal Server Error", "InternalError", "We failed.", "S3 is busy or failing; try again"),
    ],
)
def test_each_refusal_says_in_one_line_what_to_do(
    bucket: Any, monkeypatch: Any, status: str, code: str, message: str, says: str
) -> None:
    monkeypatch.setattr(location, "ATTEMPTS", 1)
    bucket.server.answer = lambda request: error(status, code, message)
    for act in every_act(Location.of(f"s3://{bucket.name}/x")):
        assert f"s3://{bucket.name}/x: " in (said := refused(act))
        assert says in said


def test_another_region_is_named(bucket: Any) -> None:
    malformed = (
        "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'"
    )
    bucket.server.answer = lambda request: error("400 Bad Request", "AuthorizationHeaderMalformed", malformed)
    message = refused(Location.of(f"s3://{bucket.name}/x").entries)
    assert f"can't list s3://{bucket.name}/x: the bucket is in region eu-west-1; set AWS_REGION" in message


def test_a_busy_server_is_asked_again(bucket: Any) -> None:
    busy = iter([error("503 Slow Down", "SlowDown")] * 2)
    bucket.server.answer = lambda request: next(busy, None)
    Location.of(f"s3://{bucket.name}/x").write_bytes(b"x")
    assert bucket.objects() == {"x": 1}


def test_a_server_that_is_not_there_is_told(s3_server: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(location, "ATTEMPTS", 2)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    message = refused(lambda: Location.of("s3://bucket/x").write_bytes(b"x"))
    assert message.startswith(
        "can't write s3://bucket/x: no connection to S3; check the network, AWS_ENDPOINT_URL"
    )


def test_a_server_that_never_answers_is_given_up(s3_server: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(location, "SILENCE_S", 1.0)
    monkeypatch.setattr(location, "ATTEMPTS", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        assert "no connection to S3" in refused(Location.of("s3://bucket/x").kind)
        assert time.monotonic() - began > 1


# --- whole or not at all


@pytest.mark.parametrize("stage", ["?uploads", "partNumber=1", "partNumber=2", "?uploadId="])
def test_an_upload_that_fails_at_any_stage_leaves_what_was_there(
    bucket: Any, monkeypatch: Any, stage: str
) -> None:
    monkeypatch.setattr(location, "ATTEMPTS", 1)
    place = Location.of(f"s3://{bucket.name}/table.bin")
    place.write_bytes(b"old")

    bucket.server.answer = lambda request: (
        error("500 Internal Server Error", "InternalError") if stage in request else None
    )
    assert f"can't write s3://{bucket.name}/table.bin: S3 is busy" in refused(lambda: place.write_bytes(BIG))
    assert bucket.objects() == {"table.bin": 3}
    bucket.server.answer = lambda request: None
    place.write_bytes(BIG)
    assert bucket.objects() == {"table.bin": len(BIG)}


def test_a_write_takes_three_requests_and_no_temporary_object(bucket: Any) -> None:
    place = Location.of(f"s3://{bucket.name}/a/b")
    place.write_bytes(b"x")
    made = [request for request, _ in bucket.server.requests]
    assert [request.partition(" ")[0] for request in made] == ["POST", "PUT", "POST"]
    assert all(f" /{bucket.name}/a/b?" in request for request in made)


def test_no_directory_is_made_and_no_bucket(bucket: Any) -> None:
    Location.of(f"s3://{bucket.name}/a/b").make_directory()
    assert bucket.server.requests == []


WRITER = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
import sys
from kiago_ray.storage.location import Location
Location.of(sys.argv[1]).write_bytes(b"y" * 11_500_000)
"""


def writer_stopped(bucket: Any, stage: str, stop: signal.Signals) -> int:
    """Start a process that writes table.bin, send it a signal during a request; how it ended."""
    reached, go_on = threading.Event(), threading.Event()

    def hold_back(request: str) -> None:
        if stage in request:
            reached.set()
            go_on.wait(60)

    bucket.server.answer = hold_back
    text = f"s3://{bucket.name}/table.bin"
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, text], stderr=subprocess.DEVNULL, env=os.environ
    )
    try:
        assert reached.wait(60)
        process.send_signal(stop)
        if stop == signal.SIGKILL:
            process.wait(60)
        go_on.set()
        return process.wait(60)
    finally:
        go_on.set()
        process.kill()


def test_a_writer_killed_in_the_middle_leaves_what_was_there(bucket: Any) -> None:
    Location.of(f"s3://{bucket.name}/table.bin").write_bytes(b"old")
    assert writer_stopped(bucket, "partNumber=2", signal.SIGKILL) == -signal.SIGKILL
    assert bucket.objects() == {"table.bin": 3}
    assert bucket.content("table.bin") == b"old"


@pytest.mark.parametrize("stage", ["?uploads", "partNumber=2"])
def test_ctrl_c_during_an_upload_leaves_it_whole(bucket: Any, stage: str) -> None:
    Location.of(f"s3://{bucket.name}/table.bin").write_bytes(b"old")
    assert writer_stopped(bucket, stage, signal.SIGINT) != 0
    assert bucket.objects()["table.bin"] in (3, 11_500_000)
