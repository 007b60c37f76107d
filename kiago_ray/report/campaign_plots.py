"""The plots of a campaign, as PNG: ΔT_c by base and variant, and how each search rose over its steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kiago_ray.report.campaign_lines import Group, K, SearchLine, foremost, gain, gain_name, groups, is_short
from kiago_ray.report.plots import BLUE, GREY, VERMILION, _figure, _png

SHOWN_GROUPS = 40
LABELLED = 12  # curves that still can be told apart
SHOWN_CURVES = 500
_LABELLED_OF_MANY = 3  # at either end
_NAME_LENGTH = 44
# Okabe and Ito's without yellow, which is too light for a line.
_COLORS = (BLUE, VERMILION, "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
_STYLES = ("-", (0, (5, 2)), (0, (1, 1.5)))

Array = NDArray[Any]
Curve = tuple[str, Array, Array, Array]


def gains_plot(lines: Sequence[SearchLine]) -> bytes:
    """ΔT_c in K of the best 30 that passed, a row of points for each base and variant: a point a seed.

    Where searches start at random, their T_c. Groups beyond SHOWN_GROUPS are left out, those of lowest mean first.
    """
    every = groups(lines)
    shown = foremost(every, SHOWN_GROUPS, lambda group: group.mean_gain(K))
    figure, axes = _figure(7.0, 1.5 + 0.27 * max(len(shown), 2))
    variants = list(dict.fromkeys(group.variant for group in every))
    for place, group in enumerate(shown):
        _draw_group(axes, place, group, _COLORS[variants.index(group.variant) % len(_COLORS)])
    for place in range(1, len(shown)):
        if shown[place].base != shown[place - 1].base and len(variants) > 1 and len(shown) == len(every):
            axes.axhline(place - 0.5, color="#b0b0b0", linewidth=0.6)
    axes.set_yticks(range(len(shown)), [_group_name(group) for group in shown])
    axes.set_ylim(max(len(shown), 1) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    name = gain_name(lines).replace("T_c", "$T_{\\mathrm{c}}$")
    axes.set_xlabel(f"predicted {name} of the best {K} that passed (K)")
    if gain_name(lines) != "ΔT_c":
        axes.set_xlim(left=min(0, axes.get_xlim()[0]))
    else:
        axes.axvline(0, color="black", linewidth=0.8, linestyle=(0, (4, 3)), zorder=1, label="base material")
    if len(shown) < len(every):
        axes.set_title(f"the {len(shown)} highest of {len(every):,}", loc="left", fontsize=10)
    _legend_of_gains(figure, axes, shown)
    return _png(figure)


def curves_plot(curves: Sequence[Curve]) -> bytes:
    """Mean T_c in K over the steps of each search; dots mark where stage 2 begins, a line where that is the same.

    curves: name, step (n,), stage (n,) and mean T_c in K (n,) of each. Up to LABELLED have a colour each. Of more, the
    highest and the lowest are named, the others thin; SHOWN_CURVES are drawn at most, evenly chosen by where they end.
    """
    ends = [_end(tc_k) for _, _, _, tc_k in curves]
    known = sorted(
        (place for place, end in enumerate(ends) if np.isfinite(end)), key=lambda place: -ends[place]
    )
    figure, axes = _figure(7.0, 4.6)
    if len(known) <= LABELLED:
        named, thin = known, []
    else:
        named = known[:_LABELLED_OF_MANY] + known[-_LABELLED_OF_MANY:]
        rest = known[_LABELLED_OF_MANY:-_LABELLED_OF_MANY]
        chosen = np.linspace(0, len(rest) - 1, min(len(rest), SHOWN_CURVES - len(named))).astype(int)
        thin = [rest[index] for index in chosen]
    faint = min(0.8, max(0.12, 40 / max(len(thin), 1)))
    for place in thin:
        axes.plot(curves[place][1], curves[place][3], color=GREY, alpha=faint, linewidth=0.8)
    for order, place in enumerate(named):
        name, step, _, tc_k = curves[place]
        axes.plot(
            step,
            tc_k,
            color=_COLORS[order % len(_COLORS)],
            linestyle=_STYLES[order // len(_COLORS)],
            linewidth=1.5,
            label=_plain(name),
        )
    _mark_second_stage(axes, [curves[place] for place in known], [curves[place] for place in named])
    axes.set_ylim(min(0, axes.get_ylim()[0]), max(1, axes.get_ylim()[1]))
    axes.margins(x=0.01)
    axes.set_xlabel("step")
    axes.set_ylabel("predicted $T_{\\mathrm{c}}$, mean of rows (K)")
    if len(known) > LABELLED:
        drawn = len(named) + len(thin)
        of = f"{drawn:,} of {len(known):,}" if drawn < len(known) else f"{drawn:,}"
        title = f"{of} searches; named: the {_LABELLED_OF_MANY} that end highest and lowest"
        figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=8.5
    )
    return _png(figure)


def _draw_group(axes: Any, place: int, group: Group, color: str) -> None:
    found = [(gain(line.summary, K), is_short(line.summary, K)) for line in group.lines]
    for short, face in ((False, color), (True, "white")):
        values = [value for value, few in found if value is not None and few is short]
        axes.scatter(
            values,
            [place] * len(values),
            s=26,
            facecolors=face,
            edgecolors=color,
            linewidths=1.1,
            alpha=0.85,
            zorder=3,
        )
    mean = group.mean_gain(K)
    if mean is None:
        axes.annotate(
            "nothing passed",
            (0, place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color="#6e6e6e",
            fontsize=8.5,
        )
    elif len(group.gains(K)) > 1:
        axes.scatter([mean], [place], s=220, marker="|", c="black", linewidths=1.8, zorder=2)


def _legend_of_gains(figure: Any, axes: Any, shown: Sequence[Group]) -> None:
    """What marks mean; only those that the plot has."""
    short = [is_short(line.summary, K) for group in shown for line in group.lines]
    marks = [("o", {"c": GREY, "s": 26}, "one search", not all(short))]
    hollow = {"facecolors": "white", "edgecolors": GREY, "s": 26}
    marks.append(("o", hollow, f"fewer than {K} passed", any(short)))
    several = any(len(group.gains(K)) > 1 for group in shown)
    marks.append(("|", {"c": "black", "s": 170, "linewidths": 1.8}, "mean over seeds", several))
    for mark, style, text, there in marks:
        if there:
            axes.scatter([], [], marker=mark, label=text, **style)
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=9,
        columnspacing=1.2,
    )


def _mark_second_stage(axes: Any, curves: Sequence[Curve], named: Sequence[Curve]) -> None:
    """Where stage 2 begins: a line where all begin it at one step, else a dot on each named curve."""
    begins = {_second_stage(curve) for curve in curves}
    if len(begins) == 1 and None not in begins:
        change = begins.pop()
        axes.axvline(change, color="black", linewidth=0.8, linestyle=(0, (4, 3)))
        axes.annotate(
            " stage 2",
            (change, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(3, 3),
            textcoords="offset points",
            fontsize=9,
        )
        return
    points = [
        (change, float(curve[3][np.flatnonzero(curve[1] == change)[0]]))
        for curve in named
        if (change := _second_stage(curve)) is not None
    ]
    if points:
        axes.scatter(*zip(*points, strict=True), s=20, c="black", zorder=4, label="stage 2 begins")


def _second_stage(curve: Curve) -> float | None:
    """The step at which stage 2 begins, None where the search is of one stage."""
    _, step, stage, _ = curve
    second = np.flatnonzero(np.asarray(stage) == 2)
    return float(step[second[0]]) if len(second) and second[0] > 0 else None


def _end(tc_k: Array) -> float:
    """The last finite value; NaN where there is none."""
    finite = np.asarray(tc_k, dtype=float)
    finite = finite[np.isfinite(finite)]
    return float(finite[-1]) if len(finite) else float("nan")


def _group_name(group: Group) -> str:
    return _plain(", ".join(part for part in (group.base or "random start", group.variant) if part))


def _plain(text: str) -> str:
    """A text that is drawn as it stands: one short line, and a $ that begins no formula."""
    text = " ".join(text.split())
    text = text if len(text) <= _NAME_LENGTH else text[: _NAME_LENGTH - 1] + "…"
    return text.replace("$", "\\$")
