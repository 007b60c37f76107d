"""The plots of the comparison, as PNG. Methods differ in colour and in shape; ours are filled, the paper's hollow."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kiago_ray.paper.tables import Value
from kiago_ray.paper.tasks import LABELS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, SKY, ORANGE, VERMILION, GREEN, GREY = (
    "#0072B2",
    "#56B4E9",
    "#E69F00",
    "#D55E00",
    "#009E73",
    "#6e6e6e",
)
_STYLES = {
    "kiago": (BLUE, "D"),
    "ours": (GREEN, "o"),
    "superdiff": (ORANGE, "^"),
    "superdiff_cg": (VERMILION, "v"),
    "substitution": (GREY, "s"),
}
_DPI = 140


def dots(
    ours: Mapping[str, Mapping[str, Value]],
    paper: Mapping[str, Mapping[str, Value]],
    label: str,
) -> bytes:
    """A line for each base, a mark for each method on it; what isn't a number is left out."""
    bases = list(ours)
    figure, axes = _figure(7.6, 1.1 + 0.46 * len(bases))
    for at, method in enumerate(_STYLES):
        colour, marker = _STYLES[method]
        offset = (at - 2) * 0.13
        for values, filled in ((ours, True), (paper, False)):
            points = [
                (float(value), row + offset)
                for row, base in enumerate(bases)
                if isinstance(value := values.get(base, {}).get(method), float | int)
            ]
            if points:
                x, y = zip(*points, strict=True)
                axes.scatter(
                    x,
                    y,
                    s=34,
                    marker=marker,
                    facecolors=colour if filled else "white",
                    edgecolors=colour,
                    linewidths=1.1,
                    zorder=4 if filled else 3,
                    label=LABELS[method] + ("" if filled else ", paper"),
                )
    axes.axvline(0, color="black", linewidth=0.8, zorder=1)
    for row in range(1, len(bases)):
        axes.axhline(row - 0.5, color="#e4e4e4", linewidth=0.8, zorder=0)
    axes.set_yticks(range(len(bases)), bases)
    axes.set_ylim(len(bases) - 0.5, -0.5)
    axes.set_xlabel(label)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(len(labels), 5), frameon=False, fontsize=9
    )
    return _png(figure)


def limits_plot(limits: Sequence[int], series: Mapping[str, tuple[Sequence[Value], str, str, bool]]) -> bytes:
    """Change of T_c over the most atoms. series: label → values, colour, marker, whether filled."""
    figure, axes = _figure(7.0, 4.0)
    for label, (values, colour, marker, filled) in series.items():
        points = [(n, float(v)) for n, v in zip(limits, values, strict=True) if isinstance(v, float | int)]
        if points:
            x, y = zip(*points, strict=True)
            axes.plot(
                x,
                y,
                color=colour,
                marker=marker,
                markerfacecolor=colour if filled else "white",
                linestyle="-" if filled else (0, (4, 3)),
                label=label,
            )
    axes.axhline(0, color="black", linewidth=0.8, zorder=1)
    axes.set_xscale("log")
    axes.set_xticks(limits, [str(n) for n in limits])
    axes.minorticks_off()
    axes.set_xlabel("most atoms of a formula")
    axes.set_ylabel("mean change of $T_{\\mathrm{c}}$ (K)")
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=9
    )
    return _png(figure)


def guidance_plot(
    weights: Sequence[str], series: Mapping[str, tuple[Sequence[Value], Sequence[Value]]]
) -> bytes:
    """Changes of T_c by cause over the guidance weight: ours and the paper's, on a symmetric logarithmic axis."""
    figure, axes = _figure(7.0, 4.2)
    styles = dict(zip(series, ((BLUE, "o"), (GREEN, "s"), (VERMILION, "^"), ("black", "D")), strict=False))
    at = np.arange(len(weights))
    for label, pair in series.items():
        colour, marker = styles[label]
        for values, filled in zip(pair, (True, False), strict=True):
            y = [float(value) if isinstance(value, float | int) else np.nan for value in values]
            axes.plot(
                at,
                y,
                color=colour,
                marker=marker,
                markerfacecolor=colour if filled else "white",
                linestyle="-" if filled else (0, (4, 3)),
                label=label + ("" if filled else ", paper"),
            )
    axes.set_yscale("symlog", linthresh=10)
    axes.axhline(0, color="black", linewidth=0.8, zorder=1)
    axes.set_xticks(at, weights)
    axes.set_xlabel("guidance weight")
    axes.set_ylabel("change of $T_{\\mathrm{c}}$ over all steps (K)")
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=9
    )
    return _png(figure)


def starts_plot(paths: Mapping[str, Mapping[str, Sequence[float]]]) -> bytes:
    """Fig. 3: T_c over the steps from two kinds of start. paths: label → steps, p10, p50, p90 and mean over rows at
    each of them, and `rows`: some single rows.
    """
    figure, grid = _figure(8.6, 3.8, len(paths))
    for axes, (label, path) in zip(np.atleast_1d(grid), paths.items(), strict=True):
        steps = np.asarray(path["steps"])
        for row in path["rows"]:
            axes.plot(steps, row, color=GREY, linewidth=0.5, alpha=0.35)
        axes.fill_between(
            steps, path["p10"], path["p90"], color=SKY, alpha=0.35, linewidth=0, label="middle 80 %"
        )
        axes.plot(steps, path["p50"], color=BLUE, label="median")
        axes.plot(steps, path["mean"], color=VERMILION, linestyle=(0, (4, 2)), label="mean")
        axes.set_title(label, loc="left", fontsize=10)
        axes.set_xlabel("step")
    np.atleast_1d(grid)[0].set_ylabel("predicted $T_{\\mathrm{c}}$ (K)")
    handles = np.atleast_1d(grid)[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return _png(figure)


def _figure(width: float, height: float, columns: int = 1) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(1, columns, sharey=True)
    for axes in np.atleast_1d(grid):
        axes.spines[["top", "right"]].set_visible(False)
    return figure, grid


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()
