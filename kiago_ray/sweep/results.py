"""What came of a sweep, from its files: trials, the best as a preset, what it was held against, the page."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from kiago_ray.search.spec import SearchSpec
from kiago_ray.storage.location import Location
from kiago_ray.storage.run_directory import REPORT, SPEC
from kiago_ray.sweep.compare import Difference, compare_units, difference
from kiago_ray.sweep.importance import importances
from kiago_ray.sweep.metrics import METRICS, Score
from kiago_ray.sweep.page import SweepPage, render_sweep_page
from kiago_ray.sweep.plots import sweep_plots
from kiago_ray.sweep.space import is_number
from kiago_ray.sweep.spec import BEST, SweepSpec
from kiago_ray.sweep.trials import Ledger, Trial, best_trial, read_scores

TABLE, PRESET, SUMMARY = "trials.parquet", "best.yaml", "summary.json"
_SCORE = pa.struct(
    [
        ("base", pa.string()),
        ("seed", pa.int64()),
        ("values", pa.map_(pa.string(), pa.float64())),
        ("row_steps", pa.int64()),
        ("seconds", pa.float64()),
    ]
)


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
        metric, best = self.sweep.metrics[0], None
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
                    **{
                        name: getattr(each, name)
                        for name in ("other", "metric", "value", "low", "high", "pairs")
                    },
                    "by_base": {on.base: on.difference for on in each.bases},
                }
                for each in self.differences
                if each.pairs
            ],
            "failures": {str(trial.number): trial.cause for trial in self.failed},
            "compare_failures": dict(self.compare_failures),
        }


def gather(
    location: Location, sweep: SweepSpec, compare_failures: Mapping[str, str] | None = None
) -> SweepResults:
    """What there is of a sweep. Raises StorageError."""
    trials = Ledger(location, sweep).trials()
    best = best_trial(trials, sweep.metrics[0])
    compared: dict[str, tuple[Score, ...]] = {}
    for unit in compare_units(sweep, best):
        scores = read_scores(location, unit.folder, sweep.compare.seeds)
        found = tuple(score for each in scores.values() for score in each)
        compared[unit.name] = (*compared.get(unit.name, ()), *found)
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


def trials_table(trials: Sequence[Trial], fields: Sequence[str]) -> pa.Table:
    """A row a trial: its values by field (numbers as numbers, else as JSON), means and errors, and all scores."""
    columns: dict[str, pa.Array] = {
        "trial": pa.array([trial.number for trial in trials], pa.int64()),
        "id": pa.array([trial.id for trial in trials], pa.string()),
        "status": pa.array([trial.status for trial in trials], pa.string()),
        "cause": pa.array([trial.cause for trial in trials], pa.string()),
        "seeds": pa.array([trial.seeds for trial in trials], pa.int64()),
        "searches": pa.array([len(trial.scores) for trial in trials], pa.int64()),
        "row_steps": pa.array([trial.row_steps for trial in trials], pa.int64()),
        "seconds": pa.array([trial.seconds for trial in trials], pa.float64()),
    }
    columns |= {f"field.{name}": _field([trial.point.get(name) for trial in trials]) for name in fields}
    for name in METRICS:
        means = [trial.mean(name) for trial in trials]
        columns[name] = pa.array(
            [mean.value for mean in means], pa.float64(), from_pandas=True
        )  # NaN as null
        columns[f"{name}_error"] = pa.array([mean.error for mean in means], pa.float64())
    scores = [
        [{**asdict(score), "values": list(score.values.items())} for score in trial.scores]
        for trial in trials
    ]
    return pa.table({**columns, "scores": pa.array(scores, pa.list_(_SCORE))})


def _field(values: Sequence[Any]) -> pa.Array:
    """One field's values: numbers where all are, else JSON; null where the field doesn't apply."""
    if all(value is None or is_number(value) for value in values):
        return pa.array(values, pa.float64())
    written = [None if value is None else json.dumps(value, sort_keys=True) for value in values]
    return pa.array(written, pa.string())


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
