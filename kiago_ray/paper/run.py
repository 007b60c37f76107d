"""Makes any table from its declaration, and writes tables and the one report of all of them.

The report says how the search of the columns "ours" differs from the paper and from the reference code: read off the
presets, with the reasons that the specification's descriptions give.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel

from kiago_ray.paper.experiments import Figures, Found, Lab, cells_of
from kiago_ray.paper.measures import MEASURES, Evidence
from kiago_ray.paper.tables import BASELINES, LABELS, METHODS, PaperTable, comparison, escaped, markdown_grid
from kiago_ray.report.page import render
from kiago_ray.search.spec import load_preset
from kiago_ray.storage.location import Location

PAGE, TEXT = "report.html", "report.md"
TITLE = "The paper's tables, ours beside what is printed"
PRESETS = ("open", "paper", "reference")


def measure(name: str, lab: Lab) -> PaperTable:
    """Run what is missing of a table's cells and make the table. Raises KeyError for a name that is no table."""
    declared = comparison().tables[name]
    seeds = Evidence(declared, {}, lab).seeds
    found: dict[tuple[str, str, int], Figures] = {}
    for experiment in declared.experiments:
        pairs = [
            (base, method)
            for base, method in cells_of(experiment, lab.size)
            if (declared.methods == "all" or method not in BASELINES)
            and (declared.seeds != "spread" or base in lab.size.spread_bases)
        ]
        found |= lab.cells(experiment, pairs, seeds)
    return table_of(name, found, lab)


def table_of(name: str, found: Found, lab: Lab) -> PaperTable:
    """The table that these cells make."""
    declared, notes = comparison().tables[name], comparison().notes
    evidence, size, known, hull = Evidence(declared, found, lab), lab.size, lab.models.known, lab.models.hull
    table, seeds = MEASURES[declared.measure](evidence), evidence.seeds
    steps, ours_steps = ("{} + {}".format(*each) for each in size.steps.values())
    words = {
        **notes,
        "ours": "" if evidence.family is None else evidence.family.ours,
        "thin": thin(evidence),
        "known": "none were given" if known is None else known.source,
        "hull": notes["hull_absent" if hull is None else "hull_asked"],
        "top": declared.top,
        "size": size,
        "candidates": size.candidates.get(declared.experiments[0] if declared.experiments else "", 0),
        "steps": steps,
        "ours_steps": ours_steps,
        "seeds": f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}",
        **table.words,
    }
    size_note, *others = (
        note.format(**words) for note in (notes.get(declared.size, declared.size), *declared.notes)
    )
    shared = {key: getattr(declared, key) for key in ("label", "title", "captions")}
    return replace(table, name=name, size=size_note, notes=[note for note in others if note], **shared)


def thin(evidence: Evidence) -> str:
    """Which cells had fewer formulas that passed than the table takes; "" where none had."""
    few, k = [], evidence.declared.top
    for base in evidence.bases:
        cells = {m: [c for (b, n, _), c in evidence.found.items() if (b, n) == (base, m)] for m in METHODS}
        least = {method: min(cell["passed"] for cell in each) for method, each in cells.items() if each}
        counts = [f"{LABELS[method]} {count}" for method, count in least.items() if count < k]
        few += [f"{base} ({', '.join(counts)})"] if counts else []
    words = f"Fewer than {k} formulas passed, so that means are of these alone: {'; '.join(few)}."
    return words if few else ""


def differences() -> list[tuple[str, ...]]:
    """Name, the value in each of the PRESETS and the description, with its reason, of fields that differ there."""
    found = []
    for fields in zip(*(_fields(load_preset(name)) for name in PRESETS), strict=True):
        (path, *_), values, (description, *_) = zip(*fields, strict=True)
        if len(set(values)) > 1:
            found.append((path, *values, description))
    return found


def _fields(section: BaseModel, above: str = "") -> Iterator[tuple[str, str, str]]:
    """Path, value and description of every field, those of sections one by one."""
    for name, field in type(section).model_fields.items():
        if isinstance(value := getattr(section, name), BaseModel):
            yield from _fields(value, f"{above}{name}.")
        else:
            yield above + name, _text(value), " ".join((field.description or "").split())


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
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


def write_table(table: PaperTable, where: Location) -> None:
    """Write NAME.csv, NAME.md and NAME-1.png, … Raises StorageError."""
    (where / f"{table.name}.csv").write_bytes(table.as_csv().encode())
    (where / f"{table.name}.md").write_bytes(table.as_markdown().replace("## ", "# ", 1).encode())
    for plot in table.plots:
        (where / plot.file).write_bytes(plot.png)


def write_report(
    tables: Sequence[PaperTable],
    where: Location,
    facts: Sequence[tuple[str, str]],
    failures: Sequence[str] = (),
) -> None:
    """Write the one page of all tables, as HTML5 and as Markdown. Raises StorageError.

    facts: label and value of what the results rest on. failures: cells that failed, a line each.
    """
    lines = [f"# {TITLE}", ""]
    lines += [f"- {label}: {value}" for label, value in facts]
    lines += ["", *(f"Failed: {line}" for line in failures), ""] if failures else [""]
    text = "\n".join([*lines, *(table.as_markdown() for table in tables), differences_markdown()])
    page = render(
        "paper.html.j2",
        title=TITLE,
        tables=tables,
        facts=facts,
        presets=PRESETS,
        found=differences(),
        outside=comparison().departures,
        failures=failures,
    )
    (where / PAGE).write_bytes(page.encode())
    (where / TEXT).write_bytes(text.encode())
