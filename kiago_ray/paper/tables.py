"""The comparison as one data file declares it, and its tables as they are shown: families of bases, sizes, what the
paper prints; panels of our columns beside the paper's, as CSV, Markdown and plain types; plots, in which methods
differ in colour and in shape, ours filled and the paper's hollow.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, model_validator

from kiago_ray.chemistry.elements import Floats
from kiago_ray.errors import InputError
from kiago_ray.report import plots as draw
from kiago_ray.report.plots import TC, Plot, finish, new_figure
from kiago_ray.search.spec import SearchSpec, load_preset, preset_values

Value = float | str | None
"""A number; a text such as a formula, "" for a blank; None for N/A: nothing passed."""
Values = Mapping[str, Mapping[str, Value]]
"""Base → method → value, or the label of a row → the name of a column → value."""

Method = Literal["kiago", "ours", "superdiff", "superdiff_cg", "substitution"]
METHODS: tuple[Method, ...] = get_args(Method)
SEARCHES, BASELINES = METHODS[:2], METHODS[2:]
LABELS: Mapping[str, str] = dict(zip(METHODS, ("KIAGO", "ours", "SD", "SD w/ CG", "C-ES"), strict=True))
METHOD_STYLES = (
    (draw.BLUE, "D"),
    (draw.GREEN, "o"),
    (draw.ORANGE, "^"),
    (draw.VERMILION, "v"),
    (draw.GREY, "s"),
)
PAIR_STYLES = ((draw.BLUE, "D"), (draw.GREEN, "o"), (draw.VERMILION, "^"), ("black", "s"))
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
    rows: Values = field(default_factory=dict)
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

    experiments: those whose cells it is made of. measure: how (a name in MEASURES). figure: what of a cell it
    compares. top: of how many best formulas. methods: "searches" leaves the baselines out. seeds: "first" takes one,
    "spread" takes the bases and seeds of S.4. size: the name of a shared note, or a template of its own. notes:
    templates of why our figures can't equal the paper's. captions: of its plots. panels: those with fixed columns,
    without rows.
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

    @property
    def diffused(self) -> bool:
        """Whether some of its cells are SuperDiff's."""
        compared = self.methods == "all" and any(name in comparison().families for name in self.experiments)
        return compared or "guidance" in self.experiments

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


def dots(ours: Values, paper: Values, label: str) -> bytes:
    """A line for each base, a mark for each method on it; what isn't a number is left out."""
    figure, (axes,) = new_figure(7.6, 1.1 + 0.46 * len(ours))
    axes.grid(visible=False)
    for at, (method, (colour, marker)) in enumerate(zip(METHODS, METHOD_STYLES, strict=True)):
        style: dict[str, Any] = {"s": 34, "marker": marker, "edgecolors": colour, "linewidths": 1.1}
        places = np.arange(len(ours)) + (at - 2) * 0.13
        for values, face, order, whose in ((ours, colour, 4, ""), (paper, "white", 3, ", paper")):
            x = _numbers(values.get(base, {}).get(method) for base in ours)
            if np.isfinite(x).any():
                label_of = LABELS[method] + whose
                axes.scatter(x, places, facecolors=face, zorder=order, label=label_of, **style)
    axes.axvline(0, color="black", linewidth=0.8, zorder=1)
    for row in range(1, len(ours)):
        axes.axhline(row - 0.5, color="#e4e4e4", linewidth=0.8, zorder=0)
    draw.list_rows(axes, list(ours))
    axes.set_xlabel(label)
    return draw.png_of(finish(figure, axes, columns=5, size=9))


def changes_plot(panel: Panel, labels: tuple[str, str], *, symmetric_log: bool = False) -> bytes:
    """The columns of a panel that have a sign, over its rows, in pairs: the first is filled, the second hollow and
    dashed. labels: of x and y. Lines have gaps where a value isn't a number, and what has none is left out.
    """
    figure, (axes,) = new_figure(7.0, 4.2)
    for at, column in enumerate(column for column in panel.columns if column.sign):
        colour, marker = PAIR_STYLES[at // 2]
        hollow = {"markerfacecolor": "white", "linestyle": draw.DASHED} if at % 2 else {}
        y = _numbers(row.get(column.name) for row in panel.rows.values())
        if np.isfinite(y).any():
            axes.plot(range(len(y)), y, color=colour, marker=marker, label=column.label, **hollow)
    if symmetric_log:
        axes.set_yscale("symlog", linthresh=10)
    axes.axhline(0, color="black", linewidth=0.8, zorder=1)
    axes.set_xticks(range(len(panel.rows)), list(panel.rows))
    axes.set(xlabel=labels[0], ylabel=labels[1])
    return draw.png_of(finish(figure, axes, columns=4, size=9))


def starts_plot(paths: Mapping[str, Mapping[str, Sequence[float]]]) -> bytes:
    """Fig. 3: T_c over the steps from two kinds of start. paths: label → steps, p10, p50, p90 and mean over rows at
    each of them, and `rows`: some single rows.
    """
    figure, panels = new_figure(8.6, 3.8, columns=len(paths), sharey=True)
    for axes, (label, path) in zip(panels, paths.items(), strict=True):
        steps = path["steps"]
        for row in path["rows"]:
            axes.plot(steps, row, color=draw.GREY, linewidth=0.5, alpha=0.35)
        band = {"color": draw.SKY, "alpha": 0.35, "linewidth": 0}
        axes.fill_between(steps, path["p10"], path["p90"], label="middle 80 %", **band)
        axes.plot(steps, path["p50"], color=draw.BLUE, label="median")
        axes.plot(steps, path["mean"], color=draw.VERMILION, linestyle=draw.DASHED, label="mean")
        axes.set_title(label, loc="left", fontsize=10)
        axes.set_xlabel("step")
    panels[0].set_ylabel(f"predicted {TC} (K)")
    return draw.png_of(finish(figure, panels[0], columns=3, size=9))


def _numbers(values: Iterable[Value]) -> Floats:
    """The values (n,), NaN for what isn't a number."""
    return np.array([value if isinstance(value, float | int) else np.nan for value in values])
