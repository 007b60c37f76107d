"""When two formulas are the same composition, and how it is written: the identity all tables share.

A composition is its atomic fractions, rounded to one part in a million: `LaNiAsO` and `La2Ni2As2O2` are one,
and so are `La1.85Sr0.15CuO4` and `La3.7Sr0.3Cu2O8`. Deuterium and tritium count as hydrogen: the models know
elements only. Rows of one composition are merged before anything is split, so that no composition is on both
sides of a split.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS, SYMBOLS, WRITING_ORDER
from kiago_ray.chemistry.formula import FormulaError, parse, parse_fractions, write
from kiago_ray.data.files import Tally

# Only with an amount: a bare D or T at the end of a SuperCon formula (`O8+D`) is an undetermined amount.
_HEAVY_HYDROGEN = re.compile(r"[DT](?=[0-9.])")
_RANK = {SYMBOLS[z]: rank for rank, z in enumerate(WRITING_ORDER)}

Amounts = Mapping[str, float]
CompositionKey = tuple[int, ...]


def fractions(table: pd.DataFrame) -> NDArray[np.float64]:
    """Atomic fractions (N, 118) of a table's `formula` column, in its order. Raises FormulaError."""
    return parse_fractions(table["formula"].tolist())


def read_amounts(text: str, line: int, tally: Tally) -> dict[str, float] | None:
    """A formula's amounts, or None for a row that was counted out, with the parser's reason."""
    try:
        return parse(_HEAVY_HYDROGEN.sub("H", text))
    except FormulaError as error:
        tally.drop(error.reason, line, text)
        return None


def composition_key(amounts: Amounts) -> CompositionKey:
    """What two formulas share exactly when they are one composition: (column, millionths, column, …)."""
    total = math.fsum(amounts.values())
    key: list[int] = []
    for symbol in sorted(amounts, key=INDEX.__getitem__):
        # To billionths first: 1/128 is 7812.5 millionths, and the last bit of the division must not decide on
        # it.
        key += (INDEX[symbol], round(round(amounts[symbol] / total * 1e9) / 1e3))
    return tuple(key)


def composition_keys(table: pd.DataFrame) -> list[CompositionKey]:
    """The key of each of a table's formulas. Raises FormulaError."""
    return [composition_key(parse(formula)) for formula in table["formula"]]


def canonical(amounts: Amounts) -> str:
    """The formula with its elements from the least to the most electronegative; whole amounts reduced."""
    ordered = {symbol: amounts[symbol] for symbol in sorted(amounts, key=_RANK.__getitem__)}
    if all(float(amount).is_integer() for amount in ordered.values()):
        divisor = math.gcd(*(int(amount) for amount in ordered.values()))
        ordered = {symbol: amount / divisor for symbol, amount in ordered.items()}
    return write(ordered)


def chemical_system(amounts: Amounts) -> str:
    """The elements in alphabetical order: "As-La-Ni-O"."""
    return "-".join(sorted(amounts))


def compositions(rows: Sequence[Amounts]) -> tuple[list[str], list[str]]:
    """One canonical formula and one chemical system a row; rows of one composition get the same formula.

    Of the canonical formulas that one composition was given in, it is the shortest, the first in the alphabet
    among equals, so that it does not depend on the order of the rows.
    """
    keys = [composition_key(row) for row in rows]
    formulas: dict[CompositionKey, str] = {}
    for key, row in zip(keys, rows, strict=True):
        formula = canonical(row)
        known = formulas.get(key)
        if known is None or (len(formula), formula) < (len(known), known):
            formulas[key] = formula
    return [formulas[key] for key in keys], [chemical_system(row) for row in rows]


def merged(rows: Sequence[Amounts], order: Sequence[str], **values: Sequence[Any]) -> pd.DataFrame:
    """One row a composition, sorted by formula: `formula`, the values of its first row by the columns in `order`, how
    many rows it has (`n_merged`), `chemical_system`. Values are float64 where their first is a float, else texts.
    """
    formulas, systems = compositions(rows)
    table = pd.DataFrame({"formula": pd.Series(formulas, dtype="str")})
    for name, column in values.items():
        table[name] = pd.Series(column, dtype="str" if column and isinstance(column[0], str) else "float64")
    table["n_merged"] = table.groupby("formula")["formula"].transform("size").astype("int64")
    table["chemical_system"] = pd.Series(systems, dtype="str")
    return table.sort_values(["formula", *order]).drop_duplicates("formula").reset_index(drop=True)


def finite(text: str) -> float | None:
    """The number in a field, or None where it is not a finite one."""
    try:
        value = float(text.replace("_", "?"))  # float() would take 1_0 for 10
    except ValueError:
        return None
    return value if math.isfinite(value) else None


_PART = re.compile(r"([A-Z][a-z]?)([0-9.]*)|(\n)")


def sparse_fractions(formulas: Sequence[str]) -> csr_matrix:
    """Atomic fractions (N, 118), sparse by rows, of formulas that `chemistry.formula.write` wrote.

    Raises KeyError for a symbol that is none.
    """
    columns: list[int] = []
    amounts: list[float] = []
    ends: list[int] = []
    for symbol, amount, end in _PART.findall("".join(f"{text}\n" for text in formulas)):
        if end:
            ends.append(len(columns))
        else:
            columns.append(INDEX[symbol])
            amounts.append(float(amount) if amount else 1.0)
    indptr = np.array([0, *ends], dtype=np.int32)
    row = np.repeat(np.arange(len(ends)), np.diff(indptr))
    data = np.array(amounts, dtype=np.float64)
    totals = np.bincount(row, weights=data, minlength=len(ends))
    table = csr_matrix(
        (data / totals[row], np.array(columns, dtype=np.int32), indptr), (len(ends), N_ELEMENTS)
    )
    table.sort_indices()
    return table
