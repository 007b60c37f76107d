"""The README's `ray job submit`, on a real Ray cluster with its token: refused without, run, run again."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
STARTS_WITHIN_S = 300.0

pytestmark = pytest.mark.slow

SMALL = """
name: small
bases: [LaNiAsO]
search: {steps: [3, 3]}
candidates: 8
shard_size: 4
"""


@dataclass(frozen=True)
class Cluster:
    """A head of one core. environment: what its users set."""

    environment: dict[str, str]

    def call(self, *words: str, token: str = "token") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BIN / words[0]), *words[1:]],
            env={**self.environment, "RAY_AUTH_MODE": token},
            cwd=self.environment["HOME"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=STARTS_WITHIN_S,
        )


def free_ports(count: int) -> list[int]:
    """Ports outside the range that Ray gives its workers."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture
def head() -> Iterator[Cluster]:
    # Its own short directory: Ray's sockets lie below it, and their paths may not be long.
    with tempfile.TemporaryDirectory(prefix="kiago-", ignore_cleanup_errors=True) as home:
        gcs, dashboard, agent, client, metrics = free_ports(5)
        own = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "MLFLOW_"))}
        cluster = Cluster(
            {
                **own,
                "HOME": home,
                "PATH": f"{BIN}:{own['PATH']}",
                "RAY_USAGE_STATS_ENABLED": "0",
                "RAY_worker_niceness": "0",  # else whatever else runs here comes first
                "RAY_ADDRESS": f"http://127.0.0.1:{dashboard}",
            }
        )
        assert cluster.call("ray", "get-auth-token", "--generate").returncode == 0
        options = {
            "port": gcs,
            "dashboard-host": "127.0.0.1",
            "dashboard-port": dashboard,
            "dashboard-agent-listen-port": agent,
            "ray-client-server-port": client,
            "metrics-export-port": metrics,
            "num-cpus": 1,
            "object-store-memory": 100_000_000,
            "temp-dir": f"{home}/r",
        }
        without_address = {key: value for key, value in cluster.environment.items() if key != "RAY_ADDRESS"}
        process = subprocess.Popen(
            [str(BIN / "ray"), "start", "--head", "--block", *(f"--{k}={v}" for k, v in options.items())],
            env={**without_address, "RAY_AUTH_MODE": "token"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until_it_answers(dashboard, process)
            yield cluster
        finally:
            family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
            for each in family:
                each.kill()
            psutil.wait_procs(family, timeout=30)
            process.wait(30)


def wait_until_it_answers(port: int, head: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < until:
        assert head.poll() is None, "ray start ended"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.5)
        else:
            return
    pytest.fail("Ray's dashboard did not answer")


def readme_command(out: Path) -> list[str]:
    """The README's words with a small campaign and a local output, waiting for the end."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "deployments" / "README.md").read_text(encoding="utf-8"))
    (line,) = re.findall(r"^ray job submit .*$", text, re.M)
    words = shlex.split(line.replace("table2.yaml", "small.yaml").replace("--workers 32", "--workers 1"))
    words.remove("--no-wait")
    return [str(out) if word.startswith("s3://") else word for word in words]


@pytest.mark.long
def test_a_campaign_is_handed_in_with_the_token_and_resumed(head: Cluster) -> None:
    home = Path(head.environment["HOME"])
    (home / "campaigns").mkdir()
    (home / "campaigns" / "small.yaml").write_text(SMALL, encoding="utf-8")
    command = readme_command(home / "out")

    refused = head.call(*command, token="disabled")
    assert refused.returncode != 0
    assert "Token authentication is enabled" in refused.stdout
    assert not (home / "out").exists()

    first = head.call(*command)
    assert first.returncode == 0, first.stdout
    assert "candidates 8 rows 8 " in " ".join(first.stdout.split())
    table = (home / "out" / "candidates.parquet").read_bytes()
    manifest = home / "out" / "shards" / "LaNiAsO-s0" / "00001.json"
    manifest.unlink()
    (home / "out" / "report.html").unlink()  # as a driver leaves it that is lost before the end

    again = [word.replace("table2-1", "table2-2") for word in command]
    assert again != command
    second = head.call(*again)
    assert second.returncode == 0, second.stdout
    assert (home / "out" / "candidates.parquet").read_bytes() == table
    assert manifest.exists()

    status = head.call("kiago", "campaign", "status", str(home / "out"))
    assert "It is finished" in status.stdout
