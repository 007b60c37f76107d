"""A shortlist for the laboratory: of each row of a table of candidates how it is weighed and made, what is dangerous
about it, what is known nearby, and why to believe it or not; as XLSX, CSV, Markdown and HTML.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kiago_ray.chemistry.formula import FormulaError, as_chemists_write
from kiago_ray.chemistry.synthesis import (
    ROUTES,
    Batch,
    Hazard,
    NoReactionError,
    Precursor,
    Recipe,
    hazards_of,
    recipe_of,
)
from kiago_ray.data.references import doi_of
from kiago_ray.report.page import formula_markup, render
from kiago_ray.report.reasons import Reason, Row, con, reasons_of
from kiago_ray.report.tables import cell, with_spread

CAVEATS = (
    "Reactions balance atoms; they say nothing of temperatures, times, or whether the phase forms.",
    "Masses are those of pure precursors: correct them for purity and for what evaporates.",
    "Hazards are a first orientation and replace no safety data sheet.",
    "T_c is predicted; σ and the reasons say how far it can be trusted.",
)
_COPIED = (
    "passed tc_k tc_std_k tc_oracle_k trusted_tc_k expected_improvement_k plausibility e_hull_ev_per_atom "
    "e_hull_std_ev_per_atom extrapolation oxidation_states"
)
_NEAREST = "nearest_distance nearest_tc_k nearest_pressure_gpa nearest_reference"
_LINKS = ("nearest_doi", "made_at")  # columns that hold addresses
_WIDTHS = {
    "formula": 24,
    "precursors": 44,
    "reaction": 44,
    "remark": 30,
    "hazards": 50,
    "for": 50,
    "against": 50,
}
_OF_COD = re.compile(r"COD (\d+)")


@dataclass(frozen=True)
class Entry:
    """A row of the list. formula: as chemists write it. recipe: None where there is a `problem`."""

    number: int
    row: Row
    formula: str
    recipe: Recipe | None
    problem: str
    hazards: tuple[str, ...]
    reasons: tuple[Reason, ...] = ()

    def sentences(self, side: str) -> list[str]:
        """Why to believe it (`for`), or why not (`against`)."""
        return [each.sentence for each in self.reasons if each.side == side]

    @property
    def nearest(self) -> str | None:
        """The nearest known composition, its elements in the order of this one; None without any."""
        known = self.row.get("nearest_known")
        return known and as_chemists_write(known, self.formula, None)

    @property
    def doi(self) -> str:
        """The address of the report of the nearest known composition; "" where none can be told."""
        doi = doi_of(self.row.get("nearest_reference"))
        return f"https://doi.org/{doi}" if doi else ""

    @property
    def made_at(self) -> str:
        """The address of the compound in COD that has this composition; "" where there is none."""
        found = _OF_COD.match(self.row.get("made") or "")
        return f"https://www.crystallography.net/cod/{found[1]}.html" if found else ""

    @property
    def remark(self) -> str:
        """Where it is fired and what gases do; or why there is no recipe."""
        if self.recipe is None:
            return self.problem
        return "; ".join(filter(None, (ROUTES[self.recipe.route], self.recipe.remark)))

    @property
    def weighed(self) -> list[tuple[str, str, str]]:
        """Formula, grams and note of each precursor."""
        parts = self.recipe.weighed if self.recipe else ()
        return [(each.precursor.formula, f"{each.grams:.4f}", each.precursor.note) for each in parts]

    @property
    def flat(self) -> dict[str, Any]:
        """All of it as columns, None where there is no value."""
        row, recipe = self.row, self.recipe
        found = {
            "number": self.number,
            "formula": self.formula,
            **{name: row.get(name) for name in _COPIED.split()},
            "batch_g": recipe and round(recipe.grams, 4),
            "precursors": "; ".join(f"{formula} {grams} g" for formula, grams, _ in self.weighed),
            "reaction": recipe and recipe.reaction,
            "remark": self.remark,
            "hazards": "\n".join(self.hazards),
            "nearest_known": self.nearest,
            **{name: row.get(name) for name in _NEAREST.split()},
            "nearest_doi": self.doi,
            "known": row.get("known"),
            "made": row.get("made"),
            "made_at": self.made_at,
            "for": "\n".join(self.sentences("for")),
            "against": "\n".join(self.sentences("against")),
            "formula_in_table": row.get("formula"),
        }
        return {name: None if value == "" else value for name, value in found.items()}


def entry_of(
    number: int,
    row: Row,
    batch: Batch,
    precursors: Sequence[Precursor],
    hazards: Sequence[Hazard],
    ef_error_ev_per_atom: float | None,
) -> Entry:
    """A row as an entry of the list; where it can't be made from these precursors, with the cause. number: from 1."""
    formula, recipe, problem = str(row.get("formula") or ""), None, ""
    try:
        if not row.get("source"):  # what keeps its base's sites is written so already
            formula = as_chemists_write(formula, row.get("base"), row.get("nearest_known"))
        recipe = recipe_of(formula, batch, precursors)
    except NoReactionError as error:
        problem = str(error)
    except FormulaError as error:
        return Entry(number, row, formula, None, f"the formula can't be read: {error}", ())
    dangers = hazards_of(formula, recipe, hazards)
    if row.get("tc_k") is None:
        return Entry(
            number, row, formula, recipe, problem, dangers, (con(row.get("error") or "No prediction."),)
        )
    reasons = tuple(reasons_of(row, ef_error_ev_per_atom))
    return Entry(number, row, formula, recipe, problem, dangers, reasons)


def csv_of(entries: Sequence[Entry], title: str) -> bytes:
    """The list as a CSV file, a line each."""
    text = io.StringIO()
    rows = [entry.flat for entry in entries]
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def markdown_of(entries: Sequence[Entry], title: str) -> bytes:
    """The list as Markdown, a section each."""
    lines = [f"# {_plain(title)}", "", *(f"- {caveat}" for caveat in CAVEATS)]
    for entry in entries:
        told = (f"- **{label}:** {text}".replace("** \n", "**\n") for label, text in _lines(entry))
        lines += ["", f"## {entry.number}. {_plain(entry.formula)}", "", *told]
    return ("\n".join(lines) + "\n").encode(errors="replace")


def _plain(text: str) -> str:
    """Text in which Markdown begins nothing of its own: Fe+2*1.5 Fe+3*0.5 has no italics."""
    return re.sub(r"([\\*<`])", r"\\\1", text)


def _lines(entry: Entry) -> Iterator[tuple[str, str]]:
    """What a person reads of an entry, a label and Markdown each."""
    yield "Predicted", predicted(entry.row)
    if entry.recipe is not None:
        weighed = [
            f"{formula} {grams} g" + (f" ({note})" if note else "") for formula, grams, note in entry.weighed
        ]
        yield f"Weigh for {entry.recipe.grams:.4g} g", _plain("; ".join(weighed))
        yield "Reaction", _plain(entry.recipe.reaction)
    yield "Made" if entry.recipe else "No recipe", _plain(entry.remark)
    for text in entry.hazards:
        yield "Hazard", _plain(text)
    if entry.nearest:
        link = f" <{entry.doi}>" if entry.doi else ""
        yield "Nearest known", _plain(f"{entry.nearest}, {of_nearest(entry.row)}") + link
    if entry.made_at:
        yield "Exists", f"{_plain(entry.row['made'])} <{entry.made_at}>"
    for name in ("For", "Against"):
        if texts := entry.sentences(name.lower()):
            yield name, "".join(f"\n    - {_plain(text)}" for text in texts)


def predicted(row: Row) -> str:
    """T_c by the search's model and by the oracle, the energy above the hull, and whether it passed."""
    parts = [f"T_c {with_spread(row)} K"] if row.get("tc_k") is not None else []
    parts += [
        f"{label} {cell(row, name)}{unit}"
        for label, name, unit in (
            ("oracle", "tc_oracle_k", " K"),
            ("ΔE_hull", "e_hull_ev_per_atom", " eV/atom"),
            ("plausibility", "plausibility", ""),
        )
        if row.get(name) is not None
    ]
    parts += {True: ["passes all screens"], False: ["fails screens"]}.get(row.get("passed"), [])  # type: ignore[arg-type]
    return ", ".join(parts) or "nothing"


def of_nearest(row: Row) -> str:
    """What is known of the nearest known composition: its T_c, how far it is, its reference."""
    pressure, reference = row.get("nearest_pressure_gpa"), row.get("nearest_reference")
    under = f" under {pressure:g} GPa" if pressure else ""
    told = f"{cell(row, 'nearest_tc_k')} K{under}, L1 distance {cell(row, 'nearest_distance')}"
    return told + (f"; {reference}" if reference else "")


def html_of(entries: Sequence[Entry], title: str) -> bytes:
    """The list as one self-contained page."""
    page = render(
        "shortlist.html.j2",
        title=title,
        entries=entries,
        caveats=CAVEATS,
        weighed={
            entry.number: [(formula_markup(formula), *rest) for formula, *rest in entry.weighed]
            for entry in entries
        },
        predicted=predicted,
        of_nearest=of_nearest,
    )
    return page.encode(errors="replace")


def xlsx_of(entries: Sequence[Entry], title: str) -> bytes:
    """The list as a workbook: a sheet of candidates, one of what is weighed, and one of what to know."""
    from openpyxl import Workbook  # which takes longer than the other forms

    weighed = [
        {
            "number": entry.number,
            "formula": entry.formula,
            "precursor": each.precursor.formula,
            "name": each.precursor.name,
            "mass_g": round(each.grams, 4),
            "moles_per_formula": round(each.moles, 6),
            "note": each.precursor.note,
        }
        for entry in entries
        if entry.recipe
        for each in entry.recipe.weighed
    ]
    book = Workbook()
    book.remove(book.active)
    _fill(book.create_sheet("Candidates"), [entry.flat for entry in entries])
    _fill(book.create_sheet("Weighing"), weighed)
    _fill(book.create_sheet("Read first"), [{"about": text} for text in (title, *CAVEATS)])
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def _fill(sheet: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table into a sheet: a bold header that stays, text that wraps, addresses that can be clicked."""
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
    from openpyxl.styles import Alignment, Font

    names = list(rows[0]) if rows else []
    for at, name in enumerate(names, start=1):
        sheet.cell(1, at, name).font = Font(bold=True)
        sheet.column_dimensions[sheet.cell(1, at).column_letter].width = _WIDTHS.get(
            name, 80 if name == "about" else 16
        )
        for line, row in enumerate(rows, start=2):
            value = row[name]
            own = sheet.cell(line, at)
            own.alignment = Alignment(wrap_text=True, vertical="top")
            if isinstance(value, str):
                own.value = ILLEGAL_CHARACTERS_RE.sub("\ufffd", value)
                own.data_type = "s"  # a text that begins with = is no formula of the sheet
                if name in _LINKS:
                    own.hyperlink = value
            else:
                own.value = value
    sheet.freeze_panes = "C2" if len(names) > 2 else "A2"


WRITERS: Mapping[str, Callable[[Sequence[Entry], str], bytes]] = {
    ".xlsx": xlsx_of,
    ".csv": csv_of,
    ".md": markdown_of,
    ".html": html_of,
}
"""Ending of a file → what writes it, of one entry at least and a title."""
