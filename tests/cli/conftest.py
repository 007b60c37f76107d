"""Running the command line in this process, as the console script does, and in processes of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kiago_ray.cli.main import main


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Kiago = Callable[..., Ended]


@pytest.fixture
def kiago(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Kiago:
    """`kiago(*arguments)` → exit code, stdout, stderr."""

    def run(*arguments: object) -> Ended:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["kiago", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return Ended(stop.value.code, printed.out, printed.err)

    return run


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """An empty cache, so that what this machine's user has kept changes nothing."""
    monkeypatch.setenv("KIAGO_CACHE", str(tmp_path_factory.mktemp("cache")))


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(*arguments)` → the running command, in a process group of its own that ends with the test."""
    running: list[subprocess.Popen[str]] = []

    def go(*arguments: object, **environment: str) -> subprocess.Popen[str]:
        ours = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        own = {**ours, "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0", **environment}
        process = subprocess.Popen(
            [sys.executable, "-m", "kiago_ray", *map(str, arguments)],
            cwd=tmp_path,
            env=own,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        running.append(process)
        return process

    yield go
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.1)
