"""Searches as jobs on storage, and the worker that runs them: whatever is known of one stands in small files.

    DATA/searches/<id>/job.json     what was asked for, by whom, when; never changed
    DATA/searches/<id>/status.json  how it stands, once it was begun or has ended; who has its lease writes it
    DATA/searches/<id>/cancel       it shall end
    DATA/searches/<id>/result/      the run directory of the search, with its shards
    DATA/waiting/<id>               there until it has ended

So any replica can answer for any search, and a restart loses nothing.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kiago_ray.models import Models
from kiago_ray.runs.lease import Lease, LeaseError
from kiago_ray.runs.plan import PlannedSearch, Shard
from kiago_ray.runs.results import finish_search
from kiago_ray.runs.shards import Manifest, StoppedError, check_shard, compute_shard
from kiago_ray.search.sections import SpecError
from kiago_ray.search.spec import SearchSpec
from kiago_ray.storage.location import Location, StorageError
from kiago_ray.storage.run_directory import DamagedError

SEARCHES, WAITING, CANCEL, RESULT = "searches", "waiting", "cancel", "result"
MOST_BEGUN = 3  # times that a worker may die over one shard of a search before that is given up
TELL_S = 1.0  # between two looks at storage
_ID = re.compile(r"[0-9]{8}T[0-9]{12}-[0-9a-f]{16}")

State = Literal["queued", "running", "done", "failed", "cancelled"]

log = logging.getLogger("kiago_ray.service")


class ForeignJobError(StorageError):
    """A job's file that is damaged, or was written by another version of the service."""


def now() -> str:
    """The time as files and answers have it."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


class _File(BaseModel):
    """A small file in a job's folder."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")
    file: ClassVar[str]

    @classmethod
    def read(cls, folder: Location) -> Self | None:
        """What the file holds; None where there is none. Raises ForeignJobError, StorageError."""
        place = folder / cls.file
        content = place.read_if_there()
        try:
            return None if content is None else cls.model_validate_json(content)
        except ValidationError as error:
            raise ForeignJobError(f"{place.text} is no file of this service, or another version's") from error

    def write(self, folder: Location) -> None:
        """Write it. Raises StorageError."""
        (folder / self.file).write_bytes(self.model_dump_json().encode("utf-8"))


class Request(_File):
    """What was asked for. rows_per_shard: those that run together (see ServiceSettings)."""

    file = "job.json"
    id: str
    spec: dict[str, Any]
    preset: str
    client: str
    submitted_at: str = Field(default_factory=now)
    rows_per_shard: int


class Status(_File):
    """How a search stands. begun: how often a worker has begun it since its last whole shard. done, total: steps.
    summary: as Summary.to_dict has it.
    """

    file = "status.json"
    state: State = "queued"
    started_at: str | None = None
    ended_at: str | None = None
    begun: int = 0
    done: int = 0
    total: int = 0
    phase: Literal["waiting", "searching", "merging"] = "waiting"
    error: str | None = None
    summary: dict[str, Any] | None = None


class End(NamedTuple):
    """How a search ended."""

    state: Literal["done", "failed", "cancelled"]
    error: str | None = None
    summary: dict[str, Any] | None = None


@dataclass(frozen=True)
class Job:
    """A search as it stands."""

    request: Request
    status: Status

    @property
    def ended(self) -> bool:
        """Whether its status stays as it is."""
        return self.status.ended_at is not None

    @property
    def planned(self) -> PlannedSearch:
        """The search as the one search of a campaign."""
        spec = SearchSpec.model_validate(self.request.spec)
        return PlannedSearch.of(spec, self.request.rows_per_shard)


@dataclass(frozen=True)
class JobStore:
    """The jobs in a directory. Everything raises StorageError where that can't be read or written."""

    place: Location

    @classmethod
    def of(cls, data: str) -> JobStore:
        """The store in a directory or at a URI, made if need be."""
        store = cls(Location.of(data))
        for name in (SEARCHES, WAITING):
            (store.place / name).make_directory()
        return store

    def folder(self, job_id: str) -> Location:
        """Where a job's files are."""
        return self.place / SEARCHES / job_id

    def submit(self, spec: SearchSpec, preset: str, client: str, rows_per_shard: int) -> Job:
        """Keep a new job."""
        job_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(8)}"  # names sort by time
        request = Request(
            id=job_id,
            spec=spec.model_dump(mode="json"),
            preset=preset,
            client=client,
            rows_per_shard=rows_per_shard,
        )
        folder = self.folder(job_id)
        folder.make_directory()
        request.write(folder)
        try:
            (self.place / WAITING / job_id).write_bytes(client.encode("utf-8"))  # last: now it counts
        except StorageError:
            with suppress(StorageError):
                (folder / Request.file).delete()  # who asks again shall not find it waiting for ever
            raise
        return Job(request, Status())

    def get(self, job_id: str) -> Job | None:
        """The job as it stands; None where there is none, or that is no id."""
        if not _ID.fullmatch(job_id):
            return None
        folder = self.folder(job_id)
        request = Request.read(folder)
        if request is None:
            return None
        return Job(request, Status.read(folder) or Status())

    def readable(self, job_id: str) -> Job | None:
        """The job; None also where its files can't be read, so that one job doesn't stop the rest."""
        try:
            return self.get(job_id)
        except ForeignJobError as error:
            log.error("search %s is left out: %s", job_id, error)
            return None

    def ids(self) -> list[str]:
        """All jobs, newest first."""
        return [name for name in reversed((self.place / SEARCHES).entries()) if _ID.fullmatch(name)]

    def waiting(self) -> list[str]:
        """The jobs that haven't ended, oldest first."""
        return [name for name in (self.place / WAITING).entries() if _ID.fullmatch(name)]

    def place_in_queue(self, job_id: str) -> int | None:
        """1 for the search that is begun next; None where it doesn't wait, or has begun."""
        waiting = self.waiting()
        if job_id not in waiting or self._begun(job_id):
            return None
        return 1 + sum(not self._begun(each) for each in waiting[: waiting.index(job_id)])

    def _begun(self, job_id: str) -> bool:
        return (self.folder(job_id) / Status.file).kind() == "file"

    def counts(self) -> Counter[str]:
        """How many of them are queued, and how many running."""
        jobs = [self.readable(job_id) for job_id in self.waiting()]
        return Counter(job.status.state for job in jobs if job is not None and not job.ended)

    def waiting_of(self, client: str) -> int:
        """How many of a client's jobs haven't ended."""
        mine = client.encode("utf-8")
        return sum((self.place / WAITING / name).read_if_there() == mine for name in self.waiting())

    def update(self, job: Job, **changes: Any) -> Job:
        """Write down what has changed of its status; for who has its lease."""
        job = replace(job, status=job.status.model_copy(update=changes))
        job.status.write(self.folder(job.request.id))
        return job

    def cancel(self, job_id: str) -> None:
        """Ask for its end."""
        (self.folder(job_id) / CANCEL).write_bytes(b"")

    def cancelled(self, job_id: str) -> bool:
        """Whether its end was asked for."""
        return (self.folder(job_id) / CANCEL).kind() == "file"

    def finish(self, job_id: str, end: End) -> None:
        """Write down how it ended; it then waits no more."""
        job = self.get(job_id)
        if job is not None:
            self.update(job, **end._asdict(), ended_at=now())
        self.forget(job_id)

    def forget(self, job_id: str) -> None:
        """Let it wait no more."""
        (self.place / WAITING / job_id).delete()

    def remove_ended(self) -> bool:
        """Remove the oldest search that has ended, to make room; whether there was one."""
        waiting = set(self.waiting())
        oldest = next((job_id for job_id in reversed(self.ids()) if job_id not in waiting), None)
        if oldest is not None:
            self.folder(oldest).delete_all()
        return oldest is not None

    def result(self, job_id: str) -> Location:
        """The directory with what came of it."""
        return self.folder(job_id) / RESULT


def search_models(models: Models) -> Models:
    """The models of a search: its shards are judged one by one, but only the best of all rows are held against the
    hull.
    """
    return replace(models, hull=None)


@dataclass
class Runner:
    """What a worker does: takes the jobs of a store that nobody runs. closing: whether this worker shall stop."""

    store: JobStore
    models: Models
    closing: Callable[[], bool] = lambda: False

    def run_next(self) -> bool:
        """Run one job to its end; False where there is none to run, or this worker shall stop."""
        return not self.closing() and any(map(self._ran, self._takeable()))

    def _takeable(self) -> list[str]:
        """Those that wait, the ones first that nobody has started: to see that another lives takes seconds."""
        jobs = [job for job_id in self.store.waiting() if (job := self.store.readable(job_id)) is not None]
        return [job.request.id for job in sorted(jobs, key=lambda job: job.status.state != "queued")]

    def _ran(self, job_id: str) -> bool:
        """Run a job, unless another does. False also where it was left for a later worker."""
        try:
            with Lease(self.store.folder(job_id)) as lease:
                job = self.store.get(job_id)
                if job is None or job.ended:  # a worker was lost right before it said so
                    self.store.forget(job_id)
                    return True
                end = self._outcome(job, lease)
                if end is None:
                    return False
                self.store.finish(job_id, end)
                log.info("search %s: %s", job_id, end.state)
                return True
        except LeaseError:
            return False

    def _outcome(self, job: Job, lease: Lease) -> End | None:
        """How it ended; None where it has to go on elsewhere."""
        store, job_id, begun = self.store, job.request.id, job.status.begun
        if store.cancelled(job_id):
            return End("cancelled")
        if begun >= MOST_BEGUN:
            return End("failed", f"its worker was lost {begun} times; ask for a smaller search")
        started_at = job.status.started_at or now()
        job = store.update(job, state="running", started_at=started_at, begun=begun + 1)
        try:
            return self._run(job, lease)
        except StoppedError:
            if store.cancelled(job_id):
                return End("cancelled")
            if (stopped := store.get(job_id)) is not None:  # an orderly stop doesn't count
                store.update(stopped, begun=max(stopped.status.begun - 1, 0))
            return None
        except SpecError as error:
            return End("failed", str(error))
        except StorageError as error:
            log.error("search %s: %s", job_id, error)
            return End("failed", "the service's storage could not be used; submit it again")
        except Exception:
            log.exception("search %s failed", job_id)
            return End("failed", "the search failed inside; tell the service's operator its id")

    def _run(self, job: Job, lease: Lease) -> End:
        """Run the shards that aren't there yet, and write the results. Raises StoppedError, StorageError and what the
        search raises.
        """
        planned, models = job.planned, search_models(self.models)
        result = self.store.result(job.request.id)
        result.make_directory()
        shards, steps = planned.shards, sum(planned.spec.steps)
        watch = _Watch(self, job, lease, total=len(shards) * steps)
        done: list[Manifest] = []
        for number, shard in enumerate(shards):
            watch.before = number * steps
            manifest, changes = _whole(result, shard, models.version), {}
            if manifest is None:
                if watch.asked_to_stop():
                    raise StoppedError(shard.name)
                manifest = compute_shard(
                    planned,
                    shard,
                    result,
                    models,
                    made={"models": models.version},
                    progress=lambda at: watch.step(at.step),
                    should_stop=watch.should_stop,
                )
                changes = {"begun": 0}
            done.append(manifest)
            watch.tell(steps, **changes)
        watch.tell(steps, phase="merging")
        title = f"around {planned.base}" if planned.base else "from random starts"
        record = {**models.identity, "preset": job.request.preset}
        found = finish_search(result, planned, done, folder=result, record=record, title=title)
        return End("done", summary=found.summary.to_dict())


@dataclass
class _Watch:
    """What passes between a running search and its clients. before: steps of the shards that are done."""

    runner: Runner
    job: Job
    lease: Lease
    total: int
    before: int = 0
    _told: float = 0.0
    _looked: float = 0.0
    _stop: bool = False

    def tell(self, step: int, **changes: Any) -> None:
        """Write down how far it is, and what else has changed of its status."""
        changes = {"done": self.before + step, "total": self.total, "phase": "searching", **changes}
        self.job = self.runner.store.update(self.job, **changes)

    def step(self, step: int) -> None:
        """Write it down, but not at every step."""
        if time.monotonic() - self._told >= TELL_S:
            self._told = time.monotonic()
            self.tell(step)

    def asked_to_stop(self) -> bool:
        """Whether it shall stop, as storage has it now."""
        return self.runner.closing() or self.lease.lost or self.runner.store.cancelled(self.job.request.id)

    def should_stop(self) -> bool:
        """Whether it shall stop, by the last look at storage."""
        if not self._stop and time.monotonic() - self._looked >= TELL_S:
            self._looked = time.monotonic()
            self._stop = self.asked_to_stop()
        return self._stop


def _whole(result: Location, shard: Shard, models: str) -> Manifest | None:
    """What is known of a shard that is there, whole and by these models."""
    try:
        manifest = check_shard(result, shard)
    except DamagedError as error:
        log.warning("%s; it is made again", error)
        return None
    if manifest is not None and manifest.made.get("models") != models:
        log.warning("%s was made by other models; it is made again", manifest.shard)
        return None
    return manifest
