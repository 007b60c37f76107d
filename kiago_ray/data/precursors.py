"""What a laboratory weighs and what is dangerous about it: the shipped tables, or one's own (see SOURCES.md)."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, cast

from kiago_ray.chemistry.elements import INDEX
from kiago_ray.chemistry.formula import FormulaError, parse
from kiago_ray.chemistry.synthesis import Hazard, Precursor
from kiago_ray.data.files import PathLike, fail, finite, read_columns

ROUTES, FORMS = ("air", "closed", "any"), ("any", "element")
MOST_PRECURSORS = 2_000


def load_precursors(path: PathLike | None = None) -> tuple[Precursor, ...]:
    """The precursors of a CSV file with the columns formula, route (air, closed or any), and maybe name, rank (above
    0, 1 by default; the lowest is taken first) and note; for None those that ship. Raises DataError.
    """
    path = _shipped("precursors.csv") if path is None else path
    found: dict[str, Precursor] = {}
    for line, (formula, route, name, rank, note) in read_columns(
        path, ("formula", "route"), ("name", "rank", "note")
    ).rows:
        try:
            parse(formula)
        except FormulaError as error:
            fail(path, line, f"the formula {formula[:80]!r} can't be read ({error.reason})", "correct it")
        if route not in ROUTES:
            fail(path, line, f"route is {route[:40]!r}", f"give one of {', '.join(ROUTES)}")
        value = finite(rank) if rank else 1.0
        if value is None or not 0 < value <= 1000:
            fail(path, line, f"rank is {rank[:40]!r}", "give a number above 0, up to 1000")
        if formula in found or len(found) == MOST_PRECURSORS:
            advice = f"list each of up to {MOST_PRECURSORS} once"
            fail(path, line, f"{formula} is given twice, or is one too many", advice)
        found[formula] = Precursor(formula, name, cast(Any, route), value, note)
    return tuple(found.values())


def load_hazards(path: PathLike | None = None) -> tuple[Hazard, ...]:
    """The hazards of a CSV file with the columns elements (symbols, a space between), form (any, or element: where it
    is weighed as such) and hazard; for None those that ship. Raises DataError.
    """
    path = _shipped("hazards.csv") if path is None else path
    found = []
    for line, (elements, form, text) in read_columns(path, ("elements", "form", "hazard")).rows:
        symbols = tuple(elements.split())
        if form not in FORMS or not symbols or not INDEX.keys() >= set(symbols):
            fail(path, line, f"{elements[:40]!r} as {form[:40]!r}", "give symbols, and any or element")
        found.append(Hazard(symbols, cast(Any, form), text))
    return tuple(found)


def _shipped(name: str) -> Path:
    return Path(str(resources.files(__package__) / name))
