"""MLflow's record of a campaign or sweep: `record` writes what stands in the run directory, and nothing twice.

A run of MLflow's is found by tags that name it, so `record` may be called while a campaign goes on, after it was
killed, and afterwards; what a server didn't take, the next call sends. This is the only module that imports MLflow.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pyarrow import fs

from kiago_ray.errors import InputError
from kiago_ray.runs.plan import Plan
from kiago_ray.storage.location import Location, StorageError
from kiago_ray.storage.run_directory import RunDirectory
from kiago_ray.sweep.spec import SweepSpec
from kiago_ray.tracking_entries import LOCAL, TAG_LENGTH, Entry, Point, clip, entries_of, shown_uri

TRACKING = "tracking.json"
DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"
LIVE_S, END_S = 10.0, 120.0  # what a call may take while the run goes on, and at its end
RETRY_S = 60.0  # how long a run goes on without its record after a failure
_SERVERS = ("http", "https")
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_SECRET_VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
_LEAST_SECRET = 4  # replacing shorter ones would only garble a message; in a URI they are hidden all the same
_LONGEST_MESSAGE = 300
# MLflow alone tries a request again for minutes. What the user has set stands.
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_RUN, _SOURCES, _PARENT = "kiago.run", "kiago.sources", "mlflow.parentRunId"
_BATCH, _POINTS_A_BATCH = 25, 1000  # MLflow takes 100, 1000 and a megabyte


class TrackingError(InputError):
    """MLflow's record can't be kept there. The message is one line: why, and what to do."""


@dataclass(frozen=True)
class TrackingTarget:
    """An MLflow server or database, and the experiment in it. The URI may hold a user and a password.

    Raises TrackingError for a URI of neither.
    """

    uri: str = field(repr=False)
    experiment: str

    def __post_init__(self) -> None:
        if self.kind not in (*_SERVERS, *_DATABASES) or "://" not in self.uri:
            raise TrackingError(
                f"{self.hide(self.uri)!r} is no MLflow store; give a server such as http://127.0.0.1:5000, or "
                "sqlite:////path/to/mlflow.db"
            )
        if not self.experiment.strip():
            raise TrackingError("the MLflow experiment has no name; give one")

    @property
    def kind(self) -> str:
        """The URI's scheme without a driver's name, such as http or sqlite; "" where there is none."""
        return self.uri.partition(":")[0].partition("+")[0].lower() if ":" in self.uri else ""

    @property
    def shown(self) -> str:
        """The URI as people may see it: without user, password and query."""
        return shown_uri(self.uri)

    def hide(self, text: str) -> str:
        """A message on one line, not too long, without this target's secrets."""
        for secret in sorted(self._secrets(), key=len, reverse=True):
            text = text.replace(secret, "***")
        line = re.sub(r"(?<!sqlite)(?<!file)://\S*@", "://***@", " ".join(text.split()))
        return line if len(line) <= _LONGEST_MESSAGE else line[: _LONGEST_MESSAGE - 1] + "…"

    def in_words(self, error: BaseException) -> str:
        """What a store's error says, for people: one line, no secrets."""
        text = str(error) or type(error).__name__
        cause = re.search(r"Caused by \w+\(([\"'])(.*)\1\)", text)  # urllib3's, at the end of a long chain
        return self.hide(f"{self.shown}: {cause[2].rpartition(': ')[2]}" if cause else text)

    def _secrets(self) -> set[str]:
        if self.kind in LOCAL:
            return set()
        user, _, password = self.uri.partition("://")[2].rpartition("@")[0].partition(":")
        try:
            query = parse_qsl(urlsplit(self.uri).query)
        except ValueError:
            query = []
        found = {password or user, *(value for _, value in query)}
        found |= {os.environ.get(name, "") for name in _SECRET_VARIABLES}
        return {secret for secret in found | set(map(unquote, found)) if len(secret) >= _LEAST_SECRET}


def tracking_target(
    run: Location, uri: str | None, experiment: str, *, none: bool = False
) -> TrackingTarget | None:
    """The store at `uri`, else that of MLFLOW_TRACKING_URI, else a database beside a local run directory, so that one
    UI shows many; None for a remote one, and where `none` is asked for. Raises TrackingError.
    """
    if none:
        if uri is not None:
            raise TrackingError("--tracking-uri and --no-tracking contradict each other; give one of them")
        return None
    chosen = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not chosen and run.filesystem.type_name == "local":
        chosen = _sqlite_uri(Path(run.path).parent / DATABASE)
    return TrackingTarget(chosen, experiment) if chosen else None


def artifact_root(target: TrackingTarget, run: Location) -> str | None:
    """Where a new experiment's files go, as a URI; None leaves it to a server. Raises TrackingError.

    MLflow itself would put a database's files into the working directory.
    """
    if target.kind in _SERVERS:
        return None
    database = _sqlite_path(target.uri)
    if database is not None:
        return (database.parent / ARTIFACTS).as_uri()
    if run.filesystem.type_name == "local":
        return (Path(run.path).parent / ARTIFACTS).as_uri()
    raise TrackingError(
        f"{target.shown} has no place for the files of a remote campaign; give the URI of an MLflow server"
    )


def _sqlite_uri(path: Path) -> str:
    # SQLAlchemy takes what follows ? for options, and decodes %.
    return "sqlite:///" + str(path).replace("%", "%25").replace("?", "%3F")


def _sqlite_path(uri: str) -> Path | None:
    """The file of a sqlite URI; None for any other and for a database in memory."""
    scheme, _, rest = uri.partition(":///")
    path = unquote(rest.partition("?")[0])
    if scheme.partition("+")[0].lower() != "sqlite" or path in ("", ":memory:"):
        return None
    return Path(path).absolute()


@dataclass(frozen=True)
class TrackingReport:
    """What MLflow has after a call. recorded: how many searches or trials. pending: the names of those it lacks.
    problem: why it lacks something, in one line. uri: without secrets.
    """

    recorded: int
    pending: tuple[str, ...]
    problem: str | None
    run_id: str | None
    uri: str

    def in_words(self, resend: str) -> str:
        """Where the record is, or what is missing from it and that the command `resend` sends it, in a line."""
        if self.problem or self.pending:
            missing = f"{len(self.pending)} runs" if self.pending else "a part"
            return (
                f"MLflow at {self.uri} lacks {missing} ({self.problem}); nothing is lost: {resend} sends it"
            )
        if self.uri.startswith("sqlite:"):
            return f"MLflow has the record; look at it with: mlflow ui --backend-store-uri {shlex.quote(self.uri)}"
        return f"MLflow at {self.uri} has the record, run {self.run_id}"


def record(
    directory: RunDirectory,
    what: Plan | SweepSpec,
    target: TrackingTarget,
    *,
    names: Sequence[str] | None = None,
    ended: bool = True,
    patience_s: float = math.inf,
) -> TrackingReport:
    """Write to MLflow what stands in the directory of a campaign or sweep, unless just that is there already.

    names: of the searches or trials to write; by default all that have results. ended: whether the campaign's own
    run gets its results and its last status too; until then it is RUNNING. After `patience_s` seconds nothing more
    is begun. Nothing is raised: what went wrong is in the report, and in tracking.json.
    """
    recorded: list[str] = []
    pending, problems, run_id = list(names or ()), list[str](), None
    try:
        entries = entries_of(directory, what)
        if names is None:
            pending = entries.there()
        with _mlflow_at_hand():
            store = _Store(target, artifact_root(target, directory.location), patience_s)
            run_id = store.write(entries.parent(ended=False))
            for name in tuple(pending):
                try:
                    store.write(entries.child(name), run_id)
                except Exception as error:
                    problems.append(f"{name}: {target.in_words(error)}")
                else:
                    pending.remove(name)
                    recorded.append(name)
            if ended:
                store.write(entries.parent(ended=True))
    except Exception as error:
        problems.append(target.in_words(error))
    problem = problems[0] if problems else None
    report = TrackingReport(len(recorded), tuple(pending), problem, run_id, target.shown)
    state = {**asdict(report), "recorded": recorded, "ended": ended, "experiment": target.experiment}
    try:
        (directory.location / TRACKING).write_bytes(json.dumps(state, indent=1, ensure_ascii=False).encode())
    except StorageError as error:
        return replace(report, problem=problem or target.in_words(error))
    return report


def recorded_whole(run: Location) -> bool:
    """Whether tracking.json says that MLflow has all of a run that has ended. Raises StorageError."""
    place = run / TRACKING
    if place.kind() != "file":
        return False
    try:
        state = json.loads(place.read_bytes())
    except ValueError:
        return False
    return (
        isinstance(state, dict) and state.get("ended") is True and not (state["pending"] or state["problem"])
    )


class LiveRecord:
    """The record of a run that goes on. A store that fails or hangs holds it up once in RETRY_S, for some LIVE_S.
    Without a target there is none.
    """

    def __init__(
        self, directory: RunDirectory, what: Plan | SweepSpec, target: TrackingTarget | None
    ) -> None:
        self._directory, self._what, self._target = directory, what, target
        self._waiting: dict[str, None] = {}
        self._not_before = -math.inf

    def done(self, *names: str) -> None:
        """Write what came of these searches or trials, and of those that failed to be written before."""
        self._waiting |= dict.fromkeys(names)
        if self._target is None or time.monotonic() < self._not_before:
            return
        report = record(
            self._directory,
            self._what,
            self._target,
            names=tuple(self._waiting),
            ended=False,
            patience_s=LIVE_S,
        )
        self._waiting = dict.fromkeys(report.pending)
        if report.problem:
            self._not_before = time.monotonic() + RETRY_S

    def end(self, patience_s: float = END_S) -> TrackingReport | None:
        """Write all that isn't there, and how the run ended."""
        if self._target is None:
            return None
        return record(self._directory, self._what, self._target, patience_s=patience_s)


class _Store:
    """The experiment of a target, made where there is none.

    root: URI for the files of a new experiment. Everything raises MLflow's errors, and TimeoutError where it would
    begin after `patience_s` seconds; the constructor TrackingError, for an experiment that was deleted.
    """

    def __init__(self, target: TrackingTarget, root: str | None, patience_s: float) -> None:
        from mlflow import MlflowClient

        self._shown, self._patience_s = target.shown, patience_s
        self._until = time.monotonic() + patience_s
        database = _sqlite_path(target.uri)
        if database is not None:
            _make_database(database, root)
        self._client = MlflowClient(tracking_uri=target.uri)
        found = self._client.get_experiment_by_name(target.experiment)
        if found is None:
            self._experiment = self._client.create_experiment(target.experiment, artifact_location=root)
        elif found.lifecycle_stage == "active":
            self._experiment = found.experiment_id
        else:
            raise TrackingError(
                f"the experiment {target.experiment!r} was deleted from {target.shown}; restore it there"
            )

    def write(self, entry: Entry, parent: str | None = None) -> str:
        """Write what isn't there yet of an entry; return its run's id. Its status is set last, to vouch for it."""
        self._check_time()
        run = self._take(entry, parent)
        run_id: str = run.info.run_id
        if parent is not None and run.info.status == entry.status:
            return run_id
        if entry.status == "RUNNING":
            self._client.update_run(run_id, status="RUNNING")
            self._describe(run, entry)
        elif parent is None:
            try:
                changed = [each for each in entry.points() if run.data.metrics.get(each.key) != each.value]
                self._measure(run_id, changed, int(time.time() * 1000))
                self._attach(run_id, entry)
            finally:  # a run below it that isn't whole has nobody who writes it
                for child in self._find(f"tags.`{_PARENT}` = '{run_id}' and attributes.status = 'RUNNING'"):
                    self._client.set_terminated(child.info.run_id, "KILLED")
                self._client.set_terminated(run_id, entry.status)
        else:
            self._describe(run, entry)
            # A point that is there already with its time isn't doubled.
            self._measure(run_id, entry.points(), run.info.start_time)
            self._attach(run_id, entry)
            self._client.set_terminated(run_id, entry.status, entry.end_ms)
        return run_id

    def _take(self, entry: Entry, parent: str | None) -> Any:
        """The run of an entry, made where there is none. One of other sources goes, and one that was made twice
        because an answer was lost.
        """
        chosen = None
        for run in self._find(f"tags.`{_RUN}` = '{entry.id}'"):
            if chosen is None and run.data.tags.get(_SOURCES, "") == entry.sources:
                chosen = run
                continue
            if run.info.status == "RUNNING":
                self._client.set_terminated(run.info.run_id, "KILLED")
            self._client.delete_run(run.info.run_id)
        if chosen is not None:
            return chosen
        tags = {_RUN: entry.id, _SOURCES: entry.sources, _PARENT: parent or ""}
        start_ms = entry.start_ms or int(time.time() * 1000)
        tags = {key: value for key, value in tags.items() if value}
        return self._client.create_run(self._experiment, start_ms, tags, entry.name)

    def _find(self, condition: str) -> list[Any]:
        """The runs of which the condition holds, oldest first."""
        order = ["attributes.start_time ASC"]
        return list(self._client.search_runs([self._experiment], condition, order_by=order))

    def _describe(self, run: Any, entry: Entry) -> None:
        """Give a run its parameters, which can't be changed later, and its tags."""
        from mlflow.entities import Param, RunTag

        params = [Param(key, value) for key, value in entry.params.items() if key not in run.data.params]
        tags = [RunTag(key, clip(value, TAG_LENGTH)) for key, value in entry.tags.items() if value]
        for start in range(0, max(len(params), len(tags)), _BATCH):
            part = slice(start, start + _BATCH)
            self._client.log_batch(run.info.run_id, params=params[part], tags=tags[part])

    def _measure(self, run_id: str, points: Sequence[Point], time_ms: int) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(point.key, point.value, time_ms, point.step) for point in points]
        for start in range(0, len(metrics), _POINTS_A_BATCH):
            self._client.log_batch(run_id, metrics=metrics[start : start + _POINTS_A_BATCH])

    def _attach(self, run_id: str, entry: Entry) -> None:
        """Copy an entry's files, in place of those of their names. Remote ones come by way of this machine."""
        if entry.folder is None:
            return
        for name in entry.folder.entries():
            if name in entry.files or name.endswith(".png"):
                self._check_time()
                with tempfile.TemporaryDirectory(prefix="kiago-") as scratch:
                    self._client.log_artifact(run_id, str(_local_file(entry.folder / name, Path(scratch))))

    def _check_time(self) -> None:
        if time.monotonic() > self._until:
            raise TimeoutError(f"{self._shown} took longer than {self._patience_s:g} s")


def _local_file(place: Location, scratch: Path) -> Path:
    """The file, copied into `scratch` where it is remote."""
    if place.filesystem.type_name == "local":
        return Path(place.path)
    fs.copy_files(place.path, str(scratch / place.name), place.filesystem, fs.LocalFileSystem())
    return scratch / place.name


def _make_database(file: Path, root: str | None) -> None:
    """A new database, there whole or not at all: two processes that set up one file spoil it for good.

    Raises sqlite3.OperationalError for a place that can't be opened, which MLflow would try for 100 s.
    """
    if not file.exists():
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f".{file.name}.{uuid.uuid4().hex}.tmp")
        try:
            SqlAlchemyStore(_sqlite_uri(draft), root).engine.dispose()  # type: ignore[no-untyped-call]
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
def _mlflow_at_hand() -> Iterator[None]:
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
