"""`kiago serve`: what it refuses before anything starts; as a process, what it says, and a search that outlives it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kiago_ray.cli import serve
from kiago_ray.client import Client, ServiceError

from .conftest import Kiago

TOKEN = "a-token-of-the-test-0123456789"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def kiago_serve(*options: object, **environment: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("KIAGO_TOKEN", "RAY_ADDRESS")}
    return subprocess.Popen(
        [sys.executable, "-m", "kiago_ray", "serve", *map(str, options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**kept, **environment},
    )


@pytest.fixture(autouse=True)
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No token of the user's, and a service that should have been refused fails the test in place of serving."""
    monkeypatch.delenv("KIAGO_TOKEN", raising=False)
    monkeypatch.setattr(serve, "run", lambda *_: pytest.fail("the service was started"))


@pytest.mark.parametrize(
    ("options", "environment", "told"),
    [
        (("--host", "0.0.0.0"), {}, "KIAGO_TOKEN is not set"),
        (("--host", "0.0.0.0"), {"KIAGO_TOKEN": "short"}, "shorter than 16 characters"),
        (("--known", "none"), {}, "known"),
        (("--tried", "nowhere.csv"), {}, "nowhere.csv"),
        (("--weights", "nowhere"), {}, "'nowhere' does not exist"),
        (("--host", "192.0.2.77"), {"KIAGO_TOKEN": TOKEN}, "can't listen on 192.0.2.77"),
        (("--device", "tpu"), {}, "device"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line(
    options: tuple[str, ...],
    environment: dict[str, str],
    told: str,
    kiago: Kiago,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ended = kiago("serve", "--port", free_port(), *options)
    assert ended.code == 2, ended.err
    assert told in ended.err
    assert ended.err.count("\n") == 1
    assert ended.out == ""


def test_a_port_that_is_taken_is_refused(kiago: Kiago) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = kiago("serve", "--port", taken.getsockname()[1])
    assert ended.code == 2
    assert "can't listen on 127.0.0.1" in ended.err


def test_a_setting_that_is_none_is_named(kiago: Kiago, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("limits: {formula: 3}\n")
    ended = kiago("serve", "--settings", file, "--port", free_port())
    assert ended.code == 2
    assert "limits.formula: unknown key; did you mean 'formulas'?" in ended.err


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def answering(url: str, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 180
    while time.monotonic() < end:
        assert process.poll() is None, process.communicate()
        try:
            with Client(url, token=TOKEN, retries=0) as client:
                client.models()
            return
        except ServiceError:
            time.sleep(0.5)
    raise AssertionError("it never answered")


def silent(url: str) -> None:
    end = time.monotonic() + 60
    with Client(url, token=TOKEN, retries=0) as client:
        while time.monotonic() < end:
            try:
                client.models()
            except ServiceError as error:
                if error.status == 0:  # nobody is there
                    return
            time.sleep(0.2)
    raise AssertionError("it still answers")


@pytest.mark.long
def test_a_search_goes_on_after_the_service_was_killed(
    tmp_path: Path, started: list[subprocess.Popen[str]]
) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("search_shard_rows: 8\nthreads: 1\n")
    port, data = free_port(), tmp_path / "data"
    command = ("--port", port, "--data", data, "--known", "landmarks", "--settings", settings)
    url = f"http://127.0.0.1:{port}"
    first = kiago_serve(*command, KIAGO_TOKEN=TOKEN)
    started.append(first)
    answering(url, first)
    with Client(url, token="another-token-0123456789") as client, pytest.raises(ServiceError) as refused:
        client.models()
    assert refused.value.status == 401
    with Client(url, token=TOKEN) as client:
        job = client.search(base="MgB2", candidates=24, steps=[100, 100])
    shards = data / "searches" / job["id"] / "result" / "shards" / "search"
    end = time.monotonic() + 120
    while not (shards / "00000.json").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    first.kill()  # kill -9; its Ray goes a moment later, and answers till then
    first.communicate()
    silent(url)
    kept = {path: path.read_bytes() for path in shards.glob("00000*")}
    assert not (shards / "00002.json").exists()  # else nothing was left to do

    second = kiago_serve(*command, KIAGO_TOKEN=TOKEN)
    started.append(second)
    answering(url, second)
    with Client(url, token=TOKEN) as client:
        assert client.wait(job["id"])["state"] == "done"
        assert client.job(job["id"])["summary"]["rows"] == 24
    assert len(kept) == 3
    assert {path: path.read_bytes() for path in kept} == kept
    second.send_signal(signal.SIGTERM)
    out, err = second.communicate(timeout=120)
    assert second.returncode == 0, err
    assert out == ""
    assert f"kiago-ray is at {url}/" in err
    assert "Traceback" not in err
    assert TOKEN not in err
