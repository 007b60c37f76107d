"""Tables as CSV and Markdown."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from kiago_ray.paper.defaults import Difference
from kiago_ray.paper.tables import Panel, PaperTable

CSV_COLUMNS = ("table", "panel", "row", "column", "source", "value")


def as_csv(table: PaperTable) -> str:
    """One line a value, numbers in full; N/A is an empty value."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for panel in table.panels:
        for label, values in panel.rows:
            for column, value in zip(panel.columns, values, strict=True):
                text = "" if value is None else value
                writer.writerow([table.name, panel.title, label, column.name, column.source, text])
    return buffer.getvalue()


def as_markdown(table: PaperTable, files: Sequence[str] = ()) -> str:
    """A section: size, what came of it, the panels, the notes; files: of the plots, in their order."""
    lines = [f"## {table.heading}", "", table.size, ""]
    lines += [f"- {_escaped(verdict)}" for verdict in table.verdicts]
    for panel in table.panels:
        lines += ["", *([f"**{_escaped(panel.title)}**", ""] if panel.title else []), *_grid(panel)]
    for (caption, _), file in zip(table.plots, files, strict=False):
        lines += ["", f"![{_escaped(caption)}]({file})"]
    if table.notes:
        lines += ["", *(f"- {_escaped(note)}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def _grid(panel: Panel) -> list[str]:
    heads = [panel.head, *(column.label for column in panel.columns)]
    lines = ["| " + " | ".join(map(_escaped, heads)) + " |", "| --- " * len(heads) + "|"]
    for label, values in panel.rows:
        cells = [column.text(value) for column, value in zip(panel.columns, values, strict=True)]
        lines.append("| " + " | ".join(map(_escaped, [label, *cells])) + " |")
    return lines


def differences_markdown(presets: Sequence[str], found: Sequence[Difference], outside: Sequence[str]) -> str:
    """How ours differs, as a section."""
    lines = ["## How ours differs from the paper and from its reference code", ""]
    heads = ["field", *(f"`{preset}`" for preset in presets), "what it is, and why"]
    lines += ["| " + " | ".join(heads) + " |", "| --- " * len(heads) + "|"]
    for each in found:
        lines.append("| " + " | ".join(map(_escaped, [f"`{each.field}`", *each.values, each.reason])) + " |")
    lines += ["", "In no field:", "", *(f"- {_escaped(line)}" for line in outside)]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """Text in a Markdown table or list: no cell and no HTML begins in it."""
    return re.sub(r"[\r\n]+", " ", text).replace("|", "\\|").replace("<", "&lt;")
