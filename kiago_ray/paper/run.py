"""Builds each table from its cells, and writes what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kiago_ray.paper.defaults import PRESETS, differences
from kiago_ray.paper.guidance_table import guidance_cells, table4
from kiago_ray.paper.hydride_tables import best_hydrides, table9, table10, table11
from kiago_ray.paper.integer_tables import fig2, table1
from kiago_ray.paper.integers import integer_cells
from kiago_ray.paper.known import best_substituted, same_elements
from kiago_ray.paper.material_tables import screens, seeds, table2, table3
from kiago_ray.paper.page import render
from kiago_ray.paper.published import published
from kiago_ray.paper.site_tables import table5, table6, table7, table8
from kiago_ray.paper.starts import fig3, start_cells
from kiago_ray.paper.tables import PaperTable
from kiago_ray.paper.tasks import HYDRIDES, MATERIALS, METHODS, SEARCHES, SITES
from kiago_ray.paper.text import as_csv, as_markdown, differences_markdown

if TYPE_CHECKING:
    from kiago_ray.paper.lab import Lab
    from kiago_ray.storage.location import Location

PAGE, TEXT = "report.html", "report.md"

OUTSIDE = (
    "Each row has a loss of its own. The reference code takes the mean over the batch, so that rows "
    "diverge slightly with the batch's size (Adam's ε).",
    "A row draws from a generator of (seed, base, row) alone; the code has one stateful generator for all.",
    "A formula is the integer formula that satisfies every constraint and is scored again as that; "
    "the code rounds x·N without repair, so that a few totals don't add up, and the paper doesn't "
    "say how a formula is read off.",
    "A row that would be left with nothing steps back and goes on at half its rate; the code divides "
    "by 0 and sets the loss to 0.",
    "ElemNet gets its own 86 elements. The code's hull script feeds Z = 1 to 86, which misplaces all but one of them; "
    "the paper says that ElemNet covers elements up to 86.",
    "The hydride screen is a yes or no; the code multiplies it with the number of elements. "
    "Neutrality with a valence for each atom is found by reachability instead of by going through the combinations.",
    "Screens are decided for any number of elements and for fractional amounts exactly; SMACT truncates fractions.",
)
"""Ways in which every preset departs from the paper or from the reference code, which no field holds."""


def _known(lab: Lab) -> str:
    return "none were given" if lab.models.known is None else lab.models.known.source


def _table3(lab: Lab) -> PaperTable:
    found = lab.family("materials")
    printed = [str(row["formula"]) for row in published()["table3"].rows.values()]
    best = [
        cell["best"][0]["formula"]
        for (_, _, seed), cell in found.items()
        if cell["best"] and seed == lab.size.seeds[0]
    ]
    return table3(found, lab.size, lab.predicted([*printed, *best]))


def _table8(lab: Lab) -> PaperTable:
    found = lab.family("sites", methods=SEARCHES)
    printed = [str(row[name]) for row in published()["table8"].rows.values() for name in ("proposed", "best")]
    best = [cell["best"][0]["formula"] for cell in found.values() if cell["best"]]
    known = best_substituted(lab.models.known, lab.predictors)
    return table8(found, lab.size, lab.predicted([*printed, *best]), known, _known(lab))


def _table11(lab: Lab) -> PaperTable:
    found = lab.family("hydrides", methods=SEARCHES)
    shown = [row["formula"] for method in SEARCHES for _, row in best_hydrides(found, lab.size, method)]
    similar = same_elements(lab.models.known, shown)
    return table11(found, lab.size, lab.predicted(list(published()["table11"].rows)), similar, _known(lab))


def _seeds(lab: Lab) -> PaperTable:
    bases = lab.size.spread_bases
    found = lab.family("materials", bases=bases, methods=SEARCHES, seeds=lab.size.spread_seeds)
    starts = start_cells(lab, lab.size.spread_seeds)
    ends = {seed: {kind: one["mean"][-1] for kind, one in kinds.items()} for seed, kinds in starts.items()}
    return seeds(found, lab.size, bases, ends)


TABLES: dict[str, Callable[[Lab], PaperTable]] = {
    "fig2": lambda lab: fig2(),
    "fig3": fig3,
    "table1": lambda lab: table1(integer_cells(lab, lab.size.seeds), lab.size),
    "table2": lambda lab: table2(lab.family("materials"), lab.size),
    "table3": _table3,
    "table4": lambda lab: table4(guidance_cells(lab, lab.size.seeds[0]), lab.size),
    "table5": lambda lab: table5(lab.family("sites"), lab.size),
    "table6": lambda lab: table6(lab.family("sites"), lab.size),
    "table7": lambda lab: table7(lab.family("sites"), lab.size),
    "table8": _table8,
    "table9": lambda lab: table9(lab.family("hydrides"), lab.size),
    "table10": lambda lab: table10(lab.family("hydrides"), lab.size),
    "table11": _table11,
    "seeds": _seeds,
    "screens": lambda lab: screens(lab.family("materials"), lab.size),
}
"""Every table and figure in the paper's order, and how it comes about."""

SEARCHED = len(METHODS) * (len(MATERIALS) + len(SITES) + len(HYDRIDES))
"""Cells of the three families for one seed."""


def write_table(table: PaperTable, where: Location) -> list[str]:
    """Write NAME.csv, NAME.md and NAME-1.png, …; return the files' names. Raises StorageError."""
    plots = plot_files(table)
    contents = {
        f"{table.name}.csv": as_csv(table).encode(),
        f"{table.name}.md": as_markdown(table, plots).replace("## ", "# ", 1).encode(),
        **{file: png for file, (_, png) in zip(plots, table.plots, strict=True)},
    }
    for file, content in contents.items():
        (where / file).write_bytes(content)
    return list(contents)


def plot_files(table: PaperTable) -> list[str]:
    """The names of its plots' files."""
    return [f"{table.name}-{number}.png" for number in range(1, len(table.plots) + 1)]


def write_report(
    tables: Sequence[PaperTable],
    where: Location,
    facts: Sequence[tuple[str, str]],
    failures: Sequence[str] = (),
) -> list[str]:
    """Write the one page of all tables, as HTML and as Markdown. Raises StorageError."""
    found = differences()
    page = render(tables, facts, PRESETS, found, OUTSIDE, failures)
    lines = ["# The paper's tables, ours beside what is printed", ""]
    lines += [f"- {label}: {value}" for label, value in facts]
    lines += ["", *(f"Failed: {line}" for line in failures), ""] if failures else [""]
    parts = [as_markdown(table, plot_files(table)) for table in tables]
    text = "\n".join([*lines, *parts, differences_markdown(PRESETS, found, OUTSIDE)])
    (where / PAGE).write_bytes(page.encode())
    (where / TEXT).write_bytes(text.encode())
    return [PAGE, TEXT]
