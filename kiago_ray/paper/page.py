"""One self-contained HTML page with every table, ours beside the paper's."""

from __future__ import annotations

from collections.abc import Sequence

from kiago_ray.paper.defaults import Difference
from kiago_ray.paper.tables import PaperTable
from kiago_ray.report.page import render as render_template
from kiago_ray.report.plots import Plot

TITLE = "The paper's tables, ours beside what is printed"


def render(
    tables: Sequence[PaperTable],
    facts: Sequence[tuple[str, str]],
    presets: Sequence[str],
    found: Sequence[Difference],
    outside: Sequence[str],
    failures: Sequence[str] = (),
) -> str:
    """The page as HTML5 text. facts: label and value of what the results rest on. found: how presets differ. outside:
    differences that no field holds. failures: cells that failed, a line each.
    """
    return render_template(
        "paper.html.j2",
        title=TITLE,
        tables=[(table, [Plot("", *plot) for plot in table.plots]) for table in tables],
        facts=facts,
        presets=presets,
        found=[(each.field, *each.values, each.reason) for each in found],
        outside=outside,
        failures=failures,
    )
