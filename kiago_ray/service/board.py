"""How the searches stand that somebody watches: one look at storage for all progress streams of a replica."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator

from kiago_ray.service.jobs import Job, JobStore, places
from kiago_ray.storage.location import StorageError

POLL_S = 1.0

log = logging.getLogger("kiago_ray.service")

Seen = tuple[Job, int | None]
"""A search, and its place in the queue."""


class Board:
    """Looks at storage while somebody watches: one listing, and what has changed of the searches that are watched."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._watched: Counter[str] = Counter()
        self._versions: dict[str, tuple[int, int]] = {}
        self._seen: dict[str, Seen] = {}
        self._looked = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    @property
    def streams(self) -> int:
        """How many watch now."""
        return self._watched.total()

    async def watch(self, job_id: str) -> AsyncGenerator[Seen | None, None]:
        """The search after each look, None where nothing is known of it yet. Ends only where the caller does."""
        self._watched[job_id] += 1
        try:
            while True:
                if self._looking is None or self._looking.done():
                    self._looking = asyncio.create_task(self._look_while_watched())
                await self._looked.wait()
                yield self._seen.get(job_id)
        finally:
            self._watched -= Counter({job_id: 1})

    async def _look_while_watched(self) -> None:
        while self._watched:
            try:
                await asyncio.to_thread(self._look, list(self._watched))
            except StorageError as error:
                log.error("storage: %s", error)  # streams wait for it
            looked, self._looked = self._looked, asyncio.Event()
            looked.set()
            await asyncio.sleep(POLL_S)

    def _look(self, watched: list[str]) -> None:
        """One look. Raises StorageError."""
        now = self._store.versions()
        jobs = {job_id: self._seen[job_id][0] for job_id in watched if job_id in self._seen}
        still = {
            job_id
            for job_id, job in jobs.items()
            if job.ended or now.get(job_id, 0) == self._versions.get(job_id)
        }
        moved = self._store.readable(job_id for job_id in watched if job_id not in still)
        jobs = {job_id: jobs[job_id] for job_id in still} | {job.request.id: job for job in moved}
        queue = places(now)
        self._versions, self._seen = now, {job_id: (job, queue.get(job_id)) for job_id, job in jobs.items()}
