"""What a table of the comparison is: panels of ours beside the paper's, words, plots. And how numbers are read
off cells.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from kiago_ray.paper.cells import Figures

Value = float | str | None
"""A number; a text; None: N/A, nothing passed (or, of the paper's, its own N/A)."""
Found = Mapping[tuple[str, str, int], Figures]
"""What cells of one family found, by base, method and seed; a cell that failed is missing."""
Source = Literal["ours", "paper", ""]

NOT_RUN = "not run"


@dataclass(frozen=True)
class Column:
    """One column of a panel. source: whose numbers they are; "" for what is neither. digits: decimals of numbers."""

    name: str
    label: str
    source: Source = "ours"
    digits: int = 1
    sign: bool = False

    def text(self, value: Value) -> str:
        """The value for a person."""
        if value is None:
            return "N/A"
        if isinstance(value, str):
            return value
        return f"{value:{'+' if self.sign else ''}z.{self.digits}f}"


@dataclass(frozen=True)
class Panel:
    """One grid of a table. head: what its rows are. rows: label, and a value for each column."""

    title: str
    head: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, tuple[Value, ...]], ...]


@dataclass(frozen=True)
class PaperTable:
    """A table or figure of the paper, ours beside it. size: how large ours is. verdicts: what came of it, in
    sentences. notes: where ours differs and why a figure can't be equal. plots: caption and PNG of each.
    facts: what a script reads.
    """

    name: str
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
        return f"{label_of(self.name)}: {self.title}"


def label_of(name: str) -> str:
    """How the paper calls it: "table2" → "Table 2"."""
    if name.startswith("table"):
        return f"Table {name[5:]}"
    return {"fig2": "Fig. 2", "fig3": "Fig. 3", "seeds": "S.4", "screens": "S.6"}[name]


def over_seeds(
    found: Found, base: str, method: str, seeds: Sequence[int], read: Callable[[Figures], float | None]
) -> Value:
    """The mean over seeds of what `read` takes from each cell; None where one has none, NOT_RUN where one failed."""
    cells = [found.get((base, method, seed)) for seed in seeds]
    if any(cell is None for cell in cells):
        return NOT_RUN
    values = [read(cell) for cell in cells if cell is not None]
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known and len(known) == len(values) else None


def top_delta(k: int, column: str) -> Callable[[Figures], float | None]:
    """Mean of the best k by T_c of the search's model, in `column` (tc_k or tc_oracle_k), less the base's, in K."""

    def read(cell: Figures) -> float | None:
        mean = top_mean(k, column)(cell)
        base = cell["base"][column]
        return None if mean is None or base is None else mean - base

    return read


def top_mean(k: int, column: str) -> Callable[[Figures], float | None]:
    """Mean of the best k by T_c of the search's model, in `column`; None where none passed."""

    def read(cell: Figures) -> float | None:
        values = [row[column] for row in cell["best"][:k]]
        return statistics.mean(values) if values and None not in values else None

    return read


def rate(name: str) -> Callable[[Figures], float | None]:
    """A share of all rows, such as right_rows."""
    return lambda cell: cell.get(name)


def wins(values: Mapping[str, Mapping[str, Value]], mine: str, other: str) -> tuple[int, int]:
    """On how many bases of `values` (base → method → value) `mine` is higher than `other`, and of how many bases both
    were run. N/A, where nothing passed, loses to any number; two N/A are no win.
    """
    higher = compared = 0
    for row in values.values():
        one, two = row[mine], row[other]
        if isinstance(one, str) or isinstance(two, str):
            continue
        compared += 1
        higher += one is not None and (two is None or one > two)
    return higher, compared
