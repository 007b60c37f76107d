"""report.html of a campaign: how far it is, what it found by base and variant, every search, the best candidates."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from kiago_ray.report.campaign_lines import (
    Group,
    K,
    SearchLine,
    best,
    foremost,
    gain,
    gain_name,
    groups,
    is_short,
)
from kiago_ray.report.cells import kelvin
from kiago_ray.report.page_parts import (
    FILTER_SCRIPT,
    SCRIPT,
    document,
    figures,
    how_rows_ended,
    limits,
    remark_html,
    section,
    specification,
    tiles,
)
from kiago_ray.report.page_table import (
    NO_VALUE,
    Cell,
    Column,
    html_table,
    number_cell,
    scrolling,
    table_of,
    text_cell,
    words,
)
from kiago_ray.report.page_trust import REASONS_HEADING, TOP_HEADING, explanations, top_html
from kiago_ray.report.reasons import Background
from kiago_ray.report.summary_rows import no_gain
from kiago_ray.screening.summary import BaseMaterial, Summary, TopMean

TABLE_ROWS = 500
LISTED = 500  # searches, and bases with variants
_FAILURES = 100
_CAUSE_LENGTH = 500
_FRACTIONS = "Unique: of all candidates. Passed: of the unique formulas."
_CHANCE = (
    "± is the standard deviation over seeds: chance alone. The predictors' errors are the same for all seeds."
)

# Of the best K: what of TopMean is shown, with header and format.
_TRUST = (
    ("delta_tc_oracle_k", f"oracle ΔT_c top {K} (K)", "{:+z.1f}"),
    ("gap_k", f"gap top {K} (K)", "{:z.1f}"),
)


@dataclass(frozen=True)
class CampaignPage:
    """What goes on the page.

    lines: the searches in the plan's order. rows: the ranked table's first rows, as mappings from column to value.
    plots: caption and PNG of each. unique, passed: formulas of the whole campaign. candidates: rows planned, of which
    rows_done are done and ended as `statuses` counts. failures: shard and cause of each. required, spec_text,
    model_notes and remark: as on the page of a search. searches, shards: how many were planned, where `lines` doesn't
    hold all of them. top: of the campaign's best. gains: as in Summary. new_systems: proposals of chemical
    systems without a known superconductor. background: as on the page of a search.
    """

    title: str
    lines: Sequence[SearchLine]
    rows: Sequence[Mapping[str, Any]]
    plots: Sequence[tuple[str, bytes]]
    spec_text: str
    unique: int
    passed: int
    candidates: int
    rows_done: int
    statuses: Mapping[str, int]
    required: tuple[str, ...]
    failures: Sequence[tuple[str, str]]
    model_notes: Sequence[str] = ()
    remark: str = ""
    searches: int | None = None
    shards: int | None = None
    top: Sequence[TopMean] = ()
    gains: int | None = None
    new_systems: int | None = None
    background: Background = field(default_factory=Background)


def render_campaign_page(page: CampaignPage) -> str:
    """The page as HTML5 text. All text given is escaped; what is listed is bounded."""
    remark = remark_html(no_gain(page.gains, page.passed))
    candidates = _extent(page) + remark + html_table(page.rows[:TABLE_ROWS], page.required, campaign=True)
    sections = [
        ("Shards that failed", _failures(page.failures)),
        ("By base and variant", _means(page.lines)),
        ("Best candidates", candidates if page.rows_done else ""),
        (REASONS_HEADING, explanations(page.rows, page.background)),
        (TOP_HEADING, top_html(page.top)),
        ("Plots", figures(page.plots)),
        ("Searches", _searches(page.lines)),
        ("How rows ended", how_rows_ended(page.statuses) if page.statuses else ""),
    ]
    body = "".join(section(heading, content) for heading, content in sections)
    body = f"{_state(page)}{_tiles(page)}\n{body}{limits(page.model_notes)}\n{specification(page.spec_text)}"
    return document(page.title, body, SCRIPT + FILTER_SCRIPT)


def _state(page: CampaignPage) -> str:
    """What a reader must know first: what is missing, what failed, and the remark given."""
    searches, shards = _planned(page)
    complete, done = _done(page.lines)
    counts = (
        (complete, searches, "searches"),
        (done, shards, "shards"),
        (page.rows_done, page.candidates, "candidates"),
    )
    missing = [f"{part:,} of {whole:,} {what}" for part, whole, what in counts if part < whole]
    texts = []
    if not page.rows_done:
        texts.append(f"No search has results yet, of {page.candidates:,} candidates planned.")
    elif missing:
        texts.append(f"Not finished: {', '.join(missing)} are done. The numbers below are of those.")
    if page.remark:
        texts.append(page.remark)
    if page.failures:
        texts.append(f"Shards that failed: {len(page.failures):,}. The same command tries them again.")
    return (
        f'<div class="remark">{"".join(f"<p>{escape(text)}</p>" for text in texts)}</div>\n' if texts else ""
    )


def _failures(failures: Sequence[tuple[str, str]]) -> str:
    if not failures:
        return ""
    body = "".join(
        f'<tr><th scope="row" class="name">{escape(shard)}</th><td class="cause">{escape(_cut(cause))}</td></tr>\n'
        for shard, cause in failures[:_FAILURES]
    )
    head = '<thead class="plain"><tr><th scope="col">Shard</th><th scope="col">Cause</th></tr></thead>'
    table = scrolling(
        f"<table>{head}\n<tbody>{body}</tbody></table>", "Shards that failed", tall=len(failures) > 8
    )
    return table + _not_shown(len(failures) - _FAILURES, "failed shards")


def _tiles(page: CampaignPage) -> str:
    searches, shards = _planned(page)
    complete, done = _done(page.lines)
    entries = [("searches complete", f"{complete:,} of {searches:,}")] if searches else []
    entries += [("shards done", f"{done:,} of {shards:,}")] if shards else []
    entries += [
        ("candidates done", f"{page.rows_done:,} of {page.candidates:,}"),
        ("unique formulas", f"{page.unique:,}"),
        ("passed every screen", f"{page.passed:,}"),
    ]
    if page.new_systems is not None:
        entries.append(("proposals of new chemical systems", f"{page.new_systems:,}"))
    if page.rows and page.rows[0].get("passed"):
        first = page.rows[0]
        entries.append((f"T_c of the best, predicted: {first['formula']}", kelvin(first.get("tc_k"))))
    gaps = [each for each in page.top if each.k == K and each.gap_k is not None]
    entries += [(f"exploitation gap of the best {each.used}", kelvin(each.gap_k)) for each in gaps]
    return tiles(entries)


def _extent(page: CampaignPage) -> str:
    shown = min(len(page.rows), TABLE_ROWS)
    if shown == page.unique:
        return ""
    return f"<p>The best {shown:,} of {page.unique:,} unique formulas; candidates.parquet holds all of them.</p>\n"


def _means(lines: Sequence[SearchLine]) -> str:
    """The table by base and variant."""
    every = groups(lines)
    sizes = _sizes(lines)
    shown = foremost(every, LISTED, lambda group: group.mean_gain(sizes[0]) if sizes else None)
    table = table_of(
        shown,
        [
            (Column("Base"), lambda group: text_cell(group.base, formula=True)),
            (Column("Variant"), lambda group: text_cell(group.variant)),
            (Column("Seeds", "n"), _seeds),
            (Column(words("T_c of base (K)"), "n"), _predicted),
            (Column("measured (K)", "n"), _measured),
            *((_gain_column(lines, k), _gain_mean(k)) for k in sizes),
            *((Column(words(header), "n"), _top_mean(name, form)) for name, header, form in _TRUST),
            (
                Column("Passed (%)", "n"),
                lambda group: _spread([_percent(line.summary.passed_fraction) for line in group.lines]),
            ),
            (
                Column("Unique (%)", "n"),
                lambda group: _spread([_percent(line.summary.unique_fraction) for line in group.lines]),
            ),
        ],
        "Means over seeds by base and variant",
    )
    notes = [_FRACTIONS] if shown else []
    if any(len(group.lines) > 1 for group in shown):
        notes.append(_CHANCE)
    if any(is_short(line.summary, k) for group in shown for line in group.lines for k in sizes):
        notes.append("* In some of these searches fewer formulas passed: the mean is of those.")
    if any(0 < len(group.gains(k)) < len(group.lines) for group in shown for k in sizes):
        notes.append("[n]: something passed in n of the seeds only, and the mean is of those seeds.")
    return (
        table
        + _not_shown(len(every) - LISTED, f"pairs of base and variant with a lower {gain_name(lines)}")
        + "".join(f'<p class="note">{words(note)}</p>\n' for note in notes)
    )


def _searches(lines: Sequence[SearchLine]) -> str:
    """The table of a row a search."""
    sizes = _sizes(lines)
    shown = foremost(lines, LISTED, lambda line: gain(line.summary, sizes[0]) if sizes else None)
    return table_of(
        shown,
        [
            (Column("Search"), lambda line: text_cell(line.name)),
            (Column("Base"), lambda line: text_cell(line.base, formula=True)),
            (Column("Variant"), lambda line: text_cell(line.variant)),
            (Column("Seed", "n"), lambda line: number_cell(line.seed, "{}")),
            (
                Column("Shards", "n"),
                lambda line: (f"{line.shards_done:,} of {line.shards:,}", float(line.shards_done)),
            ),
            (Column("Candidates", "n"), lambda line: number_cell(line.summary.rows, "{:,}")),
            (
                Column("Unique (%)", "n"),
                lambda line: number_cell(_percent(line.summary.unique_fraction), "{:.1f}"),
            ),
            (
                Column("Passed (%)", "n"),
                lambda line: number_cell(_percent(line.summary.passed_fraction), "{:.1f}"),
            ),
            (
                Column(words("T_c above base"), "n"),
                lambda line: number_cell(line.summary.passed_above_base, "{:,}"),
            ),
            *((_gain_column(lines, k), _gain_of(k)) for k in sizes),
            *((Column(words(header), "n"), _top_of(name, form)) for name, header, form in _TRUST),
        ],
        "Searches",
    ) + _not_shown(len(lines) - LISTED, f"searches with a lower {gain_name(lines)}")


def _seeds(group: Group) -> Cell:
    seeds = len(group.lines)
    parts = sum(line.shards_done < line.shards for line in group.lines)
    return f"{seeds}, {parts} in part" if parts else f"{seeds}", float(seeds)


def _gain_column(lines: Sequence[SearchLine], k: int) -> Column:
    return Column(words(f"{gain_name(lines)} top {k} (K)"), "n")


def _gain_of(k: int) -> Callable[[SearchLine], Cell]:
    def content(line: SearchLine) -> Cell:
        text, value = number_cell(gain(line.summary, k), _gain_format(line.summary.base))
        return text + ("*" if is_short(line.summary, k) else ""), value

    return content


def _gain_mean(k: int) -> Callable[[Group], Cell]:
    def content(group: Group) -> Cell:
        gains = group.gains(k)
        text, value = _spread(gains, _gain_format(group.material))
        text += "*" if any(is_short(line.summary, k) for line in group.lines) else ""
        return text + (f" [{len(gains)}]" if 0 < len(gains) < len(group.lines) else ""), value

    return content


def _top_value(summary: Summary, name: str) -> float | None:
    top = best(summary, K)
    return None if top is None else getattr(top, name)


def _top_of(name: str, form: str) -> Callable[[SearchLine], Cell]:
    return lambda line: number_cell(_top_value(line.summary, name), form)


def _top_mean(name: str, form: str) -> Callable[[Group], Cell]:
    return lambda group: _spread([_top_value(line.summary, name) for line in group.lines], form)


def _gain_format(base: BaseMaterial | None) -> str:
    return "{:z.1f}" if base is None else "{:+z.1f}"


def _spread(values: Sequence[float | None], form: str = "{:.1f}") -> Cell:
    """Mean ± sample standard deviation of what is known; the mean alone where that is one value."""
    known = [value for value in values if value is not None]
    if not known:
        return NO_VALUE
    text, mean = number_cell(statistics.fmean(known), form)
    return (f"{text} ± {statistics.stdev(known):.1f}" if len(known) > 1 else text), mean


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction


def _predicted(group: Group) -> Cell:
    base = group.material
    return NO_VALUE if base is None else number_cell(base.tc_predicted_k, "{:z.1f}")


def _measured(group: Group) -> Cell:
    base = group.material
    return NO_VALUE if base is None else number_cell(base.tc_measured_k, "{:z.1f}")


def _sizes(lines: Sequence[SearchLine]) -> list[int]:
    """The k of the best k that the summaries count."""
    return sorted({top.k for line in lines for top in line.summary.top})


def _planned(page: CampaignPage) -> tuple[int, int]:
    """Searches and shards."""
    searches = len(page.lines) if page.searches is None else page.searches
    return searches, sum(line.shards for line in page.lines) if page.shards is None else page.shards


def _done(lines: Sequence[SearchLine]) -> tuple[int, int]:
    """Searches that are complete, shards that are done."""
    return sum(line.shards_done == line.shards for line in lines), sum(line.shards_done for line in lines)


def _cut(cause: str) -> str:
    return cause if len(cause) <= _CAUSE_LENGTH else cause[:_CAUSE_LENGTH] + " …"


def _not_shown(number: int, what: str) -> str:
    return f'<p class="note">{number:,} {words(what)} are not shown here.</p>\n' if number > 0 else ""
