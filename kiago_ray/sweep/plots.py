"""The plots of a sweep, as PNG: how trials did by field, seed and metric, and what the best was held against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from kiago_ray.report.campaign_plots import _COLORS, _plain
from kiago_ray.report.plots import BLUE, GREY, ORANGE, VERMILION, _figure, _png
from kiago_ray.sweep.compare import Difference
from kiago_ray.sweep.field_plots import (
    Space,
    _legend,
    _nice,
    _of_best,
    _panels,
    _short,
    _with_unit,
    fields_plot,
    parallel_plot,
)
from kiago_ray.sweep.importance import Importance, first_value
from kiago_ray.sweep.metrics import METRICS
from kiago_ray.sweep.spec import SweepSpec
from kiago_ray.sweep.trials import Trial, finished, front

SHOWN_FIELDS = 12
SHOWN_TRIALS = 500
SHOWN_BASES = 7  # that have a colour each
COMPARISON_CAPTION = (
    "The best minus each other: mean and 95 % interval over seeds. Small points are single bases."
)
IMPORTANCE_CAPTION = "By how much R² falls, on trials that the forest hasn't seen, when a field is shuffled."
_FRONT = ("pass_rate", "gap_k", "diversity")

Plot = tuple[str, str, bytes]


def sweep_plots(
    sweep: SweepSpec,
    trials: Sequence[Trial],
    best: Trial | None,
    differences: Sequence[Difference],
    importance: Importance | None,
) -> list[Plot]:
    """File name, caption and PNG of each plot that has something to show."""
    metric = sweep.metrics[0]
    told = [trial for trial in trials if math.isfinite(first_value(trial, metric))]
    drawn = foremost(told, metric, best)
    fields = _decisive(sweep.space, importance)
    of_fields = ""
    if len(fields) < len(sweep.space):
        of_fields = f" The {len(fields)} of {len(sweep.space)} fields that decide most."
    of_trials = f" The best {len(drawn)} of {len(told):,} trials." if len(drawn) < len(told) else ""
    several = [trial for trial in finished(drawn) if math.isfinite(trial.mean(metric).value)]
    compared = [each for each in differences if each.metric == metric and math.isfinite(each.value)]
    plots: list[Plot] = []
    if compared:
        plots.append(("comparison.png", COMPARISON_CAPTION, comparison_plot(compared, metric)))
    if importance is not None and importance.fields:
        plots.append(("importance.png", IMPORTANCE_CAPTION, importance_plot(importance)))
    if told:
        caption = f"{metric} against each field; “–” is where a field doesn't apply." + of_fields + of_trials
        plots.append(("fields.png", caption, fields_plot(fields, drawn, metric, best)))
        caption = f"A line a trial, through its value of each field to its {metric}." + of_fields + of_trials
        plots.append(("parallel.png", caption, parallel_plot(fields, drawn, metric, best)))
    if told and len(sweep.seeds) > 1:
        caption = f"{metric}, mean over bases and over the seeds done, as trials went on." + of_trials
        plots.append(("rungs.png", caption, rungs_plot(drawn, metric, best)))
    if len(several) > 1:
        caption = (
            f"{metric} against other metrics, finished trials; none beats those of the front in both."
            + of_trials
        )
        plots.append(("front.png", caption, front_plot(several, sweep.metrics, best)))
    return plots


def importance_plot(importance: Importance) -> bytes:
    """A bar a field, with the spread over shuffles; grey where the forest foretells nothing."""
    shown = importance.fields[: 2 * SHOWN_FIELDS]
    figure, axes = _figure(7.0, 1.2 + 0.3 * max(len(shown), 2))
    axes.barh(
        range(len(shown)),
        [each.value for each in shown],
        xerr=[each.error for each in shown],
        color=BLUE if importance.tells else GREY,
        error_kw={"ecolor": "black", "elinewidth": 1},
        height=0.62,
    )
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(shown)), [_plain(each.field) for each in shown])
    axes.set_ylim(max(len(shown), 1) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("fall of R² with the field shuffled; bars: standard deviation over shuffles")
    foretold = (
        "too few trials for an R²" if importance.r2 is None else f"cross-validated R² {importance.r2:z.2f}"
    )
    axes.set_title(f"{importance.metric}, {importance.trials:,} trials; {foretold}", loc="left", fontsize=10)
    return _png(figure)


def rungs_plot(trials: Sequence[Trial], metric: str, best: Trial | None = None) -> bytes:
    """The metric over the seeds done, a line a trial; where stopped ones ended is marked."""
    figure, axes = _figure(7.0, 4.2)
    most = max([trial.seeds for trial in trials], default=1)
    ends: dict[str, list[tuple[int, float]]] = {}
    for trial in trials:
        values = [trial.mean(metric, seeds).value for seeds in range(1, trial.seeds + 1)]
        if not any(map(math.isfinite, values)):
            continue
        ends.setdefault(trial.status, []).append((trial.seeds, values[-1]))
        style: dict[str, Any] = {"color": BLUE, "alpha": 0.6 if len(trials) <= 60 else 0.25, "linewidth": 1.1}
        if trial.status != "finished":
            style = {"color": GREY, "alpha": 0.7, "linewidth": 0.9}
        if best is not None and trial.number == best.number:
            style = {"color": VERMILION, "linewidth": 2.6, "zorder": 4, "label": _of_best(best)}
        axes.plot(range(1, trial.seeds + 1), values, marker=".", **style)
    marks = {
        "finished": ("o", BLUE),
        "stopped": ("x", "black"),
        "unfinished": ("|", GREY),
        "failed": ("v", GREY),
    }
    for status, places in ends.items():
        mark, color = marks[status]
        x, y = zip(*places, strict=True)
        axes.scatter(x, y, marker=mark, c=color, s=24, zorder=3, label=f"{status}, last seed ({len(places)})")
    axes.set_xticks(range(1, most + 1) if most <= 12 else [at for at in _nice(1, most) if at == round(at)])
    axes.set_xlim(0.8, most + 0.2)
    axes.set_xlabel("seeds done")
    axes.set_ylabel(f"{_with_unit(metric)}, mean so far")
    _legend(figure, axes)
    return _png(figure)


def front_plot(trials: Sequence[Trial], metrics: Sequence[str], best: Trial | None = None) -> bytes:
    """The first metric against the others, a panel each, finished trials; the front of each pair of metrics apart."""
    metric = metrics[0]
    others = [name for name in dict.fromkeys([*metrics, *_FRONT]) if name != metric]
    figure, panels = _panels(1, len(others), (max(7.0, 2.5 * len(others)), 3.6))
    for panel, other in zip(panels, others, strict=True):
        values = {
            trial.number: (trial.mean(other).value, trial.mean(metric).value) for trial in finished(trials)
        }
        values = {number: pair for number, pair in values.items() if all(map(math.isfinite, pair))}
        panel.scatter(
            *_columns(values.values()), s=16, c=GREY, alpha=0.8, linewidths=0, label="finished trials"
        )
        unbeaten = [
            values[trial.number] for trial in front(trials, (metric, other)) if trial.number in values
        ]
        x, y = _columns(sorted(unbeaten))
        panel.plot(
            x, y, color=BLUE, linewidth=1, marker="D", markersize=4.5, label="front of these two metrics"
        )
        if best is not None and best.number in values:
            style = {"s": 130, "c": ORANGE, "edgecolors": "black", "linewidths": 0.8, "zorder": 4}
            panel.scatter(*values[best.number], marker="*", label=_of_best(best), **style)
        if not values:
            panel.annotate("nothing known", (0.5, 0.5), xycoords="axes fraction", ha="center")
        less, more = ("← better", "") if METRICS[other].mode == "min" else ("", "better →")
        panel.set_xlabel(f"{_with_unit(other)}\n{less}{more}")
        panel.locator_params(axis="x", nbins=5)
    arrow = "better →" if METRICS[metric].mode == "max" else "← better"
    panels[0].set_ylabel(f"{_with_unit(metric)}\n{arrow}")
    _legend(figure, panels[0], columns=3)
    return _png(figure)


def comparison_plot(differences: Sequence[Difference], metric: str) -> bytes:
    """The best minus each other: a point with its interval, below it a small one for each base."""
    told = [each for each in differences if each.metric == metric and math.isfinite(each.value)]
    bases = list(dict.fromkeys(on.base for each in told for on in each.bases))
    figure, axes = _figure(7.0, 1.9 + min(0.62 * max(len(told), 1), 9.0))
    axes.axvline(0, color="black", linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    for place, each in enumerate(told):
        reach = [[0.0], [0.0]]
        if each.low is not None and each.high is not None:
            reach = [[each.value - each.low], [each.high - each.value]]
        known = each.low is not None
        face = "black" if known else "white"
        style = {"color": "black", "markerfacecolor": face, "markersize": 7, "capsize": 4, "elinewidth": 1.6}
        axes.errorbar([each.value], [place - 0.12], xerr=reach if known else None, fmt="o", zorder=3, **style)
        for on in each.bases:
            number = bases.index(on.base)
            color = _COLORS[number] if len(bases) <= SHOWN_BASES else GREY
            label = _plain(on.base) if place == 0 else None
            if len(bases) > SHOWN_BASES:
                label = f"one base ({len(bases)})" if place == number == 0 else None
            axes.scatter(on.difference, place + 0.2, s=18, c=color, alpha=0.85, linewidths=0, label=label)
    axes.set_yticks(range(len(told)), [_short(each.other, 26) for each in told])
    axes.set_ylim(max(len(told), 1) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    better = "better →" if METRICS[metric].mode == "max" else "← better"
    axes.set_xlabel(f"best minus other, {_with_unit(metric)}; {better}")
    if any(each.low is None for each in told):
        axes.errorbar([], [], fmt="o", color="black", markerfacecolor="white", label="interval unknown")
    _legend(figure, axes, columns=4)
    return _png(figure)


def foremost(trials: Sequence[Trial], metric: str, best: Trial | None = None) -> list[Trial]:
    """Up to SHOWN_TRIALS in their order: the best trial, finished ones before others, higher ones before lower."""

    def key(trial: Trial) -> tuple[bool, bool, float]:
        value = METRICS[metric].sign * trial.mean(metric).value
        at_best = best is not None and trial.number == best.number
        return not at_best, trial.status != "finished", -value if math.isfinite(value) else math.inf

    kept = {trial.number for trial in sorted(trials, key=key)[:SHOWN_TRIALS]}
    return [trial for trial in trials if trial.number in kept]


def _decisive(space: Space, importance: Importance | None) -> Space:
    """The SHOWN_FIELDS most important fields, in their order."""
    ranked = (
        list(space)
        if importance is None or not importance.fields
        else [each.field for each in importance.fields]
    )
    return {name: parameter for name, parameter in space.items() if name in ranked[:SHOWN_FIELDS]}


def _columns(pairs: Any) -> tuple[list[float], list[float]]:
    pairs = list(pairs)
    return [x for x, _ in pairs], [y for _, y in pairs]
