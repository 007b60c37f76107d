"""Makes any table from its declaration, and writes tables and the one report of all of them.

The report says how the search of the columns "ours" differs from the paper and from the reference code: read off the
presets, with the reasons that the specification's descriptions give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel

from kiago_ray.paper import measures, proposals
from kiago_ray.paper.experiments import EXPERIMENTS, Figures, Found, Lab
from kiago_ray.paper.measures import Evidence
from kiago_ray.paper.tables import BASELINES, LABELS, METHODS, PaperTable, comparison, escaped, markdown_grid
from kiago_ray.report.page import render
from kiago_ray.report.plots import Plot
from kiago_ray.search.spec import SearchSpec, load_preset
from kiago_ray.storage.location import Location

PAGE, TEXT = "report.html", "report.md"
TITLE = "The paper's tables, ours beside what is printed"
PRESETS = ("open", "paper", "reference")
_OF_A_SEARCH = ("base", "seed")
MEASURES: Mapping[str, Callable[[Evidence], PaperTable]] = {
    "causes": measures.causes,
    "contest": measures.contest,
    "conversions": measures.conversions,
    "hydrides": proposals.hydrides,
    "integer_loss": measures.integer_loss,
    "pass_rates": measures.pass_rates,
    "rates": measures.rates,
    "samples": proposals.samples,
    "spread": measures.spread,
    "starts": measures.starts,
    "substitutions": proposals.substitutions,
}
"""How a declaration's table is made of its cells."""


def measure(name: str, lab: Lab) -> PaperTable:
    """Run what is missing of a table's cells and make the table. Raises KeyError for a name that is no table."""
    declared = comparison().tables[name]
    seeds = Evidence(declared, {}, lab).seeds
    found: dict[tuple[str, str, int], Figures] = {}
    for experiment in declared.experiments:
        pairs = [
            (base, method)
            for base, method in EXPERIMENTS[experiment].pairs(lab.size)
            if (declared.methods == "all" or method not in BASELINES)
            and (declared.seeds != "spread" or base in lab.size.spread_bases)
        ]
        found |= lab.cells(experiment, pairs, seeds)
    return table_of(name, found, lab)


def table_of(name: str, found: Found, lab: Lab) -> PaperTable:
    """The table that these cells make."""
    declared, notes = comparison().tables[name], comparison().notes
    evidence = Evidence(declared, found, lab)
    table = MEASURES[declared.measure](evidence)
    words = {
        **notes,
        "ours": "" if evidence.family is None else evidence.family.ours,
        "thin": thin(evidence),
        "known": "none were given" if lab.models.known is None else lab.models.known.source,
        "hull": notes["hull_absent" if lab.models.hull is None else "hull_asked"],
        "top": str(declared.top),
        **table.words,
    }
    filled = [note.format(**words) for note in declared.notes]
    return replace(
        table,
        name=name,
        label=declared.label,
        title=declared.title,
        size=_size(evidence),
        notes=[note for note in filled if note],
    )


def _size(evidence: Evidence) -> str:
    declared, size = evidence.declared, evidence.lab.size
    if not declared.size:
        diffused = evidence.family is not None and declared.methods == "all"
        return size.words(declared.experiments[0], evidence.seeds, diffused=diffused)
    count = size.candidates[declared.experiments[0]] if declared.experiments else 0
    return declared.size.format(candidates=count, size=size, seed=evidence.seeds[0])


def thin(evidence: Evidence) -> str:
    """Which cells had fewer formulas that passed than the table takes; "" where none had."""
    few, k = [], evidence.declared.top
    for base in evidence.bases:
        counts = []
        for method in METHODS:
            cells = [evidence.found.get((base, method, seed)) for seed in evidence.seeds]
            passed = [cell["passed"] for cell in cells if cell is not None]
            if passed and min(passed) < k:
                counts.append(f"{LABELS[method]} {min(passed)}")
        if counts:
            few.append(f"{base} ({', '.join(counts)})")
    if not few:
        return ""
    return f"Fewer than {k} formulas passed, so that means are of these alone: {'; '.join(few)}."


def differences(presets: Sequence[str] = PRESETS) -> list[tuple[str, ...]]:
    """Every field whose value isn't the same in all of these presets, in the specification's order: its name, the
    value in each preset, and its description, which has the reason.
    """
    dumps = [load_preset(name).model_dump(mode="json") for name in presets]
    found = []
    for path, description in _fields(SearchSpec):
        values = [_at(dump, path) for dump in dumps]
        if path[0] not in _OF_A_SEARCH and any(value != values[0] for value in values):
            found.append((".".join(path), *map(_text, values), description))
    return found


def _fields(
    model: type[BaseModel], above: tuple[str, ...] = (), reason: str = ""
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Path and description of every field, those of sections one by one, with the section's where it gives reasons."""
    for name, field in model.model_fields.items():
        path = (*above, name)
        kind, description = field.annotation, " ".join((field.description or "").split())
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _fields(kind, path, f"{description} " if "`default`" in description else "")
        else:
            yield path, reason + description


def _at(values: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        values = values[name]
    return values


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def differences_markdown() -> str:
    """How ours differs, as a section."""
    heads = ["field", *(f"`{preset}`" for preset in PRESETS), "what it is, and why"]
    grid = markdown_grid(heads, ([f"`{name}`", *others] for name, *others in differences()))
    lines = ["## How ours differs from the paper and from its reference code", "", *grid]
    lines += ["", "In no field:", "", *(f"- {escaped(line)}" for line in comparison().departures)]
    return "\n".join(lines) + "\n"


def write_table(table: PaperTable, where: Location) -> list[str]:
    """Write NAME.csv, NAME.md and NAME-1.png, …; return the files' names. Raises StorageError."""
    contents = {
        f"{table.name}.csv": table.as_csv().encode(),
        f"{table.name}.md": table.as_markdown().replace("## ", "# ", 1).encode(),
        **{file: png for file, (_, png) in zip(table.plot_files, table.plots, strict=True)},
    }
    for file, content in contents.items():
        (where / file).write_bytes(content)
    return list(contents)


def page(tables: Sequence[PaperTable], facts: Sequence[tuple[str, str]], failures: Sequence[str] = ()) -> str:
    """The page of all tables as HTML5 text. facts: label and value of what the results rest on. failures: cells that
    failed, a line each.
    """
    return render(
        "paper.html.j2",
        title=TITLE,
        tables=[(table, [Plot("", *plot) for plot in table.plots]) for table in tables],
        facts=facts,
        presets=PRESETS,
        found=differences(),
        outside=comparison().departures,
        failures=failures,
    )


def write_report(
    tables: Sequence[PaperTable],
    where: Location,
    facts: Sequence[tuple[str, str]],
    failures: Sequence[str] = (),
) -> list[str]:
    """Write the one page of all tables, as HTML and as Markdown. Raises StorageError."""
    lines = [f"# {TITLE}", ""]
    lines += [f"- {label}: {value}" for label, value in facts]
    lines += ["", *(f"Failed: {line}" for line in failures), ""] if failures else [""]
    text = "\n".join([*lines, *(table.as_markdown() for table in tables), differences_markdown()])
    (where / PAGE).write_bytes(page(tables, facts, failures).encode())
    (where / TEXT).write_bytes(text.encode())
    return [PAGE, TEXT]
