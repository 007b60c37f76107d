"""Shards to workers: one at a time to each, again where a worker was lost, never twice where a shard raised.

An own loop over `ray.wait`, because a shard must be known by name whatever becomes of the worker that has it.
Workers aren't restarted by Ray: a lost one is replaced here, so that nothing is ever retried in silence.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kiago_ray.distributed.cluster import (
    SearchWorker,
    WorkerInfo,
    WorkerSetup,
    actor_options,
    capacity,
    in_words,
    refusal,
)
from kiago_ray.errors import InputError
from kiago_ray.runs.plan import Plan, Shard
from kiago_ray.runs.shards import Manifest
from kiago_ray.storage.location import StorageError

POLL_S = 0.25
_LOOK_S = 2.0  # between two looks at the cluster's nodes
_PATIENCE_S = 60.0  # with a cluster that has lost its last node
_REFUSALS = 3  # workers in a row that couldn't start, before no more are tried
_REMIND_S = 60.0


class Watcher:
    """What a campaign tells while it runs, in the thread that runs it. A view overrides what it shows."""

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


@dataclass(frozen=True)
class DispatchPolicy:
    """workers: at most so many at once; None for as many as the cluster holds, now and as it grows. tries: how often a
    shard may lose its worker. wait_s: how long to wait for a node that can hold a worker.
    """

    workers: int | None = None
    tries: int = 5
    wait_s: float = 0.0


@dataclass
class _Member:
    """One worker: starting (no info), idle (no ref) or busy with a shard."""

    handle: Any
    ref: Any
    info: WorkerInfo | None = None
    shard: Shard | None = None


@dataclass
class Dispatch:
    """One campaign's work on a connected cluster.

    done: called with each finished shard's manifest; it may raise StorageError, which ends the campaign. probe: raises
    StorageError where the campaign's storage can't be written to. worker_class: what runs as the actor.
    """

    plan: Plan
    setup: WorkerSetup
    policy: DispatchPolicy
    watcher: Watcher
    done: Callable[[Manifest], None]
    probe: Callable[[], None]
    should_stop: Callable[[], bool]
    worker_class: type[SearchWorker] = SearchWorker
    failures: dict[str, str] = field(default_factory=dict)
    _queue: deque[Shard] = field(default_factory=deque)
    _crew: list[_Member] = field(default_factory=list)
    _losses: Counter[str] = field(default_factory=Counter)
    _refusals: int = 0
    _hire_after: float = 0.0
    _looked: float = float("-inf")
    _capacity: int = 0
    _room_until: float = 0.0
    _reminded: float = 0.0

    def run(self, shards: Sequence[Shard]) -> None:
        """Run the shards, until all are done or have failed (see `failures`) or `should_stop` says so.

        Raises InputError where no worker can be had, StorageError where the storage is gone. Workers are gone
        when it returns or raises.
        """
        import ray

        self._queue.extend(shards)
        self._resources = self.plan.campaign.resources
        self._room_until = time.monotonic() + self.policy.wait_s
        self._reminded = time.monotonic()
        self._setup_ref = ray.put(self.setup)
        self._searches = {each.name: each for each in self.plan.searches}
        self._actor = ray.remote(self.worker_class).options(
            **actor_options(self._resources), max_restarts=0, max_task_retries=0
        )
        try:
            while (self._queue or any(member.shard for member in self._crew)) and not self.should_stop():
                self._hire()
                self._assign()
                refs = {member.ref: member for member in self._crew if member.ref is not None}
                if not refs:
                    time.sleep(POLL_S)
                    continue
                ready, _ = ray.wait(list(refs), num_returns=1, timeout=POLL_S)
                for ref in ready:
                    self._settle(refs[ref])
        finally:
            for member in list(self._crew):
                self._dismiss(member)

    def _hire(self) -> None:
        """Start workers up to what the policy, the cluster and the work allow. Raises InputError."""
        now = time.monotonic()
        if now - self._looked > _LOOK_S:
            self._looked, self._capacity = now, capacity(self._resources)
            if self._capacity:
                self._room_until = now + max(self.policy.wait_s, _PATIENCE_S)
            elif now > self._room_until:
                raise InputError(refusal(self._resources))
            self._remind(now)
        # One more than fits is what makes an autoscaler add a node, where waiting for one was allowed.
        fits = self._capacity + (1 if self.policy.wait_s else 0)
        limit = fits if self.policy.workers is None else self.policy.workers
        busy = sum(1 for member in self._crew if member.shard)
        wanted = min(limit, busy + len(self._queue))
        if self._refusals >= _REFUSALS and now < self._hire_after:
            return
        while len(self._crew) < wanted:
            handle: Any = self._actor.remote(self._setup_ref)
            self._crew.append(_Member(handle, handle.start.remote()))

    def _assign(self) -> None:
        for member in list(self._crew):
            if self._queue and member.ref is None:
                member.shard = self._queue.popleft()
                member.ref = member.handle.run.remote(self._searches[member.shard.search], member.shard)
            elif not self._queue and member.shard is None:
                self._dismiss(member)  # its place is free for others, and for the autoscaler to take down

    def _settle(self, member: _Member) -> None:
        """Take what a call has come to."""
        import ray

        shard = member.shard
        try:
            result = ray.get(member.ref)
        except ray.exceptions.RayError as error:
            self._dismiss(member)  # whatever it raised may have left the process unfit
            raised = isinstance(error, ray.exceptions.RayTaskError)
            cause = (getattr(error, "cause", None) or error) if raised else error
            if shard is None:
                self._refused(one_line(cause))
            elif raised and not isinstance(cause, StorageError):
                self._failed(shard, one_line(cause))
            else:
                if raised:
                    self.probe()
                self._lost(shard, one_line(cause))
            return
        member.ref, member.shard = None, None
        if shard is None:
            member.info = result
            self._refusals = 0
            self.watcher.worker_started(result)
        else:
            self.done(result)
            self.watcher.shard_done(result)

    def _lost(self, shard: Shard, cause: str) -> None:
        self._losses[shard.name] += 1
        self.watcher.worker_lost(shard, cause)
        if self._losses[shard.name] < self.policy.tries:
            self._queue.appendleft(shard)
        else:
            self._failed(shard, f"lost its worker {self.policy.tries} times, last: {cause}")

    def _failed(self, shard: Shard, cause: str) -> None:
        self.failures[shard.name] = cause
        self.watcher.shard_failed(shard, cause)

    def _refused(self, cause: str) -> None:
        """A worker couldn't start. Others may; but where none does, the campaign can't go on."""
        self._refusals += 1
        self._hire_after = time.monotonic() + min(60.0, 2.0**self._refusals)
        self.watcher.worker_lost(None, cause)
        if self._refusals >= _REFUSALS and not self._crew:
            raise InputError(f"no worker can start: {cause}")

    def _remind(self, now: float) -> None:
        """Say why nothing happens."""
        started = any(member.info for member in self._crew)
        if started or now - self._reminded < _REMIND_S:
            return
        self._reminded = now
        waiting = f"waiting for room for a worker ({in_words(self._resources)})"
        self.watcher.note(waiting if self._capacity else f"{waiting}; no node has it yet")

    def _dismiss(self, member: _Member) -> None:
        import ray

        self._crew.remove(member)
        ray.kill(member.handle, no_restart=True)


def one_line(error: BaseException) -> str:
    """What an error says, in one line without Ray's wrapping."""
    import ray

    if isinstance(error, ray.exceptions.RayActorError):
        text = str(error)
        detail = text.rpartition("Worker exit detail:")[2] if "Worker exit detail:" in text else text
        return f"the worker process died ({' '.join(detail.split())[:160].strip()})"
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return "the worker was stopped because its node ran out of memory; give fewer rows a shard, or more memory_gb"
    text = " ".join(str(error).split())[:400]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
