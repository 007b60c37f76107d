"""One self-contained HTML page with every table, ours beside the paper's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from kiago_ray.paper.defaults import Difference
from kiago_ray.paper.tables import Panel, PaperTable
from kiago_ray.report.page_parts import document, figures
from kiago_ray.report.page_table import scrolling, words

STYLE = """<style>
td.paper, th.paper { color: #555; background: #f6f6f6; }
table.panel td { white-space: nowrap; }
table.panel td.long { white-space: normal; min-width: 11rem; overflow-wrap: anywhere; }
table.panel tbody th { white-space: nowrap; }
table.fields td { vertical-align: top; }
table.fields td.reason { min-width: 20rem; }
table.fields td { overflow-wrap: break-word; }
nav ul { columns: 2; max-width: 60rem; padding-left: 1.2rem; }
section { border-top: 1px solid #ddd; margin-top: 2.4rem; }
h3, section figure { margin-top: 1.4rem; }
.verdicts { border-left: 4px solid #0072B2; background: #eef5fa; padding: .5rem .8rem .5rem 1.8rem; margin: .8rem 0; }
.notes { color: #444; font-size: .9rem; }
.verdicts, .notes { overflow-wrap: anywhere; }
</style>"""
TITLE = "The paper's tables, ours beside what is printed"
_LONG = 26  # characters from which a cell may break


def render(
    tables: Sequence[PaperTable],
    facts: Sequence[tuple[str, str]],
    presets: Sequence[str],
    found: Sequence[Difference],
    outside: Sequence[str],
    failures: Sequence[str] = (),
) -> str:
    """The page as HTML5 text, all text escaped. facts: label and value of what the results rest on. found: how presets
    differ. failures: cells that failed, a line each.
    """
    links = "".join(f'<li><a href="#{table.name}">{words(table.heading)}</a></li>' for table in tables)
    links += '<li><a href="#defaults">How ours differs</a></li>'
    failed = "".join(f"<p>{escape(line)}</p>" for line in failures)
    remark = f'<div class="remark"><p>Some experiments failed:</p>{failed}</div>' if failed else ""
    rests = "".join(f"<tr><th>{words(label)}</th><td>{escape(value)}</td></tr>" for label, value in facts)
    body = f"""{STYLE}
<p>Every table and figure of Fujii et al., <i>Digital Discovery</i> 2025, 4, 3662, run with this package's models.
Grey columns are the paper's. All of it is predicted; nothing here has been made or measured but where it says so.</p>
{remark}
<nav aria-label="Tables"><ul>{links}</ul></nav>
{scrolling(f"<table><tbody>{rests}</tbody></table>", "What the results rest on")}
{"".join(map(_section, tables))}
{_defaults(presets, found, outside)}"""
    return document(TITLE, body, script="")


def _section(table: PaperTable) -> str:
    verdicts = "".join(f"<li>{_code(verdict)}</li>" for verdict in table.verdicts)
    notes = "".join(f"<li>{_code(note)}</li>" for note in table.notes)
    return f"""<section id="{table.name}">
<h2>{words(table.heading)}</h2>
<p class="note">{words(table.size)}</p>
{f'<ul class="verdicts">{verdicts}</ul>' if verdicts else ""}
{"".join(map(_panel, table.panels))}
{figures(table.plots)}
{f'<ul class="notes">{notes}</ul>' if notes else ""}
</section>
"""


def _panel(panel: Panel) -> str:
    heads = f'<th scope="col">{words(panel.head)}</th>'
    heads += "".join(
        f'<th scope="col" class="{"paper" if column.source == "paper" else ""}">{words(column.label)}</th>'
        for column in panel.columns
    )
    rows = []
    for label, values in panel.rows:
        cells = []
        for column, value in zip(panel.columns, values, strict=True):
            text = column.text(value)
            number = not isinstance(value, str)
            kinds = [
                *(["paper"] if column.source == "paper" else []),
                *(["n"] if number else []),
                *(["long"] if len(text) > _LONG else []),
            ]
            cells.append(f'<td class="{" ".join(kinds)}">{words(text)}</td>')
        rows.append(f'<tr><th scope="row">{words(label)}</th>{"".join(cells)}</tr>')
    title = panel.title or "Values"
    heading = f"<h3>{words(panel.title)}</h3>" if panel.title else ""
    grid = f"""<table class="panel"><thead class="plain"><tr>{heads}</tr></thead>
<tbody>{"".join(rows)}</tbody></table>"""
    return heading + scrolling(grid, title)


def _defaults(presets: Sequence[str], found: Sequence[Difference], outside: Sequence[str]) -> str:
    heads = "".join(
        f'<th scope="col">{escape(name)}</th>' for name in ("field", *presets, "what it is, and why")
    )
    rows = "".join(
        f'<tr><th scope="row">{escape(each.field)}</th>'
        + "".join(f"<td>{escape(value)}</td>" for value in each.values)
        + f'<td class="reason">{_code(each.reason)}</td></tr>'
        for each in found
    )
    lines = "".join(f"<li>{_code(line)}</li>" for line in outside)
    grid = f'<table class="fields"><thead class="plain"><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'
    return f"""<section id="defaults">
<h2>How ours differs from the paper and from its reference code</h2>
<p>Read off the presets, field by field; the last column is the specification's own description.</p>
{scrolling(grid, "How presets differ")}
<h3>In no field</h3>
<ul class="notes">{lines}</ul>
</section>"""


def _code(text: str) -> str:
    """`x` as code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", words(text))
