"""The one table of columns: every name, type, unit and meaning that a table of candidates has.

Names carry their unit. Each Arrow field carries `description` and `unit` in its metadata, and so does the
Parquet file. A value that a row doesn't have is null.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa


@dataclass(frozen=True)
class Column:
    """One column. unit: "" for pure numbers, texts and yes or no."""

    name: str
    type: Any
    description: str
    unit: str = ""

    @property
    def field(self) -> Any:
        """The Arrow field, with description and unit in its metadata."""
        metadata = {"description": self.description, "unit": self.unit}
        return pa.field(self.name, self.type, metadata=metadata)


_TEXT, _NUMBER, _YES_NO = pa.string(), pa.float64(), pa.bool_()

COLUMNS: tuple[Column, ...] = (
    Column("rank", pa.int32(), "Place among unique formulas: those that passed first, then by T_c; from 1."),
    Column("formula", _TEXT, "The proposed composition, least electronegative element first."),
    Column("base", _TEXT, "Formula of the base material that the search started from."),
    Column("search", _TEXT, "Search of a campaign that proposed it; null where a search ran alone."),
    Column("tc_k", _NUMBER, "Critical temperature predicted for the formula.", "K"),
    Column("tc_relaxed_k", _NUMBER, "Critical temperature predicted before conversion to integers.", "K"),
    Column("delta_tc_k", _NUMBER, "tc_k minus the base material's predicted critical temperature.", "K"),
    Column("ef_ev_per_atom", _NUMBER, "Formation energy predicted for the formula.", "eV/atom"),
    Column("n_atoms", pa.int32(), "Atoms in the reduced formula; null where amounts are fractional."),
    Column("n_elements", pa.int32(), "Different elements in the formula."),
    Column("neutral", _YES_NO, "Screen: oxidation states exist that add up to 0 (SMACT)."),
    Column("pauling", _YES_NO, "Screen: neutral, with cations less electronegative than anions (SMACT)."),
    Column("ef_negative", _YES_NO, "Screen: predicted formation energy below 0."),
    Column("few_elements", _YES_NO, "Screen: no more elements than the search's screens allow."),
    Column("novel", _YES_NO, "Screen: not a known composition; null where none were given to compare with."),
    Column("passed", _YES_NO, "All screens that the search requires."),
    Column(
        "alloy", _YES_NO, "Metals only, or one element: neutral and pauling accept it unseen and say little."
    ),
    Column("oxidation_states", _TEXT, "States that neutral or pauling rest on, such as La+3 Ni+2 As-3 O-2."),
    Column("nearest_known", _TEXT, "The nearest composition whose critical temperature has been measured."),
    Column(
        "nearest_distance",
        _NUMBER,
        "L1 distance in atomic fractions to nearest_known: 0 is the same, 2 has no element in common.",
    ),
    Column("nearest_tc_k", _NUMBER, "Measured critical temperature of nearest_known.", "K"),
    Column("integer_distance", _NUMBER, "L1 distance in atomic fractions from before to after integers."),
    Column("status", _TEXT, "How the row ended: ok, or why it has no formula."),
    Column("recoveries", pa.int32(), "Steps that were taken back because they left no element; mostly 0."),
    Column("seed", pa.int64(), "Seed of the search."),
    Column("row", pa.int64(), "Row of the search, from 0; with seed and base it fixes the start."),
    Column("start_formula", _TEXT, "The row's initial composition, as atomic fractions to four decimals."),
)

COLUMN_NAMES: tuple[str, ...] = tuple(column.name for column in COLUMNS)


def schema() -> Any:
    """The Arrow schema of a table of candidates."""
    return pa.schema([column.field for column in COLUMNS])


def schema_problem(found: Any) -> str | None:
    """What is wrong with an Arrow schema, in one line that names the column; None where nothing is."""
    types = dict(zip(found.names, found.types, strict=True))
    for column in COLUMNS:
        if column.name not in types:
            return f"it has no column {column.name!r}"
        if types[column.name] != column.type:
            return f"its column {column.name!r} holds {types[column.name]}, not {column.type}"
    for name in found.names:
        if name not in COLUMN_NAMES or found.names.count(name) > 1:
            return f"its column {name!r} is not one of a table of candidates"
    return None
