"""What MLflow is to hold of a search, a campaign or a sweep, from what stands in its directory."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from kiago_ray.runs.outcome import CURVES, CURVES_SCHEMA, read_curves
from kiago_ray.runs.plan import Plan
from kiago_ray.runs.shards import SEARCHES, Manifest, search_folder
from kiago_ray.runs.state import best_of
from kiago_ray.search.result import QUANTITIES
from kiago_ray.search.spec import SearchSpec
from kiago_ray.storage.location import Location, StorageError
from kiago_ray.storage.machines import Kind, in_words, mixed_remark
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
from kiago_ray.storage.table import columns, first_rows
from kiago_ray.sweep.metrics import METRICS
from kiago_ray.sweep.spec import SweepSpec
from kiago_ray.sweep.trials import PRESET, TABLE, Ledger, Trial, finished, trial_name
from kiago_ray.tracking.store import NOTE, Entry, Point, usable_key
from kiago_ray.tracking.target import shown_uri

Recorded = Plan | SweepSpec | SearchSpec
CURVE_POINTS = 250  # of each curve at most: a point takes 300 bytes of a database, and time
TABLE_ROWS = 100
# Keys of spec.yaml that are no tags: parameters, or facts of the directory alone.
_OF_DIRECTORY = (
    "campaign campaign_id sweep sweep_id search searches families shared identity finished outputs"
)
_NO_TAGS = _OF_DIRECTORY.split()
_FILES = {
    "sweep": (SPEC, TABLE, PRESET, SUMMARY, REPORT),
    "campaign": (SPEC, CANDIDATES, TOP, REPORT),
    "search": (SPEC, CANDIDATES, TOP, REPORT),
}
_TRIAL_ENDS = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}
_CURVES = [f"{name}_{kind}" for name in QUANTITIES for kind in ("mean", "p50")]
_SHOWN = (
    "rank formula base passed plausibility expected_improvement_k best_nearby best_nearby_tc_k tc_k tc_std_k "
    "tc_oracle_k ef_ev_per_atom e_hull_ev_per_atom extrapolation known made nearest_known nearest_tc_k "
    "oxidation_states plausibility_reason search"
)
_READ = (
    "Below *Artifacts*: `report.html` is the page to read, `candidates.json` a table of the best rows, "
    "`candidates.parquet` all rows and columns, `spec.yaml` what was asked for, with versions and hashes."
)
MACHINES = "kiago.machines"  # the tag with the kinds on which shards were made
_TRUST = "These are predictions, made where a model knows least."


@dataclass
class _Told:
    """What the results say of how a run ended. best: in words."""

    complete: bool = False
    failures: bool = False
    points: list[Point] = field(default_factory=list)
    best: str = ""
    machines: Sequence[Kind] = ()


def run_entry(directory: RunDirectory, what: Recorded, *, ended: bool) -> Entry:
    """The own entry of a campaign, a sweep or a search; once `ended` with its results. Raises StorageError,
    DamagedError.
    """
    if isinstance(what, SearchSpec):
        return _search_entry(directory, what, ended)
    place, told = directory.location, _Told()
    output = shown_uri(place.text)
    if isinstance(what, SweepSpec):
        kind, bases, seeds = "sweep", ", ".join(what.bases), what.seeds
        asked = (
            f"{what.points:,} trials of a search's fields, by {', '.join(what.metrics)}. {what.description}"
        )
        told = _of_sweep(place, what) if ended else told
    else:
        kind, bases, seeds = "campaign", ", ".join(what.campaign.bases), what.campaign.seeds
        bases = f"{len(what.families):,} known families" if what.families else bases
        asked = f"{len(what.searches):,} searches of {what.candidates:,} candidates in {what.shard_count:,} shards."
        told = _of_campaign(place) if ended else told
    note = [
        f"**kiago-ray {kind} `{directory.record[kind]['name']}`: a search for new superconductors**",
        f"{asked.strip()} Bases: {bases or 'none, starts are random'}. Seeds: {len(seeds)}. Output: `{output}`.",
        told.best,
        mixed_remark(told.machines),
        f"Each run below it is one {'trial' if kind == 'sweep' else 'search'}. {_TRUST}",
        _READ if kind == "campaign" else "",
    ]
    status = (
        "RUNNING" if not ended else "FINISHED" if told.complete else "FAILED" if told.failures else "KILLED"
    )
    trials = isinstance(what, SweepSpec)
    return Entry(
        id=directory.record[f"{kind}_id"],
        name=directory.record[kind]["name"],
        status=status,
        params=directory.record[kind],
        tags={**_shared_tags(directory, kind), NOTE: _paragraphs(note), "kiago.output": output}
        | {MACHINES: "; ".join(in_words(told.machines))},
        points=lambda: told.points,
        folder=place,
        files=_FILES[kind],
        rows=lambda: _trial_rows(place, what) if isinstance(what, SweepSpec) else candidate_rows(place),
        table="trials.json" if trials else "candidates.json",
    )


def _of_sweep(place: Location, sweep: SweepSpec) -> _Told:
    if (place / SUMMARY).kind() != "file":
        return _Told()
    if not (summary := (place / SUMMARY).read_mapping()):
        raise DamagedError(f"{(place / SUMMARY).text} is damaged; run the sweep again")
    failures, best = any((summary["failures"], summary["compare_failures"])), summary["best"] or {}
    words = f"Best {summary['metric']}: {best[summary['metric']]:.4g}." if best.get(summary["metric"]) else ""
    return _Told(summary["complete"], failures, sweep_points(summary), words)


def _of_campaign(place: Location) -> _Told:
    results = read_results(place, CampaignResults)
    if results is None:
        return _Told()
    done = (
        f"{results.shards_done:,} of {results.shards:,} shards are done, {len(results.failures):,} failed. "
    )
    words = done + _in_words(results.unique, results.passed, results.best)
    return _Told(results.complete, bool(results.failures), campaign_points(results), words, results.machines)


def _in_words(unique: int, passed: int, best: Sequence[Mapping[str, Any]]) -> str:
    """How many formulas there are, and the first of them."""
    first = [f"{row['formula']} ({row['tc_k']:.0f} K)" for row in best[:5]]
    return f"{unique:,} formulas, of which {passed:,} pass the screens. " + (
        f"The best: {', '.join(first)}." if first else ""
    )


def _paragraphs(texts: Sequence[str]) -> str:
    return "\n\n".join(filter(None, texts))


def _search_entry(directory: RunDirectory, spec: SearchSpec, ended: bool) -> Entry:
    """A search that no campaign holds. Points are of its end, so that none is ever doubled."""
    place = directory.location
    results = read_results(place, SearchResults) if ended else None
    rows = candidate_rows(place) if results is not None else []
    base, at_ms = spec.base or "a random start", None if results is None else int(results.finished_at * 1000)
    told = "" if results is None else _in_words(results.summary.unique, results.summary.passed, rows)
    output = shown_uri(place.text)
    asked = f"{spec.row_count:,} rows. Output: `{output}`. {told}"
    note = [f"**kiago-ray search: new superconductors around {base}**", asked, _TRUST, _READ]
    points = (
        []
        if results is None
        else [point._replace(at_ms=at_ms) for point in search_points(results, _curves_of(place))]
    )
    return Entry(
        id=hashlib.sha256(f"{directory.record['identity']} {place.path}".encode()).hexdigest()[:32],
        name=base,
        status="RUNNING" if not ended else "FINISHED" if results and results.complete else "KILLED",
        params=spec.model_dump(mode="json"),
        tags={**_shared_tags(directory, "search"), NOTE: _paragraphs(note), "kiago.output": output},
        points=lambda: points,
        folder=place,
        files=_FILES["search"],
        rows=lambda: rows,
        start_ms=None if results is None else int((results.finished_at - results.wall_s) * 1000),
        end_ms=at_ms,
    )


def candidate_rows(folder: Location) -> list[dict[str, Any]]:
    """The first TABLE_ROWS candidates of a folder, rounded, without columns that hold nothing; [] where there are
    none yet. Raises StorageError.
    """
    place = folder / CANDIDATES
    if place.kind() != "file":
        return []
    table = first_rows(place, TABLE_ROWS)
    kept = table.select([name for name in _SHOWN.split() if table[name].null_count < len(table)])
    digits = {name: columns()[name].decimals for name in kept.column_names}
    return [
        {
            name: value if digits[name] is None or value is None else round(value, digits[name])
            for name, value in row.items()
        }
        for row in kept.to_pylist()
    ]


def _trial_rows(place: Location, sweep: SweepSpec) -> list[dict[str, Any]]:
    trials, fields = Ledger(place, sweep).trials(), list(sweep.space)
    return [
        {"trial": trial.number, "status": trial.status, "seeds": trial.seeds}
        | {name: trial.point.get(name) for name in fields}
        | {name: trial.mean(name).value for name in METRICS}
        | {"cause": trial.cause}
        for trial in trials
    ]


def part_names(directory: RunDirectory, what: Recorded) -> list[str]:
    """The searches that have results, or the trials that have ended. Raises StorageError."""
    if isinstance(what, SearchSpec):
        return []
    if isinstance(what, SweepSpec):
        trials = Ledger(directory.location, what).trials()
        return [trial.id for trial in trials if trial.status in _TRIAL_ENDS]
    there = set((directory.location / SEARCHES).entries())
    folders = {each.name: search_folder(directory.location, each.name) for each in what.searches}
    return [name for name in folders if name in there and (folders[name] / SUMMARY).kind() == "file"]


def part_entry(directory: RunDirectory, what: Recorded, name: str) -> Entry:
    """What MLflow is to hold of a campaign's search or a sweep's trial. Raises StorageError, DamagedError."""
    if isinstance(what, SweepSpec):
        return _trial_entry(directory, what, name)
    assert isinstance(what, Plan)  # a search alone has no parts
    folder = search_folder(directory.location, name)
    results = read_results(folder, SearchResults)
    if results is None:
        raise StorageError(f"{folder.text} holds no results yet; run the campaign again")
    search, shared = what.search(name), _shared_tags(directory, "campaign")
    rows, summary = candidate_rows(folder), results.summary
    note = (
        f"**One search of the campaign `{what.campaign.name}`**",
        f"Base: {search.base}. Variant: {search.variant or 'none'}. Seed: {search.seed}. Rows: {summary.rows:,}.",
        _in_words(summary.unique, summary.passed, rows),
    )
    return Entry(
        id=f"{directory.record['campaign_id']}/{name}",
        name=name,
        status="FINISHED" if results.complete else "FAILED",
        params=search.spec.model_dump(mode="json"),
        tags={**shared, "kiago.search": name, "kiago.variant": search.variant, NOTE: _paragraphs(note)}
        | {MACHINES: "; ".join(in_words(results.machines))},
        points=lambda: search_points(results, read_curves(folder)),
        folder=folder,
        files=(SPEC, CANDIDATES, TOP),
        rows=lambda: rows,
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
    own[NOTE] = f"**One trial of the sweep `{sweep.name}`**\n\n{trial.seeds} seeds done; {trial.status}."
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
    named = {f"kiago.{kind}_id": directory.record.get(f"{kind}_id")}
    return {**about, **named, "mlflow.source.type": "LOCAL", **source}


def _curves_of(folder: Location) -> pa.Table:
    """Its curves; an empty table where no step was taken."""
    return read_curves(folder) if (folder / CURVES).kind() == "file" else CURVES_SCHEMA.empty_table()


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
    numbers = {**_numbers(results.to_dict()), **counts, "best": results.best[0] if results.best else {}}
    done = int(numbers.pop("shards_done"))
    return [*_points(numbers), *_moving(done, {"shards_done": done, "rows_done": results.rows})]


def campaign_progress(manifests: Sequence[Manifest], rows_per_s: float) -> list[Point]:
    """How far a campaign is that goes on: a step a shard."""
    best = {f"best_{name}": value for name, value in (best_of(each.best for each in manifests) or {}).items()}
    rows = sum(manifest.rows for manifest in manifests)
    numbers = {"shards_done": len(manifests), "rows_done": rows, "rows_per_s": rows_per_s, **best}
    return _moving(len(manifests), numbers)


def sweep_progress(sweep: SweepSpec, trials: Sequence[Trial]) -> list[Point]:
    """How far a sweep is that goes on, of the trials that have ended: a step a trial."""
    best: dict[str, float] = {}
    for name in sweep.metrics:
        if whole := finished(trials, name):
            best[f"best_{name}"] = max(trial.worth(name) for trial in whole) * METRICS[name].sign
    return _moving(len(trials), {"trials_done": len(trials), **best})


def _moving(step: int, numbers: Mapping[str, Any]) -> list[Point]:
    now = int(1000 * time.time())
    return [point._replace(at_ms=now) for point in _points(numbers, step)]


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
        Point(usable_key(path), float(value), step)
        for path, value in leaves(values)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    ]
