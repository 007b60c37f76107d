"""report.html: one page that holds everything, plots included, and asks nothing from the network."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from kiago_ray.report.cells import kelvin
from kiago_ray.report.page_parts import LIMITS, SCRIPT, STYLE
from kiago_ray.report.page_table import html_table, words
from kiago_ray.report.summary_rows import Row, summary_rows
from kiago_ray.screening.summary import Summary
from kiago_ray.search.status import RowStatus

TABLE_ROWS = 50


@dataclass(frozen=True)
class Page:
    """What goes on the page.

    title: plain text. rows: the ranked table's first rows, as mappings from column to value. plots: caption
    and PNG of each. spec_text: the specification as it stands in spec.yaml. model_notes: a sentence each on
    how good the predictors are (from their model cards). remark: something the reader must know first, such
    as that the search was stopped early.
    """

    title: str
    summary: Summary
    rows: Sequence[Mapping[str, Any]]
    plots: Sequence[tuple[str, bytes]]
    spec_text: str
    model_notes: Sequence[str] = ()
    remark: str = ""


def render_page(page: Page) -> str:
    """The page as HTML5 text. All text given is escaped."""
    figures = "".join(_figure(caption, png) for caption, png in page.plots)
    remark = f'<p class="remark">{escape(page.remark)}</p>' if page.remark else ""
    notes = "".join(f"<li>{escape(note)}</li>" for note in page.model_notes)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(page.title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{escape(page.title)}</h1>
{remark}
{_tiles(page.summary)}
<h2>Best candidates</h2>
{html_table(page.rows[:TABLE_ROWS], page.summary.required)}
<h2>Plots</h2>
{figures}
<h2>Summary</h2>
{_plain_table(summary_rows(page.summary))}
<h2>How rows ended</h2>
{_statuses(page.summary)}
<h2>What these numbers can't tell</h2>
{LIMITS}
{f"<ul>{notes}</ul>" if notes else ""}
<h2>Specification</h2>
<details><summary>spec.yaml</summary><pre>{escape(page.spec_text)}</pre></details>
</main>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _tiles(summary: Summary) -> str:
    base = summary.base
    tiles = [
        ("candidates", f"{summary.rows:,}"),
        ("unique formulas", f"{summary.unique:,}"),
        ("passed every screen", f"{summary.passed:,}"),
    ]
    if base is not None:
        tiles.append((f"T_c of {base.formula}, predicted", kelvin(base.tc_predicted_k)))
        if base.tc_measured_k is not None:
            tiles.append((f"T_c of {base.formula}, measured", kelvin(base.tc_measured_k)))
    if summary.top and summary.top[0].used:
        first = summary.top[0]
        tiles.append((f"mean T_c of the best {first.used}, predicted", kelvin(first.mean_tc_k)))
    cells = "".join(f"<div><b>{escape(value)}</b><span>{words(label)}</span></div>" for label, value in tiles)
    return f'<div class="tiles">{cells}</div>'


def _statuses(summary: Summary) -> str:
    meanings = {status.label: status.meaning for status in RowStatus}
    return _plain_table(
        (label.replace("_", " "), f"{count:,}", meanings.get(label, ""))
        for label, count in summary.statuses.items()
    )


def _plain_table(rows: Iterable[Row]) -> str:
    """Label, number and remark in each row."""
    body = "".join(
        f'<tr><th scope="row">{words(label)}</th><td class="n">{words(value)}</td>'
        f"<td>{words(remark)}</td></tr>"
        for label, value, remark in rows
    )
    return f'<div class="wide"><table><tbody>{body}</tbody></table></div>'


def _figure(caption: str, png: bytes) -> str:
    source = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
    image = f'<img alt="{escape(caption)}" src="{source}">'
    return f"<figure>{image}<figcaption>{words(caption)}</figcaption></figure>\n"
