"""report.html of a campaign, also while it is under way: how far it is, what its searches gained by base and variant,
the best candidates; and the plots of that, and of how each search rose over its steps.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from kiago_ray.report.page import (
    NO_VALUE,
    Cell,
    Column,
    Table,
    not_shown,
    number,
    number_cell,
    render_ranked,
    table_of,
    text,
)
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
from kiago_ray.report.reasons import Background
from kiago_ray.runs.outcome import CampaignResults, SearchResults, read_curves, search_folder
from kiago_ray.screening.screens import Summary, TopMean
from kiago_ray.storage.location import Location, read_all
from kiago_ray.storage.table import read_table

if TYPE_CHECKING:  # its import takes longer than most commands
    from matplotlib.figure import Figure

CAMPAIGN_ROWS = 500  # of its table
LISTED = 500  # searches, and bases with variants
K = 30  # of the best k that is shown where there is room for one
GAINS_PLOT, CURVES_PLOT = "gains.png", "curves.png"
SHOWN_GROUPS = 40
LABELLED = 12  # curves that still can be told apart
SHOWN_CURVES = 500
LABELLED_OF_MANY = 3  # at either end
_STYLES = ("-", (0, (5, 2)), (0, (1, 1.5)))

Item = TypeVar("Item")
Array = NDArray[Any]
Curve = tuple[str, Array, Array, Array]
"""Name of a search, step (n,), stage (n,), mean T_c in K (n,)."""


Group = tuple[SearchResults, ...]
"""Searches of one base and variant, which differ in their seeds; or a single one."""


def groups(searches: Sequence[SearchResults]) -> list[Group]:
    """The searches by base and variant, in the order in which these first occur."""
    found: dict[tuple[str | None, str], list[SearchResults]] = {}
    for each in searches:
        found.setdefault((each.base, each.variant), []).append(each)
    return list(map(tuple, found.values()))


def gain(search: SearchResults, k: int) -> float | None:
    """ΔT_c in K of the best k, or their mean T_c where there is no base; None where nothing passed."""
    name = "mean_tc_k" if search.summary.base is None else "delta_tc_k"
    return getattr(best(search.summary, k), name, None)


def gains(group: Sequence[SearchResults], k: int) -> list[float]:
    """`gain` of each search where something passed."""
    return [value for each in group if (value := gain(each, k)) is not None]


def mean_gain(group: Group, k: int) -> float | None:
    """The mean of `gains`; None where nothing passed."""
    found = gains(group, k)
    return statistics.fmean(found) if found else None


def best(summary: Summary, k: int) -> TopMean | None:
    """What the summary says of the best k."""
    return next((each for each in summary.top if each.k == k), None)


def gain_name(searches: Sequence[SearchResults]) -> str:
    """What `gain` is in these searches."""
    return "ΔT_c" if any(each.summary.base is not None for each in searches) else "mean T_c"


def is_short(search: SearchResults, k: int) -> bool:
    """Whether something passed, but fewer formulas than k."""
    return 0 < getattr(best(search.summary, k), "used", 0) < k


def foremost(items: Sequence[Item], limit: int, value: Callable[[Item], float | None]) -> list[Item]:
    """The items in their order; where there are more than `limit`, those of the highest value, unknown ones last."""
    # NaN where it is unknown, which sorts last.
    worth = np.array([value(item) for item in items], dtype=float)
    return [items[place] for place in np.sort(np.argsort(-worth, kind="stable")[:limit])]


def campaign_page(
    results: CampaignResults,
    searches: Sequence[SearchResults],
    rows: Sequence[dict[str, Any]],
    *,
    required: tuple[str, ...],
    background: Background,
    **content: Any,
) -> str:
    """The page as HTML5 text. What is listed is bounded. rows: the first of the ranked table. required: the screens
    that count. background: what the explanation of the best rows needs. content: `plots`, `spec_text` and
    `model_notes` as in `search_page`.
    """
    every = groups(searches)
    sizes = sorted({top.k for each in searches for top in each.summary.top})
    name = gain_name(searches)

    def listed(
        items: Sequence[Group], first: tuple[Column[Group], ...], label: str, others: str
    ) -> Table[Group]:
        shown = foremost(items, LISTED, lambda group: mean_gain(group, sizes[0]) if sizes else None)
        note = not_shown(len(items) - LISTED, f"{others} with a lower {name}")
        return table_of(shown, [*first, *_findings(sizes, name)], label, note)

    return render_ranked(
        "campaign.html.j2",
        rows[:CAMPAIGN_ROWS],
        required,
        results.top,
        results.statuses,
        background,
        campaign=True,
        title=f"kiago-ray: campaign {results.name}",
        results=results,
        gap=next((top for top in results.top if top.k == K and top.gap_k is not None), None),
        means=listed(every, _OF_GROUPS, "Means over seeds by base and variant", "pairs of base and variant"),
        seeds=any(len(group) > 1 for group in every),
        short=any(is_short(each, k) for each in searches for k in sizes),
        parts_only=any(0 < len(gains(group, k)) < len(group) for group in every for k in sizes),
        searches=listed([(each,) for each in searches], _OF_SEARCHES, "Searches", "searches"),
        **content,
    )


def _seeds(group: Group) -> Cell:
    parts = sum(not each.complete for each in group)
    return f"{len(group)}, {parts} in part" if parts else f"{len(group)}", float(len(group))


# What tells groups of searches apart, and single searches.
_OF_GROUPS: tuple[Column[Group], ...] = (
    text("Base", lambda group: group[0].base, formula=True),
    text("Variant", lambda group: group[0].variant),
    Column("Seeds", _seeds, "n"),
    number(
        "T_c of base (K)", lambda group: getattr(group[0].summary.base, "tc_predicted_k", None), "{:z.1f}"
    ),
    number("measured (K)", lambda group: getattr(group[0].summary.base, "tc_measured_k", None), "{:z.1f}"),
)
_OF_SEARCHES: tuple[Column[Group], ...] = (
    text("Search", lambda group: group[0].name),
    *_OF_GROUPS[:2],
    number("Seed", lambda group: group[0].seed, "{}"),
    Column(
        "Shards",
        lambda group: (f"{group[0].shards_done:,} of {group[0].shards:,}", float(group[0].shards_done)),
        "n",
    ),
    number("Candidates", lambda group: group[0].summary.rows, "{:,}"),
    number("T_c above base", lambda group: group[0].summary.passed_above_base, "{:,}"),
)


def _findings(sizes: Sequence[int], name: str) -> list[Column[Group]]:
    """What searches gained, by the oracle too, and what part of their rows passed: means over the group."""

    def mean(header: str, value: Callable[[Summary], float | None], form: str = "{:.1f}") -> Column[Group]:
        return Column(header, lambda group: _spread([value(each.summary) for each in group], form), "n")

    def of_best(header: str, field: str, form: str) -> Column[Group]:
        return mean(f"{header} top {K} (K)", lambda each: getattr(best(each, K), field, None), form)

    return [
        *(Column(f"{name} top {k} (K)", _gain(k), "n") for k in sizes),
        of_best("oracle ΔT_c", "delta_tc_oracle_k", "{:+z.1f}"),
        of_best("gap", "gap_k", "{:z.1f}"),
        mean("Passed (%)", lambda each: _percent(each.passed_fraction)),
        mean("Unique (%)", lambda each: _percent(each.unique_fraction)),
    ]


def _gain(k: int) -> Callable[[Group], Cell]:
    """The mean gain of the best k; a difference to a base has a sign, * and [n] say what it is a mean of."""

    def content(group: Group) -> Cell:
        found = gains(group, k)
        shown, value = _spread(found, "{:z.1f}" if group[0].summary.base is None else "{:+z.1f}")
        shown += "*" if any(is_short(each, k) for each in group) else ""
        return shown + (f" [{len(found)}]" if 0 < len(found) < len(group) else ""), value

    return content


def _spread(values: Sequence[float | None], form: str) -> Cell:
    """Mean ± sample standard deviation of what is known; the mean alone where that is one value."""
    known = [value for value in values if value is not None]
    if not known:
        return NO_VALUE
    shown, mean = number_cell(statistics.fmean(known), form)
    return (f"{shown} ± {statistics.stdev(known):.1f}" if len(known) > 1 else shown), mean


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction


def campaign_plots(
    campaign: Location, table: Location, searches: Sequence[SearchResults], name: str
) -> list[Plot]:
    """Gains by base and variant, the plots of the ranked table, mean T_c of each search over its steps.

    Raises StorageError.
    """
    bases = {each.summary.base for each in searches}
    tables = read_all(read_curves, [search_folder(campaign, each.name) for each in searches])
    curves = [
        (each.name, *(table[column].to_numpy() for column in ("step", "stage", "tc_k_mean")))
        for each, table in zip(searches, tables, strict=True)
    ]
    gained = (
        f"Mean predicted {'ΔT_c' if any(bases) else 'T_c'} of the best {K} that passed, by base material and "
    )
    risen = "Mean predicted T_c of the rows of each search over its steps."
    base = bases.pop() if len(bases) == 1 else None
    return [
        Plot(GAINS_PLOT, f"{gained}variant: a point a seed.", png_of(gains_plot(searches))),
        *ranked_plots(read_table(table, PLOTTED), base, name),
        Plot(CURVES_PLOT, risen, png_of(curves_plot(curves))),
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
    short = [is_short(each, K) for group in shown for each in group]
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
        known = gains([each for each in group if is_short(each, K) is short], K)
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
