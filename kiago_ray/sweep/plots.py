"""The plots of a sweep: how trials did by field, seed and metric, and what the best was held against."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kiago_ray.chemistry.elements import Floats
from kiago_ray.report import plots as draw
from kiago_ray.report.plots import BLUE, COLORS, GREY, ORANGE, VERMILION, Plot, finish, new_figure, plain
from kiago_ray.sweep.metrics import METRICS, Difference, with_unit
from kiago_ray.sweep.spec import Parameter, Space, SweepSpec
from kiago_ray.sweep.trials import Importance, Trial, finished, front, position, positions, ranked

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COMPARISON_PLOT, IMPORTANCE_PLOT = "comparison.png", "importance.png"
SHOWN_FIELDS = 12
SHOWN_TRIALS = 500
FEW = 60  # trials that are still drawn dark
_CAPTIONS = {
    COMPARISON_PLOT: "The best minus each other: mean and 95 % interval over seeds. Small points are single bases.",
    IMPORTANCE_PLOT: "By how much R² falls, on trials that the forest hasn't seen, when a field is shuffled.",
    "fields.png": "{metric} against each field; “–” is where a field doesn't apply.{most}{some}",
    "parallel.png": "A line a trial, through its value of each field to its {metric}.{most}{some}",
    "rungs.png": "{metric}, mean over bases and over the seeds done, as trials went on.{some}",
    "front.png": "{metric} against other metrics, finished trials; none beats those of the front in both.{some}",
}
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
    drawn = foremost(told, metric)
    several = finished(drawn, metric)
    decisive = [each.field for each in importance.fields[:SHOWN_FIELDS]] or list(sweep.space)[:SHOWN_FIELDS]
    fields = {name: parameter for name, parameter in sweep.space.items() if name in decisive}
    some = f" The best {len(drawn)} of {len(told):,} trials." if len(drawn) < len(told) else ""
    most = f" The {len(fields)} of {len(sweep.space)} fields that decide most."
    most = most if len(fields) < len(sweep.space) else ""
    compared = any(each.metric == metric and each.pairs for each in differences)
    figures: dict[str, Any] = {
        COMPARISON_PLOT: compared and comparison_plot(differences, metric),
        IMPORTANCE_PLOT: importance.fields and importance_plot(importance),
        "fields.png": told and fields_plot(fields, drawn, metric, best),
        "parallel.png": told and parallel_plot(fields, drawn, metric, best),
        "rungs.png": told and len(sweep.seeds) > 1 and rungs_plot(drawn, metric, best),
        "front.png": len(several) > 1 and front_plot(several, sweep.metrics, best),
    }
    captions = {file: text.format(metric=metric, most=most, some=some) for file, text in _CAPTIONS.items()}
    return [Plot(file, captions[file], draw.png_of(figure)) for file, figure in figures.items() if figure]


def foremost(trials: Sequence[Trial], metric: str) -> list[Trial]:
    """The first SHOWN_TRIALS by `ranked` (finished ones first, of each kind the best first), sorted by number."""
    return sorted(ranked(trials, metric)[:SHOWN_TRIALS], key=lambda trial: trial.number)


def importance_plot(importance: Importance) -> Figure:
    """A bar a field, with the spread over shuffles; grey where the forest foretells nothing."""
    names, values, errors = zip(*importance.fields[: 2 * SHOWN_FIELDS], strict=True)
    figure, (axes,) = new_figure(7.0, 1.2 + 0.3 * max(len(names), 2))
    bars = {"color": BLUE if importance.tells else GREY, "height": 0.62, "xerr": errors}
    axes.barh(range(len(names)), values, error_kw={"ecolor": "black", "elinewidth": 1}, **bars)
    axes.axvline(0, color="black", linewidth=0.8)
    draw.list_rows(axes, list(map(plain, names)))
    axes.set_xlabel("fall of R² with the field shuffled; bars: standard deviation over shuffles")
    r2 = "too few trials for an R²" if importance.r2 is None else f"cross-validated R² {importance.r2:z.2f}"
    return finish(figure, axes, f"{importance.metric}, {importance.trials:,} trials; {r2}")


def rungs_plot(trials: Sequence[Trial], metric: str, best: Trial | None) -> Figure:
    """The metric over the seeds done, a line a trial; where they ended is marked by how they ended."""
    figure, (axes,) = new_figure(7.0, 4.2)
    most = max(trial.seeds for trial in trials)
    ends: dict[str, list[tuple[int, float]]] = {}
    for trial in trials:
        values = [trial.mean(metric, seeds).value for seeds in range(1, trial.seeds + 1)]
        ends.setdefault(trial.status, []).append((trial.seeds, values[-1]))
        style = _line(trial, best, VERMILION if trial == best else BLUE, len(trials))
        axes.plot(range(1, trial.seeds + 1), values, marker=".", **style)
    for status, places in ends.items():
        mark, color = _ENDS[status]
        label = f"{status}, last seed ({len(places)})"
        axes.scatter(*zip(*places, strict=True), marker=mark, c=color, s=24, zorder=3, label=label)
    axes.set_xticks(range(1, most + 1, -(-most // 12)))
    axes.set(xlim=(0.8, most + 0.2), xlabel="seeds done", ylabel=f"{with_unit(metric)}, mean so far")
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
        panel.set_xlabel(f"{with_unit(other)}\n{_better(other)}")
        panel.locator_params(axis="x", nbins=5)
        panel.tick_params(labelsize=8.5)
    panels[0].set_ylabel(f"{with_unit(metric)}\n{_better(metric)}")
    return finish(figure, panels[0], columns=3, size=8.5)


def comparison_plot(differences: Sequence[Difference], metric: str) -> Figure:
    """The best minus each other: a point with its interval, hollow where that is unknown, and below it a small point
    for each base.
    """
    told = [each for each in differences if each.metric == metric and each.pairs]
    figure, (axes,) = new_figure(7.0, 1.9 + min(0.62 * len(told), 9.0))
    axes.axvline(0, color="black", linewidth=0.8, linestyle=draw.DASHED, zorder=1)
    points: dict[str, list[tuple[float, float]]] = {}
    for place, each in enumerate(told):
        face, label = ("white", "interval unknown") if each.reach is None else ("black", None)
        style: dict[str, Any] = {"color": "black", "markerfacecolor": face, "label": label, "zorder": 3}
        axes.errorbar(each.value, place - 0.12, xerr=each.reach, fmt="o", markersize=7, capsize=4, **style)
        for on in each.bases:
            points.setdefault(on.base, []).append((on.difference, place + 0.2))
    many = len(points) > len(COLORS)
    for number, (base, places) in enumerate(points.items()):
        label = (None if number else f"one base ({len(points)})") if many else plain(base)
        style = {"c": GREY if many else COLORS[number], "alpha": 0.85, "linewidths": 0, "label": label}
        axes.scatter(*zip(*places, strict=True), s=18, **style)
    draw.list_rows(axes, [plain(each.other, 26) for each in told])
    axes.set_xlabel(f"best minus other, {with_unit(metric)}; {_better(metric)}")
    return finish(figure, axes, columns=4, size=8.5)


def fields_plot(space: Space, trials: Sequence[Trial], metric: str, best: Trial | None) -> Figure:
    """The metric against each field, a panel each: finished trials with standard errors, the others after one seed."""
    columns = min(3, len(space))
    rows = -(-len(space) // columns)
    figure, panels = new_figure(7.0 if columns == 3 else 5.5, 1.0 + 2.25 * rows, rows, columns, sharey=True)
    whole = np.array([trial.status == "finished" for trial in trials])
    means = [trial.mean(metric) for trial in trials if trial.status == "finished"]
    firsts = [trial.mean(metric, 1).value for trial in trials if trial.status != "finished"]
    unlike = " or ".join(sorted({trial.status for trial in trials} - {"finished"}, reverse=True))
    hollow = {"s": 16, "facecolors": "none", "edgecolors": GREY, "linewidths": 0.9}
    hollow["label"] = f"{unlike}: after the first seed ({len(firsts)})" if firsts else None
    bars = {"fmt": "o", "color": BLUE, "markersize": 4, "elinewidth": 0.9}
    bars["alpha"] = 0.85 if len(means) <= FEW else 0.5
    bars["label"] = f"finished: mean ± standard error over seeds ({len(means)})" if means else None
    for panel, (name, parameter), at in zip(panels, space.items(), _beside(space, trials).T, strict=False):
        panel.scatter(at[~whole], firsts, **hollow)
        panel.errorbar(at[whole], [mean.value for mean in means], [mean.error or 0 for mean in means], **bars)
        if best is not None and best in trials:
            panel.scatter(at[trials.index(best)], best.mean(metric).value, label=_of_best(best), **_STAR)
        ticks = [(at, plain(text, 11)) for at, text in _ticks(parameter, trials, name)]
        crowded = sum(len(text) for _, text in ticks) > 30
        panel.set_xticks(*zip(*ticks, strict=True), fontsize=8, rotation=30 if crowded else 0)
        panel.set_xlim(ticks[0][0] - 0.07, 1.07)
        panel.set_xlabel(plain(name, 24) + (" (log)" if parameter.kind == "loguniform" else ""))
        panel.tick_params(axis="y", labelsize=8.5)
    for unused in panels[len(space) :]:
        unused.set_visible(False)
    for panel in panels[::columns]:
        panel.set_ylabel(with_unit(metric), fontsize=9)
    return finish(figure, panels[0], columns=1, size=8.5)


def parallel_plot(space: Space, trials: Sequence[Trial], metric: str, best: Trial | None) -> Figure:
    """Parallel coordinates: an axis a field and one for the metric, a line a trial, coloured by the metric.

    Trials that didn't finish are thin and grey and end at the metric as far as they came.
    """
    figure, (axes,) = new_figure(min(11.0, max(7.0, 2.9 + 0.72 * len(space))), 4.8)
    values = np.array([trial.mean(metric).value for trial in trials])
    low, high = values.min(), values.max()
    colors = axes.scatter([], [], c=[], cmap="viridis")
    colors.set_clim(low, high)
    ends = (values - low) / (high - low) if high > low else np.full(len(values), 0.5)
    heights = np.column_stack([positions(space, trials, _ABSENT), ends])
    for at in np.argsort([trial.worth(metric) for trial in trials], kind="stable"):
        if trials[at] == best:
            axes.plot(heights[at], color="white", linewidth=5.4, zorder=4)
        axes.plot(heights[at], **_line(trials[at], best, colors.to_rgba(values[at])))
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
    figure.colorbar(colors, ax=axes, pad=0.02, aspect=32).set_label(with_unit(metric), fontsize=9)
    return finish(figure, axes, size=8.5)


def value_text(value: Any) -> str:
    """A field's value in a few characters."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"
    return json.dumps(value, ensure_ascii=False, default=str, separators=(",", ":"))


def _line(trial: Trial, best: Trial | None, color: Any, trials: int = 0) -> dict[str, Any]:
    """How the line of a trial is drawn, of so many."""
    if trial == best:
        return {"color": color, "linewidth": 3.2, "zorder": 5, "label": _of_best(trial)}
    if trial.status == "finished":
        return {"color": color, "linewidth": 1.1, "alpha": 0.65 if trials <= FEW else 0.25, "zorder": 3}
    return {"color": GREY, "linewidth": 0.8, "alpha": 0.5, "zorder": 2}


def _beside(space: Space, trials: Sequence[Trial]) -> Floats:
    """The positions (trials, fields); listed and absent values a little to one side, so that many don't lie on one
    another.
    """
    places = positions(space, trials, _ABSENT)
    listed = [parameter.listed for parameter in space.values()]
    steps = [min(0.012, 0.09 / len(parameter.values)) for parameter in space.values()]
    sides = np.array([[trial.number * 5 % 7 - 3] for trial in trials])
    return places + np.where(listed | (places == _ABSENT), sides * steps, 0)


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


def _of_best(best: Trial) -> str:
    return f"best: trial {best.number}"


def _better(metric: str) -> str:
    return "better →" if METRICS[metric].mode == "max" else "← better"
