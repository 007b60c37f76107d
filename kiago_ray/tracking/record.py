"""MLflow's record of a run: `record` writes what stands in its directory, and nothing twice.

A run of MLflow's is found by tags that name it, so `record` may be called while a campaign goes on, after it was
killed, and afterwards; what a server didn't take, the next call sends.
"""

from __future__ import annotations

import json
import math
import shlex
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path

from kiago_ray.runs.plan import Plan
from kiago_ray.runs.shards import Manifest
from kiago_ray.storage.location import Location, StorageError
from kiago_ray.storage.run_directory import RunDirectory
from kiago_ray.tracking.entries import Recorded, campaign_progress, part_entry, part_names, run_entry
from kiago_ray.tracking.model import link_model
from kiago_ray.tracking.store import Point, Store, mlflow_at_hand, write_points
from kiago_ray.tracking.target import TrackingTarget, artifact_root, shown_uri

TRACKING = "tracking.json"
LIVE_S, END_S = 10.0, 120.0  # what a call may take while the run goes on, and at its end
RETRY_S = 60.0  # how long a run goes on without its record after a failure
PROGRESS_S = 10.0  # between two times that a run's numbers move


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
    what: Recorded,
    target: TrackingTarget,
    *,
    names: Sequence[str] | None = None,
    ended: bool = True,
    patience_s: float = math.inf,
    weights: Path | None = None,
) -> TrackingReport:
    """Write to MLflow what stands in the directory of a campaign, a sweep or a search, unless just that is there.

    names: of the searches or trials to write; by default all that have results. ended: whether the campaign's own run
    gets its results and its last status too; until then it is RUNNING. After `patience_s` seconds nothing more is
    begun. weights: the folder of a search's, where they aren't the shipped ones; the other files name theirs. Nothing
    is raised: what went wrong is in the report, and in tracking.json.
    """
    named = what.campaign.weights if isinstance(what, Plan) else getattr(what, "weights", None)
    folder = weights if named is None else Path(named)
    recorded: list[str] = []
    pending, problems, run_id = list(names or ()), list[str](), None
    try:
        if names is None:
            pending = part_names(directory, what)
        with mlflow_at_hand():
            root = artifact_root(target, directory.location)
            store = Store(target, root, patience_s)
            run_id = store.write(run_entry(directory, what, ended=False))
            for name in tuple(pending):
                try:
                    store.write(part_entry(directory, what, name), run_id)
                except Exception as error:
                    problems.append(f"{name}: {target.in_words(error)}")
                else:
                    pending.remove(name)
                    recorded.append(name)
            if ended or not names:
                try:
                    link_model(store, run_id, directory.record.get("weights") or {}, target, root, folder)
                except Exception as error:
                    problems.append(f"the model: {target.in_words(error)}")
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
    what: Recorded
    target: TrackingTarget | None
    waiting: tuple[str, ...] = ()
    not_before: float = -math.inf
    run_id: str | None = None
    last: tuple[float, int] | None = None  # when it moved, and the rows that were done

    def done(self, *names: str) -> None:
        """Write what came of these searches or trials, and of those that failed to be written before."""
        self.waiting = tuple(dict.fromkeys((*self.waiting, *names)))
        if self.target is not None and time.monotonic() >= self.not_before:
            run = self.directory, self.what, self.target
            report = record(*run, names=self.waiting, ended=False, patience_s=LIVE_S)
            self.waiting, self.run_id = report.pending, report.run_id
            self.not_before = time.monotonic() + RETRY_S if report.problem else -math.inf

    def progress(self, done: Iterable[Sequence[Manifest]]) -> list[Point]:
        """How far a campaign is, to be handed to `move`; [] within PROGRESS_S of the last. Asks nothing of MLflow."""
        now = time.monotonic()
        if self.run_id is None or (self.last is not None and now < self.last[0] + PROGRESS_S):
            return []
        manifests = list(chain.from_iterable(done))
        rows, before = sum(manifest.rows for manifest in manifests), self.last
        self.last = now, rows
        if before is None:
            return []
        return campaign_progress(manifests, (rows - before[1]) / max(now - before[0], 1e-3))

    def move(self, points: Sequence[Point]) -> None:
        """Write how far the run is. What a store doesn't take is left out: the next points say more."""
        if self.target is None or self.run_id is None or not points or time.monotonic() < self.not_before:
            return
        try:
            with mlflow_at_hand():
                write_points(self.target, self.run_id, points)
        except Exception:
            self.not_before = time.monotonic() + RETRY_S

    def end(self, patience_s: float = END_S) -> TrackingReport | None:
        """Write all that isn't there, and how the run ended."""
        run = self.directory, self.what
        return None if self.target is None else record(*run, self.target, patience_s=patience_s)
