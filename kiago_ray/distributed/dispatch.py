"""Shards to workers: one at a time to each, again where a worker was lost, never twice where a shard raised.

A worker is an actor that loads the models once, holds one device, and runs one shard at a time. An own loop over
`ray.wait` gives out the shards, because one must be known by name whatever becomes of the worker that has it. Workers
aren't restarted by Ray: a lost one is replaced here, so that nothing is ever retried in silence.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from kiago_ray import __version__
from kiago_ray.data import NONE
from kiago_ray.distributed.cluster import capacity, in_words, one_line, refusal, reserved
from kiago_ray.distributed.code import Code, WorkerSetupError
from kiago_ray.errors import InputError
from kiago_ray.models import Models, load_models
from kiago_ray.predictors.weights import ORACLE, PLAUSIBILITY, kinds_in, weights_hashes
from kiago_ray.runs.plan import Plan, PlannedSearch, Shard
from kiago_ray.runs.shards import Manifest, compute_shard
from kiago_ray.runs.spec import ResourcesSpec
from kiago_ray.screening.known import KnownMaterials, TriedMaterials
from kiago_ray.storage.location import Location, StorageError, Where
from kiago_ray.storage.run_directory import cpu_name

if TYPE_CHECKING:
    from kiago_ray.tracking import TrackingTarget

POLL_S = 0.25
_LOOK_S = 2.0  # between two looks at the cluster's nodes
_PATIENCE_S = 60.0  # with a cluster that has lost its last node
_REFUSALS = 3  # workers in a row that couldn't start, before no more are tried
_REMIND_S = 60.0


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
    """Where a worker runs. gpus: the ids of the devices that Ray gave it."""

    host: str
    pid: int
    device: str
    device_name: str
    threads: int
    gpus: tuple[str, ...]


class SearchWorker:
    """Holds the models and runs shards. Nothing is loaded before `start`, so that its errors arrive as they are."""

    models: Models
    info: WorkerInfo

    def __init__(self, setup: WorkerSetup) -> None:
        self.setup = setup

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
        name = torch.cuda.get_device_name() if setup.device == "cuda" else cpu_name()
        self.info = WorkerInfo(host, os.getpid(), setup.device, name, torch.get_num_threads(), gpus)
        return self.info

    def run(self, search: PlannedSearch, shard: Shard) -> Manifest:
        """Run a shard and write it: its manifest alone. Raises StorageError and what the search raises."""
        made = {**vars(self.info), "kiago_ray": __version__}
        return compute_shard(search, shard, Location.of(self.setup.run), self.models, made=made)


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
    storage_patience_s: float = 120.0
    worker_class: type[SearchWorker] = SearchWorker


@dataclass
class _Member:
    """One worker: starting (a ref without a shard), idle (no ref) or busy with a shard."""

    handle: Any
    ref: Any
    shard: Shard | None = None


@dataclass
class Dispatch:
    """One campaign's work on a connected cluster. failures: shard → why it was given up. done: called with each shard
    that is done; it may raise StorageError, which ends the campaign. probe: raises that where nothing can be written.
    """

    plan: Plan
    request: RunRequest
    watcher: Watcher
    done: Callable[[Shard, Manifest], None]
    probe: Callable[[], None]
    should_stop: Callable[[], bool]
    failures: dict[str, str] = field(default_factory=dict)
    _queue: deque[Shard] = field(default_factory=deque)
    _crew: list[_Member] = field(default_factory=list)
    _losses: Counter[str] = field(default_factory=Counter)
    _refusals: int = 0
    _hire_after: float = 0.0
    _looked: float = float("-inf")
    _capacity: int = 0

    def run(self, shards: Sequence[Shard]) -> None:
        """Run the shards until all are done or have failed (see `failures`), or it shall stop; then workers are gone.
        Raises InputError where no worker can be had, StorageError where the storage is gone.
        """
        import ray

        self._queue.extend(shards)
        self._resources = resources = self.plan.campaign.resources
        self._reminded = time.monotonic()
        self._room_until = self._reminded + self.request.wait_s
        self._setup_ref = ray.put(self.request.setup)
        self._searches = {each.name: each for each in self.plan.searches}
        self._actor = ray.remote(self.request.worker_class).options(
            num_cpus=resources.cpus,
            num_gpus=resources.gpus,
            memory=reserved(resources)["memory"] or None,
            max_restarts=0,
            max_task_retries=0,
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
        """Start workers up to what the request, the cluster and the work allow. Raises InputError."""
        now, wait_s = time.monotonic(), self.request.wait_s
        if now - self._looked > _LOOK_S:
            self._looked, self._capacity = now, capacity(self._resources)
            if self._capacity:
                self._room_until = now + max(wait_s, _PATIENCE_S)
            elif now > self._room_until:
                raise InputError(refusal(self._resources))
            starting = all(member.shard is None and member.ref is not None for member in self._crew)
            if starting and now - self._reminded >= _REMIND_S:
                self._reminded = now
                waiting = f"waiting for room for a worker ({in_words(self._resources)})"
                self.watcher.note(waiting if self._capacity else f"{waiting}; no node has it yet")
        if self._refusals >= _REFUSALS and now < self._hire_after:
            return
        # One more than fits is what makes an autoscaler add a node, where waiting for one was allowed.
        fits = self._capacity + (1 if wait_s else 0)
        limit = fits if self.request.workers is None else self.request.workers
        busy = sum(1 for member in self._crew if member.shard)
        while len(self._crew) < min(limit, busy + len(self._queue)):
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
        """Take what a call has come to. Raises InputError where no worker can start."""
        import ray

        shard = member.shard
        try:
            result = ray.get(member.ref)
        except ray.exceptions.RayError as error:
            self._dismiss(member)  # whatever it raised may have left the process unfit
            raised = isinstance(error, ray.exceptions.RayTaskError)
            cause = (getattr(error, "cause", None) or error) if raised else error
            if shard is None:
                self._refusals += 1
                self._hire_after = time.monotonic() + min(60.0, 2.0**self._refusals)
                self.watcher.worker_lost(None, one_line(cause))
                if self._refusals >= _REFUSALS and not self._crew:
                    raise InputError(f"no worker can start: {one_line(cause)}") from error
            elif raised and not isinstance(cause, StorageError):
                self._failed(shard, one_line(cause))
            else:
                if raised:
                    self.probe()
                self._lost(shard, one_line(cause))
            return
        member.ref, member.shard = None, None
        if shard is None:
            self._refusals = 0
            self.watcher.worker_started(result)
        else:
            self.done(shard, result)
            self.watcher.shard_done(result)

    def _lost(self, shard: Shard, cause: str) -> None:
        self._losses[shard.name] += 1
        self.watcher.worker_lost(shard, cause)
        if self._losses[shard.name] < self.request.tries:
            self._queue.appendleft(shard)
        else:
            self._failed(shard, f"lost its worker {self.request.tries} times, last: {cause}")

    def _failed(self, shard: Shard, cause: str) -> None:
        self.failures[shard.name] = cause
        self.watcher.shard_failed(shard, cause)

    def _dismiss(self, member: _Member) -> None:
        import ray

        self._crew.remove(member)
        ray.kill(member.handle, no_restart=True)
