"""report.html of a sweep: the best trial, whether it is better by another judge, which fields matter, all trials."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from kiago_ray.report.campaign_page import _cut, _not_shown
from kiago_ray.report.page_parts import (
    document,
    figures,
    limits,
    plain_table,
    section,
    specification,
    tiles,
)
from kiago_ray.report.page_table import (
    NO_VALUE,
    Cell,
    Column,
    number_cell,
    scrolling,
    table_of,
    text_cell,
    words,
)
from kiago_ray.sweep.compare import Difference
from kiago_ray.sweep.field_plots import value_text
from kiago_ray.sweep.importance import TELLS, Importance
from kiago_ray.sweep.metrics import METRICS
from kiago_ray.sweep.page_comparison import (
    LISTED,
    amount,
    comparison,
    counted,
    interval,
    metric_cell,
    number,
    of_first_metric,
)
from kiago_ray.sweep.plots import COMPARISON_CAPTION, IMPORTANCE_CAPTION
from kiago_ray.sweep.point import PRESET
from kiago_ray.sweep.spec import SweepSpec
from kiago_ray.sweep.trials import Trial

_FAILURES = 100
_VALUE_LENGTH = 60
_ORDER = ("finished", "stopped", "unfinished", "failed")


@dataclass(frozen=True)
class SweepPage:
    """What goes on the page.

    best: as the first metric has it. differences: of the best to each other, by any metric. plots: caption and PNG of
    each. compare_failures: what couldn't be compared → cause. model_notes, remark: as on the page of a search.
    """

    sweep: SweepSpec
    trials: Sequence[Trial]
    best: Trial | None
    differences: Sequence[Difference]
    plots: Sequence[tuple[str, bytes]]
    importance: Importance | None
    spec_text: str
    model_notes: Sequence[str] = ()
    remark: str = ""
    compare_failures: Mapping[str, str] = field(default_factory=dict)


def render_sweep_page(page: SweepPage) -> str:
    """The page as HTML5 text. All text given is escaped; what is listed is bounded."""
    own = (COMPARISON_CAPTION, IMPORTANCE_CAPTION)
    sections = [
        ("Best", _best(page)),
        ("Is it better?", comparison(page.sweep, page.differences, page.plots)),
        ("Plots", figures(plot for plot in page.plots if plot[0] not in own)),
        ("Which fields matter", _importance(page)),
        ("Trials", _trials(page)),
        ("Trials that failed", _failures(page.trials)),
        ("What the metrics mean", _metrics(page.sweep)),
    ]
    body = "".join(section(heading, content) for heading, content in sections)
    about = f"<p>{words(page.sweep.description)}</p>\n" if page.sweep.description else ""
    body = f"{about}{_state(page)}{_tiles(page)}\n{body}{limits(page.model_notes)}\n{specification(page.spec_text)}"
    return document(f"kiago-ray: sweep {page.sweep.name}", body)


def _state(page: SweepPage) -> str:
    """What a reader must know first: what is missing, failed or was stopped, and the remark given."""
    sweep, counts = page.sweep, _counts(page.trials)
    ended = counts["finished"] + counts["stopped"]
    texts = []
    if not ended:
        texts.append(f"No trial has ended yet, of {sweep.points:,} planned.")
    elif ended < sweep.points:
        texts.append(
            f"Not finished: {ended:,} of {sweep.points:,} trials have ended. The numbers below are of those."
        )
    if counts["failed"]:
        texts.append(f"Trials that failed: {counts['failed']:,}. The same command tries them again.")
    if counts["stopped"]:
        texts.append(
            f"Trials stopped early: {counts['stopped']:,}, because after as many seeds they were behind others. The "
            "best is one of those that finished."
        )
    if page.best is not None:
        texts += _missing_comparison(page)
    if page.remark:
        texts.append(page.remark)
    return (
        f'<div class="remark">{"".join(f"<p>{escape(text)}</p>" for text in texts)}</div>\n' if texts else ""
    )


def _missing_comparison(page: SweepPage) -> list[str]:
    searches = len(page.sweep.compare_bases) * len(page.sweep.compare.seeds)
    pairs = {each.other: each.pairs for each in of_first_metric(page.sweep, page.differences)}
    texts = [
        f"The comparison with {name} rests on {pairs.get(name, 0):,} of {searches:,} pairs of searches."
        for name in page.sweep.compare.against
        if pairs.get(name, 0) < searches
    ]
    return texts + [
        f"The comparison with {name} failed: {_cut(cause)}" for name, cause in page.compare_failures.items()
    ]


def _tiles(page: SweepPage) -> str:
    counts, metric = _counts(page.trials), page.sweep.metrics[0]
    entries = [("trials finished", f"{counts['finished']:,} of {page.sweep.points:,}")]
    entries += [(name, f"{counts[name]:,}") for name in ("stopped", "failed") if counts[name]]
    entries.append(("searches", f"{sum(len(trial.scores) for trial in page.trials):,}"))
    ended = [trial for trial in page.trials if trial.ended and trial.seeds]
    whole = sum(trial.row_steps / trial.seeds * len(page.sweep.seeds) for trial in ended)
    if whole:
        spent = sum(trial.row_steps for trial in ended) / whole
        entries.append(("of the steps without early stopping", f"{100 * spent:.0f} %"))
    if page.best is not None:
        mean = page.best.mean(metric)
        error = "" if mean.error is None else f" ± {number(mean.error, metric)}"
        unit = f" {METRICS[metric].unit}" if METRICS[metric].unit else ""
        value = f"{number(mean.value, metric)}{error}{unit}"
        entries.append((f"{metric} of the best, trial {page.best.number}", value))
    for each in of_first_metric(page.sweep, page.differences)[:1]:
        reach = "no interval" if each.low is None else f"95 % interval {interval(each)}"
        entries.append((f"best minus {each.other}, {reach}", amount(each.value, metric, sign=True)))
    return tiles(entries)


def _best(page: SweepPage) -> str:
    """The best trial's fields beside those of the search that the sweep goes out from."""
    if page.best is None:
        return "<p>No trial has finished with a value of the metric.</p>" if page.trials else ""
    best, shared = page.best.point, page.sweep.spec({}, None, 0).model_dump(mode="json")
    whole = page.sweep.spec(best, None, 0).model_dump(mode="json")
    rest = "as its preset has it" if PRESET in best else "not searched for"

    def found(name: str) -> Cell:
        if name in best:
            return _value_cell(best[name])
        html, number = _value_cell(_at(whole, name))
        return f'{html} <span class="badge">{rest}</span>', number

    def standing(name: str) -> Cell:
        preset = page.sweep.search.get(PRESET, "default")
        return _value_cell(preset if name == PRESET else _at(shared, name))

    table = table_of(
        list(page.sweep.space),
        [
            (Column("Field"), text_cell),
            (Column(f"Trial {page.best.number}"), found),
            (Column("Search as it stands"), standing),
        ],
        "The best trial's fields",
    )
    return table + '<p class="note">best.yaml holds this search whole, as a preset.</p>\n'


def _at(values: Any, name: str) -> Any:
    """The value of a field such as beta.start; None where there is none."""
    for part in name.split("."):
        if isinstance(values, list) and part.isdigit() and int(part) < len(values):
            values = values[int(part)]
        else:
            values = values.get(part) if isinstance(values, dict) else None
    return values


def _importance(page: SweepPage) -> str:
    """How much each field decides the first metric, and whether that can be told."""
    importance = page.importance
    if importance is None or not importance.fields:
        return ""
    if importance.r2 is None:
        told = f"With {counted(importance.trials, 'trial')} nobody can tell which fields matter."
    elif not importance.tells:
        told = (
            f"The importances mean nothing: of trials that it hasn't seen, the forest foretells next to nothing "
            f"(cross-validated R² {importance.r2:z.2f}, below {TELLS:g})."
        )
    else:
        told = (
            f"Of trials that it hasn't seen, the forest foretells {100 * importance.r2:.0f} % of the variance "
            f"(cross-validated R² {importance.r2:.2f}): the importances mean so much."
        )
    how = (
        f"A random forest learns {importance.metric} from the fields of {counted(importance.trials, 'trial')}, as it "
        "was after each one's first seed, so that stopped and finished ones compare. A field matters by how "
        "much worse it foretells trials that it hasn't seen when the field's values are shuffled. Fields that apply "
        "by it are shuffled with it."
    )
    table = plain_table(
        [(each.field, f"{each.value:z.2f}", f"± {each.error:.2f}") for each in importance.fields],
        "Importance of each field",
    )
    plot = figures(plot for plot in page.plots if plot[0] == IMPORTANCE_CAPTION)
    return f"<p><b>{words(told)}</b></p>\n<p>{words(how)}</p>\n{plot}{table}"


def _trials(page: SweepPage) -> str:
    """The table of a row a trial, the best first."""
    metric = page.sweep.metrics[0]

    def key(trial: Trial) -> tuple[int, float, int]:
        value = METRICS[metric].sign * trial.mean(metric).value
        return _ORDER.index(trial.status), math.inf if math.isnan(value) else -value, trial.number

    shown = sorted(page.trials, key=key)[:LISTED]
    table = table_of(
        shown,
        [
            (Column("Trial", "n"), lambda trial: number_cell(trial.number, "{}")),
            (Column("Status"), lambda trial: text_cell(trial.status)),
            (
                Column("Seeds", "n"),
                lambda trial: (f"{trial.seeds} of {len(page.sweep.seeds)}", float(trial.seeds)),
            ),
            *((_metric_column(name), _mean_of(name)) for name in page.sweep.metrics),
            *((Column(escape(name), _kind(page.sweep, name)), _value_of(name)) for name in page.sweep.space),
            *((_metric_column(name), _mean_of(name)) for name in METRICS if name not in page.sweep.metrics),
        ],
        "Trials",
    )
    note = (
        '<p class="note">Means over bases and the seeds done ± standard error by the spread over seeds, by the tuning '
        "oracle. What was stopped has fewer seeds, and isn't compared with what finished.</p>\n"
    )
    return (note + table + _not_shown(len(page.trials) - LISTED, "trials")) if shown else ""


def _failures(trials: Sequence[Trial]) -> str:
    failed = [trial for trial in trials if trial.status == "failed"]
    if not failed:
        return ""
    body = "".join(
        f'<tr><th scope="row" class="name">{trial.number}</th><td class="cause">'
        f"{escape(_cut(trial.cause or 'unknown'))}</td></tr>\n"
        for trial in failed[:_FAILURES]
    )
    head = '<thead class="plain"><tr><th scope="col">Trial</th><th scope="col">Cause</th></tr></thead>'
    table = scrolling(
        f"<table>{head}\n<tbody>{body}</tbody></table>", "Trials that failed", tall=len(failed) > 8
    )
    return table + _not_shown(len(failed) - _FAILURES, "failed trials")


def _metrics(sweep: SweepSpec) -> str:
    rows = []
    for name, metric in METRICS.items():
        better = "more is better" if metric.mode == "max" else "less is better"
        rows.append((name, metric.unit, f"{metric.meaning}; {better}"))
    best = f"“The best” are the {sweep.top} best rows of a search that pass every screen, each formula once."
    return f"<p>{words(best)}</p>\n{plain_table(rows, 'What the metrics mean')}"


def _counts(trials: Sequence[Trial]) -> dict[str, int]:
    return {status: sum(trial.status == status for trial in trials) for status in _ORDER}


def _metric_column(name: str) -> Column:
    unit = METRICS[name].unit
    return Column(escape(f"{name} ({unit})" if unit else name), "n")


def _mean_of(name: str) -> Callable[[Trial], Cell]:
    def content(trial: Trial) -> Cell:
        mean = trial.mean(name)
        text, value = metric_cell(mean.value, name)
        return (text if mean.error is None else f"{text} ± {number(mean.error, name)}"), value

    return content


def _kind(sweep: SweepSpec, name: str) -> str:
    """Numbers stand right and sort by value."""
    values = sweep.space[name].values
    return (
        "n" if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values) else ""
    )


def _value_of(name: str) -> Callable[[Trial], Cell]:
    return lambda trial: _value_cell(trial.point[name]) if name in trial.point else NO_VALUE


def _value_cell(value: Any) -> Cell:
    if value is None:
        return text_cell("none")
    text = value_text(value)
    text = text if len(text) <= _VALUE_LENGTH else text[: _VALUE_LENGTH - 1] + "…"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return escape(text), float(value) if is_number else None
