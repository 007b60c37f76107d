"""The fixed parts of report.html: style, the few lines that sort a table, the limits of what it shows."""

from __future__ import annotations

STYLE = """ :root { color-scheme: light; } body { margin: 0; background: #fff; color: #1a1a1a; font:
16px/1.5 system-ui, sans-serif; } main { max-width: 78rem; margin: 0 auto; padding: 1rem 1rem 4rem; } h1 {
font-size: 1.6rem; line-height: 1.25; margin: .5rem 0 1rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0
.6rem; } p, ul { max-width: 46rem; } .remark { border-left: 4px solid #D55E00; padding: .4rem .8rem;
background: #fdf3ec; } .tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr));
gap: .6rem; } .tiles div { border: 1px solid #ddd; border-radius: 6px; padding: .5rem .7rem; } .tiles b {
display: block; font-size: 1.3rem; } .tiles span { color: #555; font-size: .85rem; } .wide { overflow-x:
auto; } table { border-collapse: collapse; font-size: .92rem; } th, td { padding: .3rem .6rem;
border-bottom: 1px solid #e4e4e4; text-align: left; vertical-align: baseline; } .sortable td { white-space:
nowrap; } .sortable td.states { white-space: normal; min-width: 17rem; } tbody th { font-weight: normal; } .n
{ text-align: right; font-variant-numeric: tabular-nums; } thead th { border-bottom: 2px solid #1a1a1a;
padding: 0; } th button { font: inherit; font-weight: 600; border: 0; background: none; padding: .3rem
.6rem; cursor: pointer;
  color: inherit; white-space: nowrap; }
th[aria-sort=ascending] button::after { content: " ▲"; font-size: .7em; }
th[aria-sort=descending] button::after { content: " ▼"; font-size: .7em; }
tr.failed td { color: #777; }
sub, sup { line-height: 0; font-size: .75em; }
.badge { border: 1px solid #999; border-radius: 4px; padding: 0 .3rem; font-size: .8em; color: #555; }
figure { margin: 0 0 1.5rem; }
img { width: 46rem; max-width: 100%; height: auto; }
figcaption { color: #555; font-size: .9rem; max-width: 46rem; }
pre { overflow-x: auto; background: #f6f6f6; padding: .8rem; font-size: .82rem; }
"""

SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => header.firstElementChild.addEventListener("click", () => {
    const down = header.ariaSort === "ascending";
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

LIMITS = """ <p>Nothing on this page has been made or measured, except where it says so.
<i>T</i><sub>c</sub> and <i>E</i><sub>f</sub> are predicted from the composition alone: no structure, no
pressure, no way to make it.</p> <ul> <li>The search climbs to where the predictor of <i>T</i><sub>c</sub>
is highest, and so also to where it is wrong. The further a candidate is from every known composition (L1
distance: 0 is the same, 2 has no element in common; SuperCon's own compositions have their nearest
neighbour at about 0.02), the less its <i>T</i><sub>c</sub> means.</li> <li>Δ<i>T</i><sub>c</sub> is the
difference of two predictions, each with an error of several kelvin for compositions like those in training,
and more beyond.</li> <li><i>E</i><sub>f</sub> &lt; 0 means stable against the elements. It doesn't mean
stable against other compounds, and most such compositions decompose into those.</li> <li>Charge neutrality
takes any oxidation state that the element is known to have, however rare. Formulas of metals only pass it
unseen.</li> <li>One composition can have many structures, of which some superconduct and others don't.</li>
</ul>
"""
