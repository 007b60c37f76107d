"""The two plots on what can be believed, as PNG: the Pareto front, and the search's T_c against the oracle's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kiago_ray.report.plots import BLUE, GREY, VERMILION, _figure, _png
from kiago_ray.screening.trust import EXTRAPOLATED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIRST = 10  # of the best, drawn darker
_COLOURS = "viridis"
_FARTHEST = 1.25  # extrapolation scores beyond have one colour

Array = NDArray[Any]


def pareto_plot(
    trusted_tc_k: Array, ef_ev_per_atom: Array, extrapolation: Array, front: Array, title: str = ""
) -> bytes:
    """Trusted T_c in K against E_f in eV/atom of candidates that passed (n,), coloured by their extrapolation score;
    those on the Pareto front are ringed. Values that are not finite are left out, unknown scores are grey.
    """
    figure, axes = _figure(7.0, 4.9)
    trusted, ef, score = (
        np.asarray(values, dtype=float) for values in (trusted_tc_k, ef_ev_per_atom, extrapolation)
    )
    there = np.isfinite(trusted) & np.isfinite(ef)
    trusted, ef, score, on = trusted[there], ef[there], score[there], np.asarray(front, dtype=bool)[there]
    if not len(trusted):
        return _nothing(figure, axes, "No formula that passed has a trusted $T_{\\mathrm{c}}$.", title)
    for rows, size, edge, width, label in (
        (~on, 16, "white", 0.3, f"passed every screen ({(~on).sum():,})"),
        (on, 46, "black", 1.3, f"and on the Pareto front ({on.sum():,})"),
    ):
        known = rows & np.isfinite(score)
        style = {"s": size, "edgecolors": edge, "linewidths": width, "zorder": 4 if width > 1 else 3}
        shade = axes.scatter(
            ef[known], trusted[known], c=score[known], cmap=_COLOURS, vmin=0, vmax=_FARTHEST, **style
        )
        if (rows & ~known).any():
            axes.scatter(ef[rows & ~known], trusted[rows & ~known], c=GREY, **style)
        axes.scatter([], [], c="#21918c" if known.any() else GREY, label=label, **style)
    if np.isfinite(score).any():
        bar = figure.colorbar(shade, ax=axes, pad=0.02, extend="max")
        bar.set_label(
            "extrapolation score (1: as far out as 1 in 20\nknown superconductors held out)", fontsize=9
        )
        bar.ax.axhline(EXTRAPOLATED, color=VERMILION, linewidth=2)
    axes.set_ylim(min(0, axes.get_ylim()[0]), max(1, axes.get_ylim()[1]))
    axes.set_xlabel("predicted formation energy $E_{\\mathrm{f}}$ (eV/atom)")
    axes.set_ylabel("trusted $T_{\\mathrm{c}}$ (K)")
    return _finished(figure, axes, title)


def gap_plot(tc_k: Array, tc_oracle_k: Array, extrapolated: Array, title: str = "") -> bytes:
    """T_c in K by the oracle against T_c by the search of the best (n,), best first; on the diagonal they agree.

    extrapolated: those beyond what the predictors know, which are marked. Values that are not finite are left out.
    """
    figure, axes = _figure(5.6, 5.6)
    search, oracle = (np.asarray(values, dtype=float) for values in (tc_k, tc_oracle_k))
    there = np.isfinite(search) & np.isfinite(oracle)
    if not there.any():
        return _nothing(figure, axes, "No formula that passed has a $T_{\\mathrm{c}}$ by the oracle.", title)
    flagged, first = np.asarray(extrapolated, dtype=bool), np.arange(len(search)) < FIRST
    top = 1.06 * max(1.0, search[there].max(), oracle[there].max())
    axes.plot(
        [0, top], [0, top], color="black", linewidth=0.9, linestyle=(0, (4, 3)), label="they agree", zorder=2
    )
    for rows, style, label in (
        (first & ~flagged, {"c": BLUE, "marker": "D", "s": 34}, f"best {FIRST}"),
        (~first & ~flagged, {"c": "#7fb8de", "marker": "o", "s": 22}, f"best {len(search)}"),
        (flagged, {"c": VERMILION, "marker": "x", "s": 34, "linewidths": 1.4}, "extrapolated"),
    ):
        held = rows & there
        if held.any():
            count = int(held.sum())
            name = f"{label} ({count})" if rows is flagged else label
            axes.scatter(search[held], oracle[held], label=name, alpha=0.9, zorder=3, **style)
    means = search[there].mean(), oracle[there].mean()
    axes.scatter(*means, marker="+", s=190, c="black", linewidths=2, zorder=4, label="mean")
    gap = f"gap of the best {int(there.sum())}: {means[0] - means[1]:z.1f} K"
    axes.text(0.03, 0.97, gap, transform=axes.transAxes, ha="left", va="top", zorder=5)
    axes.set_xlim(0, top)
    axes.set_ylim(0, top)
    axes.set_aspect("equal")
    axes.set_xlabel("$T_{\\mathrm{c}}$ by the search's model (K)")
    axes.set_ylabel("$T_{\\mathrm{c}}$ by the oracle (K)")
    return _finished(figure, axes, title)


def _nothing(figure: Figure, axes: Any, text: str, title: str) -> bytes:
    """A plot that says why there is nothing on it."""
    figure.set_size_inches(7.0, 1.2)
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color="#555555")
    if title:
        axes.set_title(title, loc="left")
    return _png(figure)


def _finished(figure: Figure, axes: Any, title: str) -> bytes:
    if title:
        axes.set_title(title, loc="left")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return _png(figure)
