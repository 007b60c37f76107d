"""What a page says of how far its best rows can be believed: reasons on either side, and the exploitation gap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from kiago_ray.report.cells import cell
from kiago_ray.report.page_table import formula_html, scrolling, words
from kiago_ray.report.reasons import EXPLAINED, Background, Reason, reasons_of
from kiago_ray.report.summary_rows import top_rows
from kiago_ray.screening.summary import TopMean

REASONS_HEADING = "Why these may be believed, and why not"
TOP_HEADING = "The best as a whole"
_NUMBER = ' class="n"'
_GAP = """<p class="note">The search climbs its own model of <i>T</i><sub>c</sub>, and with it that model's mistakes.
The oracle is a model of another kind, boosted trees on element properties, which the search never sees: the gap
between the two shows how much of a mistake the search has found. Both have learnt from the same measurements, so
that what these lack neither of them knows.</p>
"""
_TRUSTED = """<p class="note">The trusted <i>T</i><sub>c</sub> is the smaller of
<i>T</i><sub>c</sub> and the oracle's <i>T</i><sub>c</sub>, less the standard deviation, and 0 beyond what the
predictors know.</p>
"""
_SIDES = (("for", "For"), ("against", "Against"))


def explanations(rows: Sequence[Mapping[str, Any]], background: Background) -> str:
    """Why the first rows may be believed, and why not, as HTML; "" without rows."""
    best = rows[:EXPLAINED]
    note = _TRUSTED if any(row.get("trusted_tc_k") is not None for row in best) else ""
    return note + "".join(_explanation(row, background) for row in best)


def top_html(top: Sequence[TopMean]) -> str:
    """What is told of the best k as a table, a column for each k (see top_rows); "" where nothing passed."""
    rows = top_rows(top)
    if not rows:
        return ""
    (label, *sizes), *body = rows
    heads = f'<th scope="col">{words(label)}</th>' + _cells(sizes, "th", ' scope="col"')
    lines = "".join(f'<tr><th scope="row">{words(name)}</th>{_cells(values)}</tr>' for name, *values in body)
    table = f'<table><thead class="plain"><tr>{heads}</tr></thead>\n<tbody>{lines}</tbody></table>'
    return scrolling(table, TOP_HEADING) + (_GAP if any(each.gap_k is not None for each in top) else "")


def _explanation(row: Mapping[str, Any], background: Background) -> str:
    found = reasons_of(row, background)
    sides = "".join(
        f'<div class="{side}"><h4>{title}</h4><ul>{_sentences(found, side)}</ul></div>'
        for side, title in _SIDES
    )
    column, name = ("trusted_tc_k", "trusted T_c") if row.get("trusted_tc_k") is not None else ("tc_k", "T_c")
    heading = f"{escape(cell(row, 'rank'))}. {formula_html(cell(row, 'formula'))}: {words(name)} "
    return f'<h3>{heading}{cell(row, column)} K</h3>\n<div class="sides">{sides}</div>\n'


def _sentences(found: Sequence[Reason], side: str) -> str:
    return "".join(f"<li>{words(reason.sentence)}</li>" for reason in found if reason.side == side)


def _cells(values: Sequence[str], tag: str = "td", attributes: str = "") -> str:
    return "".join(f"<{tag}{attributes}{_NUMBER}>{words(value)}</{tag}>" for value in values)
