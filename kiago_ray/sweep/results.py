"""What came of a sweep, from its files: trials, the best as a preset, what it was held against, the page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import yaml

from kiago_ray.report.page import NO_VALUE, Cell, Column, Table, badge, not_shown, render, table_of, text
from kiago_ray.report.plots import Plot
from kiago_ray.storage.location import Location
from kiago_ray.storage.run_directory import REPORT, SPEC, SUMMARY
from kiago_ray.storage.table import parquet_bytes
from kiago_ray.sweep.metrics import METRICS, Difference, OnBase, Score, difference, with_unit
from kiago_ray.sweep.plots import sweep_plots, value_text
from kiago_ray.sweep.spec import BEST, SweepSpec, is_number
from kiago_ray.sweep.trials import (
    PRESET,
    STATUSES,
    TABLE,
    TELLS,
    Importance,
    Ledger,
    Trial,
    best_trial,
    compare_units,
    importances,
    ranked,
)

LISTED = 500  # trials, and bases of the comparison
_VALUE_LENGTH = 60
_METRICS = pa.map_(pa.string(), pa.float64())
_SCORE = {"base": "string", "seed": "int64", "values": _METRICS, "row_steps": "int64", "seconds": "double"}


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
    def counts(self) -> dict[str, int]:
        """How many trials stand how."""
        return {status: sum(trial.status == status for trial in self.trials) for status in STATUSES}

    @property
    def failures(self) -> dict[str, str]:
        """Number of a trial that couldn't go on → cause."""
        failed = [trial for trial in self.trials if trial.status == "failed"]
        return {str(trial.number): trial.cause or "unknown" for trial in failed}

    @property
    def planned_pairs(self) -> int:
        """Pairs of searches that each comparison is to rest on."""
        return len(self.sweep.compare_bases) * len(self.sweep.compare.seeds)

    @property
    def complete(self) -> bool:
        """Whether nothing is left to run."""
        compared = all(len(scores) == self.planned_pairs for scores in self.compared.values())
        ended = sum(trial.ended for trial in self.trials)
        return ended == self.sweep.points and (self.best is None or compared)

    @property
    def row_steps(self) -> int:
        """What all trials took."""
        return sum(trial.row_steps for trial in self.trials)

    def to_dict(self) -> dict[str, Any]:
        """What a program wants to know, as plain types."""
        metric, best = self.sweep.metrics[0], None
        if self.best is not None:
            value, error = self.best.mean(metric)
            best = {"trial": self.best.number, "point": self.best.point, metric: value, "error": error}
        return {
            "sweep": self.sweep.name,
            "metric": metric,
            "complete": self.complete,
            "trials": self.counts,
            "planned": self.sweep.points,
            "row_steps": self.row_steps,
            "best": best,
            "differences": [
                {
                    **{name: getattr(each, name) for name in ("other", "metric", "value", "pairs")},
                    **dict(zip(("low", "high"), each.interval or (None, None), strict=True)),
                    "by_base": {on.base: on.difference for on in each.bases},
                }
                for each in self.differences
                if each.pairs
            ],
            "failures": self.failures,
            "compare_failures": dict(self.compare_failures),
        }


def gather(
    location: Location, sweep: SweepSpec, compare_failures: Mapping[str, str] | None = None
) -> SweepResults:
    """What there is of a sweep. Raises StorageError."""
    ledger = Ledger(location, sweep)
    trials = ledger.trials()
    best = best_trial(trials, sweep.metrics[0])
    compared: dict[str, tuple[Score, ...]] = {}
    for unit in compare_units(sweep, best):
        scores = ledger.scores(unit.folder, unit.seeds).values()
        compared[unit.name] = sum(scores, compared.get(unit.name, ()))
    differences = [
        difference(compared[BEST], scores, metric, name)
        for name, scores in compared.items()
        if name != BEST
        for metric in dict.fromkeys([*sweep.metrics, *METRICS])
    ]
    return SweepResults(sweep, tuple(trials), best, compared, tuple(differences), compare_failures or {})


def write_results(results: SweepResults, location: Location, *, model_notes: Sequence[str] = ()) -> list[str]:
    """Write trials.parquet, best.yaml, the plots and the page; return their names. Raises StorageError."""
    sweep = results.sweep
    importance = importances(results.trials, sweep.space, sweep.metrics[0])
    plots = sweep_plots(sweep, results.trials, results.best, results.differences, importance)
    spec_text = (location / SPEC).read_bytes().decode()
    contents: dict[str, Any] = {
        TABLE: parquet_bytes(trials_table(results.trials, list(sweep.space))),
        SUMMARY: json.dumps(results.to_dict(), indent=1, ensure_ascii=False),
        REPORT: render_sweep_page(results, plots, importance, spec_text, model_notes),
        **({} if results.best is None else {PRESET: _preset_text(results, results.best)}),
        **{plot.file: plot.png for plot in plots},
    }
    location.write_all(contents)
    return list(contents)


def trials_table(trials: Sequence[Trial], fields: Sequence[str]) -> pa.Table:
    """A row a trial: its values by field (numbers as numbers, else as JSON), means and errors, and all scores."""
    columns: dict[str, pa.Array] = {
        "trial": pa.array([trial.number for trial in trials], "int64"),
        "id": pa.array([trial.id for trial in trials], "string"),
        "status": pa.array([trial.status for trial in trials], "string"),
        "cause": pa.array([trial.cause for trial in trials], "string"),
        "seeds": pa.array([trial.seeds for trial in trials], "int64"),
        "searches": pa.array([len(trial.scores) for trial in trials], "int64"),
        "row_steps": pa.array([trial.row_steps for trial in trials], "int64"),
        "seconds": pa.array([trial.seconds for trial in trials], "double"),
    }
    columns |= {f"field.{name}": _field([trial.point.get(name) for trial in trials]) for name in fields}
    for name in METRICS:
        means = [trial.mean(name) for trial in trials]  # NaN becomes null
        columns[name] = pa.array([mean.value for mean in means], "double", from_pandas=True)
        columns[f"{name}_error"] = pa.array([mean.error for mean in means], "double")
    plain = [
        [{**asdict(each), "values": [*each.values.items()]} for each in trial.scores] for trial in trials
    ]
    return pa.table({**columns, "scores": pa.array(plain, pa.list_(pa.struct([*_SCORE.items()])))})


def _field(values: Sequence[Any]) -> pa.Array:
    """One field's values: numbers where all are, else JSON; null where the field doesn't apply."""
    if all(value is None or is_number(value) for value in values):
        return pa.array(values, "double")
    written = [None if value is None else json.dumps(value, sort_keys=True) for value in values]
    return pa.array(written, "string")


def _preset_text(results: SweepResults, best: Trial) -> str:
    """A preset for searches and campaigns: everything but the base and the seed."""
    metric = results.sweep.metrics[0]
    value, error = best.mean(metric)
    head = (
        f"# Best of the sweep {results.sweep.name}: trial {best.number}, {metric} {value:.2f}"
        f"{'' if error is None else f' ± {error:.2f}'} by the tuning oracle.\n"
        "# Take it as a preset: kiago search FORMULA --preset best.yaml --candidates 512\n"
    )
    values = results.sweep.spec(best.point).model_dump(mode="json", exclude={"base", "seed"})
    return head + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110)


def render_sweep_page(
    results: SweepResults,
    plots: Sequence[Plot],
    importance: Importance,
    spec_text: str,
    model_notes: Sequence[str] = (),
) -> str:
    """The page as HTML5 text; what is listed is bounded. model_notes: a sentence each on how good predictors are."""
    sweep, metric, best = results.sweep, results.sweep.metrics[0], results.best
    told = [each for each in results.differences if each.pairs]
    first = [each for each in told if each.metric == metric]
    ended = [trial for trial in results.trials if trial.ended and trial.seeds]
    unstopped = sum(trial.row_steps / trial.seeds * len(sweep.seeds) for trial in ended)
    pairs = {**dict.fromkeys(sweep.compare.against, 0), **{each.other: each.pairs for each in first}}
    return render(
        "sweep.html.j2",
        title=f"kiago-ray: sweep {sweep.name}",
        sweep=sweep,
        results=results,
        metric=metric,
        searches=sum(len(trial.scores) for trial in results.trials),
        spent=sum(trial.row_steps for trial in ended) / unstopped if unstopped else None,
        best_mean=None if best is None else _cell(metric, *best.mean(metric))[0],
        best_fields=None if best is None else _best_fields(sweep, best),
        first=[(each.other, _amount(each), _interval(each), verdict(each)) for each in first],
        few={name: count for name, count in pairs.items() if count < results.planned_pairs},
        new_bases=[base for base in sweep.compare.bases if base not in sweep.bases],
        differences=_differences(told),
        by_base=_by_base(first),
        plots={plot.file: plot for plot in plots},
        importance=importance,
        tells=TELLS,
        trials=_trials(results),
        metrics=METRICS,
        model_notes=model_notes,
        spec_text=spec_text,
    )


def verdict(each: Difference) -> str:
    """What a comparison says, in a sentence without its subject."""
    unknown = f"can't be told from {each.other}: "
    if not each.pairs:
        return f"{unknown}nothing passed that could tell"
    bases, seeds = len(each.bases), each.pairs / len(each.bases)
    basis = f"{each.pairs} pairs of searches"
    if seeds.is_integer():
        basis = f"{bases} base{'s' * (bases > 1)} × {seeds:.0f} seed{'s' * (seeds > 1)}"
    if each.reach is None:
        return f"{unknown}{_amount(each)}, from too few searches for an interval ({basis})"
    by = f"{_amount(each)} (95 % interval {_interval(each)}, {basis})"
    return f"is {each.outcome} than {each.other} by {by}" if each.outcome else f"{unknown}{by}"


def _best_fields(sweep: SweepSpec, best: Trial) -> Table[str]:
    """The best trial's fields beside those of the search that the sweep goes out from."""
    shared, whole = (sweep.spec(point).model_dump(mode="json") for point in ({}, best.point))
    shared["preset"] = sweep.search.get("preset", "default")
    rest = "as its preset has it" if "preset" in best.point else "not searched for"

    def found(name: str) -> Cell:
        shown, value = _value_cell(best.point.get(name, _at(whole, name)))
        return (shown if name in best.point else badge(shown, rest)), value

    columns: list[Column[str]] = [
        text("Field", str),
        Column(f"Trial {best.number}", found),
        Column("Search as it stands", lambda name: _value_cell(_at(shared, name))),
    ]
    return table_of(list(sweep.space), columns, "The best trial's fields")


def _at(values: Any, name: str) -> Any:
    """The value of a field such as beta.start; None where there is none."""
    for part in name.split("."):
        if isinstance(values, list):
            values = values[int(part)]
        else:
            values = values.get(part) if isinstance(values, dict) else None
    return values


def _differences(differences: Sequence[Difference]) -> Table[Difference]:
    columns: list[Column[Difference]] = [
        text("Held against", lambda each: each.other),
        text("Metric", lambda each: each.metric),
        Column("Best minus other", lambda each: _cell(each.metric, each.value, sign="+"), "n"),
        Column("95 % interval", lambda each: (_interval(each) or NO_VALUE[0], each.reach), "n"),
        text("Best is", lambda each: each.outcome or "can't be told"),
        Column("Pairs", lambda each: (f"{each.pairs:,}", each.pairs), "n"),
    ]
    return table_of(differences, columns, "The best minus others")


def _by_base(differences: Sequence[Difference]) -> Table[tuple[Difference, OnBase]] | None:
    """What each base alone says, where there are several."""
    rows = [(each, on) for each in differences for on in each.bases]
    if len(rows) <= len(differences):
        return None
    columns: list[Column[tuple[Difference, OnBase]]] = [
        text("Held against", lambda row: row[0].other),
        text("Base", lambda row: row[1].base, formula=True),
        Column("Best", lambda row: _cell(row[0].metric, row[1].best), "n"),
        Column("Other", lambda row: _cell(row[0].metric, row[1].other), "n"),
        Column("Best minus other", lambda row: _cell(row[0].metric, row[1].difference, sign="+"), "n"),
        Column("Standard error", lambda row: _cell(row[0].metric, row[1].error), "n"),
    ]
    note = not_shown(len(rows) - LISTED, "more rows")
    return table_of(rows[:LISTED], columns, "The best minus others by base", note)


def _trials(results: SweepResults) -> Table[Trial]:
    """A row a trial, the best first."""
    sweep = results.sweep

    def mean(name: str) -> Column[Trial]:
        return Column(with_unit(name), lambda trial: _cell(name, *trial.mean(name)), "n")

    def value(name: str) -> Column[Trial]:
        def found(trial: Trial) -> Cell:
            return _value_cell(trial.point[name]) if name in trial.point else NO_VALUE

        return Column(name, found, "n" if all(map(is_number, sweep.space[name].values)) else "")

    columns: list[Column[Trial]] = [
        Column("Trial", lambda trial: (str(trial.number), trial.number), "n"),
        text("Status", lambda trial: trial.status),
        Column("Seeds", lambda trial: (f"{trial.seeds} of {len(sweep.seeds)}", trial.seeds), "n"),
        *map(mean, sweep.metrics),
        *map(value, sweep.space),
        *(mean(name) for name in METRICS if name not in sweep.metrics),
    ]
    shown = ranked(results.trials, sweep.metrics[0])[:LISTED]
    return table_of(shown, columns, "Trials", not_shown(len(results.trials) - LISTED, "trials"))


def _value_cell(value: Any) -> Cell:
    shown = "none" if value is None else value_text(value)
    shown = shown if len(shown) <= _VALUE_LENGTH else shown[: _VALUE_LENGTH - 1] + "…"
    return shown, float(value) if is_number(value) else None


def _cell(metric: str, value: float | None, error: float | None = None, sign: str = "") -> Cell:
    """A value of a metric, and its standard error where it has one."""
    if value is None or math.isnan(value):
        return NO_VALUE
    spread = "" if error is None else f" ± {_number(metric, error)}"
    return f"{_number(metric, value, sign)}{spread}", value


def _number(metric: str, value: float, sign: str = "") -> str:
    digits = 3 if not METRICS[metric].unit else 1 if abs(value) >= 0.1 else 2
    return f"{value:{sign}z.{digits}f}"


def _amount(each: Difference) -> str:
    """The difference, with its unit."""
    return f"{_number(each.metric, each.value, '+')} {METRICS[each.metric].unit}".rstrip()


def _interval(each: Difference) -> str | None:
    return each.interval and " to ".join(_number(each.metric, end, "+") for end in each.interval)
