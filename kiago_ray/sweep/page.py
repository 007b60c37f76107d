"""report.html of a sweep: the best trial, whether it is better by another judge, which fields matter, all trials."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kiago_ray.report.page import (
    NO_VALUE,
    Cell,
    Column,
    Table,
    badge,
    not_shown,
    number,
    number_cell,
    render,
    table_of,
    text,
    text_cell,
)
from kiago_ray.report.plots import Plot
from kiago_ray.sweep.compare import Difference, OnBase
from kiago_ray.sweep.importance import TELLS, Importance
from kiago_ray.sweep.metrics import METRICS
from kiago_ray.sweep.plots import value_text
from kiago_ray.sweep.space import PRESET
from kiago_ray.sweep.spec import SweepSpec
from kiago_ray.sweep.trials import Trial

LISTED = 500  # trials, and bases of the comparison
_VALUE_LENGTH = 60
_ORDER = ("finished", "stopped", "unfinished", "failed")


@dataclass(frozen=True)
class SweepPage:
    """What goes on the page.

    best: as the first metric has it. differences: of the best to each other, by any metric. compare_failures: what
    couldn't be compared → cause. model_notes: a sentence each on how good the predictors are.
    """

    sweep: SweepSpec
    trials: Sequence[Trial]
    best: Trial | None
    differences: Sequence[Difference]
    plots: Sequence[Plot]
    importance: Importance | None
    spec_text: str
    model_notes: Sequence[str] = ()
    compare_failures: Mapping[str, str] = field(default_factory=dict)


def render_sweep_page(page: SweepPage) -> str:
    """The page as HTML5 text. What is listed is bounded."""
    sweep, metric = page.sweep, page.sweep.metrics[0]
    told = [each for each in page.differences if each.pairs]
    order = list(sweep.compare.against)
    first = sorted(
        (each for each in told if each.metric == metric),
        key=lambda each: order.index(each.other) if each.other in order else len(order),
    )
    counts = {status: sum(trial.status == status for trial in page.trials) for status in _ORDER}
    ended = [trial for trial in page.trials if trial.ended and trial.seeds]
    unstopped = sum(trial.row_steps / trial.seeds * len(sweep.seeds) for trial in ended)
    return render(
        "sweep.html.j2",
        title=f"kiago-ray: sweep {sweep.name}",
        sweep=sweep,
        metric=metric,
        counts=counts,
        searches=sum(len(trial.scores) for trial in page.trials),
        spent=sum(trial.row_steps for trial in ended) / unstopped if unstopped else None,
        best=page.best,
        best_mean=None if page.best is None else _mean(page.best, metric)[0],
        best_fields=None if page.best is None else _best(sweep, page.best),
        first=[
            (
                each.other,
                _amount(each.value, metric, "+"),
                None if each.low is None else _interval(each),
                verdict(each),
            )
            for each in first
        ],
        few={name: pairs for name, pairs in _pairs(sweep, first).items() if pairs < _planned_pairs(sweep)},
        planned_pairs=_planned_pairs(sweep),
        compare_failures=page.compare_failures,
        new_bases=[base for base in sweep.compare.bases if base not in sweep.bases],
        differences=_differences(told),
        by_base=_by_base(first),
        plots={plot.file: plot for plot in page.plots},
        importance=page.importance if page.importance is not None and page.importance.fields else None,
        tells=TELLS,
        trials=_trials(page),
        failures=[
            (str(trial.number), trial.cause or "unknown") for trial in page.trials if trial.status == "failed"
        ],
        metrics=METRICS,
        model_notes=page.model_notes,
        spec_text=page.spec_text,
    )


def _pairs(sweep: SweepSpec, differences: Sequence[Difference]) -> dict[str, int]:
    """How many pairs of searches the comparison with each of the others rests on."""
    done = {each.other: each.pairs for each in differences}
    return {name: done.get(name, 0) for name in sweep.compare.against}


def _planned_pairs(sweep: SweepSpec) -> int:
    return len(sweep.compare_bases) * len(sweep.compare.seeds)


def verdict(each: Difference) -> str:
    """What a comparison says, in a sentence without its subject."""
    metric = METRICS[each.metric]
    unknown = f"can't be told from {each.other}: "
    if math.isnan(each.value):
        return f"{unknown}nothing passed that could tell"
    by = _amount(each.value, each.metric, "+")
    bases = len(each.bases)
    basis = f"{each.pairs} pairs of searches"
    if bases and each.pairs % bases == 0:
        basis = f"{_counted(bases, 'base')} × {_counted(each.pairs // bases, 'seed')}"
    if each.low is None or each.high is None:
        return f"{unknown}{by}, from too few searches for an interval ({basis})"
    by += f" (95 % interval {_interval(each)}, {basis})"
    if each.low <= 0 <= each.high:
        return f"{unknown}{by}"
    return f"is {'better' if metric.sign * each.value > 0 else 'worse'} than {each.other} by {by}"


def _best(sweep: SweepSpec, best: Trial) -> Table[str]:
    """The best trial's fields beside those of the search that the sweep goes out from."""
    point, shared = best.point, sweep.spec({}, None, 0).model_dump(mode="json")
    whole = sweep.spec(point, None, 0).model_dump(mode="json")
    rest = "as its preset has it" if PRESET in point else "not searched for"

    def found(name: str) -> Cell:
        if name in point:
            return _value_cell(point[name])
        shown, value = _value_cell(_at(whole, name))
        return badge(shown, rest), value

    def standing(name: str) -> Cell:
        preset = sweep.search.get(PRESET, "default")
        return _value_cell(preset if name == PRESET else _at(shared, name))

    columns: list[Column[str]] = [
        text("Field", str),
        Column(f"Trial {best.number}", found),
        Column("Search as it stands", standing),
    ]
    return table_of(list(sweep.space), columns, "The best trial's fields")


def _at(values: Any, name: str) -> Any:
    """The value of a field such as beta.start; None where there is none."""
    for part in name.split("."):
        if isinstance(values, list) and part.isdigit() and int(part) < len(values):
            values = values[int(part)]
        else:
            values = values.get(part) if isinstance(values, dict) else None
    return values


def _differences(differences: Sequence[Difference]) -> Table[Difference]:
    def outcome(each: Difference) -> str:
        if each.low is None or each.high is None or each.low <= 0 <= each.high:
            return "can't be told"
        return "better" if METRICS[each.metric].sign * each.value > 0 else "worse"

    columns: list[Column[Difference]] = [
        text("Held against", lambda each: each.other),
        text("Metric", lambda each: each.metric),
        Column("Best minus other", lambda each: _metric_cell(each.value, each.metric, "+"), "n"),
        Column(
            "95 % interval", lambda each: NO_VALUE if each.low is None else (_interval(each), each.low), "n"
        ),
        text("Best is", outcome),
        number("Pairs", lambda each: each.pairs, "{:,}"),
    ]
    return table_of(differences, columns, "The best minus others")


def _by_base(differences: Sequence[Difference]) -> Table[tuple[Difference, OnBase]] | None:
    """What each base alone says, where there are several."""
    rows = [(each, on) for each in differences for on in each.bases]
    if len(rows) <= len(differences):
        return None

    def of(
        header: str, value: Callable[[OnBase], float | None], sign: str = ""
    ) -> Column[tuple[Difference, OnBase]]:
        return Column(header, lambda row: _metric_cell(value(row[1]), row[0].metric, sign), "n")

    columns = [
        text("Held against", lambda row: row[0].other),
        text("Base", lambda row: row[1].base, formula=True),
        of("Best", lambda on: on.best),
        of("Other", lambda on: on.other),
        of("Best minus other", lambda on: on.difference, "+"),
        of("Standard error", lambda on: on.error),
    ]
    note = not_shown(len(rows) - LISTED, "more rows")
    return table_of(rows[:LISTED], columns, "The best minus others by base", note)


def _trials(page: SweepPage) -> Table[Trial]:
    """A row a trial, the best first."""
    sweep = page.sweep
    metric = sweep.metrics[0]

    def key(trial: Trial) -> tuple[int, float, int]:
        value = METRICS[metric].sign * trial.mean(metric).value
        return _ORDER.index(trial.status), math.inf if math.isnan(value) else -value, trial.number

    def mean(name: str) -> Column[Trial]:
        unit = METRICS[name].unit
        return Column(f"{name} ({unit})" if unit else name, lambda trial: _mean(trial, name), "n")

    def value(name: str) -> Column[Trial]:
        kind = "n" if all(map(_is_number, sweep.space[name].values)) else ""
        return Column(
            name, lambda trial: _value_cell(trial.point[name]) if name in trial.point else NO_VALUE, kind
        )

    columns: list[Column[Trial]] = [
        number("Trial", lambda trial: trial.number, "{}"),
        text("Status", lambda trial: trial.status),
        Column("Seeds", lambda trial: (f"{trial.seeds} of {len(sweep.seeds)}", float(trial.seeds)), "n"),
        *map(mean, sweep.metrics),
        *map(value, sweep.space),
        *(mean(name) for name in METRICS if name not in sweep.metrics),
    ]
    shown = sorted(page.trials, key=key)[:LISTED]
    return table_of(shown, columns, "Trials", not_shown(len(page.trials) - LISTED, "trials"))


def _mean(trial: Trial, name: str) -> Cell:
    """The mean of a metric ± its standard error."""
    mean = trial.mean(name)
    shown, value = _metric_cell(mean.value, name)
    return (shown if mean.error is None else f"{shown} ± {_number(mean.error, name)}"), value


def _value_cell(value: Any) -> Cell:
    if value is None:
        return text_cell("none")
    shown = value_text(value)
    shown = shown if len(shown) <= _VALUE_LENGTH else shown[: _VALUE_LENGTH - 1] + "…"
    return shown, float(value) if _is_number(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _metric_cell(value: float | None, metric: str, sign: str = "") -> Cell:
    if value is None or math.isnan(value):
        return NO_VALUE
    return number_cell(value, f"{{:{sign}z.{_digits(value, metric)}f}}")


def _amount(value: float, metric: str, sign: str = "") -> str:
    """A value of a metric, with its unit."""
    if math.isnan(value):
        return "unknown"
    unit = METRICS[metric].unit
    return _number(value, metric, sign) + (f" {unit}" if unit else "")


def _number(value: float, metric: str, sign: str = "") -> str:
    return f"{value:{sign}z.{_digits(value, metric)}f}"


def _digits(value: float, metric: str) -> int:
    return 3 if not METRICS[metric].unit else 1 if abs(value) >= 0.1 else 2


def _interval(each: Difference) -> str:
    assert each.low is not None
    assert each.high is not None
    return f"{_number(each.low, each.metric, '+')} to {_number(each.high, each.metric, '+')}"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")
