"""Tables on a page that sort by a click, above all that of candidates; chemistry in HTML. All is escaped."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, TypeVar

from kiago_ray.report.cells import UNKNOWN, cell, failed_screens, unseen

_TC = "<i>T</i><sub>c</sub>"
_EF = "<i>E</i><sub>f</sub>"
_EHULL = "<i>E</i><sub>hull</sub>"
# Column of the table of candidates → header, and whether it is a number.
_HEADERS: Mapping[str, tuple[str, bool]] = {
    "rank": ("#", True),
    "formula": ("Formula", False),
    "plausibility": ("Plausibility", True),
    "expected_improvement_k": ("Expected gain (K)", True),
    "gain": ("Gain", False),
    "best_nearby": ("Best known nearby", False),
    "best_nearby_tc_k": (f"that {_TC} (K)", True),
    "trusted_tc_k": (f"trusted {_TC} (K)", True),
    "tc_k": (f"{_TC} (K)", True),
    "tc_std_k": ("± (K)", True),
    "tc_oracle_k": (f"oracle {_TC} (K)", True),
    "delta_tc_k": (f"Δ{_TC} (K)", True),
    "base": ("Base", False),
    "ef_ev_per_atom": (f"{_EF} (eV/atom)", True),
    "e_hull_ev_per_atom": (f"Δ{_EHULL} (eV/atom)", True),
    "extrapolation": ("Extrapolation", True),
    "nearest_known": ("Nearest known", False),
    "nearest_tc_k": (f"its {_TC} (K)", True),
    "nearest_pressure_gpa": ("at (GPa)", True),
    "nearest_distance": ("L1 distance", True),
    "known": ("Known", False),
    "made": ("Made", False),
    "tried": ("Tried", False),
    "tried_nearby": ("Tried nearby", False),
    "tc_given_tried_k": (f"{_TC} given tried (K)", True),
    "passed": ("Screens", False),
    "pareto": ("Pareto front", False),
    "search": ("Search", False),
    "source": ("Source", False),
    "plausibility_reason": ("Why plausible", False),
    "oxidation_states": ("Oxidation states", False),
}
_CAMPAIGN_ALONE = ("base", "search")
_FORMULAS = ("formula", "base", "nearest_known", "best_nearby")
_FILTERED = ("formula", "base", "search")

# Before its table; the script of page_parts shows it and makes it work.
FILTER = """<form class="filter" autocomplete="off" hidden>
<label>Formula, base or search contains all of <input type="search" name="text" spellcheck="false"
placeholder="such as Cu O"></label>
<label><input type="checkbox" name="passed"> passed only</label>
<output name="count" aria-live="polite"></output>
</form>
"""


@dataclass(frozen=True)
class Column:
    """A column of a sortable table. header: HTML. kind: its class. n stands right and sorts by value, f is where a
    filter looks, states may wrap.
    """

    header: str
    kind: str = ""


# A cell: HTML and, in columns of numbers, the value that it sorts by; None sorts last.
Cell = tuple[str, float | None]
NO_VALUE: Cell = (UNKNOWN, None)

Item = TypeVar("Item")


def sortable(
    columns: Sequence[Column], rows: Iterable[tuple[str, Sequence[Cell]]], label: str, *, tall: bool = False
) -> str:
    """A table that sorts by a click on a header. rows: class and cells of each. label and tall: see scrolling."""
    header = "".join(
        f'<th scope="col"{_class(column.kind)}><button type="button">{column.header}</button></th>'
        for column in columns
    )
    body = "".join(_row(kind, cells, columns) for kind, cells in rows)
    table = f'<table class="sortable"><thead><tr>{header}</tr></thead>\n<tbody>{body}</tbody></table>'
    return scrolling(table, label, tall=tall)


def table_of(
    items: Sequence[Item], columns: Sequence[tuple[Column, Callable[[Item], Cell]]], label: str
) -> str:
    """A sortable table with a row an item. Columns that no item has a value in are left out."""
    if not items:
        return ""
    rows = [[content(item) for _, content in columns] for item in items]
    kept = [place for place in range(len(columns)) if any(row[place] != NO_VALUE for row in rows)]
    heads = [columns[place][0] for place in kept]
    return sortable(heads, (("", [row[place] for place in kept]) for row in rows), label, tall=len(rows) > 12)


def number_cell(value: float | None, form: str) -> Cell:
    """A number in a format such as "{:.1f}"."""
    return NO_VALUE if value is None else (form.format(value), float(value))


def text_cell(text: str | None, *, formula: bool = False) -> Cell:
    """A text, escaped, or a formula."""
    if not text:
        return NO_VALUE
    return (formula_html(text) if formula else escape(text)), None


def scrolling(table: str, label: str, *, tall: bool = False) -> str:
    """A table that scrolls within the page where it is too wide or, with `tall`, too high for a screen.

    label: what it shows, for those who reach it by keyboard or hear the page.
    """
    kind = "tall" if tall else "wide"
    return f'<div class="{kind}" role="region" aria-label="{escape(label)}" tabindex="0">{table}</div>'


def html_table(
    rows: Sequence[Mapping[str, Any]], required: tuple[str, ...], *, campaign: bool = False
) -> str:
    """The candidates as a sortable table. Columns that no row has a value in are left out.

    required: the screens that count; a row that fails names those it failed. campaign: show base and search as well,
    with a filter. More rows than a screen holds scroll within it.
    """
    if not rows:
        what = "campaign" if campaign else "search"
        return f"<p>No row of this {what} has a formula; see how rows ended, below.</p>"
    names = [
        name
        for name in _HEADERS
        if (campaign or name not in _CAMPAIGN_ALONE) and any(_there(row, name) for row in rows)
    ]
    body = (
        ("passed" if row.get("passed") else "failed", [_cell(row, name, required) for name in names])
        for row in rows
    )
    table = sortable(
        [Column(_HEADERS[name][0], _kind(name)) for name in names], body, "Candidates", tall=len(rows) > 15
    )
    none_passed = not any(row.get("passed") for row in rows)
    remark = "<p>No formula passed every screen. These are the best that failed.</p>" if none_passed else ""
    return remark + (FILTER if campaign else "") + table


def words(text: str) -> str:
    """Escaped text with T_c and E_f as a physicist writes them."""
    return escape(text).replace("T_c", _TC).replace("E_f", _EF)


def formula_html(formula: str) -> str:
    """A formula with its amounts as subscripts, escaped."""
    return re.sub(r"([0-9.]+)", r"<sub>\1</sub>", escape(formula, quote=False))


def _there(row: Mapping[str, Any], name: str) -> bool:
    """Whether a column says something of a row: a pressure of 0 is that of all other rows."""
    value = row.get(name)
    return value is not None and not (name == "nearest_pressure_gpa" and value == 0)


def _row(kind: str, cells: Sequence[Cell], columns: Sequence[Column]) -> str:
    content = "".join(
        f"<td{_class('' if column.kind == 'f' else column.kind)}{_sort_key(value)}>{html}</td>"
        for column, (html, value) in zip(columns, cells, strict=True)
    )
    return f"<tr{_class(kind)}>{content}</tr>\n"


def _cell(row: Mapping[str, Any], name: str, required: tuple[str, ...]) -> Cell:
    value = row.get(name)
    content = _screens(row, required) if name == "passed" else _content(row, name)
    if name == "extrapolation" and row.get("extrapolated"):
        content += ' <span class="badge">beyond</span>'
    return content, float(value) if _HEADERS[name][1] and value is not None else None


def _content(row: Mapping[str, Any], name: str) -> str:
    if name in _FORMULAS:
        return formula_html(cell(row, name))
    text = escape(cell(row, name))
    if name == "oxidation_states":  # "La+3 O-2" → La³⁺ O²⁻
        text = re.sub(r"\+(\d+)", r"<sup>\1+</sup>", text)
        return re.sub(r"-(\d+)", r"<sup>\1−</sup>", text)
    return text


def _screens(row: Mapping[str, Any], required: tuple[str, ...]) -> str:
    text = "passed" if row.get("passed") else escape("fails " + ", ".join(failed_screens(row, required)))
    remark = unseen(row)
    return text + (f' <span class="badge">{remark}</span>' if remark else "")


def _kind(name: str) -> str:
    if name == "oxidation_states":
        return "states"
    if name in _FILTERED:
        return "f"
    return "n" if _HEADERS[name][1] else ""


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _sort_key(value: float | None) -> str:
    return "" if value is None else f' data-v="{value!r}"'
