"""Formulas of the Crystallography Open Database cleaned for the package: what has been made, organics left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from kiago_ray.chemistry.formula import FormulaError, parse
from kiago_ray.datasets.files import PathLike, fail, read_columns, read_lines
from kiago_ray.datasets.table import CompositionKey, canonical, composition_key, finite

MOST_ELEMENTS = 8  # more are minerals
NEAR = 0.001  # an amount this near to a twentieth of an atom is one
STEPS = 20
_NOBLE_GASES = frozenset(("He", "Ne", "Ar", "Kr", "Xe", "Rn"))
_COLUMNS = ("formula", "code", "spacegroup", "e_hull_ev_per_atom")
COLUMNS = ["formula", "code", "spacegroup", "in_2007"]


@dataclass(frozen=True)
class _Entry:
    """A crystal structure of a composition. e_hull_ev_per_atom: infinite where unknown."""

    formula: str
    e_hull_ev_per_atom: float
    code: int
    spacegroup: int | None

    @property
    def rank(self) -> tuple[float, int, str]:
        """What decides which of several stands for the composition: the lowest in energy, then the first."""
        return self.e_hull_ev_per_atom, self.code, self.formula


def merged_made(now: PathLike, in_2007: PathLike) -> pd.DataFrame:
    """The table of `knowledge.tables.made`, from COD's formulas and from the list of what it held in 2007.

    Raises DataError.
    """
    entries: dict[CompositionKey, _Entry] = {}
    contents = read_columns(now, _COLUMNS)
    for line, (text, code, group, energy) in zip(contents.line_numbers, contents.rows, strict=True):
        amounts = cleaned(text)
        if amounts is None:
            continue
        if not code.isdigit() or not (group.isdigit() or not group):
            fail(
                now, line, f"code {code!r} and space group {group!r} are no whole numbers", "correct the row"
            )
        value = finite(energy)
        entry = _Entry(
            canonical(amounts),
            float("inf") if value is None else value,
            int(code),
            int(group) if group else None,
        )
        key = composition_key(amounts)
        if key not in entries or entry.rank < entries[key].rank:
            entries[key] = entry
    then: dict[CompositionKey, str] = {}
    for text in read_lines(in_2007):
        amounts = cleaned(text.strip())
        if amounts is not None:
            key, formula = composition_key(amounts), canonical(amounts)
            if key not in then or (len(formula), formula) < (len(then[key]), then[key]):
                then[key] = formula
    return _table(entries, then)


def _table(entries: Mapping[CompositionKey, _Entry], then: Mapping[CompositionKey, str]) -> pd.DataFrame:
    rows: list[tuple[str, int | None, int | None, bool]]
    rows = [(each.formula, each.code, each.spacegroup, key in then) for key, each in entries.items()]
    rows += [(formula, None, None, True) for key, formula in then.items() if key not in entries]
    table = pd.DataFrame(rows, columns=COLUMNS).sort_values("formula", ignore_index=True)
    return table.astype({"formula": "str", "code": "Int64", "spacegroup": "Int64", "in_2007": "bool"})


def cleaned(text: str) -> dict[str, float] | None:
    """A formula's amounts; None for one that can't be read, a compound of carbon and hydrogen, one of more than eight
    elements and a noble gas alone. Amounts within 0.001 of a twentieth of an atom are that.
    """
    try:
        amounts = parse(text)
    except FormulaError:
        return None
    held = set(amounts)
    if held >= {"C", "H"} or len(held) > MOST_ELEMENTS or held <= _NOBLE_GASES:
        return None
    return {symbol: _rounded(amount) for symbol, amount in amounts.items()}


def _rounded(amount: float) -> float:
    near = round(amount * STEPS) / STEPS
    return near if near > 0 and abs(amount - near) <= NEAR else amount
