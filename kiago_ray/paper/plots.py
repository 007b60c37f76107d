"""The plots of the comparison, as PNG. Methods differ in colour and in shape; ours are filled, the paper's hollow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from kiago_ray.paper.tables import LABELS, Value
from kiago_ray.report.plots import (
    BLUE,
    DASHED,
    GREEN,
    GREY,
    ORANGE,
    SKY,
    TC,
    VERMILION,
    finish,
    list_rows,
    new_figure,
    png_of,
)

Style = tuple[str, str]
"""Colour and marker."""

METHOD_STYLES: Mapping[str, Style] = {
    "kiago": (BLUE, "D"),
    "ours": (GREEN, "o"),
    "superdiff": (ORANGE, "^"),
    "superdiff_cg": (VERMILION, "v"),
    "substitution": (GREY, "s"),
}
PAIR_STYLES: tuple[Style, ...] = ((BLUE, "D"), (GREEN, "o"), (VERMILION, "^"), ("black", "s"))


def dots(
    ours: Mapping[str, Mapping[str, Value]], paper: Mapping[str, Mapping[str, Value]], label: str
) -> bytes:
    """A line for each base, a mark for each method on it; what isn't a number is left out."""
    figure, (axes,) = new_figure(7.6, 1.1 + 0.46 * len(ours))
    axes.grid(visible=False)
    for at, (method, (colour, marker)) in enumerate(METHOD_STYLES.items()):
        for values, filled in ((ours, True), (paper, False)):
            points = [
                (float(value), row + (at - 2) * 0.13)
                for row, base in enumerate(ours)
                if isinstance(value := values.get(base, {}).get(method), float | int)
            ]
            if points:
                face, order, whose = (colour, 4, "") if filled else ("white", 3, ", paper")
                style = {"s": 34, "marker": marker, "edgecolors": colour, "linewidths": 1.1, "zorder": order}
                axes.scatter(
                    *zip(*points, strict=True), facecolors=face, label=LABELS[method] + whose, **style
                )
    axes.axvline(0, color="black", linewidth=0.8, zorder=1)
    for row in range(1, len(ours)):
        axes.axhline(row - 0.5, color="#e4e4e4", linewidth=0.8, zorder=0)
    list_rows(axes, list(ours))
    axes.set_xlabel(label)
    return png_of(finish(figure, axes, columns=5, size=9))


def lines_plot(
    ticks: Sequence[str],
    series: Mapping[str, Sequence[Value]],
    labels: tuple[str, str],
    *,
    symmetric_log: bool = False,
) -> bytes:
    """Values over `ticks`. series: label → values, in pairs: the first is filled, the second hollow and dashed.
    labels: of x and y. Lines have gaps where a value isn't a number, and what has none is left out.
    """
    figure, (axes,) = new_figure(7.0, 4.2)
    for at, (label, values) in enumerate(series.items()):
        colour, marker = PAIR_STYLES[at // 2]
        hollow = {"markerfacecolor": "white", "linestyle": DASHED} if at % 2 else {}
        y = np.array([value if isinstance(value, float | int) else np.nan for value in values])
        if np.isfinite(y).any():
            axes.plot(range(len(ticks)), y, color=colour, marker=marker, label=label, **hollow)
    if symmetric_log:
        axes.set_yscale("symlog", linthresh=10)
    axes.axhline(0, color="black", linewidth=0.8, zorder=1)
    axes.set_xticks(range(len(ticks)), ticks)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    return png_of(finish(figure, axes, columns=4, size=9))


def starts_plot(paths: Mapping[str, Mapping[str, Sequence[float]]]) -> bytes:
    """Fig. 3: T_c over the steps from two kinds of start. paths: label → steps, p10, p50, p90 and mean over rows at
    each of them, and `rows`: some single rows.
    """
    figure, panels = new_figure(8.6, 3.8, columns=len(paths), sharey=True)
    for axes, (label, path) in zip(panels, paths.items(), strict=True):
        steps = np.asarray(path["steps"])
        for row in path["rows"]:
            axes.plot(steps, row, color=GREY, linewidth=0.5, alpha=0.35)
        band = {"color": SKY, "alpha": 0.35, "linewidth": 0}
        axes.fill_between(steps, path["p10"], path["p90"], label="middle 80 %", **band)
        axes.plot(steps, path["p50"], color=BLUE, label="median")
        axes.plot(steps, path["mean"], color=VERMILION, linestyle=DASHED, label="mean")
        axes.set_title(label, loc="left", fontsize=10)
        axes.set_xlabel("step")
    panels[0].set_ylabel(f"predicted {TC} (K)")
    return png_of(finish(figure, panels[0], columns=3, size=9))
