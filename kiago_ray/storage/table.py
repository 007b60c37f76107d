"""The one table of candidates: its columns, and how it is kept as Parquet and as top.csv.

A column is a line of `columns.csv`, in the order of the table, or a screen; `decimals` are those of top.csv. Lines of
the table `structures` are what `kiago structures` adds to rows that it makes crystals of. Names carry their unit. Each
Arrow field carries `description` and `unit` in its metadata, and so does the Parquet file. A value that a row does not
have is null.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from kiago_ray.screening.screens import SCREENS
from kiago_ray.storage.location import Location, StorageError, Where, reason

_PREDICTED = (
    "known measured_tc_k measured_pressure_gpa contradicted "
    "tc_k tc_std_k tc_oracle_k tc_oracle_std_k extrapolation ef_ev_per_atom e_hull_ev_per_atom e_hull_std_ev_per_atom "
    "decomposition "
    "plausibility existence plausibility_reason expected_improvement_k best_nearby best_nearby_tc_k "
    "oxidation_states charge_kind mean_valences holes_per_cu undoped "
    "nearest_known nearest_distance nearest_tc_k nearest_pressure_gpa nearest_reference made passed"
)
PREDICTED: tuple[str, ...] = tuple(_PREDICTED.split())
"""The columns that a formula without a search has: of `kiago predict` and POST /v1/predict, in this order."""
TOP_ROWS = 100
_SMALL_BYTES = 8 << 20
# The columns of top.csv. One with a question mark is left out where no row has a value.
_TOP = (
    "rank passed formula base source? plausibility? existence? expected_improvement_k? gain? best_nearby? "
    "best_nearby_tc_k? trusted_tc_k tc_k tc_std_k tc_oracle_k tc_oracle_std_k delta_tc_k ef_ev_per_atom "
    "e_hull_ev_per_atom? e_hull_std_ev_per_atom? decomposition? extrapolation extrapolated pareto known "
    "measured_tc_k? measured_pressure_gpa? contradicted? made "
    "tried? tried_nearby? tc_given_tried_k? "
    "nearest_known nearest_distance nearest_tc_k nearest_pressure_gpa nearest_reports nearest_reference "
    "plausibility_reason? oxidation_states mean_valences? holes_per_cu? undoped? charge_nats_per_atom balanced "
    "plausible? neutral pauling ef_negative few_elements near_hull? alloy n_elements n_atoms search? seed row"
)


class Column(NamedTuple):
    """One column. unit: "" for pure numbers, texts and yes or no. decimals: those of top.csv, None for what is not a
    decimal number. header: what stands above it on pages.
    """

    name: str
    type: Any
    unit: str
    decimals: int | None
    header: str
    description: str


@cache
def columns(table: str = "candidates") -> dict[str, Column]:
    """The columns of a table by name, in their order: those of columns.csv, and of candidates the screens' before
    `passed`.
    """
    text = (resources.files(__package__) / "columns.csv").read_text(encoding="utf-8")
    of_screens = [(name, "bool", "", "", "", screen.column) for name, screen in SCREENS.items()]
    found: dict[str, Column] = {}
    for of, *line in list(csv.reader(text.splitlines()))[1:]:
        for name, kind, unit, decimals, *words in (*of_screens, line) if line[0] == "passed" else (line,):
            if of == table:
                digits = int(decimals) if decimals else None
                found[name] = Column(name, pa.type_for_alias(kind), unit, digits, *words)
    return found


def description(name: str) -> str:
    """What a column means, with its unit. Raises KeyError for a name that is none."""
    column = columns()[name]
    return column.description + (f" In {column.unit}." if column.unit else "")


@cache
def schema(names: tuple[str, ...] | None = None) -> Any:
    """The Arrow schema of a table of candidates, or of these columns of it."""
    own = columns().values() if names is None else [columns()[name] for name in names]
    return pa.schema(
        [
            pa.field(each.name, each.type, metadata={"description": each.description, "unit": each.unit})
            for each in own
        ]
    )


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


def candidates_table(rows: Any) -> Any:
    """A table of candidates with all columns, in their order, from those that were worked out; the others are null."""
    n, names = len(rows), rows.column_names
    return pa.table(
        {
            name: rows[name].cast(column.type) if name in names else pa.nulls(n, column.type)
            for name, column in columns().items()
        },
        schema=schema(),
    )


def table_bytes(table: Any) -> bytes:
    """The Parquet file of a table of candidates. Raises ValueError, naming the column, for another table."""
    problem = schema_problem(table.schema)
    if problem:
        raise ValueError(f"the table is not one of candidates; {problem}")
    return parquet_bytes(table.select(schema().names).cast(schema()))


def parquet_bytes(table: Any) -> bytes:
    """The Parquet file of any Arrow table."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def read_parquet(place: Location) -> Any:
    """The Arrow table of any Parquet file. Raises StorageError."""
    try:
        return pq.read_table(io.BytesIO(place.read_bytes()))
    except pa.ArrowException as error:
        raise StorageError(f"{place.text} is not a whole Parquet file; run the campaign again") from error


def read_table(where: Where, names: tuple[str, ...] | None = None) -> Any:
    """The table of candidates in a Parquet file, with these columns alone if any are named. Raises StorageError as
    `opened` does.
    """
    return read_with_groups(Location.of(where), names)[0]


def read_with_groups(place: Location, names: tuple[str, ...] | None) -> tuple[Any, list[int]]:
    """These columns of a table's file, all if none are named, and the rows of each of its row groups. Raises
    StorageError as `opened` does.
    """
    described = schema(names)
    with opened(place) as file:
        groups = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        return file.read(described.names).select(described.names).cast(described), groups


def read_group(place: Location, group: int) -> Any:
    """A row group of a table's file, all columns. Raises StorageError as `opened` does."""
    with opened(place) as file:
        return file.read_row_group(group).select(schema().names).cast(schema())


def first_rows(place: Location, rows: int) -> Any:
    """The first rows of a table's file, of its first row group at most, all columns. Raises StorageError as `opened`
    does.
    """
    with opened(place) as file:
        if not file.num_row_groups:
            return schema().empty_table()
        return file.read_row_group(0).select(schema().names).cast(schema()).slice(0, rows)


@contextmanager
def opened(place: Location) -> Iterator[Any]:
    """A table of candidates as a `pq.ParquetFile`, to be read in parts.

    Raises StorageError for a file that is missing, isn't Parquet or is cut off, and, naming the column, for a table of
    something else.
    """
    try:
        with place.filesystem.open_input_file(place.path) as stream:
            # What is small is read at once: on a remote storage each request counts.
            source = pa.BufferReader(stream.read()) if stream.size() <= _SMALL_BYTES else stream
            file = pq.ParquetFile(source, pre_buffer=True)
            problem = schema_problem(file.schema_arrow)
            if problem:
                raise StorageError(f"{place.text} is not a table of candidates of this version: {problem}")
            yield file
    except pa.ArrowInvalid as error:
        raise StorageError(f"{place.text} is not a whole Parquet file: {reason(error)}") from error
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"can't read {place.text}: {reason(error)}") from error


def top_csv(table: Any, rows: int = TOP_ROWS) -> str:
    """The first `rows` of a ranked table that passed; where none did, the first `rows`, with passed "no".

    Comma-separated with a header, with as many digits as mean something; yes and no for verdicts, an empty field for
    what is not known.
    """
    head = table.slice(0, rows)  # in a ranked table those that passed come first
    passed = head.filter(head["passed"])
    names = [
        name.rstrip("?")
        for name in _TOP.split()
        if not (name.endswith("?") and head[name.rstrip("?")].null_count == len(head))
    ]
    return csv_text((passed if len(passed) else head).to_pylist(), names)


def csv_text(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """These columns of rows as CSV with a header, each value as `written`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([names, *([written(row, name) for name in names] for row in rows)])
    return text.getvalue()


def written(row: Mapping[str, Any], name: str, form: str | None = None) -> str:
    """The value that a row has in a column as text: in the format `form`, by default with the column's decimals; yes
    or no for verdicts, "" for what is not known.
    """
    column = columns().get(name) or columns("structures").get(name)
    decimals = column and column.decimals
    form = form or ("{}" if decimals is None else f"{{:z.{decimals}f}}")  # z writes -0.0 as 0.0
    return as_text(row.get(name), form)


def as_text(value: Any, form: str) -> str:
    """A value in a format; yes or no for verdicts, "" for what is not known."""
    if value is None or isinstance(value, bool):
        return {None: "", True: "yes", False: "no"}[value]
    return form.format(value)
