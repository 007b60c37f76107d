"""An experiment in an MLflow store: runs found by their tags, made, filled and ended. The only import of MLflow."""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from kiago_ray.distributed.tracking.content import Point
from kiago_ray.distributed.tracking.target import TrackingError, TrackingTarget, sqlite_path, sqlite_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

PARENT = "mlflow.parentRunId"
_POINTS_A_BATCH, _PARAMS_A_BATCH, _TAGS_A_BATCH = 1000, 25, 50  # MLflow takes 1000, 100, 100 and a megabyte
_RUNS_A_PAGE = 200
# MLflow's own patience is 7 retries of up to 120 s each; ours is the tracker's. What the user has set stands.
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

T = TypeVar("T")


class Attempt(Protocol):
    """Calls an operation, again where it fails, and raises its error when patience is at an end."""

    def __call__(self, operation: Callable[[], T]) -> T: ...


@contextmanager
def mlflow_at_hand() -> Iterator[None]:
    """MLflow imported, impatient, and silent in this thread: what goes wrong in it is raised as well as logged."""
    ours = {name: value for name, value in _SETTINGS.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        from mlflow.utils.logging_utils import suppress_logs_in_thread

        with suppress_logs_in_thread():
            yield
    finally:
        for name, value in ours.items():
            if os.environ.get(name) == value:
                del os.environ[name]


@dataclass(frozen=True)
class StoredRun:
    """A run as the store had it. params: the keys that it has. metrics: the latest values."""

    id: str
    status: str
    start_ms: int
    tags: Mapping[str, str]
    params: frozenset[str]
    metrics: Mapping[str, float]

    @classmethod
    def of(cls, run: object) -> StoredRun:
        """From MLflow's Run."""
        info, data = run.info, run.data  # type: ignore[attr-defined]
        return cls(
            id=info.run_id,
            status=info.status,
            start_ms=info.start_time,
            tags=dict(data.tags),
            params=frozenset(data.params),
            metrics=dict(data.metrics),
        )


class Store:
    """The experiment of a target, made where there is none. Use it within `mlflow_at_hand`.

    root: URI for the files of a new experiment, None to leave it to the server. Everything raises MLflow's errors
    (MlflowException and whatever lies below it), after `attempt` has tried again; the constructor TrackingError too,
    for an experiment that was deleted.
    """

    def __init__(self, target: TrackingTarget, root: str | None, attempt: Attempt) -> None:
        self._attempt = attempt
        self._client = attempt(lambda: _client(target, root))
        self._experiment = attempt(lambda: _experiment(self._client, target, root))

    def find(self, tags: Mapping[str, str], status: str | None = None) -> list[StoredRun]:
        """The runs with these tags, oldest first. Values hold no quotes."""
        conditions = [f"tags.`{key}` = '{value}'" for key, value in tags.items()]
        if status is not None:
            conditions.append(f"attributes.status = '{status}'")
        found: list[StoredRun] = []
        token = None
        while True:
            search = partial(
                self._client.search_runs,
                [self._experiment],
                " and ".join(conditions),
                max_results=_RUNS_A_PAGE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            page = self._attempt(search)
            found += map(StoredRun.of, page)
            token = page.token
            if not token:
                return found

    def take(
        self, name: str, tags: Mapping[str, str], *, start_ms: int, parent: str | None = None
    ) -> StoredRun:
        """The run with these tags, made where there is none. Of several, made when an answer was lost, one stays."""

        def find_or_make() -> StoredRun:
            found = self.find(tags)
            for surplus in found[1:]:
                self.discard(surplus)
            if found:
                return found[0]
            own = {**tags, **({} if parent is None else {PARENT: parent})}
            made = self._client.create_run(self._experiment, start_time=start_ms, tags=own, run_name=name)
            return StoredRun.of(made)

        return self._attempt(find_or_make)

    def describe(self, run: StoredRun, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Give the run its parameters, which can't be changed later, and its tags."""
        from mlflow.entities import Param, RunTag

        missing = [Param(key, value) for key, value in params.items() if key not in run.params]
        for part in _parts(missing, _PARAMS_A_BATCH):
            self._attempt(partial(self._client.log_batch, run.id, params=part))
        for group in _parts([RunTag(key, value) for key, value in tags.items()], _TAGS_A_BATCH):
            self._attempt(partial(self._client.log_batch, run.id, tags=group))

    def measure(self, run: StoredRun, points: Sequence[Point], time_ms: int) -> None:
        """Log points; those that are there already, with this time, aren't doubled."""
        from mlflow.entities import Metric

        metrics = [Metric(point.key, point.value, time_ms, point.step) for point in points]
        for part in _parts(metrics, _POINTS_A_BATCH):
            self._attempt(partial(self._client.log_batch, run.id, metrics=part))

    def attach(self, run: StoredRun, file: Path) -> None:
        """Copy a file of this machine to the run's files, in place of one of its name."""
        self._attempt(lambda: self._client.log_artifact(run.id, str(file)))

    def begin(self, run: StoredRun) -> None:
        """Set the run RUNNING."""
        if run.status != "RUNNING":
            self._attempt(lambda: self._client.update_run(run.id, status="RUNNING"))

    def end(self, run: StoredRun, status: str, end_ms: int | None = None) -> None:
        """Set the run's last status. end_ms: now without one."""
        self._attempt(lambda: self._client.set_terminated(run.id, status, end_ms))

    def discard(self, run: StoredRun) -> None:
        """Move the run to MLflow's deleted ones, ended."""
        if run.status == "RUNNING":
            self.end(run, "KILLED")
        self._attempt(lambda: self._client.delete_run(run.id))


def _client(target: TrackingTarget, root: str | None) -> MlflowClient:
    from mlflow import MlflowClient

    database = sqlite_path(target.uri)
    if database is not None:
        if not database.exists():
            _make_database(database, root)
        _look_into(database)
    return MlflowClient(tracking_uri=target.uri)


def _look_into(file: Path) -> None:
    """Raise sqlite3.OperationalError for what can't be opened: MLflow would try that for 100 s."""
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            connection.execute("PRAGMA schema_version").fetchone()
    except sqlite3.Error as error:
        raise sqlite3.OperationalError(f"can't open the database {file}: {error}") from error


def _make_database(file: Path, root: str | None) -> None:
    """A new database, there whole or not at all: two processes that set up one file spoil it for good."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{uuid.uuid4().hex}.tmp")
    try:
        SqlAlchemyStore(sqlite_uri(draft), root).engine.dispose()  # type: ignore[no-untyped-call]
        try:
            os.link(draft, file)
        except FileExistsError:
            pass  # another process was faster
        except OSError:
            os.rename(draft, file)  # a filesystem without links
    finally:
        with suppress(FileNotFoundError):
            draft.unlink()


def _experiment(client: MlflowClient, target: TrackingTarget, root: str | None) -> str:
    found = client.get_experiment_by_name(target.experiment)
    if found is None:
        return str(client.create_experiment(target.experiment, artifact_location=root))
    if found.lifecycle_stage != "active":
        raise TrackingError(
            f"the experiment {target.experiment!r} was deleted from {target.shown}; restore it there"
        )
    return str(found.experiment_id)


def _parts(items: Sequence[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part
