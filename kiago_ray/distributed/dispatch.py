"""Shards to workers: two to each, again where a worker was lost, never twice where a shard raised.

A worker is an actor that loads the models once, holds one device, and runs one shard at a time; another one waits at
it, so that it never waits for the driver. An own loop over `ray.wait` gives out the shards, because one must be known
by name whatever becomes of the worker that has it. Workers aren't restarted by Ray: a lost one is replaced here, so
that nothing is ever retried in silence. Threads look whether a finished shard is there, for storage may be far away.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch

from kiago_ray import __version__
from kiago_ray.data import NONE
from kiago_ray.distributed.cluster import in_words
from kiago_ray.distributed.code import Code, WorkerSetupError
from kiago_ray.distributed.pace import SLOW_FLOOR_S, Pace
from kiago_ray.distributed.pool import Answer, Nodes, Pool
from kiago_ray.errors import InputError
from kiago_ray.models import Models, load_models
from kiago_ray.predictors.weights import ORACLE, PLAUSIBILITY, kinds_in, weights_hashes
from kiago_ray.progress import duration
from kiago_ray.runs.plan import Plan, PlannedSearch, Shard
from kiago_ray.runs.shards import Manifest, compute_shard
from kiago_ray.runs.spec import ResourcesSpec
from kiago_ray.screening.known import KnownMaterials, TriedMaterials
from kiago_ray.storage.location import AT_ONCE, Location, Where
from kiago_ray.storage.machines import Kind, differences, machine_here
from kiago_ray.storage.patience import PATIENCE_S

if TYPE_CHECKING:
    from kiago_ray.tracking.target import TrackingTarget

Looked = TypeVar("Looked")
POLL_S = 0.25
_LOOK_S = 2.0  # between two looks at the cluster's nodes
_AWAY_S = 10.0  # beyond that between two looks, this process was away: what workers took meanwhile isn't told
_START_LIMIT_S = 600.0  # in which a worker that has its place loads its models
MOST_MOVES = 100  # of a shard from nodes that went away
_PATIENCE_S = 60.0  # with a cluster that has lost its last node
_REFUSALS = 3  # workers in a row that couldn't start, before no more are tried
_ALIKE = "resources.label_selector or resources.accelerator_type to machines that are alike"


@dataclass(frozen=True)
class WorkerSetup:
    """What every worker of a campaign or sweep gets. run: its directory, a URI or an absolute path. weights: hashes.
    weight_files: name → content where they aren't the package's own. hull: whether rows are held against the shipped
    phases. code: the driver's.
    """

    run: str
    device: str
    threads: int
    weights: Mapping[str, str]
    weight_files: Mapping[str, bytes]
    known: KnownMaterials | None
    tried: TriedMaterials | None = None
    hull: bool = True
    code: Code = field(default_factory=Code.imported)

    @classmethod
    def of(
        cls, where: str, resources: ResourcesSpec, models: Models, weights: Path | None = None
    ) -> WorkerSetup:
        """What workers need to compute with the driver's `models`, whose weights are those of the folder."""
        location = Location.of(where)
        kinds = () if weights is None else (*kinds_in(weights), ORACLE, PLAUSIBILITY)
        files = [file for kind in kinds for file in Path(weights or "").glob(f"{kind}.*")]
        return cls(
            run=location.text if "://" in location.text else location.path,
            device=resources.torch_device,
            threads=resources.threads,
            weights=models.hashes,
            weight_files={file.name: file.read_bytes() for file in files},
            known=models.known,
            tried=models.tried,
            hull=models.hull is not None,
        )


@dataclass(frozen=True)
class WorkerInfo:
    """Where a worker runs. gpus: the ids of the devices that Ray gave it. machine: of what kind (`machine_here`)."""

    host: str
    pid: int
    device: str
    device_name: str
    threads: int
    gpus: tuple[str, ...]
    machine: Kind = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """Where a worker's process is. node: the id by which Ray knows the node."""

    host: str
    pid: int
    node: str

    def __str__(self) -> str:
        return f"{self.host} (process {self.pid})"


class SearchWorker:
    """Holds the models and runs shards. Nothing is loaded before `start`, so that its errors arrive as they are."""

    models: Models
    info: WorkerInfo

    def __init__(self, setup: WorkerSetup) -> None:
        self.setup = setup

    def place(self) -> Place:
        """Where the worker is; answered as soon as a node has room for it."""
        import ray

        return Place(socket.gethostname(), os.getpid(), ray.get_runtime_context().get_node_id())

    def start(self) -> WorkerInfo:
        """Take the device and load the models. Raises WorkerSetupError, WeightsError."""
        import ray

        setup, host = self.setup, socket.gethostname()
        setup.code.check_here()
        torch.set_num_threads(setup.threads)
        gpus = tuple(map(str, ray.get_gpu_ids())) if ray.is_initialized() else ()
        if setup.device == "cuda" and not torch.cuda.is_available():
            raise WorkerSetupError(
                f"the worker on {host} was given GPU {', '.join(gpus) or 'none'} but torch sees no CUDA device there; "
                "check the node's driver and that torch was installed with CUDA, or set resources.device to cpu"
            )
        with tempfile.TemporaryDirectory() as folder:
            for name, content in setup.weight_files.items():
                (Path(folder) / name).write_bytes(content)
            own = Path(folder) if setup.weight_files else None
            if weights_hashes(own) != setup.weights:
                raise WorkerSetupError(
                    f"the worker on {host} has other weights than the driver; install the same kiago-ray everywhere"
                )
            models = load_models(own, known=NONE, phases=None if setup.hull else NONE, device=setup.device)
        self.models = replace(models, known=setup.known, tried=setup.tried)
        machine = machine_here(setup.device)
        where = (host, os.getpid(), setup.device, machine["name"], torch.get_num_threads(), gpus)
        self.info = WorkerInfo(*where, machine)
        return self.info

    def run(self, search: PlannedSearch, shard: Shard) -> Manifest:
        """Run a shard and write its tables; the manifest is for the one who gave it out. Raises StorageError and what
        the search raises.
        """
        made = {**vars(self.info), "kiago_ray": __version__}
        return compute_shard(search, shard, Location.of(self.setup.run), self.models, made=made, vouch=False)


class Watcher:
    """Hears of everything that happens, in the thread that runs the campaign; does nothing with it. A view overrides.

    begun: the campaign starts, with these shards done earlier, and these lines on damaged ones to be run again.
    worker_started: one is ready. worker_lost: one died; its shard, if it had one, will be run again. shard_done: it is
    on storage. shard_failed: it was given up; the others go on. note: what a person should know, in one line.
    """

    def begun(self, plan: Plan, finished: list[Manifest], damaged: list[str]) -> None: ...
    def worker_started(self, info: WorkerInfo) -> None: ...
    def worker_lost(self, shard: Shard | None, cause: str) -> None: ...
    def shard_done(self, manifest: Manifest) -> None: ...
    def shard_failed(self, shard: Shard, cause: str) -> None: ...
    def waits_for(self, what: Sequence[str]) -> None: ...
    def note(self, text: str) -> None: ...


@dataclass(frozen=True)
class RunRequest:
    """What a campaign or sweep is run with, beside its specification.

    identity: what makes results the same (`run_identity`). about: versions and the like, for spec.yaml. address: of a
    Ray cluster, see `connected`. workers: at most so many at once; None for as many as the cluster holds, now and as
    it grows. tries: how often a shard may lose its worker. wait_s: for a node that can hold a worker. model_notes: on
    the predictors, for the page. storage_patience_s: for how long a campaign tries again where storage fails.
    """

    where: Where
    identity: Mapping[str, Any]
    about: Mapping[str, Any]
    setup: WorkerSetup
    address: str | None = None
    workers: int | None = None
    tries: int = 5
    wait_s: float = 0.0
    tracking: TrackingTarget | None = None
    model_notes: tuple[str, ...] = ()
    storage_patience_s: float = PATIENCE_S
    worker_class: type[SearchWorker] = SearchWorker


@dataclass
class _Member:
    """One worker: waiting for room (no place), loading its models (a ref without a shard), idle (no ref) or busy with
    a shard. since: when that began, in s of the pool's clock. told: whether its shard was named as slow. next: the
    shard that waits at it, with its ref.
    """

    handle: Any
    ref: Any
    since: float
    place: Place | None = None
    shard: Shard | None = None
    told: bool = False
    next: tuple[Any, Shard] | None = None


@dataclass
class Dispatch(Generic[Looked]):
    """One campaign's work on a connected cluster. failures: shard → why it was given up. look: called with each shard
    that a worker has done, in threads, and `done` with what it returns, in this one; StorageError of either ends the
    campaign. probe: raises that where nothing can be written. pace: how long shards take. machine: on which kind most
    finished shards were made; {} for that of the first worker.
    """

    plan: Plan
    request: RunRequest
    watcher: Watcher
    look: Callable[[Shard, Manifest], Looked]
    done: Callable[[Looked], None]
    probe: Callable[[], None]
    should_stop: Callable[[], bool]
    pace: Pace
    pool: Pool
    machine: Kind = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    _queue: deque[Shard] = field(default_factory=deque)
    _crew: list[_Member] = field(default_factory=list)
    _looks: dict[Future[Looked], Manifest] = field(default_factory=dict)
    _losses: Counter[str] = field(default_factory=Counter)
    _moves: Counter[str] = field(default_factory=Counter)
    _unlike: dict[str, str] = field(default_factory=dict)  # what differs → on which host
    _unfit: set[str] = field(default_factory=set)  # nodes
    _refusals: int = 0
    _hire_after: float = 0.0
    _nodes: Nodes = field(default_factory=lambda: Nodes(0, frozenset(), {}))

    def run(self, shards: Sequence[Shard]) -> None:
        """Run the shards until all are done or have failed (see `failures`), or it shall stop; then workers are gone.
        Raises InputError where no worker can be had, StorageError where the storage is gone, ClusterLostError.
        """
        pool = self.pool
        self._queue.extend(shards)
        self._searches = {each.name: each for each in self.plan.searches}
        self._looked = pool.now() - _LOOK_S
        self._room_until = pool.now() + self.request.wait_s
        self._lookers = ThreadPoolExecutor(AT_ONCE, "look")
        try:
            while self._goes_on() and not self.should_stop():
                if pool.now() - self._looked >= _LOOK_S:
                    self._look()
                self._hire()
                self._assign()
                refs = {member.ref: member for member in self._crew if member.ref is not None}
                for ref in pool.ready(list(refs), POLL_S) if refs else ():
                    self._settle(refs[ref])
                if not refs and self._looks:
                    wait_for(self._looks, POLL_S, FIRST_COMPLETED)
                elif not refs:
                    pool.sleep(POLL_S)
                self._collect()
        finally:
            for member in list(self._crew):
                self._dismiss(member)
            self._lookers.shutdown(wait=False, cancel_futures=True)

    def _goes_on(self) -> bool:
        return bool(self._queue or self._looks or any(member.shard for member in self._crew))

    def _look(self) -> None:
        """Look at the nodes and at what takes its time. Raises InputError where no node holds a worker."""
        now = self.pool.now()
        if (
            away_s := now - self._looked - _LOOK_S
        ) > _AWAY_S:  # as where this process was frozen, or storage was gone
            for member in self._crew:
                member.since += away_s
        self._looked, self._nodes = now, self.pool.nodes()
        if self._nodes.room:
            self._room_until = now + max(self.request.wait_s, _PATIENCE_S)
        elif now > self._room_until and not any(member.shard for member in self._crew):
            raise InputError(self._nobody())
        for member in list(self._crew):
            self._hand_back(member) if self._leaving(member) else self._hurry(member)
        self.watcher.waits_for(self._waits())

    def _nobody(self) -> str:
        """Why no node holds a worker, in one line with what to do."""
        if not self._unfit:
            return self.pool.refusal()
        found = "; ".join(f"{host} has {what}" for what, host in self._unlike.items())
        return (
            f"mixed_machines: refuse, but no machine is left that computes as the campaign's others do ({found}); set "
            f"{_ALIKE}, or mixed_machines: warn; finished shards are kept, and the same command goes on"
        )

    def _leaving(self, member: _Member) -> bool:
        """Whether a worker's node is drained."""
        return member.place is not None and member.place.node in self._nodes.draining

    def _hand_back(self, member: _Member) -> None:
        """Take from a node that is drained what can't be done before it goes away; what can is finished there."""
        place, shard = member.place, member.shard
        assert place is not None
        expected_s = self.pace.expected_s(shard) if shard is not None else None
        if shard is None or expected_s is None:
            return  # an idle worker gets nothing more
        if self._nodes.draining[place.node] < expected_s - (self.pool.now() - member.since):
            self._dismiss(member)
            self._moved(shard, f"the node {place.host} goes away before it would be done")

    def _hurry(self, member: _Member) -> None:
        """Name what takes long, and end what takes too long."""
        ran_s, shard, place = self.pool.now() - member.since, member.shard, member.place
        if place is None or member.ref is None:
            return
        if shard is None:
            if ran_s > _START_LIMIT_S:
                self._dismiss(member)
                self._refused(f"the worker on {place} has not loaded its models in {duration(ran_s)}")
            return
        limit_s, slow_s = self.pace.limit_s(shard), self.pace.slow_s(shard)
        if limit_s is not None and ran_s > limit_s:
            self._dismiss(member)
            self._lost(
                shard, f"not done in {duration(limit_s)}, its limit; the worker on {place} was stopped"
            )
        elif slow_s is not None and ran_s > slow_s and not member.told:
            member.told = True
            self.watcher.note(f"slow: {self._about(member)}")

    def _about(self, member: _Member) -> str:
        """What a busy worker is at, for a person."""
        assert member.shard is not None
        expected_s, limit_s = self.pace.expected_s(member.shard), self.pace.limit_s(member.shard)
        text = f"{member.shard.name} for {duration(self.pool.now() - member.since)} on {member.place}"
        if expected_s is not None:
            text += f", where {duration(expected_s)} is usual"
        return text if limit_s is None else f"{text}; its worker is stopped after {duration(limit_s)}"

    def _waits(self) -> list[str]:
        """What the campaign waits for, the longest first, where it is more than shards that take their usual time."""
        roomless = sum(member.place is None for member in self._crew)
        loading = sum(
            each.place is not None and each.shard is None and each.ref is not None for each in self._crew
        )
        busy = sorted((each for each in self._crew if each.shard), key=lambda each: each.since)
        slow = [each for each in busy if each.told]
        if not slow and busy and self.pool.now() - busy[0].since > SLOW_FLOOR_S:
            slow = busy[:1]  # the first shards: what is usual isn't known yet
        texts = [self._about(member) for member in slow]
        if roomless:
            nobody = "" if self._nodes.room else "; no node has it yet"
            resources = in_words(self.plan.campaign.resources)
            texts.append(f"room for {roomless} of {len(self._crew)} workers ({resources}){nobody}")
        return [*texts, f"models to load in {loading} of {len(self._crew)} workers"] if loading else texts

    def _hire(self) -> None:
        """Start workers up to what the request, the cluster and the work allow."""
        pool = self.pool
        if self._refusals >= _REFUSALS and pool.now() < self._hire_after:
            return
        # One more than fits is what makes an autoscaler add a node, where waiting for one was allowed.
        fits = self._nodes.room + (1 if self.request.wait_s else 0)
        limit = fits if self.request.workers is None else self.request.workers
        staying = [member for member in self._crew if not self._leaving(member)]
        held = len(staying if self.request.workers is None else self._crew)
        needed = len(self._queue) - sum(member.shard is None for member in staying)
        for _ in range(min(limit - held, needed)):
            handle = pool.hire()
            self._crew.append(_Member(handle, pool.call(handle, "place"), pool.now()))

    def _assign(self) -> None:
        for member in list(self._crew):
            if member.ref is not None:
                continue
            if not self._queue or self._leaving(member):
                self._dismiss(member)  # its place is free for others, and for the autoscaler to take down
            else:
                self._begun(member, *self._given(member))
        # The last shards wait for whoever is free first.
        for member in self._crew:
            if (
                member.shard
                and not member.next
                and not self._leaving(member)
                and len(self._queue) > len(self._crew)
            ):
                member.next = self._given(member)

    def _given(self, member: _Member) -> tuple[Any, Shard]:
        """Give a worker a shard: its ref, and which it is."""
        shard = self._queue.popleft()
        return self.pool.call(member.handle, "run", self._searches[shard.search], shard), shard

    def _begun(self, member: _Member, ref: Any, shard: Shard | None) -> None:
        """Take it that a worker is at a shard from now on, or at none."""
        member.ref, member.shard, member.since, member.told, member.next = (
            ref,
            shard,
            self.pool.now(),
            False,
            None,
        )

    def _settle(self, member: _Member) -> None:
        """Take what a call has come to. Raises InputError where no worker can start."""
        answer, shard = self.pool.answer(member.ref), member.shard
        if answer.kind != "done":
            self._dismiss(member)  # whatever it raised may have left the process unfit
            self._failed_call(member, answer)
        elif isinstance(answer.value, Place):
            member.place, member.since = answer.value, self.pool.now()
            if answer.value.node in self._unfit:
                self._dismiss(member)
            else:
                member.ref = self.pool.call(member.handle, "start")
        elif shard is None:
            member.ref, self._refusals = None, 0
            self._welcome(member, answer.value)
        else:
            self._begun(member, *(member.next or (None, None)))
            self.pace.add(answer.value)
            self._looks[self._lookers.submit(self.look, shard, answer.value)] = answer.value

    def _welcome(self, member: _Member, info: WorkerInfo) -> None:
        """Take a worker that is ready, unless its machine is of another kind and the campaign refuses that."""
        self.machine = self.machine or info.machine
        what, refuse = differences(info.machine, self.machine), self.plan.campaign.mixed_machines == "refuse"
        if what and what not in self._unlike:
            self._unlike[what] = info.host
            told = "is left out" if refuse else "makes rows that may differ by rounding"
            advice = "" if refuse else f"; to have one kind set mixed_machines: refuse, or {_ALIKE}"
            self.watcher.note(f"mixed machines: a worker on {info.host} {told} ({what}){advice}")
        if not (what and refuse):
            self.watcher.worker_started(info)
            return
        assert member.place is not None
        self._dismiss(member)
        self._unfit.add(member.place.node)
        self.pool.avoid(member.place.node)
        self._nodes = self.pool.nodes()

    def _collect(self) -> None:
        """Tell of the shards that were seen to be there. Raises StorageError for one that isn't."""
        for look in [each for each in self._looks if each.done()]:
            manifest = self._looks.pop(look)
            self.done(look.result())
            self.watcher.shard_done(manifest)

    def _failed_call(self, member: _Member, answer: Answer) -> None:
        """Take a call that gave nothing, by its cause. Raises InputError where no worker can start."""
        shard, place, kind = member.shard, member.place, answer.kind
        if kind == "lost" and place is not None and self.pool.gone(place.node):
            kind = "moved"
        if kind == "moved":
            cause = f"its node {place.host if place else ''} went away"
            self._moved(shard, cause) if shard is not None else self.watcher.worker_lost(None, cause)
        elif shard is None:
            self._refused(answer.cause)
        elif kind == "raised":
            self._failed(shard, answer.cause)
        else:
            if kind == "storage":
                self.probe()
            self._lost(shard, answer.cause)

    def _refused(self, cause: str) -> None:
        """Take a worker that couldn't start. Raises InputError after some where no other one works."""
        self._refusals += 1
        self._hire_after = self.pool.now() + min(60.0, 2.0**self._refusals)
        self.watcher.worker_lost(None, cause)
        if self._refusals >= _REFUSALS and not self._crew:
            raise InputError(f"no worker can start: {cause}")

    def _lost(self, shard: Shard, cause: str) -> None:
        """Take a shard whose worker was lost: by its fault, perhaps."""
        self._losses[shard.name] += 1
        self.watcher.worker_lost(shard, cause)
        if self._losses[shard.name] < self.request.tries:
            self._queue.appendleft(shard)
        else:
            self._failed(shard, f"lost its worker {self.request.tries} times, last: {cause}")

    def _moved(self, shard: Shard, cause: str) -> None:
        """Take a shard whose node went away, which is no fault of its own."""
        self._moves[shard.name] += 1
        self.watcher.worker_lost(shard, cause)
        if self._moves[shard.name] < MOST_MOVES:
            self._queue.appendleft(shard)
        else:
            self._failed(shard, f"lost its node {MOST_MOVES} times, last: {cause}")

    def _failed(self, shard: Shard, cause: str) -> None:
        self.failures[shard.name] = cause
        self.watcher.shard_failed(shard, cause)

    def _dismiss(self, member: _Member) -> None:
        """End a worker; what waits at it is for others."""
        self._crew.remove(member)
        if member.next is not None:
            self._queue.appendleft(member.next[1])
        self.pool.dismiss(member.handle)
