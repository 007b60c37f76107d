"""The part of a sweep's page that says whether the best is better, by another judge."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from kiago_ray.report.campaign_page import _cut, _not_shown
from kiago_ray.report.page_parts import figures
from kiago_ray.report.page_table import NO_VALUE, Cell, Column, number_cell, table_of, text_cell, words
from kiago_ray.sweep.compare import Difference, OnBase
from kiago_ray.sweep.metrics import METRICS
from kiago_ray.sweep.plots import COMPARISON_CAPTION
from kiago_ray.sweep.spec import SweepSpec

LISTED = 500  # trials, and bases of the comparison


def amount(value: float | None, metric: str, *, sign: bool = False) -> str:
    """A value of a metric, with its unit."""
    if value is None or math.isnan(value):
        return "unknown"
    unit = METRICS[metric].unit
    return number(value, metric, "+" if sign else "") + (f" {unit}" if unit else "")


def verdict(each: Difference) -> str:
    """What a comparison says, in a sentence without its subject."""
    told = amount(each.value, each.metric, sign=True)
    sign = METRICS[each.metric].sign
    if math.isnan(each.value):
        return f"can't be told from {each.other}: nothing passed that could tell"
    if each.low is None or each.high is None:
        return (
            f"can't be told from {each.other}: {told}, from too few searches for an interval ({_basis(each)})"
        )
    told += f" (95 % interval {interval(each)}, {_basis(each)})"
    if each.low <= 0 <= each.high:
        return f"can't be told from {each.other}: {told}"
    return f"is {'better' if sign * each.value > 0 else 'worse'} than {each.other} by {told}"


def comparison(
    sweep: SweepSpec, differences: Sequence[Difference], plots: Sequence[tuple[str, bytes]]
) -> str:
    """A sentence for each of what the best was held against, the plot, and the numbers."""
    told = [each for each in differences if each.pairs]
    first = of_first_metric(sweep, differences)
    if not told:
        return ""
    sentences = "".join(f"<li>The best {words(verdict(each))}.</li>" for each in first)
    table = table_of(
        told,
        [
            (Column("Held against"), lambda each: text_cell(each.other)),
            (Column("Metric"), lambda each: text_cell(each.metric)),
            (Column("Best minus other", "n"), lambda each: metric_cell(each.value, each.metric, "+")),
            (
                Column("95 % interval", "n"),
                lambda each: NO_VALUE if each.low is None else (interval(each), each.low),
            ),
            (Column("Best is"), lambda each: text_cell(_in_a_word(each))),
            (Column("Pairs", "n"), lambda each: number_cell(each.pairs, "{:,}")),
        ],
        "The best minus others",
    )
    plot = figures(plot for plot in plots if plot[0] == COMPARISON_CAPTION)
    return f"<p>{words(_unseen(sweep))}</p>\n<ul>{sentences}</ul>\n{plot}{table}{_by_base(first)}"


def _by_base(differences: Sequence[Difference]) -> str:
    """What each base alone says, by the first metric."""
    rows = [(each, on) for each in differences for on in each.bases]
    if len(rows) <= len(differences):
        return ""

    def of(value: Callable[[OnBase], float], sign: str = "") -> Callable[[tuple[Difference, OnBase]], Cell]:
        return lambda row: metric_cell(value(row[1]), row[0].metric, sign)

    metric = rows[0][0].metric
    table = table_of(
        rows[:LISTED],
        [
            (Column("Held against"), lambda row: text_cell(row[0].other)),
            (Column("Base"), lambda row: text_cell(row[1].base, formula=True)),
            (Column("Best", "n"), of(lambda on: on.best)),
            (Column("Other", "n"), of(lambda on: on.other)),
            (Column("Best minus other", "n"), of(lambda on: on.difference, "+")),
            (
                Column("Standard error", "n"),
                lambda row: NO_VALUE if row[1].error is None else metric_cell(row[1].error, row[0].metric),
            ),
        ],
        "The best minus others by base",
    )
    return f"<h3>By base: {escape(metric)}</h3>\n{table}{_not_shown(len(rows) - LISTED, 'more rows')}"


def _unseen(sweep: SweepSpec) -> str:
    """By whom the comparison is judged, and where."""
    seeds = ", ".join(map(str, sweep.compare.seeds))
    text = (
        "Judged by another oracle than the one that the trials went by: by that of the reports of searches. On seeds "
        f"that no trial saw ({_cut(seeds)})"
    )
    new = [base for base in sweep.compare.bases if base not in sweep.bases]
    if not new:
        return f"{text}, on the bases of the trials." if sweep.bases else f"{text}."
    listed = ", ".join(new)
    if len(new) == len(sweep.compare.bases):
        return f"{text} and bases that no trial saw ({_cut(listed)})."
    return f"{text}. Of the bases, no trial saw {_cut(listed)}."


def _in_a_word(each: Difference) -> str:
    if each.low is None or each.high is None or each.low <= 0 <= each.high:
        return "can't be told"
    return "better" if METRICS[each.metric].sign * each.value > 0 else "worse"


def _basis(each: Difference) -> str:
    """What a difference rests on: "4 bases × 3 seeds"."""
    bases = len(each.bases)
    if not bases or each.pairs % bases:
        return f"{each.pairs} pairs of searches"
    return f"{counted(bases, 'base')} × {counted(each.pairs // bases, 'seed')}"


def of_first_metric(sweep: SweepSpec, differences: Sequence[Difference]) -> list[Difference]:
    """Those that there are, in the order of the sweep's comparison."""
    order = list(sweep.compare.against)
    told = [each for each in differences if each.metric == sweep.metrics[0] and each.pairs]
    return sorted(told, key=lambda each: order.index(each.other) if each.other in order else len(order))


def metric_cell(value: float, metric: str, sign: str = "") -> Cell:
    return NO_VALUE if math.isnan(value) else (number(value, metric, sign), value)


def interval(each: Difference) -> str:
    assert each.low is not None
    assert each.high is not None
    return f"{number(each.low, each.metric, '+')} to {number(each.high, each.metric, '+')}"


def number(value: float, metric: str, sign: str = "") -> str:
    digits = 3 if not METRICS[metric].unit else 1 if abs(value) >= 0.1 else 2
    return f"{value:{sign}z.{digits}f}"


def counted(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")
