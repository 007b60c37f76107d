"""A record kept by a thread of its own: MLflow may be slow, ill or gone, and the campaign or sweep doesn't notice.

What is to be logged is worked out from the directory, so that nothing but names is queued in memory, and what one
process couldn't log another one can.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from kiago_ray.campaign.plan import Plan
from kiago_ray.campaign.summaries import read_campaign_results
from kiago_ray.distributed.tracking.patience import Abandoned, Patience, of_one_search
from kiago_ray.distributed.tracking.runs import CampaignRuns
from kiago_ray.distributed.tracking.store import Attempt, mlflow_at_hand
from kiago_ray.distributed.tracking.target import TrackingTarget
from kiago_ray.storage.location import Location, StorageError

TRACKING = "tracking.json"
PATIENCE_S = 8.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 120.0
_WRITE_EVERY_S = 5.0

Status = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class TrackingReport:
    """What MLflow has. recorded: searches, or trials. pending: the names of those it lacks. problem: why it lacks
    something, in one line. uri: without secrets.
    """

    recorded: int
    pending: tuple[str, ...]
    problem: str | None
    run_id: str | None
    uri: str


class Runs(Protocol):
    """What is logged, where: a parent run and one for each name, found or made."""

    run_id: str | None

    def open(self) -> object:
        """Find or make the parent run."""

    def forget(self) -> None:
        """Look at the store anew with the next call."""

    def there(self) -> Iterable[str]:
        """The names that have results already."""

    def log(self, name: str) -> None:
        """Log what came of one."""

    def close(self, status: str) -> None:
        """Log what came of all, end the parent run."""


class Keeper:
    """Logs in a thread of its own, a daemon. Only `finish` waits, and no failure of the record is raised.

    place: the directory that is recorded. names: of all that may be logged. patience_s: for how long an operation is
    tried again before the store counts as out of reach; from then on it is tried now and then.
    """

    def __init__(
        self,
        place: Location,
        names: Iterable[str],
        runs: Callable[[Attempt], Runs],
        target: TrackingTarget,
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._place, self._target = place, target
        self._names = dict.fromkeys(names)
        self._abandoned, self._ended = threading.Event(), threading.Event()
        self._runs = runs(Patience(patience_s, self._abandoned))
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)
        self._changed = threading.Condition()
        # Under _changed. _waiting: name → which call of search_done asked for it, 0 for none.
        self._waiting: dict[str, int] = {}
        self._calls = 0
        self._recorded: set[str] = set()
        self._problem: str | None = None
        self._something_to_do = True
        self._last_status: Status | None = None
        # The thread's own.
        self._listed = False
        self._pause_s, self._retry_at = _FIRST_PAUSE_S, 0.0
        self._written_at = 0.0

    def start(self) -> None:
        """Begin: the campaign's run is made or continued, and searches that are done already are logged."""
        with self._changed:
            if self._thread.ident is None:
                self._thread.start()

    def search_done(self, name: str) -> None:
        """A search's results are there, or a trial's. Raises KeyError for a name that isn't among all."""
        with self._changed:
            self._calls += 1
            if name not in self._names:
                raise KeyError(name)
            self._waiting[name] = self._calls
            self._recorded.discard(name)
            self._something_to_do = True
            self._changed.notify()

    def finish(self, status: Status, timeout_s: float | None = 120) -> TrackingReport:
        """Log what came of the campaign, try once more what failed, end its run. Waits `timeout_s` at most."""
        self.start()
        with self._changed:
            self._last_status = status
            self._changed.notify()
        if not self._ended.wait(timeout_s):
            self._abandoned.set()
            with self._changed:
                self._problem = self._problem or f"{self._target.shown} took longer than {timeout_s:g} s"
            self._write()
        return self._report()

    def _work(self) -> None:
        try:
            while self._wait() is None:
                self._pass(None)
            self._pass(self._last_status)
        except Abandoned:
            return
        self._ended.set()

    def _wait(self) -> Status | None:
        """Until there is something to do; the campaign's last status once it has one."""
        with self._changed:
            while self._last_status is None:
                pause = self._retry_at - time.monotonic()
                if self._something_to_do and pause <= 0:
                    break
                self._changed.wait(pause if self._something_to_do else None)
            self._something_to_do = False
            return self._last_status

    def _pass(self, status: Status | None) -> None:
        """Log every search that waits and, with a status, the campaign."""
        try:
            with mlflow_at_hand():
                problem = self._log_searches()
                if status is not None:
                    closing = self._close(status)
                    problem = problem or closing
        except ImportError as error:
            problem = self._target.told(error)
        with self._changed:
            self._problem = problem
            self._something_to_do = self._something_to_do or problem is not None
        if problem is None:
            self._pause_s, self._retry_at = _FIRST_PAUSE_S, 0.0
        else:
            self._runs.forget()
            self._retry_at = time.monotonic() + self._pause_s
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        self._save(now=status is not None or problem is not None)

    def _log_searches(self) -> str | None:
        """Log every search that waits; what went wrong. Where the store is out of reach the rest goes on waiting."""
        problem = None
        try:
            self._list()
            self._runs.open()
            with self._changed:
                waiting = dict(self._waiting)
            for name, call in waiting.items():
                try:
                    self._runs.log(name)
                except Exception as error:
                    if not of_one_search(error):
                        raise
                    problem = problem or f"{name}: {self._target.told(error)}"
                else:
                    self._take_as_recorded(name, call)
        except Exception as error:
            problem = problem or self._target.told(error)
        return problem

    def _close(self, status: Status) -> str | None:
        """Log the campaign and end its run; what went wrong."""
        if self._runs.run_id is None:
            return None  # the store was never reached, which is known by now
        try:
            self._runs.close(status)
        except Exception as error:
            return self._target.told(error)
        return None

    def _list(self) -> None:
        """Take up the searches whose results were there before. Raises StorageError."""
        if self._listed:
            return
        found = dict.fromkeys(self._runs.there(), 0)
        with self._changed:
            self._waiting = {**found, **self._waiting}
        self._listed = True

    def _take_as_recorded(self, name: str, call: int) -> None:
        with self._changed:
            if self._waiting[name] != call:
                return  # its results were made anew meanwhile
            del self._waiting[name]
            self._recorded.add(name)
        self._save(now=False)

    def _report(self) -> TrackingReport:
        with self._changed:
            return TrackingReport(
                recorded=len(self._recorded),
                pending=tuple(name for name in self._names if name in self._waiting),
                problem=self._problem,
                run_id=self._runs.run_id,
                uri=self._target.shown,
            )

    def _save(self, *, now: bool) -> None:
        """Write tracking.json from the tracker's thread: at once, or if that was not done lately."""
        if self._abandoned.is_set():
            raise Abandoned
        if now or time.monotonic() > self._written_at + _WRITE_EVERY_S:
            self._write()
            self._written_at = time.monotonic()

    def _write(self) -> None:
        report = self._report()
        with self._changed:
            recorded = [name for name in self._names if name in self._recorded]
        state = {**asdict(report), "experiment": self._target.experiment, "recorded": recorded}
        try:
            (self._place / TRACKING).write_bytes(json.dumps(state, indent=1, ensure_ascii=False).encode())
        except StorageError as error:
            with self._changed:
                self._problem = self._problem or self._target.told(error)


class Tracker(Keeper):
    """The record of a campaign. record: what the campaign's spec.yaml says, `campaign_id` among it."""

    def __init__(
        self,
        campaign: Location,
        record: Mapping[str, Any],
        plan: Plan,
        target: TrackingTarget,
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        super().__init__(
            campaign,
            (search.name for search in plan.searches),
            lambda attempt: CampaignRuns(campaign, record, plan, target, attempt),
            target,
            patience_s=patience_s,
        )


def record_campaign(
    campaign: Location,
    record: Mapping[str, Any],
    plan: Plan,
    target: TrackingTarget,
    *,
    patience_s: float = PATIENCE_S,
) -> TrackingReport:
    """Log everything that isn't logged yet, as after a server was away. For a campaign that no driver runs.

    Raises StorageError and DamagedError where the campaign's summary can't be read.
    """
    results = read_campaign_results(campaign)
    status: Status = "KILLED"
    if results is not None:
        status = "FINISHED" if results.complete else "FAILED" if results.failures else "KILLED"
    tracker = Tracker(campaign, record, plan, target, patience_s=patience_s)
    return tracker.finish(status, timeout_s=None)


def recorded_whole(campaign: Location) -> bool:
    """Whether tracking.json says that MLflow has all of a campaign. Raises StorageError."""
    place = campaign / TRACKING
    if place.kind() != "file":
        return False
    try:
        state = json.loads(place.read_bytes())
    except ValueError:
        return False
    return isinstance(state, dict) and state.get("pending") == [] and state.get("problem") is None
