"""A table of the comparison: the evidence that it is read off, and what is shown: panels of our columns beside the
paper's, sentences and plots, with their text as CSV, Markdown and plain types.
"""

from __future__ import annotations

import csv
import io
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from kiago_ray.paper.declarations import METHODS, Declaration, Family, Value, comparison
from kiago_ray.paper.lab import Figures, Found, Lab

Read = Callable[[Figures], float | None]
"""Takes a figure from a cell."""
Values = Mapping[str, Mapping[str, Value]]
"""Base → method → value."""

NOT_RUN = "not run"
CSV_COLUMNS = ("table", "panel", "row", "column", "source", "value")


@dataclass(frozen=True)
class Column:
    """One column of a panel. source: whose numbers they are; "" for what is neither. digits: decimals of numbers."""

    name: str
    label: str
    source: Literal["ours", "paper", ""] = "ours"
    digits: int = 1
    sign: bool = False

    def text(self, value: Value) -> str:
        """The value for a person."""
        if value is None:
            return "N/A"
        if isinstance(value, str):
            return value
        return f"{value:{'+' if self.sign else ''}z.{self.digits}f}"

    def printed(self, digits: int) -> Column:
        """The paper's column beside this one."""
        return replace(
            self, name=f"{self.name}_paper", label=f"{self.label}, paper", source="paper", digits=digits
        )


@dataclass(frozen=True)
class Panel:
    """One grid of a table. head: what its rows are. rows: label, and a value for each column."""

    title: str
    head: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, tuple[Value, ...]], ...]

    @classmethod
    def of(
        cls,
        title: str,
        head: str,
        columns: Sequence[Column],
        rows: Mapping[str, Mapping[str, Value]],
        missing: Value = "",
    ) -> Panel:
        """From rows by label with values by the names of columns; `missing` stands where a row has none, and values of
        no column are left out.
        """
        filled = tuple(
            (label, tuple(row.get(column.name, missing) for column in columns)) for label, row in rows.items()
        )
        return cls(title, head, tuple(columns), filled)


@dataclass(frozen=True)
class Evidence:
    """What one table is read off. found: the cells of its experiments."""

    declared: Declaration
    found: Found
    lab: Lab

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that the table takes."""
        size = self.lab.size
        return {"all": size.seeds, "first": size.seeds[:1], "spread": size.spread_seeds}[self.declared.seeds]

    @property
    def family(self) -> Family | None:
        """The family of bases on which methods are compared; None in a table of something else."""
        families = comparison().families
        return next((families[name] for name in self.declared.experiments if name in families), None)

    @property
    def bases(self) -> dict[str, dict[str, int]]:
        """The family's bases with their sites, in the paper's order; of the spread those of its size alone."""
        bases = {} if self.family is None else self.family.bases
        few = self.lab.size.spread_bases if self.declared.seeds == "spread" else tuple(bases)
        return {base: sites for base, sites in bases.items() if base in few}

    def mean(self, base: str, method: str, read: Read, seeds: Sequence[int] | None = None) -> Value:
        """The mean over seeds of what `read` takes from each cell; None where one has none, NOT_RUN where one
        failed.
        """
        cells = [self.found.get((base, method, seed)) for seed in (self.seeds if seeds is None else seeds)]
        values = [read(cell) for cell in cells if cell is not None]
        if len(values) < len(cells):
            return NOT_RUN
        known = [value for value in values if value is not None]
        return statistics.mean(known) if known and len(known) == len(values) else None

    def values(self, read: Read) -> dict[str, dict[str, Value]]:
        """The means of every base and method."""
        return {base: {each: self.mean(base, each, read) for each in METHODS} for base in self.bases}

    def best(self, base: str, method: str) -> dict[str, Any]:
        """The best row of the first seed's cell; {} where none passed."""
        rows = self.found.get((base, method, self.seeds[0]), {}).get("best", [])
        return dict(rows[0]) if rows else {}


@dataclass(frozen=True)
class Measured:
    """What a measure makes of the evidence. words: for the templates of notes; the rest as in PaperTable."""

    panels: Sequence[Panel]
    verdicts: Sequence[str] = ()
    plots: Sequence[tuple[str, bytes]] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PaperTable:
    """A table or figure of the paper, ours beside it.

    label: how the paper calls it. size: how large ours is. verdicts: what came of it, in sentences. notes: where ours
    differs and why a figure can't be equal. plots: caption and PNG of each. facts: what a script reads.
    """

    name: str
    label: str
    title: str
    size: str
    panels: tuple[Panel, ...]
    verdicts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    plots: tuple[tuple[str, bytes], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def heading(self) -> str:
        """Such as "Table 2: ΔT_c of the top 30 …"."""
        return f"{self.label}: {self.title}"

    @property
    def plot_files(self) -> list[str]:
        """The names of its plots' files."""
        return [f"{self.name}-{number}.png" for number in range(1, len(self.plots) + 1)]

    def as_plain(self) -> dict[str, Any]:
        """Everything but the plots as plain types; N/A is None."""
        panels = []
        for panel in self.panels:
            names = [column.name for column in panel.columns]
            rows = {label: dict(zip(names, values, strict=True)) for label, values in panel.rows}
            panels.append({"title": panel.title, "rows": rows})
        return {
            "title": self.title,
            "size": self.size,
            "panels": panels,
            "verdicts": list(self.verdicts),
            "notes": list(self.notes),
            "facts": dict(self.facts),
        }

    def as_csv(self) -> str:
        """One line a value, numbers in full; N/A is an empty value."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for panel in self.panels:
            for label, values in panel.rows:
                for column, value in zip(panel.columns, values, strict=True):
                    text = "" if value is None else value
                    writer.writerow([self.name, panel.title, label, column.name, column.source, text])
        return buffer.getvalue()

    def as_markdown(self) -> str:
        """A section: size, what came of it, the panels, the plots, the notes."""
        lines = [f"## {self.heading}", "", self.size, ""]
        lines += [f"- {escaped(verdict)}" for verdict in self.verdicts]
        for panel in self.panels:
            heads = [panel.head, *(column.label for column in panel.columns)]
            rows = [
                [label, *(column.text(value) for column, value in zip(panel.columns, values, strict=True))]
                for label, values in panel.rows
            ]
            title = [f"**{escaped(panel.title)}**", ""] if panel.title else []
            lines += ["", *title, *markdown_grid(heads, rows)]
        for (caption, _), file in zip(self.plots, self.plot_files, strict=True):
            lines += ["", f"![{escaped(caption)}]({file})"]
        if self.notes:
            lines += ["", *(f"- {escaped(note)}" for note in self.notes)]
        return "\n".join(lines) + "\n"


def markdown_grid(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(map(escaped, cells)) + " |" for cells in lines]


def escaped(text: str) -> str:
    """Text in a Markdown table or list: no cell and no HTML begins in it."""
    return re.sub(r"[\r\n]+", " ", text).replace("|", "\\|").replace("<", "&lt;")
