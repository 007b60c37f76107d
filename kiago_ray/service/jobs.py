"""Searches as jobs on storage: whatever a part of the service knows of one stands in small files.

    DATA/searches/<id>/job.json       what was asked for, by whom, when; never changed
    DATA/searches/<id>/started.json   a worker has it, and how often one has begun since its last whole shard
    DATA/searches/<id>/progress.json  how far it is
    DATA/searches/<id>/cancel         it shall end
    DATA/searches/<id>/end.json       how it ended; from then on nothing changes
    DATA/searches/<id>/result/        the run directory of the search, with its shards
    DATA/waiting/<id>                 there until it has ended

So any replica can answer for any search, and a restart loses nothing.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from kiago_ray.runs.plan import PlannedSearch
from kiago_ray.search.spec import SearchSpec
from kiago_ray.storage.location import Location, StorageError

SEARCHES, WAITING = "searches", "waiting"
JOB, STARTED, PROGRESS, CANCEL, END, RESULT = (
    "job.json",
    "started.json",
    "progress.json",
    "cancel",
    "end.json",
    "result",
)
_ID = re.compile(r"[0-9]{8}T[0-9]{12}-[0-9a-f]{16}")

Progress = Mapping[str, Any]
log = logging.getLogger("kiago_ray.service")


class ForeignJobError(StorageError):
    """A job's file that this service can't read: damaged, or written by another version."""


@dataclass(frozen=True)
class Request:
    """What was asked for. rows_per_shard: those that run together (see ServiceSettings)."""

    id: str
    spec: Mapping[str, Any]
    preset: str
    client: str
    submitted_at: str
    rows_per_shard: int


@dataclass(frozen=True)
class End:
    """How a search ended. state: done, failed or cancelled. summary: as Summary.to_dict has it."""

    state: str
    at: str
    error: str | None = None
    summary: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Job:
    """A search as it stands. begun: how often a worker has started it since its last whole shard."""

    request: Request
    started_at: str | None = None
    begun: int = 0
    progress: Progress | None = None
    cancelled: bool = False
    end: End | None = None

    @property
    def state(self) -> str:
        """queued, running, done, failed or cancelled."""
        if self.end is not None:
            return self.end.state
        return "queued" if self.started_at is None else "running"

    @property
    def spec(self) -> SearchSpec:
        """The specification as it was checked when it came in."""
        return SearchSpec.model_validate(self.request.spec)

    @property
    def planned(self) -> PlannedSearch:
        """The same as the one search of a campaign."""
        return PlannedSearch.of(self.spec, self.request.rows_per_shard)


def now() -> str:
    """The time as files and answers have it."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


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
        request = Request(job_id, spec.model_dump(mode="json"), preset, client, now(), rows_per_shard)
        folder = self.folder(job_id)
        folder.make_directory()
        _write(folder / JOB, asdict(request))
        try:
            (self.place / WAITING / job_id).write_bytes(client.encode("utf-8"))  # last: now it counts
        except StorageError:
            with suppress(StorageError):
                (folder / JOB).delete()  # who asks again shall not find it waiting for ever
            raise
        return Job(request)

    def get(self, job_id: str) -> Job | None:
        """The job as it stands; None where there is none, or that is no id."""
        if not _ID.fullmatch(job_id):
            return None
        folder = self.folder(job_id)
        values = _read(folder / JOB)
        if values is None:
            return None
        request = _checked(Request, values, folder / JOB)
        end = _read(folder / END)
        started = _read(folder / STARTED) or {}
        job = Job(request, started.get("at"), int(started.get("begun", 0)))
        if end is not None:
            return replace(job, end=_checked(End, end, folder / END))
        return replace(job, progress=_read(folder / PROGRESS), cancelled=(folder / CANCEL).kind() == "file")

    def readable(self, job_id: str) -> Job | None:
        """The same; None also where its files are damaged or of another version, so that one doesn't stop the rest."""
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
        return (self.folder(job_id) / STARTED).kind() == "file"

    def counts(self) -> Counter[str]:
        """How many of them are queued, and how many running."""
        jobs = [self.readable(job_id) for job_id in self.waiting()]
        return Counter(job.state for job in jobs if job is not None and job.end is None)

    def waiting_of(self, client: str) -> int:
        """How many of a client's jobs haven't ended."""
        mine = client.encode("utf-8")
        return sum(_bytes(self.place / WAITING / name) == mine for name in self.waiting())

    def begin(self, job: Job) -> Job:
        """Write down that a worker starts it."""
        begun = replace(job, started_at=job.started_at or now(), begun=job.begun + 1)
        _write(self.folder(job.request.id) / STARTED, {"at": begun.started_at, "begun": begun.begun})
        return begun

    def start_over(self, job: Job, begun: int) -> None:
        """Write down how many starts count against it: none after a whole shard, one less after an orderly stop."""
        if job.started_at is not None:
            _write(self.folder(job.request.id) / STARTED, {"at": job.started_at, "begun": begun})

    def tell(self, job_id: str, progress: Progress) -> None:
        """Write down how far it is."""
        _write(self.folder(job_id) / PROGRESS, progress)

    def cancel(self, job_id: str) -> None:
        """Ask for its end."""
        (self.folder(job_id) / CANCEL).write_bytes(b"")

    def cancelled(self, job_id: str) -> bool:
        """Whether its end was asked for."""
        return (self.folder(job_id) / CANCEL).kind() == "file"

    def finish(self, job_id: str, end: End) -> None:
        """Write down how it ended; it then waits no more."""
        _write(self.folder(job_id) / END, asdict(end))
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


def _write(place: Location, values: Mapping[str, Any]) -> None:
    place.write_bytes(json.dumps(dict(values), ensure_ascii=False).encode("utf-8"))


def _bytes(place: Location) -> bytes | None:
    """A small file's content; None where there is none, or it went away between the two looks."""
    if place.kind() != "file":
        return None
    try:
        return place.read_bytes()
    except StorageError:
        if place.kind() == "file":
            raise
        return None


def _read(place: Location) -> dict[str, Any] | None:
    content = _bytes(place)
    if content is None:
        return None
    try:
        values: dict[str, Any] = json.loads(content)
    except ValueError as error:
        raise ForeignJobError(f"{place.text} is no file of this service") from error
    return values


def _checked(kind: type[Any], values: Mapping[str, Any], place: Location) -> Any:
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        raise ForeignJobError(f"{place.text} is of another version of this service") from error
