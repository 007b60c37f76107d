"""What the driver of a campaign takes at a hundred GPUs, on a made-up storage that takes 25 ms for each request.

Run it with `python benchmarks/driver.py`; it prints the table of driver.md. The shards are those of campaign_scale.py.
Workers are stand-ins of this process, behind the words in which the dispatcher speaks to Ray's, and their shards are
names and sizes alone; all that the driver does is the real thing. Each figure is of a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from campaign_scale import make as made_up
from campaign_scale import plan_of

REQUEST_S, PAGE = 0.025, 1000  # of a storage: a request, files in a list's answer
SHARD_S, SHARD_ROWS = 5.0, 512
WORKERS, BUSY_S = (200, 400), 60.0


class SlowStorage:
    """A local disk that answers as S3 does through pyarrow: the same requests one after the other, 25 ms each.

    made: path → size of files that are nowhere but in here.
    """

    type_name = "s3"

    def __init__(self) -> None:
        from pyarrow import fs

        self._disk, self._lock = fs.LocalFileSystem(), threading.Lock()
        self.made: dict[str, int] = {}
        self.requests = 0

    def ask(self, requests: int = 1) -> None:
        """Wait for as many answers."""
        with self._lock:
            self.requests += requests
        time.sleep(requests * REQUEST_S)

    def get_file_info(self, what: Any) -> Any:
        """A request a path, or a thousand files of a list."""
        from pyarrow import fs

        if isinstance(what, str):
            self.ask()
            return self._disk.get_file_info(what)
        if isinstance(what, fs.FileSelector):
            found = self._disk.get_file_info(what)
            self.ask(1 + len(found) // PAGE)
            return found
        self.ask(len(what))
        return [
            fs.FileInfo(path, fs.FileType.File, size=self.made[path], mtime_ns=10**18)
            if path in self.made
            else self._disk.get_file_info(path)
            for path in what
        ]

    def open_input_file(self, path: str) -> Any:
        """One request for its size, and one for each part that is read."""
        import pyarrow as pa

        self.ask()
        return pa.PythonFile(SlowFile(self, self._disk.open_input_file(path)), mode="r")

    open_input_stream = open_input_file

    @contextmanager
    def open_output_stream(self, path: str) -> Iterator[Any]:
        """A write takes three requests. As on S3 no directory need be there."""
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with self._disk.open_output_stream(path) as stream:
            yield stream
        self.ask(3)

    def delete_file(self, path: str) -> None:
        """One request."""
        self.ask()
        self._disk.delete_file(path)


class SlowFile:
    """A file of a SlowStorage that is open."""

    def __init__(self, storage: SlowStorage, file: Any) -> None:
        self._storage, self._file = storage, file
        self.seek, self.tell, self.size, self.close = file.seek, file.tell, file.size, file.close

    closed = property(lambda self: self._file.closed)

    def read(self, size: int | None = None) -> Any:
        """A request."""
        self._storage.ask()
        return self._file.read(size)


def slow_place(directory: Path) -> Any:
    """The directory as a place on the slow storage."""
    from kiago_ray.storage.location import Location

    return Location(str(directory), SlowStorage(), str(directory))


def plan(options: argparse.Namespace) -> dict[str, Any]:
    """Plan, and count the shards."""
    made = plan_of(options.rows, 1, SHARD_ROWS)
    assert len(made.shards) == made.shard_count
    return {"shards": made.shard_count}


def make(options: argparse.Namespace) -> dict[str, Any]:
    """Make the shards up, on the disk itself."""
    os.fsync = lambda file: None
    made_up(plan_of(options.rows, 1, SHARD_ROWS), options.directory)
    return {}


def resume(options: argparse.Namespace) -> dict[str, Any]:
    """What a driver does before its first shard."""
    from kiago_ray.runs.state import remove_leftovers, state_of

    place, made = slow_place(options.directory), plan_of(options.rows, 1, SHARD_ROWS)
    state = state_of(place, made)
    remove_leftovers(place, state)
    assert not state.left(made)
    assert not state.damaged
    told = {"indexed": state.indexed, "requests": place.filesystem.requests}
    if state.behind():
        state.write_index(place)
    return told


def merge(options: argparse.Namespace) -> dict[str, Any]:
    """Merge the shards of a search and write all its files."""
    from kiago_ray.runs.results import finish_search
    from kiago_ray.runs.shards import read_manifest
    from kiago_ray.runs.state import state_of

    place, made = slow_place(options.directory), plan_of(options.rows, 1, SHARD_ROWS)
    done = list(state_of(place, made, read_manifest).manifests.values())
    results = finish_search(place, made.searches[0], done)
    return {"rows": results.summary.rows, "unique": results.summary.unique} | {
        "requests": place.filesystem.requests
    }


class StubPool:
    """Workers of this process that take 5 s a shard, and then its files are there."""

    def __init__(self, workers: int, storage: SlowStorage, root: str) -> None:
        self.workers, self.storage, self.root = workers, storage, root
        self.free_at: list[float] = []
        self.began_at: list[float] = []
        self.worked_s = 0.0
        self.pending: dict[int, tuple[float, Any, Callable[[], None]]] = {}
        self.calls = 0

    def hire(self) -> int:
        """Another worker."""
        self.free_at.append(0.0)
        self.began_at.append(0.0)
        return len(self.free_at) - 1

    def call(self, worker: int, method: str, *arguments: Any) -> int:
        """What it is asked for is done after what it has been asked for before."""
        from kiago_ray.distributed.dispatch import Place, WorkerInfo

        self.calls += 1
        now = self.now()
        answer: Any = Place("stub", worker, "n")
        if method == "start":
            answer = WorkerInfo("stub", worker, "cpu", "a stub", 1, ())
        if method != "run":
            self.pending[self.calls] = now, answer, lambda: None
            return self.calls
        manifest = manifest_of(*arguments)
        self.began_at[worker] = self.began_at[worker] or now
        self.free_at[worker] = max(now, self.free_at[worker]) + SHARD_S
        self.worked_s += SHARD_S
        self.pending[self.calls] = self.free_at[worker], manifest, lambda: self._write(manifest)
        return self.calls

    def _write(self, manifest: Any) -> None:
        from kiago_ray.runs.shards import STEPS, TABLE

        sizes = {TABLE: manifest.bytes, STEPS: manifest.steps_bytes}
        folder = f"{self.root}/shards"
        self.storage.made |= {f"{folder}/{manifest.file(ending)}": size for ending, size in sizes.items()}

    def ready(self, refs: Sequence[int], timeout_s: float) -> list[int]:
        """Those that are done by now, or as soon as one is."""
        first = min(self.pending[ref][0] for ref in refs)
        self.sleep(min(timeout_s, max(0.0, first - self.now())))
        return [ref for ref in refs if self.pending[ref][0] <= self.now()]

    def answer(self, ref: int) -> Any:
        """What a call came to."""
        from kiago_ray.distributed.pool import Answer

        _, value, write = self.pending.pop(ref)
        write()
        return Answer(value)

    def avoid(self, node: str) -> None:
        """All machines are alike."""

    def nodes(self) -> Any:
        """One node for all."""
        from kiago_ray.distributed.pool import Nodes

        return Nodes(self.workers, frozenset({"n"}), {})

    def busy(self) -> float:
        """The share of their time, from their first shard to their last, in which the workers worked."""
        spans = (free - began for free, began in zip(self.free_at, self.began_at, strict=True))
        return self.worked_s / sum(spans)

    def dismiss(self, worker: int) -> None:
        """Nothing has to be ended."""

    now, sleep = staticmethod(time.monotonic), staticmethod(time.sleep)


def manifest_of(search: Any, shard: Any) -> Any:
    """What a worker says of a shard that it made."""
    from kiago_ray.runs.shards import Manifest

    rows = len(shard.rows)
    best = {"formula": "LaNiAsO", "trusted_tc_k": 1.0, "tc_k": 2.0, "delta_tc_k": 3.0}
    counts: dict[str, Any] = {
        "rows": rows,
        "passed": rows,
        "statuses": {"ok": rows},
        "base": None,
        "best": best,
    }
    files: dict[str, Any] = {"sha256": "0" * 64, "bytes": 1000, "steps_sha256": "0" * 64, "steps_bytes": 100}
    made = {"host": "stub", "finished_at": 1e9}
    return Manifest(
        shard.search, shard.number, shard.rows.start, **counts, **files, wall_s=SHARD_S, made=made
    )


def busy(options: argparse.Namespace) -> dict[str, Any]:
    """Keep workers busy for a minute: all that the driver does from the first shard to the last."""
    from kiago_ray.cli.campaign import CampaignView
    from kiago_ray.distributed import drivers
    from kiago_ray.distributed.dispatch import RunRequest, WorkerSetup
    from kiago_ray.runs.state import State
    from kiago_ray.tracking.record import LiveRecord

    place, made = slow_place(options.directory), plan_of(options.rows, 1, SHARD_ROWS)
    pool = StubPool(options.workers, place.filesystem, place.path)
    shards = made.shards[: round(options.workers * BUSY_S / SHARD_S)]
    record = {"identity": "", "campaign_id": ""}
    for search in made.searches:
        (place / "shards" / search.name).make_directory()
    directory: Any = SimpleNamespace(location=place, record=record)
    live = LiveRecord(directory, made, target=None)
    drive: Any = SimpleNamespace(directory=directory, live=live, should_stop=lambda: False)
    setup = WorkerSetup("nowhere", "cpu", 1, {}, {}, None)
    with ThreadPoolExecutor(1) as finisher, open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        view = CampaignView()
        campaign = drivers._Campaign(made, RunRequest("nowhere", {}, {}, setup), drive, view, finisher)
        campaign.state = State()
        view.begun(made, [], [])
        cpu, began = time.process_time(), time.monotonic()
        failures = campaign._run_shards(shards, pool)
    assert not failures
    assert len(campaign.state.manifests) == len(shards)
    return {
        "workers": options.workers,
        "busy": pool.busy(),
        "shards_per_s": len(shards) / (time.monotonic() - began),
        "driver_cpu": (time.process_time() - cpu) / (time.monotonic() - began),
        "requests": place.filesystem.requests,
    }


STAGES = {stage.__name__: stage for stage in (plan, make, resume, merge, busy)}


def run_stage(options: argparse.Namespace) -> None:
    """Run one stage in this process and print its figures."""
    began, cpu = time.perf_counter(), time.process_time()
    told = STAGES[options.stage](options)
    told |= {"seconds": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
    told["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps(told))


def measured(stage: str, directory: Path, **values: int) -> dict[str, Any]:
    """The figures of a stage in a process of its own."""
    options = [text for name, value in values.items() for text in (f"--{name}", str(value))]
    command = [sys.executable, __file__, "--stage", stage, "--directory", str(directory), *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000, help="a quarter of them comes first")
    parser.add_argument("--workers", type=int, default=WORKERS[-1], help=argparse.SUPPRESS)
    parser.add_argument(
        "--directory", type=Path, help="for the shards, which are kept; a temporary one by default"
    )
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        run_stage(options)
        return
    print("| what | size | wall | CPU | peak | requests | |\n| --- | --- | --- | --- | --- | --- | --- |")

    def row(what: str, size: str, told: dict[str, Any], more: str = "") -> None:
        figures = f"{told['seconds']:.1f} s | {told['cpu_s']:.1f} s | {told['peak_gib']:.2f} GiB"
        print(f"| {what} | {size} | {figures} | {told.get('requests', 0):,} | {more} |", flush=True)

    with tempfile.TemporaryDirectory(prefix="kiago-driver-") as scratch:
        for workers in WORKERS:
            told = measured("busy", Path(scratch) / str(workers), workers=workers)
            more = f"{told['busy']:.1%} busy, {told['shards_per_s']:.0f} shards/s"
            row("dispatch", f"{workers} workers", told, more)
        for rows in (options.rows // 4 // SHARD_ROWS * SHARD_ROWS, options.rows):
            place = (options.directory or Path(scratch)) / str(rows)
            if not place.exists():
                measured("make", place, rows=rows)
            told = measured("plan", place, rows=rows)
            size = f"{told['shards']:,} shards"
            row("plan", size, told)
            row("resume, without an index", size, measured("resume", place, rows=rows))
            row("resume", size, measured("resume", place, rows=rows))
            row("merge", f"{rows:,} rows", measured("merge", place, rows=rows))
    print(f"\nThe machine had {os.cpu_count()} cores and a load of {os.getloadavg()[1]:.1f}.")


if __name__ == "__main__":
    main()
