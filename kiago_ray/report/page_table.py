"""The table of candidates on the page, and chemistry in HTML: subscripts, raised charges. All is escaped."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from kiago_ray.report.cells import cell, failed_screens, unseen

_TC = "<i>T</i><sub>c</sub>"
_EF = "<i>E</i><sub>f</sub>"
# Column of the table of candidates → header, and whether it is a number.
_HEADERS: Mapping[str, tuple[str, bool]] = {
    "rank": ("#", True),
    "formula": ("Formula", False),
    "tc_k": (f"{_TC} (K)", True),
    "delta_tc_k": (f"Δ{_TC} (K)", True),
    "ef_ev_per_atom": (f"{_EF} (eV/atom)", True),
    "nearest_known": ("Nearest known", False),
    "nearest_tc_k": (f"its {_TC} (K)", True),
    "nearest_distance": ("L1 distance", True),
    "passed": ("Screens", False),
    "oxidation_states": ("Oxidation states", False),
}


def html_table(rows: Sequence[Mapping[str, Any]], required: tuple[str, ...]) -> str:
    """The rows as a table that sorts by a click on a header. Columns that no row has a value in are left out.

    required: the screens that count; a row that fails names those it failed.
    """
    if not rows:
        return "<p>No row of this search has a formula; see how rows ended, below.</p>"
    columns = [name for name in _HEADERS if any(row.get(name) is not None for row in rows)]
    header = "".join(
        f'<th scope="col"{_class(name)}><button type="button">{_HEADERS[name][0]}</button></th>'
        for name in columns
    )
    body = "".join(_row(row, columns, required) for row in rows)
    none_passed = not any(row.get("passed") for row in rows)
    remark = "<p>No formula passed every screen. These are the best that failed.</p>" if none_passed else ""
    return (
        f'{remark}<div class="wide"><table class="sortable"><thead><tr>{header}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def words(text: str) -> str:
    """Escaped text with T_c and E_f as a physicist writes them."""
    return escape(text).replace("T_c", _TC).replace("E_f", _EF)


def _row(row: Mapping[str, Any], columns: Sequence[str], required: tuple[str, ...]) -> str:
    verdict = "passed" if row.get("passed") else "failed"
    cells = []
    for name in columns:
        value = row.get(name)
        key = f' data-v="{float(value)!r}"' if _HEADERS[name][1] and value is not None else ""
        content = _screens(row, required) if name == "passed" else _content(row, name)
        cells.append(f"<td{_class(name)}{key}>{content}</td>")
    return f'<tr class="{verdict}">{"".join(cells)}</tr>\n'


def _content(row: Mapping[str, Any], name: str) -> str:
    text = escape(cell(row, name))
    if name in ("formula", "nearest_known"):
        return re.sub(r"([0-9.]+)", r"<sub>\1</sub>", text)
    if name == "oxidation_states":  # "La+3 O-2" → La³⁺ O²⁻
        text = re.sub(r"\+(\d+)", r"<sup>\1+</sup>", text)
        return re.sub(r"-(\d+)", r"<sup>\1−</sup>", text)
    return text


def _screens(row: Mapping[str, Any], required: tuple[str, ...]) -> str:
    text = "passed" if row.get("passed") else escape("fails " + ", ".join(failed_screens(row, required)))
    remark = unseen(row)
    return text + (f' <span class="badge">{remark}</span>' if remark else "")


def _class(name: str) -> str:
    """n marks numbers, which stand right and sort by their value; states may wrap."""
    if name == "oxidation_states":
        return ' class="states"'
    return ' class="n"' if _HEADERS[name][1] else ""
