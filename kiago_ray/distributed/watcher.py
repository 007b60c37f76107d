"""What a campaign tells while it runs. A view overrides what it shows."""

from __future__ import annotations

from kiago_ray.distributed.worker import WorkerInfo
from kiago_ray.runs.plan import Plan, Shard
from kiago_ray.runs.shards import Manifest


class Watcher:
    """Hears of everything that happens, in the thread that runs the campaign; does nothing with it."""

    def begun(self, plan: Plan, finished: list[Manifest], damaged: list[str]) -> None:
        """The campaign starts, with these shards done earlier, and these lines on damaged ones to be run again."""

    def worker_started(self, info: WorkerInfo) -> None:
        """A worker is ready."""

    def worker_lost(self, shard: Shard | None, cause: str) -> None:
        """A worker died; its shard, if it had one, will be run again."""

    def shard_done(self, manifest: Manifest) -> None:
        """A shard is on storage."""

    def shard_failed(self, shard: Shard, cause: str) -> None:
        """A shard was given up; the others go on."""

    def search_done(self, name: str) -> None:
        """A search's results are on storage."""

    def note(self, text: str) -> None:
        """Something that a person should know, in one line."""
