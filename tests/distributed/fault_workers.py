"""Workers to which something happens: real workers, that die or fail where a test wants it."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

from kiago_ray.distributed.dispatch import SearchWorker, WorkerInfo, WorkerSetup
from kiago_ray.runs.plan import PlannedSearch, Shard
from kiago_ray.runs.shards import Manifest


def first_time(campaign: str, what: str) -> bool:
    """Whether this is asked for the first time in this campaign, by any process."""
    marker = Path(f"{campaign}.marks") / what.replace("/", "_")
    marker.parent.mkdir(exist_ok=True)
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


class DiesOnceAShard(SearchWorker):
    """Killed in the middle of every shard's first try, after its tables were written for some."""

    def run(self, search: PlannedSearch, shard: Shard) -> Manifest:
        if first_time(self.setup.run, shard.name):
            if shard.number % 2:
                super().run(search, shard)  # its tables are there, but nobody vouches for them
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run(search, shard)


class DiesAlways(SearchWorker):
    """Killed by one shard, however often it is tried."""

    def run(self, search: PlannedSearch, shard: Shard) -> Manifest:
        if shard.name.endswith("s0/00001"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run(search, shard)


class Poisoned(SearchWorker):
    """Raises at one shard of each search."""

    def run(self, search: PlannedSearch, shard: Shard) -> Manifest:
        if shard.number == 1:
            raise ArithmeticError(f"rows {shard.rows.start} to {shard.rows.stop - 1} are poison")
        return super().run(search, shard)


class FreezesOnce(SearchWorker):
    """Frozen at the first shard of all, as by a driver of its device that never answers."""

    def run(self, search: PlannedSearch, shard: Shard) -> Manifest:
        if first_time(self.setup.run, "frozen"):
            os.kill(os.getpid(), signal.SIGSTOP)
        return super().run(search, shard)


class SmallFilesOnce(SearchWorker):
    """Whose first process may write no file of more than a kilobyte: as if its disk were full."""

    def __init__(self, setup: WorkerSetup) -> None:
        super().__init__(setup)
        if first_time(setup.run, "small files"):
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))


class DiesAtStart(SearchWorker):
    """Whose first two processes are killed before they are ready."""

    def start(self) -> WorkerInfo:
        if first_time(self.setup.run, "one") or first_time(self.setup.run, "two"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().start()


class Slow(SearchWorker):
    """Takes its time, so that something can happen meanwhile."""

    def run(self, search: PlannedSearch, shard: Shard) -> Manifest:
        import time

        time.sleep(1.0)
        return super().run(search, shard)
