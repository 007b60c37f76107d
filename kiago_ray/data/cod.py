"""The Crystallography Open Database's search export (`result?format=csv`): what has been crystallised.

The columns are those of COD's MySQL table: `file` (the COD number), cell parameters, `sg`, …, `formula`,
`calcformula`, …, `status`, …; comma-separated, quoted where needed (titles hold commas and line ends), null
as an empty field. `formula` is Hill-ordered between dashes: `- C2 H6 O -`; `?` or nothing where the authors
gave none.
"""

from __future__ import annotations

import pandas as pd

from kiago_ray.chemistry.formula import FormulaError, parse
from kiago_ray.data.compositions import (
    canonical,
    composition_key,
    finite,
    merged,
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
    for line, (number, formula, calculated, status) in contents:
        text = bare_formula(formula)
        if status == "retracted":
            tally.drop("retracted", line, f"COD {number}")
        elif not text:
            tally.drop("missing formula", line, f"COD {number}, calcformula {calculated}")
        elif (amounts := read_amounts(text, line, tally)) is not None:
            rows.append(amounts)
            numbers.append(number)
    table = merged(rows, ["cod_id"], cod_id=numbers)
    return table.astype({"cod_id": "str"}), tally.report(len(table))


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


def merged_made(now: PathLike, in_2007: PathLike) -> pd.DataFrame:
    """The table of `tables.made`, from COD's formulas and from the list of what it held in 2007.

    Of several structures of a composition the lowest in energy stands for it, then the one with the lowest number.
    Raises DataError.
    """
    rows = []
    for line, (text, code, group, energy) in read_columns(now, _COLLECTION_COLUMNS):
        amounts = cleaned(text)
        if amounts is None:
            continue
        if not code.isdigit() or not (group.isdigit() or not group):
            problem = f"code {code!r} and space group {group!r} are no whole numbers"
            fail(now, line, problem, "correct the row")
        value = finite(energy)
        e_hull = float("inf") if value is None else value
        rows.append(
            (composition_key(amounts), canonical(amounts), e_hull, int(code), int(group) if group else None)
        )
    found = pd.DataFrame(rows, columns=["key", "formula", "e_hull_ev_per_atom", "code", "spacegroup"])
    found = found.sort_values(["e_hull_ev_per_atom", "code", "formula"]).drop_duplicates("key")
    listed = [amounts for text in read_lines(in_2007) if (amounts := cleaned(text.strip())) is not None]
    then = pd.DataFrame(
        [(composition_key(each), canonical(each)) for each in listed], columns=["key", "formula"]
    )
    then = then.iloc[then["formula"].map(lambda text: (len(text), text)).argsort()].drop_duplicates("key")
    keys, held = set(found["key"]), set(then["key"])
    found["in_2007"] = [key in held for key in found["key"]]
    only_then = then[[key not in keys for key in then["key"]]].assign(in_2007=True)
    table = pd.concat([found, only_then], ignore_index=True).sort_values("formula", ignore_index=True)
    return table[MADE_COLUMNS].astype(
        {"formula": "str", "code": "Int64", "spacegroup": "Int64", "in_2007": "bool"}
    )


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
