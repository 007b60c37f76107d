"""The Crystallography Open Database's search export (`result?format=csv`): what has been crystallised.

The columns are those of COD's MySQL table: `file` (the COD number), cell parameters, `sg`, …, `formula`,
`calcformula`, …, `status`, …; comma-separated, quoted where needed (titles hold commas and line ends), null
as an empty field. `formula` is Hill-ordered between dashes: `- C2 H6 O -`; `?` or nothing where the authors
gave none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from kiago_ray.chemistry.formula import FormulaError, parse
from kiago_ray.data.compositions import (
    CompositionKey,
    canonical,
    composition_key,
    compositions,
    finite,
    read_amounts,
)
from kiago_ray.data.files import LoadReport, PathLike, Tally, fail, read_columns, read_lines

KIND = "cod"
COLUMNS = ("file", "formula", "calcformula")
OPTIONAL_COLUMNS = ("status",)


def load_cod(path: PathLike) -> tuple[pd.DataFrame, LoadReport]:
    """One row a composition, sorted by formula.

    Columns: `formula` (canonical), `cod_id` (the first entry's number, text), `n_merged`, `chemical_system`.
    Deuterium counts as hydrogen. Entries without the authors' formula are dropped: `calcformula` is summed
    over the atoms that were located, and often lacks the hydrogen. Raises DataError.
    """
    contents = read_columns(path, COLUMNS, OPTIONAL_COLUMNS)
    tally = Tally(KIND, contents)
    rows: list[dict[str, float]] = []
    numbers: list[str] = []
    for line, (number, formula, calculated, status) in zip(contents.line_numbers, contents.rows, strict=True):
        text = bare_formula(formula)
        if status == "retracted":
            tally.drop("retracted", line, f"COD {number}")
        elif not text:
            tally.drop("missing formula", line, f"COD {number}, calcformula {calculated}")
        elif (amounts := read_amounts(text, line, tally)) is not None:
            rows.append(amounts)
            numbers.append(number)
    formulas, systems = compositions(rows)
    table = pd.DataFrame(
        {"formula": pd.Series(formulas, dtype="str"), "cod_id": pd.Series(numbers, dtype="str")}
    )
    table["n_merged"] = table.groupby("formula")["formula"].transform("size").astype("int64")
    table["chemical_system"] = pd.Series(systems, dtype="str")
    table = table.sort_values(["formula", "cod_id"]).drop_duplicates("formula").reset_index(drop=True)
    return table, tally.report(len(table))


def bare_formula(text: str) -> str:
    """`- C2 H6 O -` → `C2 H6 O`; `?` → nothing; a single D or T is H (`read_amounts` knows `D2`)."""
    tokens = text.strip("-?. ").split()
    return " ".join("H" if token in ("D", "T") else token for token in tokens)


MOST_ELEMENTS = 8  # more are minerals
NEAR = 0.001  # an amount this near to a twentieth of an atom is one
STEPS = 20
_NOBLE_GASES = frozenset(("He", "Ne", "Ar", "Kr", "Xe", "Rn"))
_COLLECTION_COLUMNS = ("formula", "code", "spacegroup", "e_hull_ev_per_atom")
MADE_COLUMNS = ["formula", "code", "spacegroup", "in_2007"]


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
    contents = read_columns(now, _COLLECTION_COLUMNS)
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
    table = pd.DataFrame(rows, columns=MADE_COLUMNS).sort_values("formula", ignore_index=True)
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
