"""One experiment of an MLflow store: runs are found or made by tags that name them, and nothing is written twice.

A run's status is set last, so that it vouches for all else. `mlflow_at_hand` is how anything here speaks to MLflow.
"""

from __future__ import annotations

import getpass
import json
import math
import os
import re
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pyarrow import fs
from pydantic_core import to_json

from kiago_ray.storage.location import Location
from kiago_ray.storage.run_directory import leaves
from kiago_ray.tracking.target import TrackingError, TrackingTarget, shown_uri, sqlite_path, sqlite_uri

NOTE = "mlflow.note.content"  # the description of a run or an experiment, in Markdown
# MLflow alone tries a request again for minutes. What the user has set stands.
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_RUN, _SOURCES, _PARENT = "kiago.run", "kiago.sources", "mlflow.parentRunId"
_BATCHES = {"params": 25, "tags": 25, "metrics": 1000}  # MLflow takes 100, 100, 1000 and a megabyte
_PARAM_LENGTH, _TAG_LENGTH = 6000, 5000  # MLflow's limits
_TABLES_TAG = "mlflow.loggedArtifacts"  # by which the UI knows which files are tables
_EXPERIMENT = {
    NOTE: "Runs of kiago-ray, which proposes new superconductors. The description of each run says what it is.",
    "mlflow.experimentKind": "custom_model_development",  # else the UI asks each visitor
}


class Point(NamedTuple):
    """One value of a metric. Its key's part before a slash heads a section of charts in MLflow's pages. at_ms: when it
    was so, in milliseconds since 1970; None for when it is written.
    """

    key: str
    value: float
    step: int = 0
    at_ms: int | None = None


@dataclass(frozen=True)
class Entry:
    """What MLflow is to hold of one run. id: finds the run again. points: a function, because curves are read from
    storage. folder: whose `files` and plots go along. rows: what the UI shows as the table `table`. sources: changes
    with what its points were made from.
    """

    id: str
    name: str
    status: str
    params: Mapping[str, Any]
    tags: Mapping[str, Any]
    points: Callable[[], list[Point]]
    folder: Location
    files: tuple[str, ...] = ()
    rows: Callable[[], list[dict[str, Any]]] = list
    table: str = "candidates.json"
    sources: str = ""
    start_ms: int | None = None
    end_ms: int | None = None


class Store:
    """The experiment of a target, made where there is none. root: URI for the files of a new one. Everything raises
    MLflow's errors, and TimeoutError where it would begin after `patience_s` seconds.
    """

    def __init__(self, target: TrackingTarget, root: str | None, patience_s: float = math.inf) -> None:
        from mlflow import MlflowClient

        self._shown, self._patience_s = shown_uri(target.uri), patience_s
        self._until = time.monotonic() + patience_s
        database = sqlite_path(target.uri)
        if database is not None:
            _make_database(database, root)
        self.client = MlflowClient(tracking_uri=target.uri)
        name = target.experiment
        found = self.client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage != "active":
            raise TrackingError(f"the experiment {name!r} was deleted from {self._shown}; restore it there")
        self.experiment = (
            found.experiment_id if found else self.client.create_experiment(name, root, _EXPERIMENT)
        )

    def write(self, entry: Entry, parent: str | None = None) -> str:
        """Write what isn't there yet of an entry; return its run's id. Its status is set last, to vouch for it."""
        self._check_time()
        run = self._take(entry, parent)
        run_id: str = run.info.run_id
        if parent is not None and run.info.status == entry.status:
            return run_id
        if entry.status == "RUNNING":
            self.client.update_run(run_id, status="RUNNING")
            self._log(run, entry, [])
        elif parent is not None:
            self._log(run, entry, entry.points(), run.info.start_time)  # of that time no point is doubled
            self._attach(run_id, entry)
            self.client.set_terminated(run_id, entry.status, entry.end_ms)
        else:
            try:
                changed = [each for each in entry.points() if run.data.metrics.get(each.key) != each.value]
                self._log(run, entry, changed)
                self._attach(run_id, entry)
            finally:  # a run below it that isn't whole has nobody who writes it
                for child in self._find(f"tags.`{_PARENT}` = '{run_id}' and attributes.status = 'RUNNING'"):
                    self.client.set_terminated(child.info.run_id, "KILLED")
                self.client.set_terminated(run_id, entry.status, entry.end_ms)
        return run_id

    def _take(self, entry: Entry, parent: str | None) -> Any:
        """The run of an entry, found or made; of two the oldest stays. Those of other sources go."""
        found = self._find(f"tags.`{_RUN}` = '{entry.id}'")
        chosen = next((run for run in found if run.data.tags.get(_SOURCES, "") == entry.sources), None)
        for run in (each for each in found if each is not chosen):
            if run.info.status == "RUNNING":
                self.client.set_terminated(run.info.run_id, "KILLED")
            self.client.delete_run(run.info.run_id)
        if chosen is not None:
            return chosen
        tags = {_RUN: entry.id, **({_SOURCES: entry.sources} if entry.sources else {}), **_user()}
        tags |= {_PARENT: parent} if parent else {}
        name = (
            entry.name if parent else f"{entry.name} {time.strftime('%Y-%m-%d %H:%M:%S')}"
        )  # tells runs apart
        return self.client.create_run(self.experiment, entry.start_ms, tags, name)

    def _find(self, condition: str) -> list[Any]:
        """The runs of which the condition holds, oldest first."""
        order = ["attributes.start_time ASC"]
        return list(self.client.search_runs([self.experiment], condition, order_by=order))

    def _log(self, run: Any, entry: Entry, points: Sequence[Point], time_ms: int | None = None) -> None:
        """Give a run its parameters, which can't be changed later, its tags and these points, by default of now."""
        from mlflow.entities import Param, RunTag

        params, tags = texts_of(entry.params), texts_of(entry.tags)
        entities: dict[str, list[Any]] = {
            "params": [
                Param(k, clip(v, _PARAM_LENGTH)) for k, v in params.items() if k not in run.data.params
            ],
            "tags": [RunTag(k, clip(v, _TAG_LENGTH)) for k, v in tags.items() if v not in ("", "null")],
            "metrics": metrics_of(points, time_ms),
        }
        for kind, most in _BATCHES.items():
            for start in range(0, len(entities[kind]), most):
                part: dict[str, Any] = {kind: entities[kind][start : start + most]}
                self.client.log_batch(run.info.run_id, **part)

    def _attach(self, run_id: str, entry: Entry) -> None:
        """Copy an entry's files, in place of those of their names. Remote ones come by way of this machine."""
        names = [name for name in entry.folder.entries() if name in entry.files or name.endswith(".png")]
        for place in (entry.folder / name for name in names):
            self._check_time()
            with tempfile.TemporaryDirectory(prefix="kiago-") as scratch:
                file = place.path
                if place.filesystem.type_name != "local":
                    file = f"{scratch}/{place.name}"
                    fs.copy_files(place.path, file, place.filesystem, fs.LocalFileSystem())
                self.client.log_artifact(run_id, file)
        if rows := entry.rows():
            columns = list(rows[0])
            # As `log_table` writes it, which would add the same rows again with each call.
            values = {"columns": columns, "data": [[row[name] for name in columns] for row in rows]}
            self.client.log_text(run_id, to_json(values, inf_nan_mode="null").decode(), entry.table)
            self.client.set_tag(run_id, _TABLES_TAG, json.dumps([{"path": entry.table, "type": "table"}]))

    def _check_time(self) -> None:
        if time.monotonic() > self._until:
            raise TimeoutError(f"{self._shown} took longer than {self._patience_s:g} s")


def write_points(target: TrackingTarget, run_id: str, points: Sequence[Point]) -> None:
    """Write points of a run that goes on. Raises MLflow's errors."""
    from mlflow import MlflowClient

    MlflowClient(tracking_uri=target.uri).log_batch(run_id, metrics=metrics_of(points))


def metrics_of(points: Sequence[Point], at_ms: int | None = None, **of: Any) -> list[Any]:
    """Points as MLflow's entities; those without a time are of `at_ms`, by default now. of: their model and data."""
    from mlflow.entities import Metric

    now = at_ms or int(1000 * time.time())
    return [Metric(each.key, each.value, each.at_ms or now, each.step, **of) for each in points]


def _user() -> dict[str, str]:
    """Who runs it, by the tag that MLflow's pages read; none where the system doesn't tell, as in some containers."""
    with suppress(OSError, KeyError, ImportError):
        return {"mlflow.user": getpass.getuser()}
    return {}


def _make_database(file: Path, root: str | None) -> None:
    """A new database, there whole or not at all: two processes that set up one file spoil it for good. Raises
    sqlite3.OperationalError for a place that can't be opened, which MLflow would try for 100 s.
    """
    if not file.exists():
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f".{file.name}.{uuid.uuid4().hex}.tmp")
        try:
            SqlAlchemyStore(sqlite_uri(draft), root).engine.dispose()  # type: ignore[no-untyped-call]
            with suppress(FileExistsError):  # another process was faster
                os.link(draft, file)
        finally:
            draft.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            connection.execute("PRAGMA schema_version").fetchone()
    except sqlite3.Error as error:
        raise sqlite3.OperationalError(f"can't open the database {file}: {error}") from error


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
        for name in ours:
            os.environ.pop(name, None)


def texts_of(values: Mapping[str, Any]) -> dict[str, str]:
    """Nested values under dotted keys that MLflow takes, numbered where two are alike; all but texts as JSON."""
    found: dict[str, str] = {}
    for path, value in leaves(values):
        key, number = usable_key(path), 1
        while (numbered := key if number == 1 else f"{key}_{number}") in found:
            number += 1
        found[numbered] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return found


def clip(text: str, length: int) -> str:
    """The text, cut to `length` characters, with words at its end that say so."""
    if len(text) <= length:
        return text
    ending = f"… ({len(text):,} characters)"
    return text[: length - len(ending)] + ending


def usable_key(path: str) -> str:
    return re.sub(r"[^\w.\- ]", "_", path, flags=re.ASCII)
