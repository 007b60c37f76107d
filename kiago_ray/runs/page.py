"""report.html of a campaign, also while it is under way: how far it is, what its searches gained by base and variant,
the best candidates; and the plots of that, and of how each search rose over its steps.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
from kiago_ray.screening.summary import BaseMaterial, Summary, TopMean
from kiago_ray.storage.location import Location
from kiago_ray.storage.table import read_columns

if TYPE_CHECKING:  # its import takes longer than most commands
    from matplotlib.figure import Figure

TABLE_ROWS = 500
LISTED = 500  # searches, and bases with variants
K = 30  # of the best k that is shown where there is room for one
GAINS_PLOT, CURVES_PLOT = "gains.png", "curves.png"
SHOWN_GROUPS = 40
LABELLED = 12  # curves that still can be told apart
SHOWN_CURVES = 500
LABELLED_OF_MANY = 3  # at either end
_READERS = 8  # on a remote storage reading a small file is mostly waiting
_STYLES = ("-", (0, (5, 2)), (0, (1, 1.5)))

Item = TypeVar("Item")
Array = NDArray[Any]
Curve = tuple[str, Array, Array, Array]
"""Name of a search, step (n,), stage (n,), mean T_c in K (n,)."""


@dataclass(frozen=True)
class Group:
    """The searches of one base and variant, which differ in their seeds."""

    base: str | None
    variant: str
    searches: tuple[SearchResults, ...]

    @property
    def summaries(self) -> list[Summary]:
        """What came of each search."""
        return [each.summary for each in self.searches]

    @property
    def material(self) -> BaseMaterial | None:
        """The base as predicted and measured, where a search of the group has it."""
        return next((summary.base for summary in self.summaries if summary.base is not None), None)

    def gains(self, k: int) -> list[float]:
        """`gain` of each seed where something passed."""
        return [value for summary in self.summaries if (value := gain(summary, k)) is not None]

    def mean_gain(self, k: int) -> float | None:
        """The mean of `gains`; None where there is none."""
        gains = self.gains(k)
        return statistics.fmean(gains) if gains else None


def groups(searches: Sequence[SearchResults]) -> list[Group]:
    """The searches by base and variant, in the order in which these first occur."""
    found: dict[tuple[str | None, str], list[SearchResults]] = {}
    for each in searches:
        found.setdefault((each.base, each.variant), []).append(each)
    return [Group(base, variant, tuple(members)) for (base, variant), members in found.items()]


def gain(summary: Summary, k: int) -> float | None:
    """ΔT_c in K of the best k, or their mean T_c where there is no base; None where nothing passed."""
    top = best(summary, k)
    if top is None:
        return None
    return top.mean_tc_k if summary.base is None else top.delta_tc_k


def best(summary: Summary, k: int) -> TopMean | None:
    """What the summary says of the best k."""
    return next((each for each in summary.top if each.k == k), None)


def gain_name(searches: Sequence[SearchResults]) -> str:
    """What `gain` is in these searches."""
    return "ΔT_c" if any(each.summary.base is not None for each in searches) else "mean T_c"


def is_short(summary: Summary, k: int) -> bool:
    """Whether something passed, but fewer formulas than k."""
    return any(top.k == k and 0 < top.used < k for top in summary.top)


def foremost(items: Sequence[Item], limit: int, value: Callable[[Item], float | None]) -> list[Item]:
    """The items in their order; where there are more than `limit`, those of the highest value, unknown ones last."""

    def key(place: int) -> float:
        found = value(items[place])
        return float("inf") if found is None else -found

    return [items[place] for place in sorted(sorted(range(len(items)), key=key)[:limit])]


def campaign_page(
    results: CampaignResults,
    searches: Sequence[SearchResults],
    rows: Sequence[dict[str, Any]],
    plots: Sequence[Plot],
    *,
    required: tuple[str, ...],
    background: Background,
    spec_text: str,
    model_notes: Sequence[str] = (),
) -> str:
    """The page as HTML5 text. What is listed is bounded. rows: the first TABLE_ROWS of the campaign's ranked table.
    required: the screens that count. background: what the explanation of the best rows needs. model_notes: a sentence
    each on how good the predictors are.
    """
    every = groups(searches)
    alone = [Group(each.base, each.variant, (each,)) for each in searches]
    sizes = sorted({top.k for each in searches for top in each.summary.top})
    name = gain_name(searches)

    def listed(items: list[Group], first: list[Column[Group]], label: str, others: str) -> Table[Group]:
        shown = foremost(items, LISTED, lambda group: group.mean_gain(sizes[0]) if sizes else None)
        note = not_shown(len(items) - LISTED, f"{others} with a lower {name}")
        return table_of(shown, [*first, *_findings(sizes, name)], label, note)

    return render_ranked(
        "campaign.html.j2",
        rows,
        required,
        results.top,
        results.statuses,
        background,
        campaign=True,
        title=f"kiago-ray: campaign {results.name}",
        results=results,
        gap=next((top for top in results.top if top.k == K and top.gap_k is not None), None),
        means=listed(
            every, _of_groups(), "Means over seeds by base and variant", "pairs of base and variant"
        ),
        seeds=any(len(group.searches) > 1 for group in every),
        short=any(is_short(each.summary, k) for each in searches for k in sizes),
        parts_only=any(0 < len(group.gains(k)) < len(group.searches) for group in every for k in sizes),
        searches=listed(alone, _of_searches(), "Searches", "searches"),
        plots=plots,
        model_notes=model_notes,
        spec_text=spec_text,
    )


def _of_groups() -> list[Column[Group]]:
    """What tells groups of searches apart."""
    return [
        text("Base", lambda group: group.base, formula=True),
        text("Variant", lambda group: group.variant),
        Column("Seeds", _seeds, "n"),
        number("T_c of base (K)", lambda group: getattr(group.material, "tc_predicted_k", None), "{:z.1f}"),
        number("measured (K)", lambda group: getattr(group.material, "tc_measured_k", None), "{:z.1f}"),
    ]


def _of_searches() -> list[Column[Group]]:
    """What tells searches apart, each of which is a group of its own."""

    def of(header: str, value: Callable[[SearchResults], float | None], form: str) -> Column[Group]:
        return number(header, lambda group: value(group.searches[0]), form)

    return [
        text("Search", lambda group: group.searches[0].name),
        text("Base", lambda group: group.base, formula=True),
        text("Variant", lambda group: group.variant),
        of("Seed", lambda each: each.seed, "{}"),
        Column("Shards", _shards, "n"),
        of("Candidates", lambda each: each.summary.rows, "{:,}"),
        of("T_c above base", lambda each: each.summary.passed_above_base, "{:,}"),
    ]


def _findings(sizes: Sequence[int], name: str) -> list[Column[Group]]:
    """What searches gained, by the oracle too, and what part of their rows passed: means over the group."""

    def mean(header: str, value: Callable[[Summary], float | None], form: str = "{:.1f}") -> Column[Group]:
        return Column(header, lambda group: _spread([value(each) for each in group.summaries], form), "n")

    return [
        *(Column(f"{name} top {k} (K)", _gain(k), "n") for k in sizes),
        mean(
            f"oracle ΔT_c top {K} (K)",
            lambda each: getattr(best(each, K), "delta_tc_oracle_k", None),
            "{:+z.1f}",
        ),
        mean(f"gap top {K} (K)", lambda each: getattr(best(each, K), "gap_k", None), "{:z.1f}"),
        mean("Passed (%)", lambda each: _percent(each.passed_fraction)),
        mean("Unique (%)", lambda each: _percent(each.unique_fraction)),
    ]


def _seeds(group: Group) -> Cell:
    seeds = len(group.searches)
    parts = sum(not each.complete for each in group.searches)
    return f"{seeds}, {parts} in part" if parts else f"{seeds}", float(seeds)


def _shards(group: Group) -> Cell:
    done = sum(each.shards_done for each in group.searches)
    return f"{done:,} of {sum(each.shards for each in group.searches):,}", float(done)


def _gain(k: int) -> Callable[[Group], Cell]:
    """The mean gain of the best k; a difference to a base has a sign, * and [n] say what it is a mean of."""

    def content(group: Group) -> Cell:
        gains = group.gains(k)
        shown, value = _spread(gains, "{:z.1f}" if group.material is None else "{:+z.1f}")
        shown += "*" if any(is_short(summary, k) for summary in group.summaries) else ""
        return shown + (f" [{len(gains)}]" if 0 < len(gains) < len(group.searches) else ""), value

    return content


def _spread(values: Sequence[float | None], form: str = "{:.1f}") -> Cell:
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
    with ThreadPoolExecutor(_READERS) as readers:
        places = [search_folder(campaign, each.name) for each in searches]
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
