"""Self-contained HTML pages from the templates beside this file: they hold their plots, styles and scripts, and ask
nothing from the network. Everything that templates show is escaped unless it is Markup.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from kiago_ray.report.values import UNKNOWN, cell, failed_screens, kelvin, no_gain, unseen

Item = TypeVar("Item")
Row = dict[str, Any]

# A cell: its text and, in columns of numbers, the value that it sorts by; None sorts last.
Cell = tuple[str, float | None]
NO_VALUE: Cell = (UNKNOWN, None)
CAUSE_LENGTH = 500  # characters of an error

# Column of the table of candidates → header and class (see Column).
_CANDIDATES = {
    "rank": ("#", "n"),
    "formula": ("Formula", "f"),
    "plausibility": ("Plausibility", "n"),
    "expected_improvement_k": ("Expected gain (K)", "n"),
    "gain": ("Gain", ""),
    "best_nearby": ("Best known nearby", ""),
    "best_nearby_tc_k": ("that T_c (K)", "n"),
    "trusted_tc_k": ("trusted T_c (K)", "n"),
    "tc_k": ("T_c (K)", "n"),
    "tc_std_k": ("± (K)", "n"),
    "tc_oracle_k": ("oracle T_c (K)", "n"),
    "delta_tc_k": ("ΔT_c (K)", "n"),
    "base": ("Base", "f"),
    "ef_ev_per_atom": ("E_f (eV/atom)", "n"),
    "e_hull_ev_per_atom": ("ΔE_hull (eV/atom)", "n"),
    "extrapolation": ("Extrapolation", "n"),
    "nearest_known": ("Nearest known", ""),
    "nearest_tc_k": ("its T_c (K)", "n"),
    "nearest_pressure_gpa": ("at (GPa)", "n"),
    "nearest_distance": ("L1 distance", "n"),
    "known": ("Known", ""),
    "made": ("Made", ""),
    "tried": ("Tried", ""),
    "tried_nearby": ("Tried nearby", ""),
    "tc_given_tried_k": ("T_c given tried (K)", "n"),
    "passed": ("Screens", ""),
    "pareto": ("Pareto front", ""),
    "search": ("Search", "f"),
    "source": ("Source", ""),
    "plausibility_reason": ("Why plausible", ""),
    "oxidation_states": ("Oxidation states", "states"),
}
_OF_CAMPAIGNS = ("base", "search")
_FORMULAS = ("formula", "base", "nearest_known", "best_nearby")


@dataclass(frozen=True)
class Column(Generic[Item]):
    """A column of a sortable table. header: text. cell: what it shows of an item. kind: its class. n stands right
    and sorts by value, f is where a filter looks, states may wrap.
    """

    header: str
    cell: Callable[[Item], Cell]
    kind: str = ""


@dataclass(frozen=True)
class Table(Generic[Item]):
    """A table that sorts by a click on a header. label: what it shows, for those who hear the page or reach it by
    keyboard. rows: class and cells of each. note: what stands below it.
    """

    label: str
    columns: Sequence[Column[Item]]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    note: str = ""


def render(template: str, **content: Any) -> str:
    """A page as HTML5 text. Raises jinja2.TemplateError where `content` lacks something that the template shows."""
    return _environment().get_template(template).render(content)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("kiago_ray.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "words": words,
        "formula": formula_markup,
        "code": code_markup,
        "cell": cell,
        "count": "{:,}".format,
        "kelvin": kelvin,
        "no_gain": no_gain,
        "not_shown": not_shown,
        "shortened": shortened,
        "class": lambda kind: Markup(' class="{}"').format(kind) if kind else "",
        "png_uri": lambda png: "data:image/png;base64," + base64.b64encode(png).decode("ascii"),
    }
    return environment


def words(text: str) -> Markup:
    """Text with T_c, E_f and E_hull as a physicist writes them."""
    return Markup(re.sub(r"(?<![A-Za-z])([TE])_(c|f|hull)\b", r"<i>\1</i><sub>\2</sub>", str(escape(text))))


def formula_markup(formula: str) -> Markup:
    """A formula with its amounts as subscripts."""
    parts = re.split(r"([0-9.]+)", formula)
    return Markup("").join(
        Markup("<sub>{}</sub>").format(part) if place % 2 else part for place, part in enumerate(parts)
    )


def code_markup(text: str) -> Markup:
    """`x` as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def badge(text: str, remark: str) -> Markup:
    """A text with a remark beside it."""
    return Markup('{} <span class="badge">{}</span>').format(text, remark)


def shortened(text: str, length: int = CAUSE_LENGTH) -> str:
    """A text that is cut where it is too long for a page."""
    return text if len(text) <= length else text[:length] + " …"


def not_shown(number: int, what: str) -> str:
    """How many of a long list a page leaves out; "" where it shows all."""
    return f"{number:,} {what} are not shown here." if number > 0 else ""


def table_of(
    items: Sequence[Item], columns: Sequence[Column[Item]], label: str, note: str = ""
) -> Table[Item]:
    """A table with a row an item. Columns that no item has a value in are left out."""
    rows = [[column.cell(item) for column in columns] for item in items]
    kept = [place for place in range(len(columns)) if any(row[place] != NO_VALUE for row in rows)]
    cells = [("", [row[place] for place in kept]) for row in rows]
    return Table(label, [columns[place] for place in kept], cells, note)


def number(header: str, value: Callable[[Item], float | None], form: str = "{:.1f}") -> Column[Item]:
    """A column of numbers in a format such as "{:.1f}"."""
    return Column(header, lambda item: number_cell(value(item), form), "n")


def text(header: str, value: Callable[[Item], str | None], *, formula: bool = False) -> Column[Item]:
    """A column of texts or of formulas."""
    return Column(header, lambda item: text_cell(value(item), formula=formula))


def number_cell(value: float | None, form: str) -> Cell:
    """A number in a format such as "{:.1f}"."""
    return NO_VALUE if value is None else (form.format(value), float(value))


def text_cell(text: str | None, *, formula: bool = False) -> Cell:
    """A text or a formula."""
    if not text:
        return NO_VALUE
    return (formula_markup(text) if formula else text), None


def candidates_table(rows: Sequence[Row], required: tuple[str, ...], *, campaign: bool = False) -> Table[Row]:
    """The candidates. required: the screens that count; a row that fails names those it failed. campaign: show base
    and search as well.
    """

    def column(name: str) -> Column[Row]:
        header, kind = _CANDIDATES[name]
        return Column(header, lambda row: _candidate_cell(row, name, required), kind)

    names = [name for name in _CANDIDATES if campaign or name not in _OF_CAMPAIGNS]
    if not any(row.get("nearest_pressure_gpa") for row in rows):
        names.remove("nearest_pressure_gpa")
    table = table_of(rows, [column(name) for name in names], "Candidates")
    kinds = ["passed" if row.get("passed") else "failed" for row in rows]
    cells = [(kind, each) for kind, (_, each) in zip(kinds, table.rows, strict=True)]
    return Table(table.label, table.columns, cells)


def _candidate_cell(row: Row, name: str, required: tuple[str, ...]) -> Cell:
    value, content = row.get(name), cell(row, name)
    if name == "passed":
        verdict = "passed" if value else "fails " + ", ".join(failed_screens(row, required))
        return (badge(verdict, unseen(row)) if unseen(row) else verdict), None
    if value is None or value == "":
        return NO_VALUE
    if name in _FORMULAS:
        return formula_markup(content), None
    if name == "oxidation_states":  # "La+3 O-2" → La³⁺ O²⁻
        marked = re.sub(r"\+(\d+)", r"<sup>\1+</sup>", str(escape(content)))
        return Markup(re.sub(r"-(\d+)", r"<sup>\1−</sup>", marked)), None
    if name == "extrapolation" and row.get("extrapolated"):
        content = badge(content, "beyond")
    return content, float(value) if _CANDIDATES[name][1] == "n" else None
