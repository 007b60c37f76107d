"""The runs of a sweep in MLflow: one for the sweep, and below it one for each trial that has ended.

As for campaigns, everything is worked out from the sweep's directory; a trial that was run again replaces its run.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kiago_ray.distributed.tracking.content import (
    Facts,
    Point,
    clipped,
    finite_points,
    params_of,
    provenance_tags,
)
from kiago_ray.distributed.tracking.runs import KIND, SOURCES, download
from kiago_ray.distributed.tracking.store import Attempt, Store, StoredRun
from kiago_ray.distributed.tracking.target import TrackingTarget, artifact_root, shown_uri
from kiago_ray.distributed.tracking.tracker import PATIENCE_S, Keeper
from kiago_ray.storage.location import Location, StorageError
from kiago_ray.storage.run_directory import REPORT, SPEC
from kiago_ray.sweep.ledger import Ledger
from kiago_ray.sweep.metrics import METRICS
from kiago_ray.sweep.results import PRESET, SUMMARY, TABLE
from kiago_ray.sweep.spec import SweepSpec
from kiago_ray.sweep.trials import Trial

SWEEP_ID, TRIAL = "kiago.sweep_id", "kiago.trial"
_FILES = (SPEC, TABLE, PRESET, SUMMARY, REPORT)
_ENDS = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}


class SweepRuns:
    """The runs of one sweep. Use it within `mlflow_at_hand`. Raises what CampaignRuns raises."""

    def __init__(
        self,
        place: Location,
        record: Mapping[str, Any],
        sweep: SweepSpec,
        target: TrackingTarget,
        attempt: Attempt,
    ) -> None:
        self._place, self._record, self._sweep = place, record, sweep
        self._target, self._attempt = target, attempt
        self._ledger = Ledger(place, sweep)
        self._identity = {SWEEP_ID: str(record["sweep_id"])}
        self._opened: tuple[Store, StoredRun] | None = None
        self.run_id: str | None = None

    def open(self) -> tuple[Store, StoredRun]:
        """The store and the sweep's run, found or made, and set RUNNING."""
        if self._opened is None:
            store = Store(self._target, artifact_root(self._target, self._place), self._attempt)
            tags = {**self._identity, KIND: "sweep"}
            parent = store.take(self._sweep.name, tags, start_ms=int(time.time() * 1000))
            self.run_id = parent.id
            store.begin(parent)
            facts = self._facts()
            store.describe(parent, facts.params, facts.tags)
            self._opened = store, parent
        return self._opened

    def forget(self) -> None:
        """Look at the store anew with the next call."""
        self._opened = None

    def there(self) -> list[str]:
        """The trials that have ended."""
        return [trial.id for trial in self._ledger.trials() if trial.status in _ENDS]

    def log(self, name: str) -> None:
        """Log what came of a trial, unless just that is logged already."""
        trial = self._ledger.trial(int(name))
        if trial is None or trial.status not in _ENDS:
            raise StorageError(f"{self._place.text} holds no end of trial {name}; run the sweep again")
        store, parent = self.open()
        tags = {**self._identity, KIND: "trial", TRIAL: name, SOURCES: _digest(trial)}
        for run in store.find({key: tags[key] for key in (SWEEP_ID, KIND, TRIAL)}):
            if run.tags.get(SOURCES) != tags[SOURCES]:
                store.discard(run)
        start_ms = int((time.time() - trial.seconds) * 1000)
        run = store.take(f"trial {trial.number}", tags, start_ms=start_ms, parent=parent.id)
        if run.status == _ENDS[trial.status]:
            return
        told = {"kiago.status": trial.status, "kiago.cause": trial.cause or ""}
        store.describe(run, params_of(trial.point), clipped(told))
        store.measure(run, trial_points(trial), run.start_ms)
        store.end(run, _ENDS[trial.status])

    def close(self, status: str) -> None:
        """Log what came of the sweep, with its best as a file; end its run, and any of a trial that isn't whole."""
        store, parent = self.open()
        try:
            summary = self._place / SUMMARY
            if summary.kind() == "file":
                points = sweep_points(json.loads(summary.read_bytes()))
                changed = [point for point in points if parent.metrics.get(point.key) != point.value]
                store.measure(parent, changed, int(time.time() * 1000))
            there = self._place.entries()
            for name in [name for name in there if name in _FILES or name.endswith(".png")]:
                with ExitStack() as stack:
                    file = Path((self._place / name).path)
                    if self._place.filesystem.type_name != "local":
                        file = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kiago-")), name)
                        download(self._place / name, file)
                    store.attach(parent, file)
        finally:
            for child in store.find({**self._identity, KIND: "trial"}, "RUNNING"):
                store.end(child, "KILLED")
            store.end(parent, status)

    def _facts(self) -> Facts:
        sweep = self._sweep
        note = (
            f"{sweep.description} Trials: {sweep.points:,}. Bases: {', '.join(sweep.bases) or 'none, random starts'}. "
            f"Seeds: {len(sweep.seeds)}. Metric: {', '.join(sweep.metrics)}. Output: {shown_uri(self._place.text)}"
        )
        tags = {
            **provenance_tags(self._record),
            "mlflow.source.name": "kiago sweep",
            "mlflow.note.content": note.strip(),
            "kiago.output": shown_uri(self._place.text),
        }
        return Facts(params_of(sweep.defining()), clipped(tags))


class SweepTracker(Keeper):
    """The record of a sweep, kept beside it. record: what its spec.yaml says, `sweep_id` among it."""

    def __init__(
        self,
        place: Location,
        record: Mapping[str, Any],
        sweep: SweepSpec,
        target: TrackingTarget,
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        super().__init__(
            place,
            (f"{number:05d}" for number in range(sweep.points)),
            lambda attempt: SweepRuns(place, record, sweep, target, attempt),
            target,
            patience_s=patience_s,
        )


def trial_points(trial: Trial) -> list[Point]:
    """Every metric's mean over its seeds so far, and what it took."""
    points = [
        Point(name, value, seeds)
        for name in METRICS
        for seeds in range(1, trial.seeds + 1)
        if not math.isnan(value := trial.mean(name, seeds).value)
    ]
    errors = {f"{name}_error": trial.mean(name).error for name in METRICS}
    took = {"seeds": trial.seeds, "row_steps": trial.row_steps, "search_seconds": trial.seconds}
    return [*points, *finite_points({**errors, **took})]


def sweep_points(summary: Mapping[str, Any]) -> list[Point]:
    """What came of the sweep, from its summary.json."""
    best = summary["best"] or {}
    metric = summary["metric"]
    numbers = {
        **{f"trials.{status}": count for status, count in summary["trials"].items()},
        "row_steps": summary["row_steps"],
        f"best.{metric}": best.get(metric),
    }
    for each in summary["differences"]:
        key = f"best_minus_{each['other']}.{each['metric']}"
        numbers |= {key: each["value"], f"{key}.low": each["low"], f"{key}.high": each["high"]}
    return finite_points(numbers)


def _digest(trial: Trial) -> str:
    plain = json.dumps([asdict(score) for score in trial.scores] + [trial.status], sort_keys=True)
    return hashlib.sha256(plain.encode()).hexdigest()[:16]
