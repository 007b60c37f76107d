"""What came of a sweep, from its files: trials, the best as a preset, what it was held against, the page."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq
import yaml

from kiago_ray.search.spec import SearchSpec
from kiago_ray.storage.location import Location
from kiago_ray.storage.run_directory import REPORT, SPEC
from kiago_ray.sweep.compare import BEST, Difference, difference
from kiago_ray.sweep.importance import importances
from kiago_ray.sweep.ledger import Ledger, read_scores
from kiago_ray.sweep.metrics import METRICS, Score
from kiago_ray.sweep.page import SweepPage, render_sweep_page
from kiago_ray.sweep.plots import sweep_plots
from kiago_ray.sweep.spec import SweepSpec
from kiago_ray.sweep.trials import Trial, best_trial, trials_table

TABLE, PRESET, SUMMARY = "trials.parquet", "best.yaml", "summary.json"
COMPARE = "compare"


@dataclass(frozen=True)
class SweepResults:
    """compared: what was held against the best, and the best itself, with their searches by the reporting oracle.
    differences: of the best to each other, by each metric. compare_failures: name → cause.
    """

    sweep: SweepSpec
    trials: tuple[Trial, ...]
    best: Trial | None
    compared: Mapping[str, tuple[Score, ...]]
    differences: tuple[Difference, ...]
    compare_failures: Mapping[str, str]

    @property
    def failed(self) -> list[Trial]:
        """Trials that couldn't go on."""
        return [trial for trial in self.trials if trial.status == "failed"]

    @property
    def complete(self) -> bool:
        """Whether nothing is left to run."""
        searches = len(self.sweep.compare_bases) * len(self.sweep.compare.seeds)
        compared = all(len(scores) == searches for scores in self.compared.values())
        ended = sum(trial.ended for trial in self.trials)
        return ended == self.sweep.points and (self.best is None or compared)

    @property
    def row_steps(self) -> int:
        """What all trials took."""
        return sum(trial.row_steps for trial in self.trials)

    def best_spec(self) -> SearchSpec | None:
        """The best trial's search, whole, without a base."""
        return None if self.best is None else self.sweep.spec(self.best.point, None, 0)

    def to_dict(self) -> dict[str, Any]:
        """What a program wants to know, as plain types."""
        metric = self.sweep.metrics[0]
        best = None
        if self.best is not None:
            mean = self.best.mean(metric)
            best = {
                "trial": self.best.number,
                "point": self.best.point,
                metric: mean.value,
                "error": mean.error,
            }
        return {
            "sweep": self.sweep.name,
            "metric": metric,
            "complete": self.complete,
            "trials": {
                status: sum(trial.status == status for trial in self.trials)
                for status in ("finished", "stopped", "failed", "unfinished")
            },
            "planned": self.sweep.points,
            "row_steps": self.row_steps,
            "best": best,
            "differences": [
                {
                    "other": each.other,
                    "metric": each.metric,
                    "value": each.value,
                    "low": each.low,
                    "high": each.high,
                    "pairs": each.pairs,
                    "by_base": {on.base: on.difference for on in each.bases},
                }
                for each in self.differences
                if each.pairs
            ],
            "failures": {str(trial.number): trial.cause for trial in self.failed},
            "compare_failures": dict(self.compare_failures),
        }


def compare_units(sweep: SweepSpec, best: Trial | None) -> list[dict[str, Any]]:
    """What the comparison searches for: the best and the others on each base; nothing without a best.

    `folder`: where its scores go, another one for another point.
    """
    if best is None:
        return []
    points = {BEST: best.point, **sweep.compare.against}
    return [
        {
            "name": name,
            "folder": f"{COMPARE}/{name}-{_digest(sweep, point)}/{place}",
            "point": point,
            "bases": [base],
        }
        for name, point in points.items()
        for place, base in enumerate(sweep.compare_bases)
    ]


def _digest(sweep: SweepSpec, point: Mapping[str, Any]) -> str:
    values = sweep.spec(point, None, 0).model_dump(mode="json")
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def gather(
    location: Location, sweep: SweepSpec, compare_failures: Mapping[str, str] | None = None
) -> SweepResults:
    """What there is of a sweep. Raises StorageError."""
    trials = Ledger(location, sweep).trials()
    best = best_trial(trials, sweep.metrics[0])
    compared: dict[str, tuple[Score, ...]] = {}
    for unit in compare_units(sweep, best):
        scores = read_scores(location, unit["folder"], sweep.compare.seeds)
        found = tuple(score for each in scores.values() for score in each)
        compared[unit["name"]] = (*compared.get(unit["name"], ()), *found)
    differences = [
        difference(compared[BEST], scores, metric, name)
        for name, scores in compared.items()
        if name != BEST
        for metric in dict.fromkeys([*sweep.metrics, *METRICS])
    ]
    return SweepResults(sweep, tuple(trials), best, compared, tuple(differences), compare_failures or {})


def write_results(results: SweepResults, location: Location, *, model_notes: Sequence[str] = ()) -> list[str]:
    """Write trials.parquet, best.yaml, the plots and the page; return their names. Raises StorageError."""
    sweep, written = results.sweep, [TABLE, SUMMARY, REPORT]
    sink = io.BytesIO()
    pq.write_table(trials_table(results.trials, list(sweep.space)), sink)
    (location / TABLE).write_bytes(sink.getvalue())
    (location / SUMMARY).write_bytes(json.dumps(results.to_dict(), indent=1, ensure_ascii=False).encode())
    spec = results.best_spec()
    if spec is not None:
        (location / PRESET).write_bytes(_preset_text(results, spec).encode())
        written.append(PRESET)
    importance = importances(results.trials, sweep.space, sweep.metrics[0])
    plots = sweep_plots(sweep, results.trials, results.best, results.differences, importance)
    for plot in plots:
        (location / plot.file).write_bytes(plot.png)
    page = SweepPage(
        sweep=sweep,
        trials=results.trials,
        best=results.best,
        differences=results.differences,
        plots=plots,
        importance=importance,
        spec_text=(location / SPEC).read_bytes().decode(),
        model_notes=tuple(model_notes),
        compare_failures=results.compare_failures,
    )
    (location / REPORT).write_bytes(render_sweep_page(page).encode())
    return [*written, *(plot.file for plot in plots)]


def _preset_text(results: SweepResults, spec: SearchSpec) -> str:
    """A preset for searches and campaigns: everything but the base and the seed."""
    assert results.best is not None
    metric = results.sweep.metrics[0]
    mean = results.best.mean(metric)
    error = "" if mean.error is None else f" ± {mean.error:.2f}"
    head = (
        f"# Best of the sweep {results.sweep.name}: trial {results.best.number}, {metric} {mean.value:.2f}{error} "
        "by the tuning oracle.\n# Take it as a preset: kiago search FORMULA --preset best.yaml --candidates 512\n"
    )
    values = spec.model_dump(mode="json", exclude={"base", "seed"})
    return head + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110)
