"""The two plots of a search, as PNG: where its candidates lie, and how they came there (the paper's Fig. 3).

Colours are Okabe and Ito's, which people with colour-blindness tell apart; groups also differ in shape and in
lightness, so that the plots read in grey.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kiago_ray.screening.summary import BaseMaterial

BLUE, ORANGE, VERMILION, GREY = "#0072B2", "#E69F00", "#D55E00", "#9a9a9a"
_DPI = 150
_OUTLIERS = 0.005  # part of the failed candidates that may lie beyond either end of the E_f axis
SHOWN_ROWS = 60  # thin lines in the trajectory; more than that are a blot

Array = NDArray[Any]


def tc_against_ef(
    tc_k: Array, ef_ev_per_atom: Array, passed: Array, base: BaseMaterial | None = None, title: str = ""
) -> bytes:
    """T_c in K against E_f in eV/atom of candidates (n,), those that passed apart, and the base material.

    Values that are not finite are left out. Where a few failed candidates lie far off, the E_f axis ends
    before them, and the legend says how many aren't shown.
    """
    figure, axes = _figure(7.0, 4.6)
    tc, ef, good = (np.asarray(values) for values in (tc_k, ef_ev_per_atom, passed))
    finite = np.isfinite(tc.astype(float)) & np.isfinite(ef.astype(float))
    tc, ef, good = tc[finite], ef[finite], good[finite].astype(bool)
    low, high = _ef_limits(ef, good, base)
    hidden = int(((ef < low) | (ef > high)).sum())
    failed_label = f"failed ({(~good).sum():,}" + (f"; {hidden} beyond the axis)" if hidden else ")")
    axes.scatter(ef[~good], tc[~good], s=13, c=GREY, alpha=0.55, linewidths=0, label=failed_label)
    axes.scatter(
        ef[good],
        tc[good],
        s=22,
        c=BLUE,
        alpha=0.85,
        edgecolors="white",
        linewidths=0.4,
        marker="D",
        label=f"passed every screen ({good.sum():,})",
        zorder=3,
    )
    if base is not None:
        _mark_base(axes, base)
    axes.axvline(0, color="black", linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    axes.set_xlim(low, high)
    axes.set_ylim(min(0, axes.get_ylim()[0]), max(1, axes.get_ylim()[1]))
    axes.set_xlabel("predicted formation energy $E_{\\mathrm{f}}$ (eV/atom)")
    axes.set_ylabel("predicted $T_{\\mathrm{c}}$ (K)")
    if title:
        axes.set_title(title, loc="left")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return _png(figure)


def trajectory_plot(
    tc_k: Array,
    ef_ev_per_atom: Array,
    integer_loss: Array,
    stage: Array,
    *,
    base_tc_k: float | None = None,
    title: str = "",
) -> bytes:
    """T_c in K, E_f in eV/atom and the integer loss of k rows over the steps of a search.

    tc_k, ef_ev_per_atom, integer_loss: (steps + 1, k), NaN where a row had stopped. stage: (steps + 1,) 1
    or 2; a line marks where stage 2 begins. Thin lines are rows, evenly chosen; the band holds the middle
    80 %.
    """
    figure, axes = _figure(7.0, 6.4, rows=3, heights=(3, 1.3, 1.3))
    stage = np.asarray(stage)
    second = np.flatnonzero(stage == 2)
    change = int(second[0]) if len(second) and second[0] > 0 else None
    shown = np.unique(np.linspace(0, max(np.shape(tc_k)[1] - 1, 0), SHOWN_ROWS).astype(int))
    panels = (
        (tc_k, BLUE, "$T_{\\mathrm{c}}$ (K)"),
        (ef_ev_per_atom, VERMILION, "$E_{\\mathrm{f}}$ (eV/atom)"),
    )
    for panel, (values, color, label) in zip(axes, panels, strict=False):
        _spread(panel, np.asarray(values, dtype=float), color, shown if panel is axes[0] else shown[:0])
        panel.set_ylabel(f"predicted {label}" if panel is axes[0] else label)
    _spread(axes[2], np.asarray(integer_loss, dtype=float), "#4d4d4d", shown[:0])
    axes[2].set_ylabel("integer loss")
    axes[2].set_ylim(bottom=0)
    if base_tc_k is not None:
        axes[0].axhline(base_tc_k, color=ORANGE, linewidth=1.6, linestyle="-.", label="base material")
    for panel in axes:
        panel.set_xlim(0, max(len(stage) - 1, 1))
        panel.margins(y=0.05)
        if change is not None:
            panel.axvline(change, color="black", linewidth=0.8, linestyle=(0, (4, 3)))
    if change is not None:
        for text, align, offset in (("stage 1 ", "right", -3), (" stage 2: towards integers", "left", 3)):
            axes[0].annotate(
                text,
                (change, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(offset, 3),
                textcoords="offset points",
                ha=align,
                va="bottom",
                fontsize=9,
            )
    axes[2].set_xlabel("step")
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return _png(figure)


def _figure(
    width: float, height: float, rows: int = 1, heights: tuple[float, ...] = (1,)
) -> tuple[Figure, Any]:
    """A figure without pyplot, whose global state would keep every figure alive."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, 1, sharex=True, gridspec_kw={"height_ratios": heights})
    for panel in np.atleast_1d(axes):
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(color="#e6e6e6", linewidth=0.6)
        panel.set_axisbelow(True)
    return figure, axes


def _ef_limits(ef: Array, good: Array, base: BaseMaterial | None) -> tuple[float, float]:
    """The E_f axis: all that passed, the base, 0, and nearly all that failed."""
    points = [0.0, *ef[good], *([] if base is None else [base.ef_predicted_ev_per_atom])]
    if (~good).any():
        points += list(np.quantile(ef[~good], (_OUTLIERS, 1 - _OUTLIERS)))
    low, high = min(points), max(points)
    margin = 0.04 * max(high - low, 0.1)
    return low - margin, high + margin


def _mark_base(axes: Any, base: BaseMaterial) -> None:
    style = {"marker": "*", "s": 130, "edgecolors": "black", "linewidths": 0.8, "zorder": 4}
    ef = base.ef_predicted_ev_per_atom
    axes.scatter(ef, base.tc_predicted_k, c=ORANGE, label=f"{base.formula}, predicted", **style)
    if base.tc_measured_k is not None:
        axes.scatter(ef, base.tc_measured_k, c="white", label=f"{base.formula}, measured", **style)


def _spread(panel: Any, values: Array, color: str, shown: Array) -> None:
    """Rows as thin lines, their median as a thick one, the middle 80 % as a band. values: (steps + 1, k)."""
    steps = np.flatnonzero(np.isfinite(values).any(axis=1))
    if not len(steps):
        return
    low, middle, high = np.nanquantile(values[steps], (0.1, 0.5, 0.9), axis=1)
    panel.fill_between(steps, low, high, color=color, alpha=0.22, linewidth=0, label="10–90 % of rows")
    for index, column in enumerate(shown):
        label = "single rows" if index == 0 else None
        panel.plot(values[:, column], color=color, alpha=0.35, linewidth=0.6, label=label)
    panel.plot(steps, middle, color="white", linewidth=3.4)
    panel.plot(steps, middle, color=color, linewidth=2, label="median")


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})  # the same data give the same bytes
    return buffer.getvalue()
