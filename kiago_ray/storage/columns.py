"""The one table of columns: every name, type, unit and meaning that a table of candidates has.

A column is a line of `columns.csv`, in the order of the table; `decimals` are those of top.csv. Names carry their
unit. Each Arrow field carries `description` and `unit` in its metadata, and so does the Parquet file. A value that a
row does not have is null.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import pyarrow as pa

_TYPES = {"text": "string", "number": "float64", "yes or no": "bool", "int32": "int32", "int64": "int64"}


@dataclass(frozen=True)
class Column:
    """One column. unit: "" for pure numbers, texts and yes or no. decimals: None for what is not a decimal number."""

    name: str
    type: Any
    unit: str
    decimals: int | None
    description: str

    @property
    def field(self) -> Any:
        """The Arrow field, with description and unit in its metadata."""
        return pa.field(self.name, self.type, metadata={"description": self.description, "unit": self.unit})


@cache
def columns() -> dict[str, Column]:
    """The columns of a table of candidates by name, in their order."""
    text = (resources.files(__package__) / "columns.csv").read_text(encoding="utf-8")
    return {
        row["name"]: Column(
            row["name"],
            pa.type_for_alias(_TYPES[row["type"]]),
            row["unit"],
            int(row["decimals"]) if row["decimals"] else None,
            row["description"],
        )
        for row in csv.DictReader(text.splitlines())
    }


_PREDICTED = (
    "tc_k tc_std_k tc_oracle_k tc_oracle_std_k extrapolation ef_ev_per_atom e_hull_ev_per_atom "
    "plausibility existence plausibility_reason expected_improvement_k best_nearby best_nearby_tc_k "
    "oxidation_states charge_kind mean_valences holes_per_cu undoped "
    "nearest_known nearest_distance nearest_tc_k nearest_reference known made passed"
)
PREDICTED: tuple[str, ...] = tuple(_PREDICTED.split())
"""The columns that a formula without a search has: of `kiago predict` and POST /v1/predict, in this order."""


def description(name: str) -> str:
    """What a column means, with its unit. Raises KeyError for a name that is none."""
    column = columns()[name]
    return column.description + (f" In {column.unit}." if column.unit else "")


def schema() -> Any:
    """The Arrow schema of a table of candidates."""
    return pa.schema([column.field for column in columns().values()])


def schema_problem(found: Any) -> str | None:
    """What is wrong with an Arrow schema, in one line that names the column; None where nothing is."""
    types = dict(zip(found.names, found.types, strict=True))
    for name, column in columns().items():
        if name not in types:
            return f"it has no column {name!r}"
        if types[name] != column.type:
            return f"its column {name!r} holds {types[name]}, not {column.type}"
    for name in found.names:
        if name not in columns() or found.names.count(name) > 1:
            return f"its column {name!r} is not one of a table of candidates"
    return None
