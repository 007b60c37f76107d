"""The plots of a sweep that show its fields, as PNG: parallel coordinates, and the metric against each field."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kiago_ray.report.campaign_plots import _plain
from kiago_ray.report.plots import BLUE, GREY, ORANGE, _figure, _png
from kiago_ray.sweep.importance import first_value, ordered, position
from kiago_ray.sweep.metrics import METRICS
from kiago_ray.sweep.space import Parameter
from kiago_ray.sweep.trials import Trial, finished

_ABSENT = -0.16  # where values that don't apply stand, the others being from 0 to 1

Space = Mapping[str, Parameter]


def parallel_plot(space: Space, trials: Sequence[Trial], metric: str, best: Trial | None = None) -> bytes:
    """Parallel coordinates: an axis a field and one for the metric, a line a trial, coloured by the metric.

    Trials that didn't finish are thin and grey and end at the metric as far as they came.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    names = list(space)
    width = min(11.0, max(7.0, 2.2 + 0.72 * (len(names) + 1)))
    figure, axes = _figure(width, 4.8)
    values = {trial.number: trial.mean(metric).value for trial in trials}
    told = [trial for trial in trials if math.isfinite(values[trial.number])]
    low, high = _range([values[trial.number] for trial in told])
    whole = [values[trial.number] for trial in finished(told)]
    best_is_dark = np.linspace(0.05, 0.93, 256)[:: -METRICS[metric].sign]
    colors: Any = ScalarMappable(
        Normalize(*_range(whole)), ListedColormap(colormaps["viridis"](best_is_dark))
    )
    many = len(whole) > 60
    for trial in sorted(told, key=lambda trial: METRICS[metric].sign * values[trial.number]):
        value = values[trial.number]
        heights = [_place(space[name], trial, name) for name in names] + [(value - low) / (high - low)]
        style: dict[str, Any] = {"color": GREY, "linewidth": 0.6, "alpha": 0.3 if many else 0.5, "zorder": 2}
        if trial.status == "finished":
            style = {"color": colors.to_rgba(value), "zorder": 3}
            style |= {"linewidth": 0.9, "alpha": 0.6} if many else {"linewidth": 1.4, "alpha": 0.85}
        if best is not None and trial.number == best.number:
            axes.plot(heights, color="white", linewidth=5.4, zorder=4)
            style = {"color": colors.to_rgba(value), "linewidth": 3.6, "zorder": 5, "label": _of_best(best)}
        axes.plot(heights, **style)
    if len(whole) < len(told):
        label = f"{_unlike_finished(told)}: as far as they came ({len(told) - len(whole)})"
        axes.plot([], [], color=GREY, linewidth=0.8, label=label)
    length = max(6, int(13 * (width - 1.6) / (len(names) + 1)))
    for place, name in enumerate(names):
        _axis(axes, place, [(at, _short(text, length)) for at, text in _ticks(space[name], trials, name)])
    _axis(axes, len(names), [((at - low) / (high - low), f"{at:.4g}") for at in _nice(low, high)])
    heads = [*(_short(name, 26) for name in names), metric]
    axes.set_xticks(range(len(heads)), heads, rotation=25, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.1, len(names) + 0.45)
    axes.set_ylim(_ABSENT - 0.05 if _gaps(space, trials) else -0.04, 1.04)
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(axis="x", length=0)
    if whole:
        bar = figure.colorbar(colors, ax=axes, pad=0.02, aspect=32)
        bar.set_label(f"{_with_unit(metric)}, finished trials", fontsize=9)
        bar.ax.tick_params(labelsize=8.5)
        bar.outline.set_visible(False)
    _legend(figure, axes)
    return _png(figure)


def fields_plot(space: Space, trials: Sequence[Trial], metric: str, best: Trial | None = None) -> bytes:
    """The metric against each field, a panel each: finished trials with standard errors, the others after one seed."""
    columns = min(3, max(len(space), 1))
    rows = -(-max(len(space), 1) // columns)
    figure, panels = _panels(rows, columns, (7.0 if columns == 3 else 5.5, 1.0 + 2.25 * rows))
    for unused in panels[len(space) :]:
        unused.set_visible(False)
    whole = [trial for trial in finished(trials) if math.isfinite(trial.mean(metric).value)]
    parts = [trial for trial in trials if trial.status != "finished"]
    parts = [trial for trial in parts if math.isfinite(first_value(trial, metric))]
    faint = 0.85 if len(whole) <= 60 else 0.5
    for panel, (name, parameter) in zip(panels, space.items(), strict=False):
        panel.scatter(
            [_beside(parameter, trial, name) for trial in parts],
            [first_value(trial, metric) for trial in parts],
            s=16,
            facecolors="none",
            edgecolors=GREY,
            linewidths=0.9,
            label=f"{_unlike_finished(parts)}: after the first seed ({len(parts)})" if parts else None,
        )
        means = [trial.mean(metric) for trial in whole]
        panel.errorbar(
            [_beside(parameter, trial, name) for trial in whole],
            [mean.value for mean in means],
            [mean.error or 0 for mean in means],
            fmt="o",
            color=BLUE,
            markersize=4,
            alpha=faint,
            elinewidth=0.9,
            label=f"finished: mean ± standard error over seeds ({len(whole)})" if whole else None,
        )
        if best is not None:
            at = _beside(parameter, best, name), best.mean(metric).value
            style = {"s": 120, "c": ORANGE, "edgecolors": "black", "linewidths": 0.8, "zorder": 4}
            panel.scatter(*at, marker="*", label=_of_best(best), **style)
        ticks = [(at, _short(text, 11)) for at, text in _ticks(parameter, trials, name)]
        crowded = parameter.listed and sum(len(text) for _, text in ticks) > 30
        turned: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
        shown = ticks[::2] if crowded and len(ticks) > 5 else ticks
        panel.set_xticks([at for at, _ in shown], [text for _, text in shown], fontsize=8, **turned)
        panel.set_xlim(_ABSENT - 0.07 if any(at < 0 for at, _ in ticks) else -0.07, 1.07)
        panel.set_xlabel(_short(name, 24) + (" (log)" if parameter.kind == "loguniform" else ""))
    for row in range(rows):
        panels[row * columns].set_ylabel(_with_unit(metric), fontsize=9)
    _legend(figure, panels[0], columns=1)
    return _png(figure)


def value_text(value: Any) -> str:
    """A field's value in a few characters."""
    if isinstance(value, float):
        return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"
    return (
        value
        if isinstance(value, str)
        else json.dumps(value, ensure_ascii=False, default=str, separators=(",", ":"))
    )


def _panels(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, list[Any]]:
    """A figure of panels that share the axis of the metric, row by row."""
    figure, alone = _figure(*size)
    alone.remove()
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel().tolist()
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(color="#e6e6e6", linewidth=0.6)
        panel.set_axisbelow(True)
        panel.tick_params(labelsize=8.5)
    return figure, panels


def _place(parameter: Parameter, trial: Trial, name: str) -> float:
    return position(parameter, trial.point[name]) if name in trial.point else _ABSENT


def _beside(parameter: Parameter, trial: Trial, name: str) -> float:
    """The place, of listed and absent values a little to one side, so that many don't lie on one another."""
    place = _place(parameter, trial, name)
    if not parameter.listed and name in trial.point:
        return place
    step = min(0.012, 0.09 / max(len(parameter.values), 1)) if parameter.listed else 0.012
    return place + (trial.number * 5 % 7 - 3) * step


def _ticks(parameter: Parameter, trials: Sequence[Trial], name: str) -> list[tuple[float, str]]:
    """Places and texts along a field's axis, `–` among them where a trial has no value."""
    if parameter.listed:
        every = ordered(parameter)
        values = [
            every[place]
            for place in np.unique(np.linspace(0, len(every) - 1, min(len(every), 8)).astype(int))
        ]
    else:
        low, high = parameter.values
        between = [at for at in _nice(low, high) if parameter.kind != "randint" or at == round(at)]
        if parameter.kind == "loguniform":
            decades = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
            factors = (1,) if high / low > 50 else (1, 2, 5)
            powers = [float(factor * 10.0**power) for power in decades for factor in factors]
            between = [value for value in powers if low < value < high][:: max(1, len(powers) // 4)]
        inner = [value for value in between if 0.13 < position(parameter, value) < 0.87]
        values = [low, *inner, high]
    ticks = [(position(parameter, value), value_text(value)) for value in values]
    gap = any(name not in trial.point for trial in trials)
    return [(_ABSENT, "–"), *ticks] if gap else ticks


def _unlike_finished(trials: Sequence[Trial]) -> str:
    """How those that didn't finish ended."""
    return " or ".join(sorted({trial.status for trial in trials} - {"finished"}, reverse=True))


def _gaps(space: Space, trials: Sequence[Trial]) -> bool:
    return any(name not in trial.point for trial in trials for name in space)


def _axis(axes: Any, place: float, ticks: Sequence[tuple[float, str]]) -> None:
    """An upright axis of parallel coordinates, its texts on the right of it."""
    axes.plot([place, place], [0, 1], color="black", linewidth=0.9, zorder=6)
    for at, text in ticks:
        axes.plot([place, place + 0.04], [at, at], color="black", linewidth=0.9, zorder=6)
        box = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "boxstyle": "square,pad=0.1"}
        axes.text(place + 0.06, at, text, fontsize=7.5, va="center", ha="left", zorder=7, bbox=box)


def _nice(low: float, high: float) -> list[float]:
    """A few round numbers from low to high."""
    from matplotlib.ticker import MaxNLocator

    found = MaxNLocator(4).tick_values(low, high)
    return [float(value) for value in found if low <= value <= high]


def _range(values: Sequence[float]) -> tuple[float, float]:
    """From the lowest to the highest, not empty."""
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _of_best(best: Trial) -> str:
    return f"best: trial {best.number}"


def _with_unit(metric: str) -> str:
    unit = METRICS[metric].unit
    return f"{metric} ({unit})" if unit else metric


def _short(text: str, length: int) -> str:
    """The text as it is drawn; of a long one its beginning and its end, in which names often differ."""
    if len(text) > length:
        text = f"{text[: length // 2]}…{text[length // 2 + 1 - length :]}"
    return _plain(text)


def _legend(figure: Any, axes: Any, columns: int = 2) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=8.5)
