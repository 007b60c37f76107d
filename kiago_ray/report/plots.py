"""The style of every figure; the plots of a search: where its candidates lie, what can be believed of them, and how
they came there (the paper's Fig. 3); and those of a campaign: what its searches gained, and how they rose.

Colours are Okabe and Ito's, which people with colour-blindness tell apart; groups also differ in shape and in
lightness, so that the plots read in grey. No figure is pyplot's, whose global state would keep every one of them.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from kiago_ray.screening.known import EXTRAPOLATED, BaseMaterial
from kiago_ray.screening.screens import TOP as TOP_SIZES
from kiago_ray.search.result import Trajectory
from kiago_ray.storage.run_directory import SearchResults

if TYPE_CHECKING:  # its import takes longer than most commands
    from matplotlib.figure import Figure

BLUE, ORANGE, VERMILION, GREEN, SKY, GREY = "#0072B2", "#E69F00", "#D55E00", "#009E73", "#56B4E9", "#9a9a9a"
COLORS = (BLUE, VERMILION, GREEN, "#CC79A7", "#000000", SKY, ORANGE)  # without yellow, too light for a line
DASHED = (0, (4, 3))
SHOWN_ROWS = 60  # thin lines in the trajectory; more than that are a blot
FIRST = 10  # of the best, drawn darker
NAME_LENGTH = 44
TC, EF = "$T_{\\mathrm{c}}$", "$E_{\\mathrm{f}}$ (eV/atom)"
TC_PLOT, PARETO_PLOT, GAP_PLOT, TRAJECTORY_PLOT, SECTION_PLOT = SEARCH_PLOTS = (
    "tc_against_ef.png",
    "pareto.png",
    "search_against_oracle.png",
    "trajectory.png",
    "section.png",
)
_PLOTTED = "passed tc_k ef_ev_per_atom trusted_tc_k extrapolation pareto tc_oracle_k extrapolated"
PLOTTED = tuple(_PLOTTED.split())
MAX_POINTS = 20_000
BEST_POINTS = 1_000  # that are drawn in any case
_OUTLIERS = 0.005  # part of the failed candidates that may lie beyond either end of the E_f axis
_FARTHEST = 1.25  # extrapolation scores beyond have one colour
K = 30  # of the best k that is shown where there is room for one
GAINS_PLOT, CURVES_PLOT = "gains.png", "curves.png"
SHOWN_GROUPS = 40
LABELLED = 12  # curves that still can be told apart
SHOWN_CURVES = 500
LABELLED_OF_MANY = 3  # at either end
_STYLES = ("-", (0, (5, 2)), (0, (1, 1.5)))

Item = TypeVar("Item")
Array = NDArray[Any]
Group = Sequence[SearchResults]
"""Searches of one base and variant, which differ in their seeds; or a single one."""
Curve = tuple[str, Array, Array, Array]
"""Name of a search, step (n,), stage (n,), mean T_c in K (n,)."""


class Plot(NamedTuple):
    """A plot: the name of its file, what stands below it, the image."""

    file: str
    caption: str
    png: bytes


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1, **shared: Any
) -> tuple[Figure, list[Any]]:
    """A figure of this size in inches, and its axes row by row. shared: options of Figure.subplots."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False, **shared).ravel().tolist()
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(color="#e6e6e6", linewidth=0.6)
        panel.set_axisbelow(True)
    return figure, panels


def png_of(figure: Figure) -> bytes:
    """The figure as PNG; the same data give the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def svg_of(figure: Figure) -> bytes:
    """The figure as SVG with its labels as text; the same data give the same bytes."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "kiago-ray"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def finish(figure: Figure, axes: Any, title: str = "", columns: int = 2, size: float = 10) -> Figure:
    """The figure with a title and, below it, the legend of these axes in `columns`."""
    if title:
        axes.set_title(title, loc="left")
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(
            handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=size
        )
    return figure


def list_rows(axes: Any, labels: Sequence[str]) -> None:
    """Make the y-axis a list, from the top, of what the rows 0, 1, … are."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(max(len(labels), 1) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def label_points(
    axes: Any, points: Array, labels: Sequence[str], clear: Array, size: float = 8.5, gap: float = 7
) -> None:
    """Write labels beside points (n, 2), each where it covers least of the labels before it and of the points to keep
    `clear` (m, 2). The figure must be laid out otherwise. size, gap: in typographic points.
    """
    figure = axes.figure
    figure.draw_without_rendering()
    per_point, frame = figure.dpi / 72, axes.get_window_extent()
    taken = axes.transData.transform(clear)
    taken = np.hstack([taken - 4 * per_point, taken + 4 * per_point])
    angles = np.radians([-90, 90, 0, 180, -45, -135, 45, 135])
    for point, at, text in zip(points, axes.transData.transform(points), labels, strict=True):
        label = axes.annotate(
            text,
            point,
            (0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=size,
            arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": "#777777", "shrinkA": 0, "shrinkB": 3},
            zorder=7,
        )
        label.set_in_layout(False)
        extent = label.get_window_extent()
        half = np.array([extent.width, extent.height]) / 2
        best = (np.inf, half)
        for reach in (gap, 3 * gap, 6 * gap, 10 * gap):
            for direction in np.column_stack([np.cos(angles), np.sin(angles)]):
                offset = np.sign(direction.round(3)) * half + direction * reach * per_point
                low, high = at + offset - half, at + offset + half
                shared = np.minimum(high, taken[:, 2:]) - np.maximum(low, taken[:, :2])
                cost = shared.clip(0).prod(axis=1).sum() + 0.02 * half.prod() * reach / gap
                outside = (low < frame.min).any() or (high > frame.max).any()
                best = min(best, (cost + 1e9 * outside, offset), key=lambda each: each[0])
        label.set_position(best[1] / per_point)
        taken = np.vstack([taken, np.concatenate([at + best[1] - half, at + best[1] + half])])


def from_zero(axes: Any) -> None:
    """Let the y-axis reach from 0, or lower, to 1 at least."""
    axes.set_ylim(min(0, axes.get_ylim()[0]), max(1, axes.get_ylim()[1]))


def plain(text: str, length: int = NAME_LENGTH) -> str:
    """A text that is drawn as it stands: one short line, and a $ that begins no formula. Of a long text its beginning
    and its end are left, in which names often differ.
    """
    text = " ".join(text.split())
    if len(text) > length:
        text = f"{text[: length // 2]}…{text[length // 2 + 1 - length :]}"
    return text.replace("$", "\\$")


def search_plots(table: Any, trajectory: Trajectory, base: BaseMaterial | None, name: str) -> list[Plot]:
    """The plots of a search from its ranked table (see `ranked_plots`), and the trajectory where steps were taken."""
    plots = ranked_plots(table, base, name)
    if len(trajectory.rows):
        figure = trajectory_plot(trajectory, None if base is None else base.tc_predicted_k, name)
        about = (
            "T_c, formation energy and integer loss over the steps: single rows, median and middle 80 %; where a "
            "search climbs a lower bound of T_c, that bound's median too."
        )
        plots.append(Plot(TRAJECTORY_PLOT, about, png_of(figure)))
    return plots


def ranked_plots(table: Any, base: BaseMaterial | None, name: str) -> list[Plot]:
    """T_c against E_f of a ranked table, its Pareto front, and the T_c of its best by the search and by the oracle.
    table: with the columns PLOTTED. Of more than MAX_POINTS rows the best are drawn, and others evenly chosen.
    """
    shown = shown_points(len(table))
    drawn = table.select(list(PLOTTED)).take(shown)
    every = {each: drawn[each].to_numpy() for each in PLOTTED}
    every |= {each: drawn[each].fill_null(False).to_numpy() for each in ("pareto", "extrapolated")}
    passed = {each: values[every["passed"]] for each, values in every.items()}
    best = [passed[each][: max(TOP_SIZES)] for each in ("tc_k", "tc_oracle_k", "extrapolated")]
    front = [passed[each] for each in ("trusted_tc_k", "ef_ev_per_atom", "extrapolation", "pareto")]
    part, rest, title = "every unique formula", "", name
    if len(shown) < len(table):
        number = f"{len(shown):,} of {len(table):,}"
        part, title = f"{number} unique formulas", f"{name}: {number} formulas"
        rest = f": the best {BEST_POINTS:,}, and others evenly chosen by rank"
    scatter = tc_against_ef(every["tc_k"], every["ef_ev_per_atom"], every["passed"], base, title)
    return [
        Plot(TC_PLOT, f"Predicted T_c against predicted formation energy of {part}{rest}.", png_of(scatter)),
        Plot(
            PARETO_PLOT,
            "Trusted T_c against predicted formation energy of the formulas that passed. On the Pareto front are "
            "those that no other beats in trusted T_c, formation energy and nearness to what the predictors know.",
            png_of(pareto_plot(*front, title=name)),
        ),
        Plot(
            GAP_PLOT,
            f"T_c by the oracle against T_c by the search's model, of the best {max(TOP_SIZES)} that passed. Below "
            "the diagonal the search is more hopeful than the oracle.",
            png_of(gap_plot(*best, title=name)),
        ),
    ]


def shown_points(count: int) -> Array:
    """Which of `count` ranked formulas are drawn: all, or MAX_POINTS with the best among them, the others evenly."""
    if count <= MAX_POINTS:
        return np.arange(count)
    others = np.linspace(BEST_POINTS, count - 1, MAX_POINTS - BEST_POINTS).round().astype(np.int64)
    return np.concatenate([np.arange(BEST_POINTS), others])


def tc_against_ef(
    tc_k: Array, ef_ev_per_atom: Array, passed: Array, base: BaseMaterial | None = None, title: str = ""
) -> Figure:
    """T_c in K against E_f in eV/atom of candidates (n,), those that passed apart, and the base material. Values that
    are not finite are left out. Where a few failed candidates lie far off, the E_f axis ends before them, and the
    legend says how many aren't shown.
    """
    figure, (axes,) = new_figure(7.0, 4.6)
    finite = np.isfinite(tc_k) & np.isfinite(ef_ev_per_atom)
    tc, ef, good = tc_k[finite], ef_ev_per_atom[finite], passed[finite]
    low, high = _ef_limits(ef, good, base)
    hidden = int(((ef < low) | (ef > high)).sum())
    failed = f"failed ({(~good).sum():,}" + (f"; {hidden} beyond the axis)" if hidden else ")")
    axes.scatter(ef[~good], tc[~good], s=13, c=GREY, alpha=0.55, linewidths=0, label=failed)
    diamond = {"s": 22, "c": BLUE, "alpha": 0.85, "edgecolors": "white", "linewidths": 0.4, "marker": "D"}
    axes.scatter(ef[good], tc[good], label=f"passed every screen ({good.sum():,})", zorder=3, **diamond)
    if base is not None:
        star = {"marker": "*", "s": 130, "edgecolors": "black", "linewidths": 0.8, "zorder": 4}
        at = base.ef_predicted_ev_per_atom
        axes.scatter(at, base.tc_predicted_k, c=ORANGE, label=f"{base.formula}, predicted", **star)
        if base.tc_measured_k is not None:
            pressure = base.measured_pressure_gpa
            under = f" at {pressure:g} GPa" if pressure else ""
            axes.scatter(at, base.tc_measured_k, c="white", label=f"{base.formula}, measured{under}", **star)
    axes.axvline(0, color="black", linewidth=0.8, linestyle=DASHED, zorder=1)
    axes.set_xlim(low, high)
    from_zero(axes)
    axes.set(xlabel=f"predicted formation energy {EF}", ylabel=f"predicted {TC} (K)")
    return finish(figure, axes, title)


def pareto_plot(
    trusted_tc_k: Array, ef_ev_per_atom: Array, extrapolation: Array, front: Array, *, title: str = ""
) -> Figure:
    """Trusted T_c in K against E_f in eV/atom of candidates that passed (n,), coloured by their extrapolation score;
    those on the Pareto front are ringed. Values that are not finite are left out, unknown scores are grey.
    """
    there = np.isfinite(trusted_tc_k) & np.isfinite(ef_ev_per_atom)
    columns = (trusted_tc_k, ef_ev_per_atom, extrapolation, front)
    trusted, ef, score, on = (values[there] for values in columns)
    if not len(trusted):
        return _nothing(f"No formula that passed has a trusted {TC}.", title)
    figure, (axes,) = new_figure(7.0, 4.9)
    for rows, size, edge, width, label in (
        (~on, 16, "white", 0.3, f"passed every screen ({(~on).sum():,})"),
        (on, 46, "black", 1.3, f"and on the Pareto front ({on.sum():,})"),
    ):
        known = rows & np.isfinite(score)
        style = {"s": size, "edgecolors": edge, "linewidths": width, "zorder": 4 if width > 1 else 3}
        shade = axes.scatter(
            ef[known], trusted[known], c=score[known], cmap="viridis", vmin=0, vmax=_FARTHEST, **style
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
    from_zero(axes)
    axes.set(xlabel=f"predicted formation energy {EF}", ylabel=f"trusted {TC} (K)")
    return finish(figure, axes, title, columns=3)


def gap_plot(tc_k: Array, tc_oracle_k: Array, extrapolated: Array, *, title: str = "") -> Figure:
    """T_c in K by the oracle against T_c by the search of the best (n,), best first; on the diagonal they agree.
    extrapolated: those beyond what the predictors know, which are marked. Values that are not finite are left out.
    """
    search, oracle, there = tc_k, tc_oracle_k, np.isfinite(tc_k) & np.isfinite(tc_oracle_k)
    if not there.any():
        return _nothing(f"No formula that passed has a {TC} by the oracle.", title)
    figure, (axes,) = new_figure(5.6, 5.6)
    flagged, first = extrapolated, np.arange(len(search)) < FIRST
    top = 1.06 * max(1.0, search[there].max(), oracle[there].max())
    axes.plot(
        [0, top], [0, top], color="black", linewidth=0.9, linestyle=DASHED, label="they agree", zorder=2
    )
    cross = {"c": VERMILION, "marker": "x", "s": 34, "linewidths": 1.4}
    for rows, style, label in (
        (first & ~flagged & there, {"c": BLUE, "marker": "D", "s": 34}, f"best {FIRST}"),
        (~first & ~flagged & there, {"c": "#7fb8de", "marker": "o", "s": 22}, f"best {len(search)}"),
        (flagged & there, cross, f"extrapolated ({(flagged & there).sum()})"),
    ):
        if rows.any():
            axes.scatter(search[rows], oracle[rows], label=label, alpha=0.9, zorder=3, **style)
    means = search[there].mean(), oracle[there].mean()
    axes.scatter(*means, marker="+", s=190, c="black", linewidths=2, zorder=4, label="mean")
    gap = f"gap of the best {int(there.sum())}: {means[0] - means[1]:z.1f} K"
    axes.text(0.03, 0.97, gap, transform=axes.transAxes, ha="left", va="top", zorder=5)
    axes.set(xlim=(0, top), ylim=(0, top), aspect="equal")
    axes.set(xlabel=f"{TC} by the search's model (K)", ylabel=f"{TC} by the oracle (K)")
    return finish(figure, axes, title, columns=3)


def trajectory_plot(path: Trajectory, base_tc_k: float | None = None, title: str = "") -> Figure:
    """T_c in K, E_f in eV/atom, where the loss has it, and the integer loss of k rows over the steps of a search. A
    line marks where stage 2 begins. Thin lines are rows, evenly chosen; the band holds the middle 80 %. Beside T_c the
    median of its lower bound, where the search climbs that.
    """
    steps, rows = path.tc_k.shape
    shown = np.unique(np.linspace(0, max(rows - 1, 0), SHOWN_ROWS).astype(int))
    curves = [
        (path.tc_k, BLUE, f"predicted {TC} (K)", shown),
        (path.ef_ev_per_atom, VERMILION, EF, shown[:0]),
        (path.integer_loss, "#4d4d4d", "integer loss", shown[:0]),
    ]
    if not np.isfinite(path.ef_ev_per_atom).any():
        curves.pop(1)
    ratios = (3, *(1.3 for _ in curves[1:]))
    figure, panels = new_figure(
        7.0, 3.4 + 1.5 * len(ratios[1:]), len(curves), sharex=True, gridspec_kw={"height_ratios": ratios}
    )
    for panel, (values, color, label, lines) in zip(panels, curves, strict=True):
        _spread(panel, np.asarray(values, dtype=float), color, lines)
        panel.margins(y=0.05)
        panel.set(ylabel=label, xlim=(0, max(steps - 1, 1)))
    panels[-1].set_ylim(bottom=0)
    panels[-1].set_xlabel("step")
    climbed = np.isfinite(path.climbed_k).any(axis=1)
    if climbed.any():
        median = np.nanmedian(path.climbed_k[climbed], axis=1)
        style = {"color": "black", "linewidth": 1.4, "linestyle": DASHED}
        panels[0].plot(np.flatnonzero(climbed), median, label="median of lower bound", **style)
    if base_tc_k is not None:
        panels[0].axhline(base_tc_k, color=ORANGE, linewidth=1.6, linestyle="-.", label="base material")
    change = second_stage(np.arange(steps), path.stage)
    if change is not None:
        for panel in panels:
            panel.axvline(change, color="black", linewidth=0.8, linestyle=DASHED)
        for text, align in (("stage 1 ", "right"), (" stage 2: towards integers", "left")):
            panels[0].annotate(
                text, (change, 1.02), xycoords=("data", "axes fraction"), ha=align, va="bottom", fontsize=9
            )
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    return finish(figure, panels[0], columns=4)


def second_stage(step: Array, stage: Array) -> float | None:
    """The step at which stage 2 begins; None where all steps are of one stage."""
    second = np.flatnonzero(np.asarray(stage) == 2)
    return float(step[second[0]]) if len(second) and second[0] > 0 else None


def _ef_limits(ef: Array, good: Array, base: BaseMaterial | None) -> tuple[float, float]:
    """The E_f axis: all that passed, the base, 0, and nearly all that failed."""
    points = [0.0, *ef[good], *([] if base is None else [base.ef_predicted_ev_per_atom])]
    if (~good).any():
        points += list(np.quantile(ef[~good], (_OUTLIERS, 1 - _OUTLIERS)))
    low, high = min(points), max(points)
    margin = 0.04 * max(high - low, 0.1)
    return low - margin, high + margin


def _spread(panel: Any, values: Array, color: str, shown: Array) -> None:
    """Rows as thin lines, their median as a thick one, the middle 80 % as a band. values: (steps + 1, k)."""
    steps = np.flatnonzero(np.isfinite(values).any(axis=1))
    if not len(steps):
        return
    low, middle, high = np.nanquantile(values[steps], (0.1, 0.5, 0.9), axis=1)
    panel.fill_between(steps, low, high, color=color, alpha=0.22, linewidth=0, label="10–90 % of rows")
    for place, row in enumerate(shown):
        label = "single rows" if place == 0 else None
        panel.plot(values[:, row], color=color, alpha=0.35, linewidth=0.6, label=label)
    panel.plot(steps, middle, color="white", linewidth=3.4)
    panel.plot(steps, middle, color=color, linewidth=2, label="median")


def _nothing(text: str, title: str) -> Figure:
    """A plot that says why there is nothing on it."""
    figure, (axes,) = new_figure(7.0, 1.2)
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color="#555555")
    return finish(figure, axes, title)


def groups(searches: Sequence[SearchResults]) -> list[Group]:
    """The searches by base and variant, in the order in which these first occur."""
    found: defaultdict[tuple[str | None, str], list[SearchResults]] = defaultdict(list)
    for each in searches:
        found[each.base, each.variant].append(each)
    return [*found.values()]


def gains(group: Group, k: int) -> list[float]:
    """The gain of the best k, in K, of each search where something passed."""
    return [gain for each in group if (gain := each.gain_k(k)) is not None]


def mean_gain(group: Group, k: int) -> float | None:
    """The mean of `gains`; None where nothing passed."""
    return fmean(found) if (found := gains(group, k)) else None


def gain_name(searches: Sequence[SearchResults]) -> str:
    """What `gains` are in these searches."""
    return "ΔT_c" if any(each.summary.base is not None for each in searches) else "mean T_c"


def foremost(items: Sequence[Item], limit: int, value: Callable[[Item], float | None]) -> list[Item]:
    """The items in their order; where there are more than `limit`, those of the highest value, unknown ones last."""
    worth = np.array([value(item) for item in items], dtype=float)  # NaN where unknown, which sorts last
    return [items[place] for place in np.sort(np.argsort(-worth, kind="stable")[:limit])]


def campaign_plots(
    table: Any, curves: Sequence[Any], searches: Sequence[SearchResults], name: str
) -> list[Plot]:
    """Gains by base and variant, the plots of the ranked table, mean T_c of each search over its steps. curves: the
    table of curves of each search.
    """
    bases = {each.summary.base for each in searches}
    paths = [
        (each.name, *(steps[column].to_numpy() for column in ("step", "stage", "tc_k_mean")))
        for each, steps in zip(searches, curves, strict=True)
    ]
    gained = (
        f"Mean predicted {'ΔT_c' if any(bases) else 'T_c'} of the best {K} that passed, by base material and "
        "variant: a point a seed."
    )
    risen = "Mean predicted T_c of the rows of each search over its steps."
    return [
        Plot(GAINS_PLOT, gained, png_of(gains_plot(searches))),
        *ranked_plots(table, bases.pop() if len(bases) == 1 else None, name),
        Plot(CURVES_PLOT, risen, png_of(curves_plot(paths))),
    ]


def gains_plot(searches: Sequence[SearchResults]) -> Figure:
    """ΔT_c in K of the best 30 that passed, a row of points for each base and variant: a point a seed.

    Where searches start at random, their T_c. Groups beyond SHOWN_GROUPS are left out, those of lowest mean first.
    """
    every = groups(searches)
    shown = foremost(every, SHOWN_GROUPS, lambda group: mean_gain(group, K))
    figure, (axes,) = new_figure(7.0, 1.5 + 0.27 * max(len(shown), 2))
    variants = list(dict.fromkeys(group[0].variant for group in every))
    for place, group in enumerate(shown):
        _draw_group(axes, place, group, COLORS[variants.index(group[0].variant) % len(COLORS)])
        another = place and group[0].base != shown[place - 1][0].base
        if another and len(variants) > 1 and len(shown) == len(every):
            axes.axhline(place - 0.5, color="#b0b0b0", linewidth=0.6)
    names = [(group[0].base or "random start", group[0].variant) for group in shown]
    list_rows(axes, [plain(", ".join(filter(None, parts))) for parts in names])
    name = gain_name(searches)
    axes.set_xlabel(f"predicted {name.replace('T_c', TC)} of the best {K} that passed (K)")
    if name == "ΔT_c":
        axes.axvline(0, color="black", linewidth=0.8, linestyle=DASHED, zorder=1, label="base material")
    else:
        axes.set_xlim(left=min(0, axes.get_xlim()[0]))
    short = [each.is_short(K) for group in shown for each in group]
    if not all(short):
        axes.scatter([], [], c=GREY, s=26, label="one search")
    if any(short):
        axes.scatter([], [], facecolors="white", edgecolors=GREY, s=26, label=f"fewer than {K} passed")
    if any(len(gains(group, K)) > 1 for group in shown):
        axes.scatter([], [], marker="|", c="black", s=170, linewidths=1.8, label="mean over seeds")
    title = f"the {len(shown)} highest of {len(every):,}" if len(shown) < len(every) else ""
    return finish(figure, axes, title, columns=4, size=9)


def _draw_group(axes: Any, place: int, group: Group, color: str) -> None:
    """The seeds of a group, hollow where fewer than K passed, and their mean."""
    for short, face in ((False, color), (True, "white")):
        known = gains([each for each in group if each.is_short(K) is short], K)
        style = {"facecolors": face, "edgecolors": color, "linewidths": 1.1, "alpha": 0.85, "zorder": 3}
        axes.scatter(known, [place] * len(known), s=26, **style)
    mean = mean_gain(group, K)
    if mean is None:
        axes.text(0, place, "  nothing passed", va="center", color="#6e6e6e", fontsize=8.5)
    elif len(gains(group, K)) > 1:
        axes.scatter([mean], [place], s=220, marker="|", c="black", linewidths=1.8, zorder=2)


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
    faint = np.clip(40 / max(len(thin), 1), 0.12, 0.8)
    for place in thin:
        axes.plot(curves[place][1], curves[place][3], color=GREY, alpha=faint, linewidth=0.8)
    for order, place in enumerate(named):
        name, step, _, tc_k = curves[place]
        style = {"color": COLORS[order % len(COLORS)], "linestyle": _STYLES[order // len(COLORS)]}
        axes.plot(step, tc_k, linewidth=1.5, label=plain(name), **style)
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
