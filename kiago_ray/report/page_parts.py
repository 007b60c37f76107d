"""What the pages of a search and of a campaign share: style, script, frame, tiles, plain tables, limits."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from kiago_ray.report.page_table import scrolling, words
from kiago_ray.report.summary_rows import Row
from kiago_ray.search.result import RowStatus

STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #fff; color: #1a1a1a; font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 78rem; margin: 0 auto; padding: 1rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p, ul { max-width: 46rem; }
.remark { border-left: 4px solid #D55E00; padding: .4rem .8rem; margin: 0 0 1rem; background: #fdf3ec; }
.remark p { margin: .2rem 0; overflow-wrap: anywhere; }
.note { color: #555; font-size: .9rem; margin: .3rem 0; }
.tiles { display: grid; margin: 1rem 0; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .6rem; }
.tiles div { border: 1px solid #ddd; border-radius: 6px; padding: .5rem .7rem; overflow-wrap: anywhere; }
.tiles b { display: block; font-size: 1.3rem; }
.tiles span { color: #555; font-size: .85rem; }
.wide { overflow-x: auto; }
.tall { overflow: auto; max-height: min(44rem, 80vh); border-bottom: 1px solid #e4e4e4; }
.tall thead th { border: 0; position: sticky; top: 0; background: #fff; box-shadow: inset 0 -2px #1a1a1a; }
table { border-collapse: collapse; font-size: .92rem; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #e4e4e4; text-align: left; vertical-align: baseline; }
.sortable td { white-space: nowrap; }
.sortable td.states { white-space: normal; min-width: 17rem; }
tbody th { font-weight: normal; }
.n { text-align: right; font-variant-numeric: tabular-nums; }
thead th { border-bottom: 2px solid #1a1a1a; padding: 0; }
thead.plain th { padding: .3rem .6rem; }
th.name { white-space: nowrap; }
td.cause { min-width: 15rem; overflow-wrap: anywhere; }
th button { font: inherit; font-weight: 600; border: 0; background: none; padding: .3rem .6rem; cursor: pointer;
  color: inherit; white-space: nowrap; }
th[aria-sort=ascending] button::after { content: " ▲"; font-size: .7em; }
th[aria-sort=descending] button::after { content: " ▼"; font-size: .7em; }
tr.failed td { color: #6e6e6e; }
sub, sup { line-height: 0; font-size: .75em; }
.badge { border: 1px solid #999; border-radius: 4px; padding: 0 .3rem; font-size: .8em; color: #555; }
.filter { display: flex; flex-wrap: wrap; gap: .4rem 1.2rem; align-items: end; margin: 0 0 .6rem; }
.filter[hidden] { display: none; }
.filter label { font-size: .92rem; }
.filter [type=search] { display: block; font: inherit; width: min(22rem, 100%); box-sizing: border-box;
  padding: .25rem .5rem; border: 1px solid #767676; border-radius: 4px; }
.filter output { color: #555; font-size: .92rem; font-variant-numeric: tabular-nums; }
:focus-visible { outline: 2px solid #0072B2; outline-offset: -2px; }
h3 { font-size: 1rem; margin: 1.2rem 0 .2rem; }
h4 { font-size: .92rem; margin: .3rem 0 0; }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); gap: .4rem 1.6rem; }
.sides ul { margin: .2rem 0 .4rem; padding-left: 1.1rem; font-size: .92rem; overflow-wrap: anywhere; }
.for h4 { color: #005a8e; }
.against h4 { color: #a34700; }
figure { margin: 0 0 1.5rem; }
img { width: 46rem; max-width: 100%; height: auto; }
figcaption { color: #555; font-size: .9rem; max-width: 46rem; }
pre { overflow-x: auto; background: #f6f6f6; padding: .8rem; font-size: .82rem; }
@media (max-width: 40rem) { th.name { white-space: normal; overflow-wrap: anywhere; min-width: 6.5rem; }
  td.cause { min-width: 10rem; } }
@media print { .tall { max-height: none; } .filter { display: none; } }
"""

SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => header.firstElementChild.addEventListener("click", () => {
    const down = header.getAttribute("aria-sort") === "ascending";
    headers.forEach(other => other.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const sign = down ? -1 : 1;
    const number = header.classList.contains("n");
    const rows = [...table.tBodies[0].rows];
    rows.sort((one, two) => {
      const a = one.cells[column], b = two.cells[column];
      if (!number) return sign * a.textContent.localeCompare(b.textContent);
      if (!a.dataset.v || !b.dataset.v) return !!b.dataset.v - !!a.dataset.v;
      return sign * (a.dataset.v - b.dataset.v);
    });
    table.tBodies[0].append(...rows);
  }));
}
"""

# The form of page_table.FILTER: all words of the text must occur in the row's columns of class f; small letters match
# both, so that "Co" isn't "CO" and "laniaso" finds LaNiAsO.
FILTER_SCRIPT = """
for (const form of document.querySelectorAll("form.filter")) {
  const {text, passed, count} = form.elements;
  const table = form.nextElementSibling.querySelector("table");
  const rows = [...table.tBodies[0].rows];
  const columns = [...table.tHead.rows[0].cells].flatMap((cell, i) => cell.classList.contains("f") ? [i] : []);
  const contents = rows.map(row => columns.map(i => row.cells[i].textContent).join("\\n"));
  const apply = () => {
    const fold = text.value === text.value.toLowerCase();
    const sought = text.value.split(/\\s+/);
    let shown = 0;
    rows.forEach((row, i) => {
      const content = fold ? contents[i].toLowerCase() : contents[i];
      const failed = passed.checked && row.classList.contains("failed");
      row.hidden = failed || !sought.every(word => content.includes(word));
      shown += !row.hidden;
    });
    count.value = `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")} shown`;
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", event => event.preventDefault());
  form.hidden = false;
  apply();
}
"""

LIMITS = """<p>Nothing on this page has been made or measured, except where it says so. <i>T</i><sub>c</sub> and
<i>E</i><sub>f</sub> are predicted from the composition alone: no structure, no pressure, no way to make it.</p>
<ul>
<li>The search climbs to where the predictor of <i>T</i><sub>c</sub> is highest, and so also to where it is wrong.
The further a candidate is from every known composition (L1 distance: 0 is the same, 2 has no element in common;
SuperCon's own compositions have their nearest neighbour at about 0.02), the less its <i>T</i><sub>c</sub> means.</li>
<li>Δ<i>T</i><sub>c</sub> is the difference of two predictions, each with an error of several kelvin for compositions
like those in training, and more beyond.</li>
<li><i>E</i><sub>f</sub> &lt; 0 means stable against the elements. It doesn't mean stable against other compounds, and
most such compositions decompose into those.</li>
<li>The screens neutral and pauling take any oxidation state that the element is known to have, however rare, and let
metals pass unseen; the states that are shown are the likeliest ones.</li>
<li>One composition can have many structures, of which some superconduct and others don't.</li>
</ul>
"""


def document(title: str, body: str, script: str = SCRIPT) -> str:
    """A whole HTML5 page around `body`, which is HTML already; the title is escaped."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
{body}
</main>
<script>{script}</script>
</body>
</html>
"""


def remark_html(text: str) -> str:
    """Something the reader must know first, escaped; nothing for ""."""
    return f'<p class="remark">{escape(text)}</p>' if text else ""


def section(heading: str, content: str) -> str:
    """Content, which is HTML already, with its heading; "" where there is none."""
    return f"<h2>{words(heading)}</h2>\n{content}\n" if content else ""


def tiles(entries: Iterable[tuple[str, str]]) -> str:
    """The main numbers, large. entries: label and value; all is escaped."""
    cells = "".join(
        f"<div><b>{escape(value)}</b><span>{words(label)}</span></div>" for label, value in entries
    )
    return f'<div class="tiles">{cells}</div>'


def plain_table(rows: Iterable[Row], label: str) -> str:
    """Label, number and remark in each row. label: what the table shows, for those who don't see it."""
    body = "".join(
        f'<tr><th scope="row">{words(name)}</th><td class="n">{words(value)}</td><td>{words(remark)}</td></tr>'
        for name, value, remark in rows
    )
    return scrolling(f"<table><tbody>{body}</tbody></table>", label)


def how_rows_ended(statuses: Mapping[str, int]) -> str:
    """Each status, its rows, and what it means."""
    meanings = {status.label: status.meaning for status in RowStatus}
    rows = (
        (name.replace("_", " "), f"{count:,}", meanings.get(name, "")) for name, count in statuses.items()
    )
    return plain_table(rows, "How rows ended")


def figures(plots: Iterable[tuple[str, bytes]]) -> str:
    """The plots with their captions. plots: caption and PNG of each."""
    return "".join(_figure(caption, png) for caption, png in plots)


def limits(model_notes: Sequence[str]) -> str:
    """What the numbers can't tell, and how good the predictors are, with headings."""
    notes = "".join(f"<li>{words(note)}</li>" for note in model_notes)
    return f"<h2>What these numbers can't tell</h2>\n{LIMITS}{f'<ul>{notes}</ul>' if notes else ''}"


def specification(text: str) -> str:
    """spec.yaml, folded away, with its heading."""
    return f"<h2>Specification</h2>\n<details><summary>spec.yaml</summary><pre>{escape(text)}</pre></details>"


def _figure(caption: str, png: bytes) -> str:
    source = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
    image = f'<img alt="{escape(caption)}" src="{source}">'
    return f"<figure>{image}<figcaption>{words(caption)}</figcaption></figure>\n"
