"""MLflow's record of a campaign or sweep: `record` writes what stands in the run directory, and nothing twice.

A run of MLflow's is found by tags that name it, so `record` may be called while a campaign goes on, after it was
killed, and afterwards; what a server didn't take, the next call sends. This is the only module that imports MLflow.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shlex
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

import numpy as np
import pyarrow as pa
from pyarrow import fs

from kiago_ray.errors import InputError
from kiago_ray.runs.outcome import read_curves
from kiago_ray.runs.plan import Plan
from kiago_ray.runs.shards import SEARCHES, search_folder
from kiago_ray.search.result import QUANTITIES
from kiago_ray.storage.location import Location, StorageError
from kiago_ray.storage.run_directory import (
    CANDIDATES,
    REPORT,
    SPEC,
    SUMMARY,
    TOP,
    CampaignResults,
    DamagedError,
    RunDirectory,
    SearchResults,
    leaves,
    read_results,
)
from kiago_ray.sweep.metrics import METRICS
from kiago_ray.sweep.spec import SweepSpec
from kiago_ray.sweep.trials import PRESET, TABLE, Ledger, Trial, trial_name

TRACKING = "tracking.json"
DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"
LIVE_S, END_S = 10.0, 120.0  # what a call may take while the run goes on, and at its end
RETRY_S = 60.0  # how long a run goes on without its record after a failure
CURVE_POINTS = 250  # of each curve at most: a point takes 300 bytes of a database, and time
_SERVERS = ("http", "https")
_LOCAL = ("sqlite", "file")  # such URIs hold no user, and any character in their paths
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
_BATCHES = {"params": 25, "tags": 25, "metrics": 1000}  # MLflow takes 100, 100, 1000 and a megabyte
_PARAM_LENGTH, _TAG_LENGTH = 6000, 5000  # MLflow's limits
# Keys of spec.yaml that are no tags: parameters, or facts of the directory alone.
_NO_TAGS = ("campaign", "campaign_id", "sweep", "sweep_id", "shared", "identity", "finished", "outputs")
_FILES = {"sweep": (SPEC, TABLE, PRESET, SUMMARY, REPORT), "campaign": (SPEC, CANDIDATES, TOP, REPORT)}
_TRIAL_ENDS = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}
_CURVES = [f"{name}_{kind}" for name in QUANTITIES for kind in ("mean", "p50")]


class TrackingError(InputError):
    """MLflow's record can't be kept there. The message is one line: why, and what to do."""


@dataclass(frozen=True)
class TrackingTarget:
    """An MLflow server or database, whose URI may hold a password, and the experiment in it. Raises TrackingError."""

    uri: str = field(repr=False)
    experiment: str

    def __post_init__(self) -> None:
        if _kind(self.uri) not in (*_SERVERS, *_DATABASES):
            raise TrackingError(
                f"{self.hide(self.uri)!r} is no MLflow store; give a server such as http://127.0.0.1:5000, or "
                "sqlite:////path/to/mlflow.db"
            )

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
        return self.hide(f"{shown_uri(self.uri)}: {cause[2].rpartition(': ')[2]}" if cause else text)

    def _secrets(self) -> set[str]:
        if _kind(self.uri) in _LOCAL:
            return set()
        user, _, password = self.uri.partition("://")[2].rpartition("@")[0].partition(":")
        query = self.uri.partition("?")[2].partition("#")[0]
        found = {password or user, *(value for _, value in parse_qsl(query))}
        found |= {os.environ.get(name, "") for name in _SECRET_VARIABLES}
        return {secret for secret in found | set(map(unquote, found)) if len(secret) >= _LEAST_SECRET}


def tracking_target(run: Location, uri: str | None, experiment: str) -> TrackingTarget | None:
    """The store at `uri`, else that of MLFLOW_TRACKING_URI, else a database beside a local run directory, so that one
    UI shows many; None for a remote one. Raises TrackingError.
    """
    chosen = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not chosen and run.filesystem.type_name == "local":
        chosen = _sqlite_uri(Path(run.path).parent / DATABASE)
    return TrackingTarget(chosen, experiment) if chosen else None


def artifact_root(target: TrackingTarget, run: Location) -> str | None:
    """Where a new experiment's files go, as a URI; None leaves it to a server. MLflow itself would put those of a
    database into the working directory. Raises TrackingError.
    """
    if _kind(target.uri) in _SERVERS:
        return None
    beside = _sqlite_path(target.uri) or (Path(run.path) if run.filesystem.type_name == "local" else None)
    if beside is None:
        raise TrackingError(
            f"{shown_uri(target.uri)} has no place for the files of a remote campaign; give the URI of an MLflow "
            "server"
        )
    return (beside.parent / ARTIFACTS).as_uri()


def _sqlite_uri(path: Path) -> str:
    # SQLAlchemy takes what follows ? for options, and decodes %.
    return "sqlite:///" + str(path).replace("%", "%25").replace("?", "%3F")


def _sqlite_path(uri: str) -> Path | None:
    """The file of a sqlite URI; None for any other and for a database in memory."""
    path = unquote(uri.partition(":///")[2].partition("?")[0])
    return Path(path).absolute() if _kind(uri) == "sqlite" and path not in ("", ":memory:") else None


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
    """Write to MLflow what stands in the directory of a campaign or sweep, unless just that is there already. names:
    of the searches or trials to write; by default all that have results. ended: whether the campaign's own run gets
    its results and its last status too; until then it is RUNNING. After `patience_s` seconds nothing more is begun.
    Nothing is raised: what went wrong is in the report, and in tracking.json.
    """
    recorded: list[str] = []
    pending, problems, run_id = list(names or ()), list[str](), None
    try:
        if names is None:
            pending = part_names(directory, what)
        with _mlflow_at_hand():
            store = _Store(target, artifact_root(target, directory.location), patience_s)
            run_id = store.write(run_entry(directory, what, ended=False))
            for name in tuple(pending):
                try:
                    store.write(part_entry(directory, what, name), run_id)
                except Exception as error:
                    problems.append(f"{name}: {target.in_words(error)}")
                else:
                    pending.remove(name)
                    recorded.append(name)
            if ended:
                store.write(run_entry(directory, what, ended=True))
    except Exception as error:
        problems.append(target.in_words(error))
    problem = problems[0] if problems else None
    report = TrackingReport(len(recorded), tuple(pending), problem, run_id, shown_uri(target.uri))
    state = {**asdict(report), "recorded": recorded, "ended": ended, "experiment": target.experiment}
    try:
        (directory.location / TRACKING).write_bytes(json.dumps(state, indent=1, ensure_ascii=False).encode())
    except StorageError as error:
        return replace(report, problem=problem or target.in_words(error))
    return report


def recorded_whole(run: Location) -> bool:
    """Whether tracking.json says that MLflow has all of a run that has ended. Raises StorageError."""
    state = (run / TRACKING).read_mapping()
    return state.get("ended") is True and not (state.get("pending", True) or state.get("problem", True))


@dataclass
class LiveRecord:
    """The record of a run that goes on. A store that fails or hangs holds it up once in RETRY_S, for some LIVE_S."""

    directory: RunDirectory
    what: Plan | SweepSpec
    target: TrackingTarget | None
    waiting: tuple[str, ...] = ()
    not_before: float = -math.inf

    def done(self, *names: str) -> None:
        """Write what came of these searches or trials, and of those that failed to be written before."""
        self.waiting = tuple(dict.fromkeys((*self.waiting, *names)))
        if self.target is not None and time.monotonic() >= self.not_before:
            run = self.directory, self.what, self.target
            report = record(*run, names=self.waiting, ended=False, patience_s=LIVE_S)
            self.waiting = report.pending
            self.not_before = time.monotonic() + RETRY_S if report.problem else -math.inf

    def end(self, patience_s: float = END_S) -> TrackingReport | None:
        """Write all that isn't there, and how the run ended."""
        run = self.directory, self.what
        return None if self.target is None else record(*run, self.target, patience_s=patience_s)


class _Store:
    """The experiment of a target, made where there is none. root: URI for the files of a new one. Everything raises
    MLflow's errors, and TimeoutError where it would begin after `patience_s` seconds.
    """

    def __init__(self, target: TrackingTarget, root: str | None, patience_s: float) -> None:
        from mlflow import MlflowClient

        self._shown, self._patience_s = shown_uri(target.uri), patience_s
        self._until = time.monotonic() + patience_s
        database = _sqlite_path(target.uri)
        if database is not None:
            _make_database(database, root)
        self._client = MlflowClient(tracking_uri=target.uri)
        name = target.experiment
        found = self._client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage != "active":
            raise TrackingError(f"the experiment {name!r} was deleted from {self._shown}; restore it there")
        self._experiment = found.experiment_id if found else self._client.create_experiment(name, root)

    def write(self, entry: Entry, parent: str | None = None) -> str:
        """Write what isn't there yet of an entry; return its run's id. Its status is set last, to vouch for it."""
        self._check_time()
        run = self._take(entry, parent)
        run_id: str = run.info.run_id
        if parent is not None and run.info.status == entry.status:
            return run_id
        if entry.status == "RUNNING":
            self._client.update_run(run_id, status="RUNNING")
            self._log(run, entry, [])
        elif parent is not None:
            self._log(run, entry, entry.points(), run.info.start_time)  # of that time no point is doubled
            self._attach(run_id, entry)
            self._client.set_terminated(run_id, entry.status, entry.end_ms)
        else:
            try:
                changed = [each for each in entry.points() if run.data.metrics.get(each.key) != each.value]
                self._log(run, entry, changed)
                self._attach(run_id, entry)
            finally:  # a run below it that isn't whole has nobody who writes it
                for child in self._find(f"tags.`{_PARENT}` = '{run_id}' and attributes.status = 'RUNNING'"):
                    self._client.set_terminated(child.info.run_id, "KILLED")
                self._client.set_terminated(run_id, entry.status)
        return run_id

    def _take(self, entry: Entry, parent: str | None) -> Any:
        """The run of an entry, found or made; of two the oldest stays. Those of other sources go."""
        found = self._find(f"tags.`{_RUN}` = '{entry.id}'")
        chosen = next((run for run in found if run.data.tags.get(_SOURCES, "") == entry.sources), None)
        for run in (each for each in found if each is not chosen):
            if run.info.status == "RUNNING":
                self._client.set_terminated(run.info.run_id, "KILLED")
            self._client.delete_run(run.info.run_id)
        if chosen is not None:
            return chosen
        tags = {_RUN: entry.id, **({_SOURCES: entry.sources} if entry.sources else {})}
        tags |= {_PARENT: parent} if parent else {}
        return self._client.create_run(self._experiment, entry.start_ms, tags, entry.name)

    def _find(self, condition: str) -> list[Any]:
        """The runs of which the condition holds, oldest first."""
        order = ["attributes.start_time ASC"]
        return list(self._client.search_runs([self._experiment], condition, order_by=order))

    def _log(self, run: Any, entry: Entry, points: Sequence[Point], time_ms: int | None = None) -> None:
        """Give a run its parameters, which can't be changed later, its tags and these points, by default of now."""
        from mlflow.entities import Metric, Param, RunTag

        params, tags = texts_of(entry.params), texts_of(entry.tags)
        at_ms = time_ms or int(1000 * time.time())
        entities: dict[str, list[Any]] = {
            "params": [
                Param(k, clip(v, _PARAM_LENGTH)) for k, v in params.items() if k not in run.data.params
            ],
            "tags": [RunTag(k, clip(v, _TAG_LENGTH)) for k, v in tags.items() if v not in ("", "null")],
            "metrics": [Metric(point.key, point.value, at_ms, point.step) for point in points],
        }
        for kind, most in _BATCHES.items():
            for start in range(0, len(entities[kind]), most):
                part: dict[str, Any] = {kind: entities[kind][start : start + most]}
                self._client.log_batch(run.info.run_id, **part)

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
                self._client.log_artifact(run_id, file)

    def _check_time(self) -> None:
        if time.monotonic() > self._until:
            raise TimeoutError(f"{self._shown} took longer than {self._patience_s:g} s")


def _make_database(file: Path, root: str | None) -> None:
    """A new database, there whole or not at all: two processes that set up one file spoil it for good. Raises
    sqlite3.OperationalError for a place that can't be opened, which MLflow would try for 100 s.
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
        for name in ours:
            os.environ.pop(name, None)


class Point(NamedTuple):
    """One value of a metric. Its key's part before a slash heads a section of charts in MLflow's pages."""

    key: str
    value: float
    step: int = 0


@dataclass(frozen=True)
class Entry:
    """What MLflow is to hold of one run. id: finds the run again. points: a function, because curves are read from
    storage. folder: whose `files` and plots go along. sources: changes with what its points were made from.
    """

    id: str
    name: str
    status: str
    params: Mapping[str, Any]
    tags: Mapping[str, Any]
    points: Callable[[], list[Point]]
    folder: Location
    files: tuple[str, ...] = ()
    sources: str = ""
    start_ms: int | None = None
    end_ms: int | None = None


def run_entry(directory: RunDirectory, what: Plan | SweepSpec, *, ended: bool) -> Entry:
    """A campaign's or sweep's own entry; once `ended` with its results. Raises StorageError, DamagedError."""
    place, points = directory.location, list[Point]()
    complete, failures, output = False, False, shown_uri(directory.location.text)
    if isinstance(what, SweepSpec):
        kind, bases, seeds = "sweep", ", ".join(what.bases), what.seeds
        note = f"{what.description} Trials: {what.points:,}. Metric: {', '.join(what.metrics)}.".strip()
        if ended and (place / SUMMARY).kind() == "file":
            if not (summary := (place / SUMMARY).read_mapping()):
                raise DamagedError(f"{(place / SUMMARY).text} is damaged; run the sweep again")
            complete, failures = summary["complete"], any((summary["failures"], summary["compare_failures"]))
            points = sweep_points(summary)
    else:
        kind, bases, seeds = "campaign", ", ".join(what.campaign.bases), what.campaign.seeds
        bases = f"{len(what.families):,} known families" if what.families else bases
        note = f"Searches: {len(what.searches):,}. Candidates: {what.candidates:,}, in shards: {what.shard_count:,}."
        if ended and (results := read_results(place, CampaignResults)) is not None:
            complete, failures, points = results.complete, bool(results.failures), campaign_points(results)
    note += f" Bases: {bases or 'none, starts are random'}. Seeds: {len(seeds)}. Output: {output}"
    return Entry(
        id=directory.record[f"{kind}_id"],
        name=directory.record[kind]["name"],
        status="RUNNING" if not ended else "FINISHED" if complete else "FAILED" if failures else "KILLED",
        params=directory.record[kind],
        tags={**_shared_tags(directory, kind), "mlflow.note.content": note, "kiago.output": output},
        points=lambda: points,
        folder=place,
        files=_FILES[kind],
    )


def part_names(directory: RunDirectory, what: Plan | SweepSpec) -> list[str]:
    """The searches that have results, or the trials that have ended. Raises StorageError."""
    if isinstance(what, SweepSpec):
        trials = Ledger(directory.location, what).trials()
        return [trial.id for trial in trials if trial.status in _TRIAL_ENDS]
    there = set((directory.location / SEARCHES).entries())
    folders = {each.name: search_folder(directory.location, each.name) for each in what.searches}
    return [name for name in folders if name in there and (folders[name] / SUMMARY).kind() == "file"]


def part_entry(directory: RunDirectory, what: Plan | SweepSpec, name: str) -> Entry:
    """What MLflow is to hold of a search or trial. Raises StorageError, DamagedError."""
    if isinstance(what, SweepSpec):
        return _trial_entry(directory, what, name)
    folder = search_folder(directory.location, name)
    results = read_results(folder, SearchResults)
    if results is None:
        raise StorageError(f"{folder.text} holds no results yet; run the campaign again")
    search, shared = what.search(name), _shared_tags(directory, "campaign")
    return Entry(
        id=f"{directory.record['campaign_id']}/{name}",
        name=name,
        status="FINISHED" if results.complete else "FAILED",
        params=search.spec.model_dump(mode="json"),
        tags={**shared, "kiago.search": name, "kiago.variant": search.variant},
        points=lambda: search_points(results, read_curves(folder)),
        folder=folder,
        files=(SPEC, CANDIDATES, TOP),
        sources=results.sources,
        start_ms=int((results.finished_at - results.wall_s) * 1000),
        end_ms=int(results.finished_at * 1000),
    )


def _trial_entry(directory: RunDirectory, sweep: SweepSpec, name: str) -> Entry:
    trial = Ledger(directory.location, sweep).trial(int(name))
    if trial is None or trial.status not in _TRIAL_ENDS:
        raise StorageError(f"{directory.location.text} holds no end of trial {name}; run the sweep again")
    plain = json.dumps([asdict(score) for score in trial.scores] + [trial.status], sort_keys=True)
    sweep_id = directory.record["sweep_id"]
    own = {"kiago.trial": name, "kiago.status": trial.status, "kiago.cause": trial.cause}
    return Entry(
        id=f"{sweep_id}/{name}",
        name=f"trial {trial.number}",
        status=_TRIAL_ENDS[trial.status],
        params=trial.point,
        tags={"kiago.sweep_id": sweep_id, **own},
        points=lambda: trial_points(trial),
        folder=directory.location / trial_name(trial.number),
        sources=hashlib.sha256(plain.encode()).hexdigest()[:16],
        start_ms=int((time.time() - trial.seconds) * 1000),
    )


def _shared_tags(directory: RunDirectory, kind: str) -> dict[str, Any]:
    """Versions, weights' hashes and the like by the names that spec.yaml has for them."""
    about = {key: value for key, value in directory.record.items() if key not in _NO_TAGS}
    source = {"mlflow.source.name": f"kiago {kind}", "mlflow.source.git.commit": about.get("git")}
    return {**about, f"kiago.{kind}_id": directory.record[f"{kind}_id"], **source}


def texts_of(values: Mapping[str, Any]) -> dict[str, str]:
    """Nested values under dotted keys that MLflow takes, numbered where two are alike; all but texts as JSON."""
    found: dict[str, str] = {}
    for path, value in leaves(values):
        key, number = _usable_key(path), 1
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


def search_points(results: SearchResults, curves: pa.Table) -> list[Point]:
    """The numbers of a search and its curves, thinned to CURVE_POINTS. curves: a table of CURVES_SCHEMA."""
    took = {"shards_done": results.shards_done, "wall_s": results.wall_s}
    points = _points({**_numbers(results.summary.to_dict()), **took})
    chosen = np.unique(np.linspace(0, len(curves) - 1, min(len(curves), CURVE_POINTS)).round().astype(int))
    for row in curves.take(chosen).to_pylist():
        points += [
            Point(f"curve/{name}", row[name], row["step"]) for name in _CURVES if row[name] is not None
        ]
    return points


def campaign_points(results: CampaignResults) -> list[Point]:
    """The numbers of a campaign."""
    counts = {"shards_failed": len(results.failures), "shards_damaged": len(results.damaged)}
    return _points({**_numbers(results.to_dict()), **counts, "best": results.best[0] if results.best else {}})


def _numbers(summary: Mapping[str, Any]) -> dict[str, Any]:
    """A summary's own numbers, and in sections those of screens, of statuses, of the base and of the best k."""
    own = {name: value for name, value in summary.items() if not isinstance(value, Mapping)}
    sections = {"screen": summary.get("screen_fractions", {}), "status": summary["statuses"]}
    sections["base"] = summary.get("base") or {}
    tops = {f"top{top['k']}": {n: top[n] for n in top if n not in ("k", "used")} for top in summary["top"]}
    return {**own, **sections, **tops}


def trial_points(trial: Trial) -> list[Point]:
    """Every metric's mean over its seeds so far, and what they took."""
    took = {"seeds": trial.seeds, "row_steps": trial.row_steps, "search_seconds": trial.seconds}
    points = _points({**{f"{name}_error": trial.mean(name).error for name in METRICS}, **took})
    for seeds in range(1, trial.seeds + 1):
        points += _points({name: trial.mean(name, seeds).value for name in METRICS}, seeds)
    return points


def sweep_points(summary: Mapping[str, Any]) -> list[Point]:
    """The numbers of a sweep's summary.json."""
    metric = summary["metric"]
    best = {metric: (summary["best"] or {}).get(metric)}
    numbers = {"trials": summary["trials"], "row_steps": summary["row_steps"], "best": best}
    for each in summary["differences"]:
        key = f"best_minus_{each['other']}.{each['metric']}"
        numbers |= {key: each["value"], f"{key}.low": each["low"], f"{key}.high": each["high"]}
    return _points(numbers)


def _points(values: Mapping[str, Any], step: int = 0) -> list[Point]:
    """Those of nested values that are finite numbers, with dotted keys."""
    return [
        Point(_usable_key(path), float(value), step)
        for path, value in leaves(values)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    ]


def _usable_key(path: str) -> str:
    return re.sub(r"[^\w.\- ]", "_", path, flags=re.ASCII)


def shown_uri(uri: str) -> str:
    """A URI without user, password and query; a path as it is."""
    if _kind(uri) in ("", *_LOCAL):
        return uri
    return re.sub(r"\?.+", "?***", re.sub(r"://[^?]*@", "://***@", uri))


def _kind(uri: str) -> str:
    """A URI's scheme without a driver's name, such as http or sqlite; "" of a path."""
    return uri.partition("://")[0].partition("+")[0].lower() if "://" in uri else ""
