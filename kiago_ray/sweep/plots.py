"""The plots of a sweep: how trials did by field, seed and metric, and what the best was held against."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kiago_ray.report.plots import (
    BLUE,
    COLORS,
    DASHED,
    GREY,
    ORANGE,
    VERMILION,
    Plot,
    finish,
    list_rows,
    new_figure,
    plain,
    png_of,
)
from kiago_ray.sweep.metrics import METRICS, Difference
from kiago_ray.sweep.spec import Parameter, Space, SweepSpec
from kiago_ray.sweep.study import Importance, position
from kiago_ray.sweep.trials import Trial, finished, front

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COMPARISON_PLOT, IMPORTANCE_PLOT = "comparison.png", "importance.png"
SHOWN_FIELDS = 12
SHOWN_TRIALS = 500
FEW = 60  # trials that are still drawn dark
_FRONT = ("pass_rate", "gap_k", "diversity")
_ABSENT = -0.16  # where values that don't apply stand, the others being from 0 to 1
_STAR = {"marker": "*", "c": ORANGE, "s": 130, "edgecolors": "black", "linewidths": 0.8, "zorder": 4}
_ENDS = {"finished": ("o", BLUE), "stopped": ("x", "black"), "unfinished": ("|", GREY), "failed": ("v", GREY)}


def sweep_plots(
    sweep: SweepSpec,
    trials: Sequence[Trial],
    best: Trial | None,
    differences: Sequence[Difference],
    importance: Importance,
) -> list[Plot]:
    """Each plot that has something to show."""
    metric = sweep.metrics[0]
    told = [trial for trial in trials if math.isfinite(trial.mean(metric, 1).value)]
    drawn = foremost(told, metric, best)
    decisive = [each.field for each in importance.fields[:SHOWN_FIELDS]] or list(sweep.space)[:SHOWN_FIELDS]
    fields = {name: parameter for name, parameter in sweep.space.items() if name in decisive}
    several = finished(drawn, metric)
    of_trials = f" The best {len(drawn)} of {len(told):,} trials." if len(drawn) < len(told) else ""
    of_fields = of_trials
    if len(fields) < len(sweep.space):
        of_fields = f" The {len(fields)} of {len(sweep.space)} fields that decide most.{of_trials}"
    plots: list[Plot] = []

    def add(file: str, caption: str, figure: Figure) -> None:
        plots.append(Plot(file, caption, png_of(figure)))

    if any(each.metric == metric and each.pairs for each in differences):
        caption = (
            "The best minus each other: mean and 95 % interval over seeds. Small points are single bases."
        )
        add(COMPARISON_PLOT, caption, comparison_plot(differences, metric))
    if importance.fields:
        caption = "By how much R² falls, on trials that the forest hasn't seen, when a field is shuffled."
        add(IMPORTANCE_PLOT, caption, importance_plot(importance))
    if told:
        caption = f"{metric} against each field; “–” is where a field doesn't apply.{of_fields}"
        add("fields.png", caption, fields_plot(fields, drawn, metric, best))
        caption = f"A line a trial, through its value of each field to its {metric}.{of_fields}"
        add("parallel.png", caption, parallel_plot(fields, drawn, metric, best))
    if told and len(sweep.seeds) > 1:
        caption = f"{metric}, mean over bases and over the seeds done, as trials went on.{of_trials}"
        add("rungs.png", caption, rungs_plot(drawn, metric, best))
    if len(several) > 1:
        caption = f"{metric} against other metrics, finished trials; none beats those of the front in both.{of_trials}"
        add("front.png", caption, front_plot(several, sweep.metrics, best))
    return plots


def foremost(trials: Sequence[Trial], metric: str, best: Trial | None = None) -> list[Trial]:
    """Up to SHOWN_TRIALS in their order: the best trial, finished ones before others, better ones before worse."""

    def key(trial: Trial) -> tuple[bool, bool, float]:
        return trial != best, trial.status != "finished", -trial.worth(metric)

    kept = {trial.number for trial in sorted(trials, key=key)[:SHOWN_TRIALS]}
    return [trial for trial in trials if trial.number in kept]


def importance_plot(importance: Importance) -> Figure:
    """A bar a field, with the spread over shuffles; grey where the forest foretells nothing."""
    shown = importance.fields[: 2 * SHOWN_FIELDS]
    figure, (axes,) = new_figure(7.0, 1.2 + 0.3 * max(len(shown), 2))
    axes.barh(
        range(len(shown)),
        [each.value for each in shown],
        xerr=[each.error for each in shown],
        color=BLUE if importance.tells else GREY,
        error_kw={"ecolor": "black", "elinewidth": 1},
        height=0.62,
    )
    axes.axvline(0, color="black", linewidth=0.8)
    list_rows(axes, [plain(each.field) for each in shown])
    axes.set_xlabel("fall of R² with the field shuffled; bars: standard deviation over shuffles")
    foretold = (
        "too few trials for an R²" if importance.r2 is None else f"cross-validated R² {importance.r2:z.2f}"
    )
    return finish(figure, axes, f"{importance.metric}, {importance.trials:,} trials; {foretold}")


def rungs_plot(trials: Sequence[Trial], metric: str, best: Trial | None) -> Figure:
    """The metric over the seeds done, a line a trial; where they ended is marked by how they ended."""
    figure, (axes,) = new_figure(7.0, 4.2)
    most = max(trial.seeds for trial in trials)
    ends: dict[str, list[tuple[int, float]]] = {}
    for trial in trials:
        values = [trial.mean(metric, seeds).value for seeds in range(1, trial.seeds + 1)]
        ends.setdefault(trial.status, []).append((trial.seeds, values[-1]))
        style: dict[str, Any] = {"color": GREY, "alpha": 0.7, "linewidth": 0.9}
        if trial == best:
            style = {"color": VERMILION, "linewidth": 2.6, "zorder": 4, "label": _of_best(best)}
        elif trial.status == "finished":
            style = {"color": BLUE, "alpha": 0.6 if len(trials) <= FEW else 0.25, "linewidth": 1.1}
        axes.plot(range(1, trial.seeds + 1), values, marker=".", **style)
    for status, places in ends.items():
        mark, color = _ENDS[status]
        label = f"{status}, last seed ({len(places)})"
        axes.scatter(*zip(*places, strict=True), marker=mark, c=color, s=24, zorder=3, label=label)
    axes.set_xticks(range(1, most + 1, -(-most // 12)))
    axes.set_xlim(0.8, most + 0.2)
    axes.set_xlabel("seeds done")
    axes.set_ylabel(f"{_with_unit(metric)}, mean so far")
    return finish(figure, axes, size=8.5)


def front_plot(trials: Sequence[Trial], metrics: Sequence[str], best: Trial | None) -> Figure:
    """The first metric against the others, a panel each, finished trials; the front of each pair of metrics apart."""
    metric = metrics[0]
    others = [name for name in dict.fromkeys([*metrics, *_FRONT]) if name != metric]
    figure, panels = new_figure(max(7.0, 2.5 * len(others)), 3.6, 1, len(others), sharey=True)
    for panel, other in zip(panels, others, strict=True):

        def drawn(trials: Sequence[Trial], other: str = other) -> list[list[float]]:
            return [[trial.mean(name).value for trial in trials] for name in (other, metric)]

        known = finished(trials, metric, other)
        unbeaten = sorted(front(known, (metric, other)), key=lambda trial: trial.mean(other).value)
        panel.scatter(*drawn(known), s=16, c=GREY, alpha=0.8, linewidths=0, label="finished trials")
        style = {"color": BLUE, "linewidth": 1, "marker": "D", "markersize": 4.5}
        panel.plot(*drawn(unbeaten), label="front of these two metrics", **style)
        if best in known:
            panel.scatter(*drawn([best]), label=_of_best(best), **_STAR)
        if not known:
            panel.annotate("nothing known", (0.5, 0.5), xycoords="axes fraction", ha="center")
        panel.set_xlabel(f"{_with_unit(other)}\n{_better(other)}")
        panel.locator_params(axis="x", nbins=5)
        panel.tick_params(labelsize=8.5)
    panels[0].set_ylabel(f"{_with_unit(metric)}\n{_better(metric)}")
    return finish(figure, panels[0], columns=3, size=8.5)


def comparison_plot(differences: Sequence[Difference], metric: str) -> Figure:
    """The best minus each other: a point with its interval, hollow where that is unknown, and below it a small point
    for each base.
    """
    told = [each for each in differences if each.metric == metric and each.pairs]
    bases = list(dict.fromkeys(on.base for each in told for on in each.bases))
    figure, (axes,) = new_figure(7.0, 1.9 + min(0.62 * len(told), 9.0))
    axes.axvline(0, color="black", linewidth=0.8, linestyle=DASHED, zorder=1)
    for place, each in enumerate(told):
        known = each.reach is not None
        style = {"fmt": "o", "color": "black", "markerfacecolor": "black" if known else "white", "zorder": 3}
        label = None if known else "interval unknown"
        axes.errorbar(
            each.value, place - 0.12, xerr=each.reach, markersize=7, capsize=4, label=label, **style
        )
    several = len(bases) > len(COLORS)
    for number, base in enumerate(bases):
        points = [
            (on.difference, place + 0.2)
            for place, each in enumerate(told)
            for on in each.bases
            if on.base == base
        ]
        color, label = (GREY, f"one base ({len(bases)})") if several else (COLORS[number], plain(base))
        label = None if several and number else label
        axes.scatter(*zip(*points, strict=True), s=18, c=color, alpha=0.85, linewidths=0, label=label)
    list_rows(axes, [plain(each.other, 26) for each in told])
    axes.set_xlabel(f"best minus other, {_with_unit(metric)}; {_better(metric)}")
    return finish(figure, axes, columns=4, size=8.5)


def fields_plot(space: Space, trials: Sequence[Trial], metric: str, best: Trial | None) -> Figure:
    """The metric against each field, a panel each: finished trials with standard errors, the others after one seed."""
    columns = min(3, len(space))
    rows = -(-len(space) // columns)
    figure, panels = new_figure(7.0 if columns == 3 else 5.5, 1.0 + 2.25 * rows, rows, columns, sharey=True)
    whole = finished(trials, metric)
    parts = [trial for trial in trials if trial.status != "finished"]
    means = [trial.mean(metric) for trial in whole]
    hollow = {"s": 16, "facecolors": "none", "edgecolors": GREY, "linewidths": 0.9}
    bars = {"fmt": "o", "color": BLUE, "markersize": 4, "elinewidth": 0.9}
    bars["alpha"] = 0.85 if len(whole) <= FEW else 0.5
    for panel, (name, parameter) in zip(panels, space.items(), strict=False):
        panel.scatter(
            [_beside(parameter, trial, name) for trial in parts],
            [trial.mean(metric, 1).value for trial in parts],
            label=f"{_unlike_finished(parts)}: after the first seed ({len(parts)})" if parts else None,
            **hollow,
        )
        panel.errorbar(
            [_beside(parameter, trial, name) for trial in whole],
            [mean.value for mean in means],
            [mean.error or 0 for mean in means],
            label=f"finished: mean ± standard error over seeds ({len(whole)})" if whole else None,
            **bars,
        )
        if best is not None:
            at = _beside(parameter, best, name), best.mean(metric).value
            panel.scatter(*at, label=_of_best(best), **_STAR)
        ticks = [(at, plain(text, 11)) for at, text in _ticks(parameter, trials, name)]
        crowded = sum(len(text) for _, text in ticks) > 30
        panel.set_xticks(*zip(*ticks, strict=True), fontsize=8, rotation=30 if crowded else 0)
        panel.set_xlim(ticks[0][0] - 0.07, 1.07)
        panel.set_xlabel(plain(name, 24) + (" (log)" if parameter.kind == "loguniform" else ""))
        panel.tick_params(axis="y", labelsize=8.5)
    for unused in panels[len(space) :]:
        unused.set_visible(False)
    for panel in panels[::columns]:
        panel.set_ylabel(_with_unit(metric), fontsize=9)
    return finish(figure, panels[0], columns=1, size=8.5)


def parallel_plot(space: Space, trials: Sequence[Trial], metric: str, best: Trial | None) -> Figure:
    """Parallel coordinates: an axis a field and one for the metric, a line a trial, coloured by the metric.

    Trials that didn't finish are thin and grey and end at the metric as far as they came.
    """
    figure, (axes,) = new_figure(min(11.0, max(7.0, 2.9 + 0.72 * len(space))), 4.8)
    values = [trial.mean(metric).value for trial in trials]
    low, high = min(values), max(values)
    colors = axes.scatter([], [], c=[], cmap="viridis")
    colors.set_clim(low, high)
    for trial in sorted(trials, key=lambda trial: trial.worth(metric)):
        value = trial.mean(metric).value
        heights = [_place(parameter, trial, name) for name, parameter in space.items()]
        heights.append((value - low) / (high - low) if high > low else 0.5)
        style: dict[str, Any] = {"color": GREY, "linewidth": 0.6, "alpha": 0.4, "zorder": 2}
        if trial == best:
            axes.plot(heights, color="white", linewidth=5.4, zorder=4)
            style = {"color": colors.to_rgba(value), "linewidth": 3.6, "zorder": 5, "label": _of_best(best)}
        elif trial.status == "finished":
            style = {"color": colors.to_rgba(value), "linewidth": 1.1, "alpha": 0.7, "zorder": 3}
        axes.plot(heights, **style)
    ticks = [_ticks(parameter, trials, name) for name, parameter in space.items()]
    for place, texts in enumerate([*ticks, [(0.0, f"{low:.4g}"), (1.0, f"{high:.4g}")]]):
        axes.axvline(place, color="black", linewidth=0.9, zorder=6)
        box = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "boxstyle": "square,pad=0.1"}
        for at, text in texts:
            axes.text(place + 0.05, at, plain(text, 10), fontsize=7.5, va="center", zorder=7, bbox=box)
    heads = [*(plain(name, 26) for name in space), metric]
    axes.set_xticks(range(len(heads)), heads, rotation=25, ha="right", rotation_mode="anchor")
    axes.set(xlim=(-0.1, len(space) + 0.45), yticks=[])
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    figure.colorbar(colors, ax=axes, pad=0.02, aspect=32).set_label(_with_unit(metric), fontsize=9)
    return finish(figure, axes, size=8.5)


def value_text(value: Any) -> str:
    """A field's value in a few characters."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"
    return json.dumps(value, ensure_ascii=False, default=str, separators=(",", ":"))


def _place(parameter: Parameter, trial: Trial, name: str) -> float:
    return position(parameter, trial.point[name]) if name in trial.point else _ABSENT


def _beside(parameter: Parameter, trial: Trial, name: str) -> float:
    """The place, of listed and absent values a little to one side, so that many don't lie on one another."""
    place = _place(parameter, trial, name)
    if not parameter.listed and name in trial.point:
        return place
    step = min(0.012, 0.09 / len(parameter.values))
    return place + (trial.number * 5 % 7 - 3) * step


def _ticks(parameter: Parameter, trials: Sequence[Trial], name: str) -> list[tuple[float, str]]:
    """Places and texts along a field's axis: its ends and middle, or up to eight of what it lists; first `–` where a
    trial has no value.
    """
    values: Sequence[Any] = parameter.values
    if parameter.listed:
        shown = np.unique(np.linspace(0, len(values) - 1, min(len(values), 8)).astype(int))
        values = [values[place] for place in shown]
    else:
        low, high = values
        values = [low, math.sqrt(low * high) if parameter.kind == "loguniform" else (low + high) / 2, high]
    ticks = [(position(parameter, value), value_text(value)) for value in values]
    return [(_ABSENT, "–"), *ticks] if any(name not in trial.point for trial in trials) else ticks


def _unlike_finished(trials: Sequence[Trial]) -> str:
    """How those that didn't finish ended."""
    return " or ".join(sorted({trial.status for trial in trials} - {"finished"}, reverse=True))


def _of_best(best: Trial) -> str:
    return f"best: trial {best.number}"


def _better(metric: str) -> str:
    return "better →" if METRICS[metric].mode == "max" else "← better"


def _with_unit(metric: str) -> str:
    unit = METRICS[metric].unit
    return f"{metric} ({unit})" if unit else metric
