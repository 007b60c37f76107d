"""Does a campaign of the literature survive whatever is killed under it? Random kills, and the table at its end.

    python benchmarks/kills.py [--kills 20] [--seed 0]

On a Ray cluster of its own, two nodes of this machine in a directory of their own, a campaign of 200 families runs
once undisturbed, and once while something is killed at random moments: the driver, politely and not, a worker, a
raylet, the GCS. Where the driver has ended the same command is given again, and a node that died is started again,
as an operator or an autoscaler does. Only processes that were started here are killed. Prints the table of kills.md,
and fails where the two results aren't the same to the byte.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import yaml

FAMILIES, LIMIT_S, JOIN_S = 200, 300.0, 5.0
CAMPAIGN = {
    "name": "kills",
    "bases": {"literature": {"min_tc_k": 10, "most": FAMILIES}},
    "search": {"steps": [4, 4], "sources": {"family": 0.1, "swap": 0.55, "plus_one": 0.3, "made": 0.05}},
    "candidates": 12,
    "shard_size": 12,
}
HEAD, OTHER = "head", "other"  # the driver joins the head
DRIVER_ENDS = {"driver (SIGTERM)", "driver", "its node's raylet", "gcs_server"}
VICTIMS = [*sorted(DRIVER_ENDS), "worker", "other node's raylet"]


def wait_for(what: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """Raises TimeoutError where it doesn't come."""
    until = time.monotonic() + limit_s
    while not what():
        if time.monotonic() > until:
            raise TimeoutError(f"nothing came in {limit_s:g} s")
        time.sleep(0.05)


@dataclass
class Cluster:
    """Two nodes of this machine, of a worker each. nodes: the `ray start` of each, by its name."""

    folder: Path
    port: int
    environment: dict[str, str]
    nodes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def processes(self, name: str, of: str = "") -> list[psutil.Process]:
        """Those of a node that live, or those of them whose command has `of` in it."""
        found = []
        with suppress(KeyError, psutil.Error):
            top = psutil.Process(self.nodes[name].pid)
            for each in [top, *top.children(recursive=True)]:
                with suppress(psutil.Error):
                    if each.status() != psutil.STATUS_ZOMBIE and of in " ".join(each.cmdline()):
                        found.append(each)
        return found

    def up(self) -> None:
        """Start what isn't whole: everything, where the head isn't."""
        head = all(self.processes(HEAD, of) for of in ("/gcs/gcs_server", "/raylet/raylet"))
        if head and self.processes(OTHER, "/raylet/raylet"):
            return
        for name in (OTHER,) if head else (OTHER, HEAD):
            self.down(name)
        for name in (OTHER,) if head else (HEAD, OTHER):
            self._start(name)

    def down(self, name: str) -> None:
        """End a node with all its processes."""
        processes = self.processes(name)
        for process in processes:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(processes, timeout=30)
        if name in self.nodes:
            self.nodes.pop(name).wait()

    def _start(self, name: str) -> None:
        where = [f"--address=127.0.0.1:{self.port}"]
        if name == HEAD:
            where = ["--head", f"--port={self.port}", f"--ray-client-server-port={free_port()}"]
            where += [f"--temp-dir={self.folder / 'ray'}", "--include-dashboard=false"]
        sizes = ["--num-cpus=1", "--num-gpus=0", "--object-store-memory=134217728"]
        command = [str(Path(sys.executable).with_name("ray")), "start", "--block", *where, *sizes]
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(command, env=self.environment, cwd=self.folder, stdout=log, stderr=log)
        self.nodes[name] = process
        wait_for(lambda: self.processes(name, "/raylet/raylet") or process.poll() is not None)
        time.sleep(JOIN_S)
        if process.poll() is not None:
            raise SystemExit(f"Ray doesn't start; see {self.folder / name}.log")


@dataclass
class Campaign:
    """One folder of results, and who drives it now. attempts: how often the command was given."""

    folder: Path
    cluster: Cluster
    attempts: int = 0

    def start(self) -> None:
        """Give the command."""
        self.cluster.up()
        self.attempts += 1
        self.log = self.folder.with_suffix(f".{self.attempts}.log")
        where = ["--out", str(self.folder), "--address", f"127.0.0.1:{self.cluster.port}", "--no-tracking"]
        command = [sys.executable, "-m", "kiago_ray", "campaign", "run", "kills.yaml", *where]
        with self.log.open("wb") as log:
            self.driver = subprocess.Popen(
                command,
                env=self.cluster.environment,
                cwd=self.cluster.folder,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    @property
    def shards(self) -> int:
        """How many are done."""
        return len(list(self.folder.glob("shards/*/*[0-9].json")))

    @property
    def last_line(self) -> str:
        """What the driver said last."""
        return (self.log.read_text("utf-8").splitlines() or [""])[-1]

    def victim(self, what: str) -> psutil.Process | None:
        """A process that is to be killed, once there is one."""
        if self.driver.poll() is not None:
            return None
        if what.startswith("driver"):
            return psutil.Process(self.driver.pid)
        node, of = {
            "its node's raylet": (HEAD, "/raylet/raylet"),
            "other node's raylet": (OTHER, "/raylet/raylet"),
            "gcs_server": (HEAD, "/gcs/gcs_server"),
        }.get(what, ("", "ray::SearchWorker"))
        found = [
            each for name in ((node,) if node else (HEAD, OTHER)) for each in self.cluster.processes(name, of)
        ]
        return found[self.shards % len(found)] if found else None

    def kill(self, what: str, delay_s: float) -> list[object]:
        """Kill it, and have the campaign go on: the cells of a row."""
        wait_for(lambda: self.victim(what) is not None)
        time.sleep(delay_s)
        victim = self.victim(what)
        if victim is None:
            return self.kill(what, 0)
        done, ended, how = self.shards, ["", ""], "itself"
        victim.send_signal(signal.SIGTERM if "SIGTERM" in what else signal.SIGKILL)
        began = time.monotonic()
        if what in DRIVER_ENDS:
            wait_for(lambda: self.driver.poll() is not None)
        kept = self.shards
        while self.shards == kept and self.driver.poll() != 0:
            if self.driver.poll() is not None:
                said = self.last_line if self.driver.returncode > 0 else ""
                ended = [f"{time.monotonic() - began:.1f} s", f"{self.driver.returncode} {said}".strip()]
                how = "the command given again"
                self.start()
            if time.monotonic() - began > LIMIT_S:
                raise TimeoutError(f"the campaign doesn't go on; see {self.log}")
            time.sleep(0.05)
        goes_on_s = time.monotonic() - began
        self.cluster.up()
        return [what, done, *ended, how, f"{goes_on_s:.1f} s"]


def free_port() -> int:
    """A port that nobody listens at now."""
    with socket.socket() as found:
        found.bind(("", 0))
        return int(found.getsockname()[1])


def differences(folder: Path, undisturbed: Path) -> list[str]:
    """Tables that aren't the same bytes in both, or are in one alone; and what was left lying about."""
    tables = [
        {
            path.relative_to(each): path.read_bytes()
            for path in each.rglob("*")
            if path.suffix in (".parquet", ".csv")
        }
        for each in (folder, undisturbed)
    ]
    names = sorted({*tables[0], *tables[1]})
    return [
        *(str(name) for name in names if tables[0].get(name) != tables[1].get(name)),
        *(str(path) for path in folder.rglob(".*")),
    ]


def storm(folder: Path, kills: int, rng: random.Random) -> bool:
    """Run it twice and print what was seen; whether both came to the same."""
    (folder / "kills.yaml").write_text(yaml.safe_dump(CAMPAIGN), encoding="utf-8")
    token = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = {**own, "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0", **token}
    cluster = Cluster(folder, free_port(), environment)
    undisturbed, campaign = (Campaign(folder / name, cluster) for name in ("undisturbed", "killed"))
    deck = [VICTIMS[at % len(VICTIMS)] for at in range(kills)]
    rng.shuffle(deck)
    moments = sorted(rng.sample(range(1, 4 * FAMILIES // 5), kills))
    try:
        began = time.monotonic()
        undisturbed.start()
        wait_for(lambda: undisturbed.driver.poll() is not None, 3 * LIMIT_S)
        alone_s, began = time.monotonic() - began, time.monotonic()
        campaign.start()
        print("| | killed | shards done | driver ended after | exit code | went on by | next shard after |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for number, (what, at) in enumerate(zip(deck, moments, strict=True), 1):
            wait_for(lambda at=at: campaign.shards >= at or campaign.driver.poll() is not None)  # type: ignore[misc]
            cells = [number, *campaign.kill(what, rng.uniform(0, 3))]
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
        wait_for(lambda: campaign.driver.poll() is not None)
    finally:
        for each in (undisturbed, campaign):
            if each.attempts and each.driver.poll() is None:
                each.driver.kill()
        for name in (OTHER, HEAD):
            cluster.down(name)
    ends = (undisturbed.driver.returncode, campaign.driver.returncode)
    different = differences(campaign.folder, undisturbed.folder)
    rows = [pq.read_metadata(each.folder / "candidates.parquet").num_rows for each in (undisturbed, campaign)]
    print(
        f"\nundisturbed: exit {ends[0]}, {rows[0]} rows, {alone_s:.0f} s; with {kills} kills: exit {ends[1]}, "
        f"{rows[1]} rows, {time.monotonic() - began:.0f} s, the command given {campaign.attempts} times"
    )
    print(f"tables that differ, files left over: {', '.join(different) or 'none'}")
    return not different and ends == (0, 0)


def main() -> None:
    """Exit code 1, and the folder kept, where the results differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20, choices=range(1, 41), metavar="1..40")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="kills-")
    print(f"logs and results: {folder}", file=sys.stderr)
    if not storm(Path(folder), given.kills, random.Random(given.seed)):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
