"""Workers in this process, behind the words in which the dispatcher speaks to Ray's: with a clock of their own, so
that an hour passes at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kiago_ray.distributed.dispatch import Place, WorkerInfo
from kiago_ray.distributed.pool import Answer, Nodes
from kiago_ray.runs.plan import PlannedSearch, Shard
from kiago_ray.runs.shards import Manifest


@dataclass(eq=False)
class Worker:
    """One of them. calls: what it was asked for, which it does one after the other."""

    number: int
    node: str
    calls: list[str] = field(default_factory=list)
    dismissed: bool = False
    free_at: float = 0.0
    avoids: frozenset[str] = frozenset()


Took = tuple[float, Answer]
"""After how many seconds a call has which answer."""


@dataclass
class StubPool:
    """nodes_: each has room for one worker. run: what a worker makes of a shard; by default it takes `shard_s`.
    events: at these times, in s, something happens to the pool. machines: node → of what kind it is.
    """

    nodes_: list[str]
    shard_s: float = 10.0
    load_s: float = 1.0
    run: Callable[[StubPool, Worker, Shard], Took | None] = lambda pool, worker, shard: None
    events: list[tuple[float, Callable[[StubPool], None]]] = field(default_factory=list)
    draining: dict[str, float] = field(default_factory=dict)
    machines: dict[str, dict[str, str]] = field(default_factory=dict)
    avoided: set[str] = field(default_factory=set)
    clock: float = 1000.0
    workers: list[Worker] = field(default_factory=list)
    pending: dict[int, tuple[float, Answer, Worker]] = field(default_factory=dict)
    refs: int = 0

    def hire(self) -> Worker:
        self.workers.append(Worker(len(self.workers), "", avoids=frozenset(self.avoided)))
        return self.workers[-1]

    def avoid(self, node: str) -> None:
        self.avoided.add(node)

    def call(self, worker: Worker, method: str, *arguments: Any) -> int:
        worker.calls.append(method)
        self.refs += 1
        if method == "place":
            self._place(worker, self.refs)
        elif method == "start":
            machine = self.machines.get(worker.node, {})
            self._later(worker, self.load_s, Answer(info_of(worker, machine=machine)))
        else:
            search, shard = arguments
            took = self.run(self, worker, shard)
            self._later(worker, *(took or (self.shard_s, Answer(manifest_of(search, shard, self.shard_s)))))
        return self.refs

    def _place(self, worker: Worker, ref: int) -> None:
        taken = {each.node for each in self.workers if not each.dismissed}
        free = [node for node in self.nodes_ if node not in {*taken, *self.draining, *worker.avoids}]
        if free:
            worker.node = free[0]
            self._later(worker, 0.1, Answer(Place(free[0], worker.number, free[0])))
        else:
            self.pending[ref] = (math.inf, Answer(), worker)

    def _later(self, worker: Worker, after_s: float, answer: Answer) -> None:
        worker.free_at = max(self.clock, worker.free_at) + after_s
        self.pending[self.refs] = (worker.free_at, answer, worker)

    def ready(self, refs: Sequence[int], timeout_s: float) -> list[int]:
        ends = self.clock + timeout_s
        self.sleep(max(0.0, min(ends, *(self.pending[ref][0] for ref in refs)) - self.clock))
        return [ref for ref in refs if self.pending[ref][0] <= self.clock]

    def answer(self, ref: int) -> Answer:
        return self.pending.pop(ref)[1]

    def dismiss(self, worker: Worker) -> None:
        worker.dismissed = True
        waiting = [(ref, each) for ref, (at, _, each) in self.pending.items() if at == math.inf]
        for ref, each in waiting:
            if not each.dismissed and not each.node:
                del self.pending[ref]
                self.refs, last = ref, self.refs
                self._place(each, ref)
                self.refs = last

    def lose(self, node: str, answer: Answer) -> None:
        """Take a node away, so that all calls to its workers come to this answer."""
        self.nodes_.remove(node)
        self.draining.pop(node, None)
        for ref, (_, _, worker) in self.pending.items():
            if worker.node == node:
                self.pending[ref] = (self.clock, answer, worker)

    def nodes(self) -> Nodes:
        room = sum(node not in {*self.draining, *self.avoided} for node in self.nodes_)
        return Nodes(
            room, frozenset(self.nodes_), {node: at - self.clock for node, at in self.draining.items()}
        )

    def gone(self, node: str) -> bool:
        return node not in self.nodes_

    def refusal(self) -> str:
        return "no node of the cluster can hold a worker"

    def now(self) -> float:
        return self.clock

    def sleep(self, seconds: float) -> None:
        self.clock += seconds
        while self.events and self.events[0][0] <= self.clock - 1000:
            self.events.pop(0)[1](self)


def info_of(worker: Worker, **changes: Any) -> WorkerInfo:
    """What a worker says of where it runs."""
    told = {"host": worker.node, "pid": worker.number, "device": "cpu", "device_name": "a CPU", "threads": 1}
    return WorkerInfo(**{**told, "gpus": (), **changes})


def manifest_of(search: PlannedSearch, shard: Shard, wall_s: float) -> Manifest:
    """The manifest of a shard that took so long."""
    rows = len(shard.rows)
    counts: dict[str, Any] = {"rows": rows, "passed": 0, "statuses": {"ok": rows}, "base": None, "best": None}
    hashes: dict[str, Any] = {"sha256": "", "bytes": 0, "steps_sha256": "", "steps_bytes": 0}
    made: dict[str, Any] = {"wall_s": wall_s, "made": {}}
    return Manifest(
        search=shard.search, number=shard.number, first_row=shard.rows.start, **counts, **hashes, **made
    )
