"""The plots of a campaign: ΔT_c by base and variant, how each search rose over its steps, and those of its ranked
table, which are the plots of a search.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kiago_ray.report.plots import (
    COLORS,
    DASHED,
    GREY,
    PLOTTED,
    TC,
    Plot,
    finish,
    from_zero,
    list_rows,
    new_figure,
    plain,
    png_of,
    ranked_plots,
    second_stage,
)
from kiago_ray.runs.curves import CURVES, read_curves
from kiago_ray.runs.gains import Group, K, foremost, gain, gain_name, groups, is_short
from kiago_ray.runs.shards import search_folder
from kiago_ray.runs.summaries import SearchResults
from kiago_ray.storage.location import Location
from kiago_ray.storage.table import read_columns

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GAINS_PLOT, CURVES_PLOT = "gains.png", "curves.png"
SHOWN_GROUPS = 40
LABELLED = 12  # curves that still can be told apart
SHOWN_CURVES = 500
LABELLED_OF_MANY = 3  # at either end
_READERS = 8  # on a remote storage reading a small file is mostly waiting
_STYLES = ("-", (0, (5, 2)), (0, (1, 1.5)))

Array = NDArray[Any]
Curve = tuple[str, Array, Array, Array]
"""Name of a search, step (n,), stage (n,), mean T_c in K (n,)."""


def campaign_plots(
    campaign: Location, table: Location, searches: Sequence[SearchResults], name: str
) -> list[Plot]:
    """Gains by base and variant, the plots of the ranked table, mean T_c of each search over its steps.

    Raises StorageError.
    """
    bases = {each.summary.base for each in searches}
    with ThreadPoolExecutor(_READERS) as readers:
        places = [search_folder(campaign, each.name) / CURVES for each in searches]
        curves = [
            (each.name, *(curve[column].to_numpy() for column in ("step", "stage", "tc_k_mean")))
            for each, curve in zip(searches, readers.map(read_curves, places), strict=True)
        ]
    gains = "ΔT_c" if any(bases) else "T_c"
    caption = (
        f"Mean predicted {gains} of the best {K} that passed, by base material and variant: a point a seed."
    )
    base = bases.pop() if len(bases) == 1 else None
    return [
        Plot(GAINS_PLOT, caption, png_of(gains_plot(searches))),
        *ranked_plots(read_columns(table, PLOTTED), base, name),
        Plot(
            CURVES_PLOT,
            "Mean predicted T_c of the rows of each search over its steps.",
            png_of(curves_plot(curves)),
        ),
    ]


def gains_plot(searches: Sequence[SearchResults]) -> Figure:
    """ΔT_c in K of the best 30 that passed, a row of points for each base and variant: a point a seed.

    Where searches start at random, their T_c. Groups beyond SHOWN_GROUPS are left out, those of lowest mean first.
    """
    every = groups(searches)
    shown = foremost(every, SHOWN_GROUPS, lambda group: group.mean_gain(K))
    figure, (axes,) = new_figure(7.0, 1.5 + 0.27 * max(len(shown), 2))
    variants = list(dict.fromkeys(group.variant for group in every))
    for place, group in enumerate(shown):
        _draw_group(axes, place, group, COLORS[variants.index(group.variant) % len(COLORS)])
        if place and group.base != shown[place - 1].base and len(variants) > 1 and len(shown) == len(every):
            axes.axhline(place - 0.5, color="#b0b0b0", linewidth=0.6)
    list_rows(axes, [_group_name(group) for group in shown])
    name = gain_name(searches)
    axes.set_xlabel(f"predicted {name.replace('T_c', TC)} of the best {K} that passed (K)")
    if name == "ΔT_c":
        axes.axvline(0, color="black", linewidth=0.8, linestyle=DASHED, zorder=1, label="base material")
    else:
        axes.set_xlim(left=min(0, axes.get_xlim()[0]))
    summaries = [summary for group in shown for summary in group.summaries]
    if not all(is_short(summary, K) for summary in summaries):
        axes.scatter([], [], c=GREY, s=26, label="one search")
    if any(is_short(summary, K) for summary in summaries):
        axes.scatter([], [], facecolors="white", edgecolors=GREY, s=26, label=f"fewer than {K} passed")
    if any(len(group.gains(K)) > 1 for group in shown):
        axes.scatter([], [], marker="|", c="black", s=170, linewidths=1.8, label="mean over seeds")
    title = f"the {len(shown)} highest of {len(every):,}" if len(shown) < len(every) else ""
    return finish(figure, axes, title, columns=4, size=9)


def _draw_group(axes: Any, place: int, group: Group, color: str) -> None:
    """The seeds of a group, hollow where fewer than K passed, and their mean."""
    for short, face in ((False, color), (True, "white")):
        values = [gain(summary, K) for summary in group.summaries if is_short(summary, K) is short]
        known = [value for value in values if value is not None]
        style = {"facecolors": face, "edgecolors": color, "linewidths": 1.1, "alpha": 0.85, "zorder": 3}
        axes.scatter(known, [place] * len(known), s=26, **style)
    mean = group.mean_gain(K)
    if mean is None:
        axes.text(0, place, "  nothing passed", va="center", color="#6e6e6e", fontsize=8.5)
    elif len(group.gains(K)) > 1:
        axes.scatter([mean], [place], s=220, marker="|", c="black", linewidths=1.8, zorder=2)


def _group_name(group: Group) -> str:
    return plain(", ".join(part for part in (group.base or "random start", group.variant) if part))


def curves_plot(curves: Sequence[Curve]) -> Figure:
    """Mean T_c in K over the steps of each search; dots mark where stage 2 begins, a line where all begin it at one
    step. Up to LABELLED curves have a colour each. Of more, the highest and the lowest are named, the others thin;
    SHOWN_CURVES are drawn at most, evenly chosen by where they end.
    """
    ends = [tc_k[np.isfinite(tc_k)][-1:] for _, _, _, tc_k in curves]
    known = sorted((place for place, end in enumerate(ends) if len(end)), key=lambda place: -ends[place][0])
    named, thin, title = known, [], ""
    if len(known) > LABELLED:
        named = known[:LABELLED_OF_MANY] + known[-LABELLED_OF_MANY:]
        rest = known[LABELLED_OF_MANY:-LABELLED_OF_MANY]
        chosen = np.linspace(0, len(rest) - 1, min(len(rest), SHOWN_CURVES - len(named))).astype(int)
        thin = [rest[index] for index in chosen]
        drawn = len(named) + len(thin)
        of = f"{drawn:,} of {len(known):,}" if drawn < len(known) else f"{drawn:,}"
        title = f"{of} searches; named: the {LABELLED_OF_MANY} that end highest and lowest"
    figure, (axes,) = new_figure(7.0, 4.6)
    faint = min(0.8, max(0.12, 40 / max(len(thin), 1)))
    for place in thin:
        axes.plot(curves[place][1], curves[place][3], color=GREY, alpha=faint, linewidth=0.8)
    for order, place in enumerate(named):
        name, step, _, tc_k = curves[place]
        line = _STYLES[order // len(COLORS)]
        color = COLORS[order % len(COLORS)]
        axes.plot(step, tc_k, color=color, linestyle=line, linewidth=1.5, label=plain(name))
    _mark_second_stage(axes, [curves[place] for place in known], [curves[place] for place in named])
    from_zero(axes)
    axes.margins(x=0.01)
    axes.set_xlabel("step")
    axes.set_ylabel(f"predicted {TC}, mean of rows (K)")
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return finish(figure, axes, size=8.5)


def _mark_second_stage(axes: Any, curves: Sequence[Curve], named: Sequence[Curve]) -> None:
    """Where stage 2 begins: a line where all curves begin it at one step, else a dot on each named curve."""
    begins = {second_stage(step, stage) for _, step, stage, _ in curves}
    if len(begins) == 1 and None not in begins:
        change = begins.pop()
        axes.axvline(change, color="black", linewidth=0.8, linestyle=DASHED)
        axes.annotate(" stage 2", (change, 1.02), xycoords=("data", "axes fraction"), fontsize=9)
        return
    changes = [(second_stage(step, stage), step, tc_k) for _, step, stage, tc_k in named]
    points = [(at, float(tc_k[step == at][0])) for at, step, tc_k in changes if at is not None]
    if points:
        axes.scatter(*zip(*points, strict=True), s=20, c="black", zorder=4, label="stage 2 begins")
