"""Self-contained HTML pages from the templates beside this file, those of searches and campaigns above all: they hold
their plots, styles and scripts, and ask nothing from the network. What templates show is escaped unless it is Markup.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from statistics import fmean, stdev
from typing import Any, Generic, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from kiago_ray.data.references import doi_of
from kiago_ray.report.plots import Group, K, foremost, gain_name, gains, groups, mean_gain
from kiago_ray.report.reasons import EXPLAINED, Row, ef_error, named, reasons_of, unseen
from kiago_ray.report.tables import cell, failed_screens, kelvin, no_gain, summary_rows, top_rows
from kiago_ray.report.terminal import UNKNOWN
from kiago_ray.screening.screens import Summary
from kiago_ray.search.result import RowStatus
from kiago_ray.storage.machines import mixed_remark
from kiago_ray.storage.run_directory import CampaignResults, SearchResults
from kiago_ray.storage.table import columns

Item = TypeVar("Item")

# A cell: its text and, in columns of numbers, the value that it sorts by; None sorts last.
Cell = tuple[str, float | None]
NO_VALUE: Cell = (UNKNOWN, None)
TABLE_ROWS, CAMPAIGN_ROWS = 50, 500  # of a search and of a campaign
LISTED = 500  # searches, and bases with variants

# The columns of the table of candidates; their headers are those of storage/columns.csv.
_CANDIDATES = (
    "rank formula plausibility expected_improvement_k gain best_nearby best_nearby_tc_k trusted_tc_k "
    "measured_tc_k measured_pressure_gpa contradicted tc_k tc_std_k tc_oracle_k "
    "delta_tc_k base ef_ev_per_atom e_hull_ev_per_atom extrapolation nearest_known nearest_tc_k "
    "nearest_pressure_gpa nearest_distance known made tried tried_nearby tc_given_tried_k passed pareto search source "
    "plausibility_reason oxidation_states"
)
_OF_CAMPAIGNS = ("base", "search")
_KNOWN = ("nearest_known", "best_nearby")
_FORMULAS = ("formula", "base", *_KNOWN)
_KINDS = {
    "formula": "f",
    "base": "f",
    "search": "f",
    "oxidation_states": "states",
    "plausibility_reason": "long",
}
_KINDS |= {"made": "short", "passed": "short"}


@dataclass(frozen=True)
class Column(Generic[Item]):
    """A column of a sortable table. header: text. cell: what it shows of an item. kind: its class. n stands right
    and sorts by value, f is where a filter looks, states, long and short may wrap.
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
    environment.policies["truncate.leeway"] = 0
    environment.filters |= {
        "words": words,
        "formula": formula_markup,
        "code": code_markup,
        "cell": cell,
        "count": "{:,}".format,
        "kelvin": kelvin,
        "no_gain": no_gain,
        "not_shown": not_shown,
        "class": lambda kind: Markup(' class="{}"').format(kind) if kind else "",
        "png_uri": lambda png: "data:image/png;base64," + base64.b64encode(png).decode("ascii"),
    }
    return environment


def words(text: str) -> Markup:
    """Text with T_c, E_f and E_hull as a physicist writes them."""
    return Markup(re.sub(r"(?<![A-Za-z])([TE])_(c|f|hull)\b", r"<i>\1</i><sub>\2</sub>", str(escape(text))))


def formula_markup(formula: str) -> Markup:
    """A formula with its amounts as subscripts, or a reaction, whose numbers before a formula stay."""
    parts = re.split(r"(?<=[A-Za-z)\]}])([0-9]+\.?[0-9]*|\.[0-9]+)", formula)
    return Markup("").join(
        Markup("<sub>{}</sub>").format(part) if place % 2 else part for place, part in enumerate(parts)
    )


def code_markup(text: str) -> Markup:
    """`x` as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def badge(text: str, remark: str) -> Markup:
    """A text with a remark beside it."""
    return Markup('{} <span class="badge">{}</span>').format(text, remark)


def not_shown(number: int, what: str) -> str:
    """How many of a long list a page leaves out; "" where it shows all."""
    return f"{number:,} {what} are not shown here." if number > 0 else ""


def table_of(
    items: Sequence[Item],
    columns: Sequence[Column[Item]],
    label: str,
    note: str = "",
    *,
    kind: Callable[[Item], str] = lambda item: "",
) -> Table[Item]:
    """A table with a row an item, of the class `kind`. Columns that no item has a value in are left out."""
    rows = [[column.cell(item) for column in columns] for item in items]
    kept = [place for place in range(len(columns)) if any(row[place] != NO_VALUE for row in rows)]
    cells = [(kind(item), [row[place] for place in kept]) for item, row in zip(items, rows, strict=True)]
    return Table(label, [columns[place] for place in kept], cells, note)


def number(header: str, value: Callable[[Item], float | None], form: str = "{:.1f}") -> Column[Item]:
    """A column of numbers in a format such as "{:.1f}"."""
    return Column(header, lambda item: number_cell(value(item), form), "n")


def text(header: str, value: Callable[[Item], str | None], *, formula: bool = False) -> Column[Item]:
    """A column of texts or of formulas."""

    def content(item: Item) -> Cell:
        shown = value(item)
        return (formula_markup(shown) if formula else shown, None) if shown else NO_VALUE

    return Column(header, content)


def number_cell(value: float | None, form: str) -> Cell:
    """A number in a format such as "{:.1f}"."""
    return NO_VALUE if value is None else (form.format(value), float(value))


def candidates_table(rows: Sequence[Row], required: tuple[str, ...], *, campaign: bool = False) -> Table[Row]:
    """The candidates. required: the screens that count; a row that fails names those it failed. campaign: show base
    and search as well.
    """
    names = [name for name in _CANDIDATES.split() if campaign or name not in _OF_CAMPAIGNS]
    for name in ("nearest_pressure_gpa", "measured_tc_k", "measured_pressure_gpa", "contradicted"):
        if not any(row.get(name) for row in rows):
            names.remove(name)
    shown = [_candidates_column(name, required) for name in names]
    return table_of(rows, shown, "Candidates", kind=lambda row: "passed" if row.get("passed") else "failed")


def _candidates_column(name: str, required: tuple[str, ...]) -> Column[Row]:
    column = columns()[name]
    numeric = column.unit != "" or column.decimals is not None or name == "rank"

    def content(row: Row) -> Cell:
        value, text = row.get(name), cell(row, name)
        if name == "passed":
            verdict = "passed" if value else "fails " + ", ".join(failed_screens(row, required))
            return (badge(verdict, unseen(row)) if unseen(row) else verdict), None
        if value is None or value == "":
            return NO_VALUE
        if name in _KNOWN:
            text = named(row, name) or ""
        if name == "nearest_known" and (doi := doi_of(row.get("nearest_reference"))):
            link = Markup('<a href="https://doi.org/{}" title="{}">{}</a>')
            return link.format(doi, row["nearest_reference"], formula_markup(text)), None
        if name in _FORMULAS:
            return formula_markup(text), None
        if name == "oxidation_states":  # "La+3 O-2" → La³⁺ O²⁻
            marked = re.sub(r"\+(\d+)", r"<sup>\1+</sup>", str(escape(text)))
            return Markup(re.sub(r"-(\d+)", r"<sup>\1−</sup>", marked)), None
        if name == "extrapolation" and row.get("extrapolated"):
            text = badge(text, "beyond")
        return text, float(value) if numeric else None

    return Column(column.header, content, "n" if numeric else _KINDS.get(name, ""))


def search_page(
    summary: Summary, rows: Sequence[Row], ef_error_ev_per_atom: float | None, **content: Any
) -> str:
    """The page of a search as HTML5 text. rows: the ranked table's first rows. ef_error_ev_per_atom: see
    `ef_error`. content: `title`; `plots`; `spec_text`, the specification as it stands in spec.yaml; and maybe
    `model_notes`, a sentence each on how good the predictors are (see `card_notes`), and `remark`, which the reader
    must know first.
    """
    content = {"model_notes": (), "remark": "", **content, "summary": summary}
    candidates = candidates_table(rows[:TABLE_ROWS], summary.required)
    return _ranked_page(
        "search",
        summary,
        rows[:TABLE_ROWS],
        candidates,
        ef_error_ev_per_atom,
        summary_rows=summary_rows(summary),
        **content,
    )


def _ranked_page(
    template: str,
    counts: Summary | CampaignResults,
    rows: Sequence[Row],
    candidates: Table[Row],
    ef_error_ev_per_atom: float | None,
    **content: Any,
) -> str:
    """A page of ranked rows: their table, why the first may be believed and why not, the best k as a whole, how rows
    ended, and what the template asks for beside that.
    """
    meanings = {status.label: status.meaning for status in RowStatus}
    return render(
        f"{template}.html.j2",
        rows=rows,
        candidates=candidates,
        explained=[
            (row, row.get("trusted_tc_k") is not None, reasons_of(row, ef_error_ev_per_atom))
            for row in rows[:EXPLAINED]
        ],
        top_rows=top_rows(counts.top),
        has_gap=any(each.gap_k is not None for each in counts.top),
        statuses=[
            (name.replace("_", " "), f"{count:,}", meanings.get(name, ""))
            for name, count in counts.statuses.items()
        ],
        **content,
    )


def campaign_page(
    results: CampaignResults,
    searches: Sequence[SearchResults],
    rows: Sequence[Row],
    required: tuple[str, ...],
    ef_error_ev_per_atom: float | None,
    **content: Any,
) -> str:
    """The page of a campaign, also while it is under way, as HTML5 text; what is listed is bounded. rows: the ranked
    table's first. required: the screens that count. content: `plots`, `spec_text` and `model_notes` as in
    `search_page`.
    """
    every, name = groups(searches), gain_name(searches)
    sizes = sorted({top.k for each in searches for top in each.summary.top})

    def listed(
        items: Sequence[Group], first: Sequence[Column[Group]], label: str, others: str
    ) -> Table[Group]:
        shown = foremost(items, LISTED, lambda group: mean_gain(group, sizes[0]) if sizes else None)
        note = not_shown(len(items) - LISTED, f"{others} with a lower {name}")
        return table_of(shown, [*first, *_findings(sizes, name)], label, note)

    rows = rows[:CAMPAIGN_ROWS]
    return _ranked_page(
        "campaign",
        results,
        rows,
        candidates_table(rows, required, campaign=True),
        ef_error_ev_per_atom,
        title=f"kiago-ray: campaign {results.name}",
        results=results,
        machines=mixed_remark(results.machines),
        gap=next((top for top in results.top if top.k == K and top.gap_k is not None), None),
        means=listed(every, _OF_GROUPS, "Means over seeds by base and variant", "pairs of base and variant"),
        seeds=any(len(group) > 1 for group in every),
        short=any(each.is_short(k) for each in searches for k in sizes),
        parts_only=any(0 < len(gains(group, k)) < len(group) for group in every for k in sizes),
        searches=listed([(each,) for each in searches], _OF_SEARCHES, "Searches", "searches"),
        **content,
    )


def _seeds(group: Group) -> Cell:
    parts = sum(not each.complete for each in group)
    return f"{len(group)}, {parts} in part" if parts else f"{len(group)}", float(len(group))


def _shards(group: Group) -> Cell:
    return f"{group[0].shards_done:,} of {group[0].shards:,}", float(group[0].shards_done)


def _of_base(header: str, name: str) -> Column[Group]:
    return number(header, lambda group: getattr(group[0].summary.base, name, None), "{:z.1f}")


# What tells groups of searches apart, and single searches.
_OF_GROUPS: tuple[Column[Group], ...] = (
    text("Base", lambda group: group[0].base, formula=True),
    text("Variant", lambda group: group[0].variant),
    Column("Seeds", _seeds, "n"),
    _of_base("T_c of base (K)", "tc_predicted_k"),
    _of_base("measured (K)", "tc_measured_k"),
)
_OF_SEARCHES: tuple[Column[Group], ...] = (
    text("Search", lambda group: group[0].name),
    *_OF_GROUPS[:2],
    number("Seed", lambda group: group[0].seed, "{}"),
    Column("Shards", _shards, "n"),
    number("Candidates", lambda group: group[0].summary.rows, "{:,}"),
    number("T_c above base", lambda group: group[0].summary.passed_above_base, "{:,}"),
)


def _findings(sizes: Sequence[int], name: str) -> list[Column[Group]]:
    """What searches gained, by the oracle too, and what part of their rows passed: means over the group."""

    def mean(header: str, value: Callable[[SearchResults], float | None], form: str) -> Column[Group]:
        return Column(header, lambda group: _spread([value(each) for each in group], form), "n")

    return [
        *(Column(f"{name} top {k} (K)", partial(_gain, k), "n") for k in sizes),
        mean(f"oracle ΔT_c top {K} (K)", lambda each: each.best(K).delta_tc_oracle_k, "{:+z.1f}"),
        mean(f"gap top {K} (K)", lambda each: each.best(K).gap_k, "{:z.1f}"),
        mean("Passed (%)", lambda each: (part := each.summary.passed_fraction) and 100 * part, "{:.1f}"),
        mean("Unique (%)", lambda each: (part := each.summary.unique_fraction) and 100 * part, "{:.1f}"),
    ]


def _gain(k: int, group: Group) -> Cell:
    """The mean gain of the best k; a difference to a base has a sign, * and [n] say what it is a mean of."""
    found = gains(group, k)
    shown, value = _spread(found, "{:z.1f}" if group[0].summary.base is None else "{:+z.1f}")
    shown += "*" if any(each.is_short(k) for each in group) else ""
    return shown + (f" [{len(found)}]" if 0 < len(found) < len(group) else ""), value


def _spread(values: Sequence[float | None], form: str) -> Cell:
    """Mean ± sample standard deviation of what is known; the mean alone where that is one value."""
    known = [value for value in values if value is not None]
    shown, mean = number_cell(fmean(known) if known else None, form)
    return (f"{shown} ± {stdev(known):.1f}" if len(known) > 1 else shown), mean


def card_notes(cards: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """How good the predictors are, a sentence each, from their cards by kind."""
    notes, tc = [], cards.get("tc", {}).get("splits", {}).get("system")
    if tc is not None:
        notes.append(
            "T_c of chemical systems that the predictor never saw is off by {mae:.1f} K on average (R² {r2:.2f}), and "
            "by {bias_high:+.0f} K on average above 50 K.".format(**tc["resnet18"])
        )
    for name, of in (("ensemble", "E_f"), ("elemnet", "ElemNet's E_f")):
        if (error := ef_error(cards, name)) is not None:
            notes.append(f"{of} of chemical systems never seen is off by {error:.3f} eV/atom on average.")
    return tuple(notes)
