"""What MLflow is to hold of a campaign or sweep, from the files of its directory. It knows nothing of MLflow."""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from kiago_ray.runs.outcome import (
    SEARCHES,
    SUMMARY,
    CampaignResults,
    SearchResults,
    read_curves,
    read_results,
    search_folder,
)
from kiago_ray.runs.plan import Plan
from kiago_ray.storage.location import Location, StorageError
from kiago_ray.storage.run_directory import CANDIDATES, REPORT, SPEC, TOP, RunDirectory, leaves
from kiago_ray.sweep.metrics import METRICS
from kiago_ray.sweep.spec import SweepSpec
from kiago_ray.sweep.trials import PRESET, TABLE, Ledger, Trial

CURVE_POINTS = 250  # of each curve at most: a point takes 300 bytes of a database, and time
LOCAL = ("sqlite", "file")  # schemes whose URIs hold no user, and any character in their paths
_KEY_LENGTH, _PARAM_LENGTH, TAG_LENGTH = 250, 6000, 5000  # MLflow's limits
# Keys of spec.yaml that are no tags: parameters, or facts of the directory alone.
_NO_TAGS = ("campaign", "campaign_id", "identity", "finished", "outputs")
_TRIAL_ENDS = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}
_CURVES = tuple(
    f"{name}_{kind}" for name in ("tc_k", "ef_ev_per_atom", "integer_loss") for kind in ("mean", "p50")
)


class Point(NamedTuple):
    """One value of a metric. Its key's part before a slash heads a section of charts in MLflow's pages."""

    key: str
    value: float
    step: int = 0


@dataclass(frozen=True)
class Entry:
    """What MLflow is to hold of one run.

    id: finds the run again. sources: changes with what its points were made from. points: a function, because
    curves are read from storage. folder: whose `files` and plots go along. start_ms, end_ms: since 1970.
    """

    id: str
    name: str
    status: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    points: Callable[[], list[Point]] = list
    sources: str = ""
    folder: Location | None = None
    files: tuple[str, ...] = ()
    start_ms: int | None = None
    end_ms: int | None = None


class CampaignEntries:
    """The entries of a campaign: its own, and one for each search. Raises StorageError, DamagedError."""

    def __init__(self, directory: RunDirectory, plan: Plan) -> None:
        self._place, self._record, self._plan = directory.location, directory.record, plan
        self._id = str(directory.record["campaign_id"])
        self._searches = {search.name: search for search in plan.searches}

    def there(self) -> list[str]:
        """The searches that have results."""
        there = set((self._place / SEARCHES).entries()) & set(self._searches)
        return [
            name
            for name in self._searches
            if name in there and (search_folder(self._place, name) / SUMMARY).kind() == "file"
        ]

    def parent(self, ended: bool) -> Entry:
        """The campaign's own entry. ended: with its results and its last status."""
        plan, fields = self._plan, self._plan.campaign
        bases = ", ".join(fields.bases) or "none, starts are random"
        if plan.families:
            bases = f"{len(plan.families):,} known families"
        note = (
            f"Searches: {len(plan.searches):,}. Candidates: {plan.candidates:,}, in shards: {plan.shard_count:,}. "
            f"Bases: {bases}. Seeds: {len(fields.seeds)}. Output: {shown_uri(self._place.text)}"
        )
        results = read_results(self._place, CampaignResults) if ended else None
        return Entry(
            id=self._id,
            name=fields.name,
            status=_status(ended, results and results.complete, results and results.failures),
            params=params_of(self._record["campaign"]),
            tags=_run_tags(self._record, "campaign", self._id, note, self._place),
            points=lambda: campaign_points(results) if results else [],
            folder=self._place,
            files=(SPEC, CANDIDATES, TOP, REPORT),
        )

    def child(self, name: str) -> Entry:
        """A search's entry."""
        folder = search_folder(self._place, name)
        results = read_results(folder, SearchResults)
        if results is None:
            raise StorageError(f"{folder.text} holds no results yet; run the campaign again")
        search = self._searches[name]
        own = {"kiago.search": name, "kiago.variant": search.variant}
        return Entry(
            id=f"{self._id}/{name}",
            name=name,
            status="FINISHED" if results.complete else "FAILED",
            params=params_of(search.spec.model_dump(mode="json")),
            tags={**_run_tags(self._record, "campaign", self._id), **own},
            points=lambda: search_points(results, read_curves(folder)),
            sources=results.sources,
            folder=folder,
            files=(SPEC, CANDIDATES, TOP),
            start_ms=int((results.finished_at - results.wall_s) * 1000),
            end_ms=int(results.finished_at * 1000),
        )


class SweepEntries:
    """The entries of a sweep: its own, and one for each trial that has ended. Raises StorageError."""

    def __init__(self, directory: RunDirectory, sweep: SweepSpec) -> None:
        self._place, self._record, self._sweep = directory.location, directory.record, sweep
        self._id = str(directory.record["sweep_id"])
        self._ledger = Ledger(directory.location, sweep)

    def there(self) -> list[str]:
        """The trials that have ended."""
        return [trial.id for trial in self._ledger.trials() if trial.status in _TRIAL_ENDS]

    def parent(self, ended: bool) -> Entry:
        """The sweep's own entry. ended: with its results and its last status."""
        sweep, place = self._sweep, self._place / SUMMARY
        note = (
            f"{sweep.description} Trials: {sweep.points:,}. Bases: {', '.join(sweep.bases) or 'none, random starts'}. "
            f"Seeds: {len(sweep.seeds)}. Metric: {', '.join(sweep.metrics)}. Output: {shown_uri(self._place.text)}"
        )
        summary = json.loads(place.read_bytes()) if ended and place.kind() == "file" else {}
        failures = summary.get("failures") or summary.get("compare_failures")
        return Entry(
            id=self._id,
            name=sweep.name,
            status=_status(ended, summary.get("complete"), failures),
            params=params_of(sweep.defining()),
            tags=_run_tags(self._record, "sweep", self._id, note.strip(), self._place),
            points=lambda: sweep_points(summary) if summary else [],
            folder=self._place,
            files=(SPEC, TABLE, PRESET, SUMMARY, REPORT),
        )

    def child(self, name: str) -> Entry:
        """A trial's entry."""
        trial = self._ledger.trial(int(name))
        if trial is None or trial.status not in _TRIAL_ENDS:
            raise StorageError(f"{self._place.text} holds no end of trial {name}; run the sweep again")
        plain = json.dumps([asdict(score) for score in trial.scores] + [trial.status], sort_keys=True)
        own = {"kiago.trial": name, "kiago.status": trial.status, "kiago.cause": trial.cause or ""}
        return Entry(
            id=f"{self._id}/{name}",
            name=f"trial {trial.number}",
            status=_TRIAL_ENDS[trial.status],
            params=params_of(trial.point),
            tags={"kiago.sweep_id": self._id, **own},
            points=lambda: trial_points(trial),
            sources=hashlib.sha256(plain.encode()).hexdigest()[:16],
            start_ms=int((time.time() - trial.seconds) * 1000),
        )


def entries_of(directory: RunDirectory, what: Plan | SweepSpec) -> CampaignEntries | SweepEntries:
    """The entries of the campaign or sweep in a directory."""
    return SweepEntries(directory, what) if isinstance(what, SweepSpec) else CampaignEntries(directory, what)


def _status(ended: bool, complete: object, failures: object) -> str:
    if not ended:
        return "RUNNING"
    return "FINISHED" if complete else "FAILED" if failures else "KILLED"


def _run_tags(
    record: Mapping[str, Any], kind: str, identity: str, note: str = "", output: Location | None = None
) -> dict[str, str]:
    """Versions, weights' hashes and the like as tags, by the names that spec.yaml has for them."""
    about = {key: value for key, value in record.items() if key not in _NO_TAGS}
    tags = {_usable_key(path): _text(value) for path, value in leaves(about) if value is not None}
    git = record.get("git")
    commit = git.get("commit") if isinstance(git, Mapping) else git
    if isinstance(commit, str):
        tags["mlflow.source.git.commit"] = commit
    if output is not None:
        tags |= {"mlflow.note.content": note, "kiago.output": shown_uri(output.text)}
    return {**tags, f"kiago.{kind}_id": identity, "mlflow.source.name": f"kiago {kind}"}


def params_of(values: Mapping[str, Any]) -> dict[str, str]:
    """Nested values as MLflow's parameters: dotted keys; a text as it is, anything else as JSON.

    A value that is too long ends in words that say so; the whole one is in the specification among the files.
    """
    params: dict[str, str] = {}
    for path, value in leaves(values):
        key, number = _usable_key(path), 2
        while key in params:
            key, number = f"{_usable_key(path)[: _KEY_LENGTH - 8]}_{number}", number + 1
        params[key] = clip(_text(value), _PARAM_LENGTH)
    return params


def search_points(results: SearchResults, curves: pa.Table) -> list[Point]:
    """The numbers of a search and its curves, thinned to CURVE_POINTS. curves: a table of CURVES_SCHEMA."""
    plain = results.summary.to_dict()
    numbers = {name: value for name, value in plain.items() if not isinstance(value, Mapping)}
    sections = {"screen": plain["screen_fractions"], "status": plain["statuses"], "base": plain["base"]}
    took = {"shards_done": results.shards_done, "wall_s": results.wall_s}
    rows = len(curves)
    chosen = np.unique(np.linspace(0, rows - 1, min(rows, CURVE_POINTS)).round().astype(int))
    steps = curves["step"].to_numpy()[chosen].tolist()
    return _points({**numbers, **sections, **took, **_tops(plain["top"])}) + [
        Point(f"curve/{name}", value, step)
        for name in _CURVES
        for step, value in zip(steps, curves[name].to_numpy()[chosen].tolist(), strict=True)
        if value is not None and math.isfinite(value)
    ]


def campaign_points(results: CampaignResults) -> list[Point]:
    """The numbers of a campaign."""
    plain = results.to_dict()
    numbers = {name: value for name, value in plain.items() if not isinstance(value, Mapping)}
    counts = {"shards_failed": len(results.failures), "shards_damaged": len(results.damaged)}
    sections = {"status": results.statuses, "best": results.best[0] if results.best else {}}
    return _points({**numbers, **counts, **sections, **_tops(plain["top"])})


def trial_points(trial: Trial) -> list[Point]:
    """Every metric's mean over its seeds so far, and what they took."""
    took = {"seeds": trial.seeds, "row_steps": trial.row_steps, "search_seconds": trial.seconds}
    errors = {f"{name}_error": trial.mean(name).error for name in METRICS}
    return _points({**errors, **took}) + [
        point
        for name in METRICS
        for seeds in range(1, trial.seeds + 1)
        for point in _points({name: trial.mean(name, seeds).value}, seeds)
    ]


def sweep_points(summary: Mapping[str, Any]) -> list[Point]:
    """The numbers of a sweep's summary.json."""
    metric = summary["metric"]
    best = {metric: (summary["best"] or {}).get(metric)}
    numbers = {"trials": summary["trials"], "row_steps": summary["row_steps"], "best": best}
    for each in summary["differences"]:
        key = f"best_minus_{each['other']}.{each['metric']}"
        numbers |= {key: each["value"], f"{key}.low": each["low"], f"{key}.high": each["high"]}
    return _points(numbers)


def _tops(tops: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The best k by name: top30 and so on."""
    return {f"top{top['k']}": {name: top[name] for name in top if name not in ("k", "used")} for top in tops}


def _points(values: Mapping[str, Any], step: int = 0) -> list[Point]:
    """Those of nested values that are finite numbers, with dotted keys."""
    return [
        Point(_usable_key(path), float(value), step)
        for path, value in leaves(values)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    ]


def _usable_key(path: str) -> str:
    return re.sub(r"[^\w.\- ]", "_", path, flags=re.ASCII)[:_KEY_LENGTH]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def clip(text: str, length: int) -> str:
    """The text, cut to `length` characters, with words at its end that say so."""
    if len(text) <= length:
        return text
    ending = f"… ({len(text):,} characters)"
    return text[: length - len(ending)] + ending


def shown_uri(uri: str) -> str:
    """A URI without user, password and query; a path as it is."""
    scheme, mark, rest = uri.partition("://")
    if not mark or scheme.partition("+")[0] in LOCAL:
        return uri
    rest, query, _ = rest.partition("?")
    _, user, host = rest.rpartition("@")
    return f"{scheme}://{'***@' if user else ''}{host}{'?***' if query else ''}"
