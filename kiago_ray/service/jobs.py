"""Searches as jobs on storage, and the worker that runs them: whatever is known of one stands in small files.

    DATA/searches/<id>/job.json     what was asked for, by whom, when; never changed
    DATA/searches/<id>/status.json  how it has ended
    DATA/searches/<id>/cancel       it shall end
    DATA/searches/<id>/result/      the run directory of the search, with its shards
    DATA/waiting/<id>               how it stands until it has ended; empty: it is queued. Who has its lease writes it

So one listing of DATA/waiting tells which searches are queued and which have moved: on object storage each question
is a request.

Any replica can answer for any search, and a restart loses nothing. Whose a search is stands in its id.
"""

from __future__ import annotations

import logging
import math
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError

from kiago_ray.models import Models
from kiago_ray.runs.lease import EXPIRE_S, Lease, LeaseError
from kiago_ray.runs.plan import PlannedSearch
from kiago_ray.runs.shards import Manifest, StoppedError, compute_shard
from kiago_ray.runs.state import state_of
from kiago_ray.search.sections import SpecError
from kiago_ray.search.spec import SearchSpec
from kiago_ray.search.stages import Progress
from kiago_ray.service.tokens import NAME
from kiago_ray.storage.location import Found, Location, StorageError, read_all
from kiago_ray.storage.patience import PATIENCE_S, Got, patiently

MOST_BEGUN = 3  # times that a worker may die over one shard of a search before that is given up
TELL_S = 1.0  # between two looks at storage
SEARCHES, WAITING, CANCEL, RESULT = "searches", "waiting", "cancel", "result"
REQUEST, STATUS = "job.json", "status.json"
MOST_KNOWN = 256  # requests that a process remembers: they never change
_ID = re.compile(rf"[0-9]{{8}}T[0-9]{{12}}-[0-9a-f]{{16}}(?:-({NAME}))?")

State = Literal["queued", "running", "done", "failed", "cancelled"]

log = logging.getLogger("kiago_ray.service")


def owner_of(job_id: str) -> str:
    """The name of the token with which a job was submitted; "" where that has none."""
    found = _ID.fullmatch(job_id)
    return (found and found[1]) or ""


def places(versions: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """Those of the jobs of `JobStore.versions` that nobody has begun → their place in the queue."""
    queued = (job_id for job_id, (_, size) in versions.items() if not size)
    return {job_id: place for place, job_id in enumerate(queued, 1)}


class ForeignJobError(StorageError):
    """A job's file that is damaged, or was written by another version of the service."""


def now() -> str:
    """The time as files and answers have it."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


class _File(BaseModel, extra="forbid", frozen=True, ser_json_inf_nan="constants"):
    """A small file in a job's folder."""

    @classmethod
    def read(cls, place: Location) -> Self | None:
        """What the file holds; None where there is none. Raises ForeignJobError, StorageError."""
        content = place.read_if_there()
        try:
            return None if content is None else cls.model_validate_json(content or b"{}")
        except ValidationError as error:
            raise ForeignJobError(f"{place.text} is no file of this service, or another version's") from error

    def write(self, place: Location) -> None:
        """Write it. Raises StorageError."""
        place.write_bytes(self.model_dump_json().encode("utf-8"))


class Request(_File, frozen=True):
    """What was asked for. rows_per_shard: those that run together (see ServiceSettings)."""

    id: str
    spec: dict[str, Any]
    preset: str
    client: str
    submitted_at: str = Field(default_factory=now)
    rows_per_shard: int


class Status(_File, frozen=True):
    """How a search stands. begun: how often a worker has begun it since its last whole shard. done, total: steps."""

    state: State = "queued"
    started_at: str | None = None
    ended_at: str | None = None
    begun: int = 0
    done: int = 0
    total: int = 0
    phase: Literal["waiting", "searching", "merging"] = "waiting"
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


@dataclass(frozen=True)
class JobStore:
    """The jobs in a directory. Everything raises StorageError where that can't be read or written."""

    place: Location
    _known: dict[str, Request] = field(default_factory=dict, compare=False, repr=False)

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

    def result(self, job_id: str) -> Location:
        """The directory with what came of it."""
        return self.folder(job_id) / RESULT

    def submit(
        self, spec: SearchSpec, preset: str, client: str, rows_per_shard: int, *, owner: str = ""
    ) -> Job:
        """Keep a new job. owner: the name of the client's token, "" where that has none."""
        job_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(8)}"  # names sort by time
        request = Request(
            id=f"{job_id}-{owner}" if owner else job_id,
            spec=spec.model_dump(mode="json"),
            preset=preset,
            client=client,
            rows_per_shard=rows_per_shard,
        )
        folder = self.folder(request.id)
        folder.make_directory()
        request.write(folder / REQUEST)
        (self.place / WAITING / request.id).write_bytes(b"")  # last: now it is there
        return Job(request, Status())

    def get(self, job_id: str) -> Job | None:
        """The job as it stands; None where there is none, or that is no id."""
        if not _ID.fullmatch(job_id) or (request := self._request(job_id)) is None:
            return None
        ended = self.folder(job_id) / STATUS
        for place in (ended, self.place / WAITING / job_id, ended):  # it may end between two looks
            if (status := Status.read(place)) is not None:
                return Job(request, status)
        return None

    def _request(self, job_id: str) -> Request | None:
        request = self._known.get(job_id) or Request.read(self.folder(job_id) / REQUEST)
        if request is not None:
            while len(self._known) >= MOST_KNOWN and job_id not in self._known:
                self._known.pop(next(iter(self._known)), None)
            self._known[job_id] = request
        return request

    def readable(self, job_ids: Iterable[str]) -> Iterator[Job]:
        """Those of these jobs whose files can be read, so that one job doesn't stop the rest."""
        return self._readable(self.get, job_ids)

    def _readable(self, get: Callable[[str], Found | None], job_ids: Iterable[str]) -> Iterator[Found]:
        def read(job_id: str) -> Found | None:
            try:
                return get(job_id)
            except ForeignJobError as error:
                log.error("search %s is left out: %s", job_id, error)
                return None

        return filter(None, read_all(read, job_ids))

    def ids(self) -> list[str]:
        """All jobs, newest first."""
        return [name for name in reversed((self.place / SEARCHES).entries()) if _ID.fullmatch(name)]

    def waiting(self) -> list[str]:
        """The jobs that haven't ended, oldest first."""
        return list(self.versions())

    def versions(self) -> dict[str, tuple[int, int]]:
        """The jobs that haven't ended, oldest first, each with what changes when its status does; the last of it is 0
        while it is queued. One listing.
        """
        found = (self.place / WAITING).versions()
        return {name: version for name, version in found.items() if _ID.fullmatch(name)}

    def queue(self) -> dict[str, int]:
        """The jobs that nobody has begun → their place, 1 for the next one. One listing."""
        return places(self.versions())

    def counts(self) -> Counter[str]:
        """How many of them are queued, and how many running."""
        return Counter("running" if size else "queued" for _, size in self.versions().values())

    def waiting_of(self, client: str) -> int:
        """How many of a client's jobs haven't ended."""
        requests = self._readable(self._request, self.waiting())
        return sum(request.client == client for request in requests)

    def update(self, job: Job, **changes: Any) -> Job:
        """Write down what has changed of its status; for who has its lease."""
        job = replace(job, status=job.status.model_copy(update=changes))
        folder, job_id = self.folder(job.request.id), job.request.id
        job.status.write(folder / STATUS if job.ended else self.place / WAITING / job_id)
        return job

    def cancel(self, job_id: str) -> None:
        """Ask for its end."""
        (self.folder(job_id) / CANCEL).write_bytes(b"")

    def cancelled(self, job_id: str) -> bool:
        """Whether its end was asked for."""
        return (self.folder(job_id) / CANCEL).kind() == "file"

    def finish(self, job_id: str, state: State, **came: Any) -> None:
        """Write down how it ended, and its `error` or `summary`; it then waits no more."""
        if (job := self.get(job_id)) is not None:
            self.update(job, state=state, ended_at=now(), **came)
        self.forget(job_id)

    def forget(self, job_id: str) -> None:
        """Let it wait no more."""
        (self.place / WAITING / job_id).delete()

    def ids_of(self, owner: str) -> list[str]:
        """The jobs of a token's name, newest first; for "" those without a name."""
        return [job_id for job_id in self.ids() if owner_of(job_id) == owner]

    def remove_ended(self, owner: str = "") -> bool:
        """Remove an owner's oldest search that has ended, to make room; whether there was one."""
        waiting = set(self.waiting())
        oldest = next((job_id for job_id in reversed(self.ids_of(owner)) if job_id not in waiting), None)
        if oldest is not None:
            self.folder(oldest).delete_all()
        return oldest is not None


@dataclass
class Runner:
    """The worker: runs the searches that nobody runs, from where another worker left off. closing: it shall stop.
    patience_s: for how long it waits for storage that fails; then it leaves the search for a later worker.
    """

    store: JobStore
    models: Models
    closing: Callable[[], bool] = lambda: False
    patience_s: float = PATIENCE_S
    _elsewhere: dict[str, float] = field(default_factory=dict)  # until when a search is left to who runs it

    def run_next(self) -> bool:
        """Run one job to its end; False where there is none to run, or this worker shall stop."""
        if self.closing():
            return False
        versions = self.store.versions()
        # The queued ones first: to see that another worker lives takes seconds.
        order = sorted(versions, key=lambda job_id: versions[job_id][1] > 0)
        self._elsewhere = {job_id: self._elsewhere.get(job_id, -math.inf) for job_id in order}
        return any(self._ran(job_id) for job_id in order if time.monotonic() > self._elsewhere[job_id])

    def _ran(self, job_id: str) -> bool:
        """Run a job, unless another does. False also where it was left for a later worker."""
        try:
            with Lease(self.store.folder(job_id)) as lease:
                job = self.store.get(job_id)
                if job is None or job.ended:  # a worker was lost right before it said so
                    self.store.forget(job_id)
                    return True
                if end := self._outcome(job, lease):
                    self._patiently(lambda: self.store.finish(job_id, **end), lease)
                    log.info("search %s: %s", job_id, end["state"])
                    return True
        except LeaseError:
            self._elsewhere[job_id] = time.monotonic() + EXPIRE_S
        except StorageError as error:  # which is no end of a search
            log.error("search %s is left for later: %s", job_id, error)
        return False

    def _patiently(self, attempt: Callable[[], Got], lease: Lease) -> Got:
        """What `attempt` gives. Raises StorageError."""

        def wait(seconds: float) -> bool:
            until = time.monotonic() + seconds
            while not (leaves := self.closing() or lease.lost) and time.monotonic() < until:
                time.sleep(min(TELL_S, seconds))
            return leaves

        def note(seconds: float, error: StorageError) -> None:
            log.warning("trying again in %g s: %s", seconds, error)

        return patiently(attempt, self.patience_s, wait=wait, note=note)

    def _outcome(self, job: Job, lease: Lease) -> dict[str, Any] | None:
        """How it ended, as `JobStore.finish` takes it; None where it has to go on elsewhere."""
        store, job_id, begun = self.store, job.request.id, job.status.begun
        if store.cancelled(job_id):
            return {"state": "cancelled"}
        if begun >= MOST_BEGUN:
            why = f"its worker was lost {begun} times; ask for a smaller search"
            return {"state": "failed", "error": why}
        started_at = job.status.started_at or now()
        job = store.update(job, state="running", started_at=started_at, begun=begun + 1)
        try:
            return self._run(job, lease)
        except (StoppedError, StorageError) as error:
            if isinstance(error, StorageError):
                log.error("search %s: %s", job_id, error)
            return self._patiently(lambda: self._left(job_id), lease)
        except SpecError as error:
            why = str(error)
        except Exception:
            log.exception("search %s failed", job_id)
            why = "the search failed inside; tell the service's operator its id"
        return {"state": "failed", "error": why}

    def _left(self, job_id: str) -> dict[str, Any] | None:
        """How a search ended that has stopped, None where it goes on later. Leaving it in order is no lost worker."""
        if self.store.cancelled(job_id):
            return {"state": "cancelled"}
        if (stopped := self.store.get(job_id)) is not None:
            self.store.update(stopped, begun=max(stopped.status.begun - 1, 0))
        return None

    def _run(self, job: Job, lease: Lease) -> dict[str, Any]:
        """Run the shards that aren't there and write the results. Raises StoppedError and what the search raises."""
        from kiago_ray.runs.results import finish_search  # who only answers for jobs needs no merging

        store, result = self.store, self.store.result(job.request.id)
        models = self.models
        planned = PlannedSearch.of(SearchSpec.model_validate(job.request.spec), job.request.rows_per_shard)
        shards, steps = planned.shards, sum(planned.spec.steps)
        patient: Callable[[Callable[[], Any]], Any] = partial(self._patiently, lease=lease)
        there = patient(partial(state_of, result, planned))
        for why in there.damaged.values():
            log.warning("%s; it is made again", why)
        done: list[Manifest] = []
        step, looked_at, stop, begun = 0, 0.0, False, job.status.begun

        def tell(phase: str = "searching") -> None:
            at = {"done": len(done) * steps + step, "total": len(shards) * steps, "begun": begun}
            with suppress(StorageError):  # it is told again; what the search makes is waited for
                store.update(job, phase=phase, **at)

        def asked_to_stop() -> bool:
            with suppress(StorageError):  # nobody can have asked there
                return self.closing() or lease.lost or store.cancelled(job.request.id)
            return False

        def note(at: Progress) -> None:  # on a GPU not after every step
            nonlocal step
            step = at.step

        def should_stop() -> bool:  # after every step, of which few look at storage
            nonlocal looked_at, stop
            if time.monotonic() - looked_at >= TELL_S:
                looked_at = time.monotonic()
                tell()
                stop = asked_to_stop()
            return stop

        for shard in shards:
            manifest = there.manifests.get(shard.name)
            if manifest is not None and manifest.made.get("models") != models.version:
                log.warning("%s was made by other models; it is made again", shard.name)
                manifest = None
            if manifest is None:
                if asked_to_stop():
                    raise StoppedError(shard.name)
                how: dict[str, Any] = {"made": {"models": models.version}, "kept": patient, "progress": note}
                manifest = compute_shard(planned, shard, result, models, should_stop=should_stop, **how)
                begun = 0
            done.append(manifest)
            step = 0
            tell()
        tell("merging")
        title = f"around {planned.base}" if planned.base else "from random starts"
        record = {**models.identity, "preset": job.request.preset}
        told: dict[str, Any] = {"folder": result, "record": record, "title": title, "hull": models.hull}
        found = patient(partial(finish_search, result, planned, done, **told))
        return {"state": "done", "summary": found.summary.to_dict()}
