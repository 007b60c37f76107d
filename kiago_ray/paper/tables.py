"""The comparison as one data file declares it, and its tables as they are shown: families of bases, sizes, what the
paper prints; panels of our columns beside the paper's, as CSV, Markdown and plain types.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, model_validator

from kiago_ray.errors import InputError
from kiago_ray.report.plots import Plot
from kiago_ray.search.spec import SearchSpec, load_preset, preset_values

Value = float | str | None
"""A number; a text such as a formula, "" for a blank; None for N/A: nothing passed."""

Method = Literal["kiago", "ours", "superdiff", "superdiff_cg", "substitution"]
METHODS: tuple[Method, ...] = get_args(Method)
SEARCHES, BASELINES = METHODS[:2], METHODS[2:]
LABELS: Mapping[str, str] = dict(zip(METHODS, ("KIAGO", "ours", "SD", "SD w/ CG", "C-ES"), strict=True))
MAX_CANDIDATES, MAX_STEPS, MAX_SEEDS, MAX_SEED = 1_000_000, 20_000, 100, 2**63 - 1
NOT_RUN = "not run"
CSV_COLUMNS = ("table", "panel", "row", "column", "source", "value")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Family(_Frozen):
    """Bases from which every method proposes (sections 3.4 to 3.6).

    preset: the paper's search and the judge of every method. bases: each with the site that is substituted and its
    oxidation state, {} where any element may change. open_fields: fields of the preset `open` that the search "ours"
    takes over; without them it is `open` itself. keep: elements that elemental substitution leaves alone.
    """

    preset: str
    bases: dict[str, dict[str, int]]
    open_fields: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()

    def judge(self, base: str) -> SearchSpec:
        """The specification whose screens and T_c predictor judge what every method proposes: the paper's."""
        return self.search(base, "kiago", {})

    def search(self, base: str, method: str, changes: Mapping[str, Any]) -> SearchSpec:
        """The search of "kiago" (the paper's equations and constants) or of "ours" (those of `open`)."""
        fields = self.open_fields if method == "ours" else ()
        preset = "open" if method == "ours" and not fields else self.preset
        taken = {name: preset_values("open")[name] for name in fields}
        site = {"substitute": self.bases[base]} if self.bases[base] else {}
        return load_preset(preset, {"base": base, **site, **taken, **changes})

    @property
    def ours(self) -> str:
        """What the search of the column "ours" is, in a sentence."""
        if not self.open_fields:
            return "`ours` is the preset `open`."
        fields = ", ".join(self.open_fields)
        return f"`ours` is the preset `{self.preset}` with these fields of `open`: {fields}."


class Size(_Frozen):
    """How large the experiments are.

    candidates: formulas of each method from each base, by experiment. steps: of stage 1 and 2 by search. start_steps:
    of Fig. 3. diffusion_steps: of SuperDiff; guidance_steps: of it in Table 4. seeds: of the tables, whose figures are
    means over them. spread_seeds and spread_bases: of the spread (S.4).
    """

    name: str
    candidates: dict[str, int]
    steps: dict[str, tuple[int, int]]
    start_steps: int
    diffusion_steps: int
    guidance_steps: int
    spread_bases: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    spread_seeds: tuple[int, ...] = (0, 1, 2)

    def changed(
        self,
        candidates: int | None = None,
        steps: Sequence[int] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> Size:
        """This size with what a command gives. Raises InputError."""
        changes: dict[str, Any] = {}
        if candidates is not None:
            if not 1 <= candidates <= MAX_CANDIDATES:
                raise InputError(f"--candidates: {candidates} is not from 1 to {MAX_CANDIDATES:,}")
            changes["candidates"] = dict.fromkeys(self.candidates, candidates)
        if steps is not None:
            if len(steps) != 2 or min(steps) < 1 or max(steps) > MAX_STEPS:
                given = ",".join(map(str, steps))
                raise InputError(f"--steps: {given}: each of two stages takes 1 to {MAX_STEPS:,} steps")
            changes |= {"steps": dict.fromkeys(self.steps, tuple(steps)), "start_steps": steps[0]}
        if seeds is not None:
            if not 1 <= len(set(seeds)) == len(seeds) <= MAX_SEEDS or min(seeds) < 0 or max(seeds) > MAX_SEED:
                raise InputError(
                    f"--seeds: give 1 to {MAX_SEEDS} different whole numbers of 0 or more, such as 0,1,2"
                )
            changes |= {"seeds": tuple(seeds), "spread_seeds": tuple(seeds)}
        changes |= {"name": f"{self.name}, changed by options"} if changes else {}
        return self.model_copy(update=changes)


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
        if value is None or isinstance(value, str):
            return "N/A" if value is None else value
        return f"{value:{'+' if self.sign else ''}z.{self.digits}f}"

    def printed(self, digits: int) -> Column:
        """The paper's column beside this one."""
        name, label = f"{self.name}_paper", f"{self.label}, paper"
        return replace(self, name=name, label=label, source="paper", digits=digits)


@dataclass(frozen=True)
class Panel:
    """One grid of a table. head: what its rows are. rows: by label, values by the names of columns; `missing` stands
    where a row has none, and values of no column aren't shown.
    """

    title: str
    head: str
    columns: tuple[Column, ...]
    rows: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    missing: Value = ""

    @property
    def lines(self) -> dict[str, dict[str, Value]]:
        """By label a value for each column."""
        return {
            label: {column.name: row.get(column.name, self.missing) for column in self.columns}
            for label, row in self.rows.items()
        }


class Declaration(_Frozen):
    """A table or figure. columns and rows: what the paper prints, a value for each column of each row.

    experiments: those whose cells it is made of. measure: how (a name in `run.MEASURES`). figure: what of a cell it
    compares. top: of how many best formulas. methods: "searches" leaves the baselines out. seeds: "first" takes one,
    "spread" takes the bases and seeds of S.4. size: the name of a shared note, or a template of its own. notes:
    templates of why our figures can't equal the paper's. captions: of its plots. panels:
    those with fixed columns, without rows.
    """

    label: str
    title: str
    experiments: tuple[str, ...]
    measure: str
    figure: str = ""
    top: int = 0
    methods: Literal["all", "searches"] = "all"
    seeds: Literal["all", "first", "spread"] = "all"
    size: str = "size_of_all"
    notes: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    panels: tuple[Panel, ...] = ()
    columns: dict[str, str] = {}
    rows: dict[str, dict[str, Value]] = {}

    @model_validator(mode="after")
    def _complete(self) -> Declaration:
        for row, values in self.rows.items():
            if set(values) != set(self.columns):
                raise ValueError(f"row {row} has the columns {sorted(values)}, not {sorted(self.columns)}")
        return self

    def value(self, row: str, column: str) -> Value:
        """What the paper prints there; None (N/A) too where it has no such row."""
        return self.rows.get(row, {}).get(column)


class Comparison(_Frozen):
    """The data file. integers: Table 1's materials. notes: shared ones. departures: what differs in no field."""

    families: dict[str, Family]
    integers: tuple[str, ...]
    sizes: dict[str, Size]
    tables: dict[str, Declaration]
    notes: dict[str, str]
    departures: tuple[str, ...]


@cache
def comparison() -> Comparison:
    """The families, tables and notes that ship with the package."""
    text = files("kiago_ray.paper").joinpath("tables.yaml").read_text(encoding="utf-8")
    return Comparison.model_validate(yaml.safe_load(text))


@dataclass(frozen=True)
class PaperTable:
    """A table or figure of the paper, ours beside it.

    A measure makes panels, verdicts (what came of it, in sentences), the PNG of each plot, facts (what a script reads)
    and words for the templates of notes. The rest follows from the declaration: label is how the paper calls it, size
    how large ours is, notes where ours differs and why a figure can't be equal.
    """

    panels: Sequence[Panel]
    verdicts: Sequence[str] = ()
    drawn: Sequence[bytes] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    label: str = ""
    title: str = ""
    size: str = ""
    notes: Sequence[str] = ()
    captions: Sequence[str] = ()

    @property
    def heading(self) -> str:
        """Such as "Table 2: ΔT_c of the top 30 …"."""
        return f"{self.label}: {self.title}"

    @property
    def plots(self) -> list[Plot]:
        """Its plots, each with the name of its file and its caption."""
        pairs = zip(self.captions, self.drawn, strict=False)  # where nothing was run nothing is drawn
        return [Plot(f"{self.name}-{number}.png", *pair) for number, pair in enumerate(pairs, 1)]

    def as_plain(self) -> dict[str, Any]:
        """Everything but the plots as plain types; N/A is None."""
        return {
            "title": self.title,
            "size": self.size,
            "panels": [{"title": panel.title, "rows": panel.lines} for panel in self.panels],
            "verdicts": list(self.verdicts),
            "notes": list(self.notes),
            "facts": dict(self.facts),
        }

    def as_csv(self) -> str:
        """One line a value, numbers in full; N/A is an empty value."""
        values = [
            (self.name, panel.title, label, column.name, column.source, line[column.name])
            for panel in self.panels
            for label, line in panel.lines.items()
            for column in panel.columns
        ]
        return pd.DataFrame(values, columns=CSV_COLUMNS, dtype=object).to_csv(index=False)

    def as_markdown(self) -> str:
        """A section: size, what came of it, the panels, the plots, the notes."""
        lines = [f"## {self.heading}", "", self.size, ""]
        lines += [f"- {escaped(verdict)}" for verdict in self.verdicts]
        for panel in self.panels:
            heads = [panel.head, *(column.label for column in panel.columns)]
            rows = [
                [label, *(column.text(values[column.name]) for column in panel.columns)]
                for label, values in panel.lines.items()
            ]
            title = [f"**{escaped(panel.title)}**", ""] if panel.title else []
            lines += ["", *title, *markdown_grid(heads, rows)]
        for plot in self.plots:
            lines += ["", f"![{escaped(plot.caption)}]({plot.file})"]
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
