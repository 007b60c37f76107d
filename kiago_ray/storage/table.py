"""The one table of candidates: its columns, made from a search's rows and their verdicts, ranked, kept as Parquet and
as top.csv.

A column is a line of `columns.csv`, in the order of the table; `decimals` are those of top.csv. Names carry their
unit. Each Arrow field carries `description` and `unit` in its metadata, and so does the Parquet file. A value that a
row does not have is null.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kiago_ray.chemistry.balance import write_means, write_shares
from kiago_ray.chemistry.elements import SYMBOLS, WRITING_ORDER
from kiago_ray.chemistry.formula import write
from kiago_ray.screening.candidates import Candidates
from kiago_ray.screening.rank import Ranking, Standing, identity, ordered, pareto_front
from kiago_ray.screening.screens import Verdicts, available_screens
from kiago_ray.screening.summary import BaseMaterial
from kiago_ray.search.result import RowStatus, SearchResult
from kiago_ray.storage.location import Location, StorageError, Where, reason

_TYPES = {"text": "string", "number": "float64", "yes or no": "bool", "int32": "int32", "int64": "int64"}
_PREDICTED = (
    "tc_k tc_std_k tc_oracle_k tc_oracle_std_k extrapolation ef_ev_per_atom e_hull_ev_per_atom "
    "plausibility existence plausibility_reason expected_improvement_k best_nearby best_nearby_tc_k "
    "oxidation_states charge_kind mean_valences holes_per_cu undoped "
    "nearest_known nearest_distance nearest_tc_k nearest_reference known made passed"
)
PREDICTED: tuple[str, ...] = tuple(_PREDICTED.split())
"""The columns that a formula without a search has: of `kiago predict` and POST /v1/predict, in this order."""
TOP_ROWS = 100
# The columns of top.csv. One with a question mark is left out where no row has a value.
_TOP = (
    "rank passed formula base source? plausibility? existence? expected_improvement_k? gain? best_nearby? "
    "best_nearby_tc_k? trusted_tc_k tc_k tc_std_k tc_oracle_k tc_oracle_std_k delta_tc_k ef_ev_per_atom "
    "e_hull_ev_per_atom? extrapolation extrapolated pareto known made tried? tried_nearby? tc_given_tried_k? "
    "nearest_known nearest_distance nearest_tc_k nearest_pressure_gpa nearest_reports nearest_reference "
    "plausibility_reason? oxidation_states mean_valences? holes_per_cu? undoped? charge_nats_per_atom balanced "
    "plausible? neutral pauling ef_negative few_elements near_hull? alloy n_elements n_atoms search? seed row"
)
_START_DECIMALS = 4
_RANKED_BY = ("tc_k", "trusted_tc_k", "plausibility", "expected_improvement_k")
_MARKS = ("passed", "undoped", "gain", "new_system")
_FACTS = "formula source known tried row ef_ev_per_atom extrapolation"
RANKED = (*_RANKED_BY, *_MARKS, *_FACTS.split())
"""What ranking reads of a table of candidates."""


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
def columns() -> dict[str, Column]:
    """The columns of a table of candidates by name, in their order."""
    text = (resources.files(__package__) / "columns.csv").read_text(encoding="utf-8")
    return {
        name: Column(name, pa.type_for_alias(_TYPES[kind]), unit, int(decimals) if decimals else None, *words)
        for name, kind, unit, decimals, *words in list(csv.reader(text.splitlines()))[1:]
    }


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


def candidates_table(
    result: SearchResult,
    candidates: Candidates,
    verdicts: Verdicts,
    *,
    base: BaseMaterial | None,
    seed: int,
    search: str | None = None,
) -> Any:
    """Every row of a search in its own order, also those without a formula; `rank` and `pareto` are null (see
    `ranked`).

    search: its name within a campaign. A column that isn't worked out here is the field of `candidates` of its name.
    """
    n, ok = len(candidates.formulas), candidates.ok
    atoms, e_hull = candidates.counts.sum(axis=1), candidates.e_hull_ev_per_atom
    # Where not all rows have an energy above the hull, the others have no verdict.
    judged = {"near_hull": np.zeros(n, np.bool_) if e_hull is None else ~np.isnan(e_hull)}
    labels = {int(status): status.label for status in RowStatus}
    compared = ~np.isnan(candidates.expected_improvement_k)
    values = {
        **dict.fromkeys(("rank", "pareto", *available_screens()), pa.nulls(n)),
        "formula": [text or None for text in candidates.formulas],
        "base": [None if base is None else base.formula] * n,
        "source": candidates.sources,
        "search": [search] * n,
        "plausibility_reason": candidates.plausibility_reasons,
        "gain": pa.array(candidates.gain, mask=~compared),
        "new_system": pa.array(candidates.new_system, mask=~ok | (candidates.materials is None)),
        "extrapolated": pa.array(candidates.extrapolated, mask=np.isnan(candidates.extrapolation)),
        "tc_relaxed_k": result.tc_relaxed_k,
        "delta_tc_k": candidates.tc_k - (np.nan if base is None else base.tc_predicted_k),
        "e_hull_ev_per_atom": pa.nulls(n) if e_hull is None else e_hull,
        "n_atoms": pa.array(atoms, mask=atoms == 0),
        "n_elements": pa.array(candidates.n_elements, mask=~ok),
        **{name: pa.array(each, mask=~judged.get(name, ok)) for name, each in verdicts.by_screen.items()},
        "passed": verdicts.passed,
        "alloy": pa.array(candidates.neutrality.alloy | candidates.neutrality.elemental, mask=~ok),
        **_charge(candidates),
        **_neighbours(candidates),
        "integer_distance": result.distance,
        "status": [labels[status] for status in result.status.tolist()],
        "recoveries": result.recoveries,
        "seed": [seed] * n,
        "row": result.rows,
        "start_formula": [_fractions_text(row) for row in result.start],
    }
    return pa.table({name: _column(candidates, values, name) for name in columns()}, schema=schema())


def _column(candidates: Candidates, values: Mapping[str, Any], name: str) -> Any:
    """A column's values of its type, null for NaN."""
    found = values[name] if name in values else getattr(candidates, name)
    kind = columns()[name].type
    return found.cast(kind) if isinstance(found, pa.Array) else pa.array(found, kind, from_pandas=True)


def _neighbours(candidates: Candidates) -> dict[str, Any]:
    """The columns on the known materials that are nearest to each row, and on the best nearby."""
    materials = candidates.materials
    found: dict[str, Any] = {"nearest_emd": candidates.nearest_emd_distance}
    for name, field, rows in (
        ("best_nearby", "formulas", candidates.best_nearby),
        ("nearest_known", "formulas", candidates.nearest),
        ("nearest_tc_k", "tc_k", candidates.nearest),
        ("nearest_pressure_gpa", "pressure_gpa", candidates.nearest),
        ("nearest_reports", "reports", candidates.nearest),
        ("nearest_reference", "reference", candidates.nearest),
        ("nearest_emd_known", "formulas", candidates.nearest_emd),
        ("nearest_emd_tc_k", "tc_k", candidates.nearest_emd),
        ("nearest_emd_pressure_gpa", "pressure_gpa", candidates.nearest_emd),
    ):
        values = None if materials is None else getattr(materials, field)
        told = [None if values is None or at < 0 else values[at] for at in rows.tolist()]
        found[name] = [None if text == "" else text for text in told]
    return found


def _charge(candidates: Candidates) -> dict[str, Any]:
    """The columns on charges: the likeliest states that balance each row, and what follows from them."""
    balances, holes = candidates.balances, candidates.balances.holes_per_cu
    states = [text or None for text in balances.certificates]
    if candidates.by_atoms is not None:  # a hydride without states that balance shows those of its atoms
        for row, assignment in enumerate(balances.assignments):
            states[row] = states[row] if assignment else write_shares(candidates.by_atoms[row]) or states[row]
    return {
        "oxidation_states": states,
        "charge_kind": pa.array(list(balances.kinds), mask=~candidates.ok),
        "charge_nats_per_atom": np.where(np.isinf(balances.nats_per_atom), np.nan, balances.nats_per_atom),
        "mean_valences": [write_means(means) or None for means in balances.mean_valences],
        "holes_per_cu": holes,
        "undoped": pa.array(balances.undoped_parent, mask=np.isnan(holes)),
    }


def ranked(table: Any, ranking: Ranking | None = None) -> Any:
    """The unique formulas of a table of rows, best first, `rank` from 1, those on their Pareto front marked. Rows
    without a formula drop out. The table may hold several searches, told apart by their seeds.
    """
    places, front = rank_rows(table, table["seed"].to_numpy(), ranking or Ranking())
    return with_ranks(table.take(pa.array(places)), np.arange(1, len(places) + 1), front)


def rank_rows(rows: Any, searches: NDArray[Any], ranking: Ranking) -> tuple[NDArray[np.int64], Any]:
    """Which of n rows stand for the u unique compositions: their positions (u,), best first (see `ordered`), and an
    Arrow array (u,) of whether each is on their Pareto front, null where nobody has a say on its T_c.

    rows: a table with the columns RANKED. searches: (n,), which search a row is of. For a composition stands its first
    row by (not passed, search, row); rows without a formula drop out.
    """
    composition = _compositions(rows)
    turn = np.lexsort((rows["row"].to_numpy(), searches, ~rows["passed"].to_numpy()))
    turn = turn[composition[turn] >= 0]
    places = turn[np.unique(composition[turn], return_index=True)[1]]
    unique = rows.take(pa.array(places))
    seen, formulas = standing(unique), unique["formula"]
    alphabetical = pc.rank(formulas, tiebreaker="dense").to_numpy()
    best = ordered(alphabetical, seen, ranking, lambda at: str(formulas[at].as_py()))
    trusted, passed = unique["trusted_tc_k"].to_numpy(), seen.passed
    ef, extrapolation = (unique[name].to_numpy() for name in ("ef_ev_per_atom", "extrapolation"))
    front = pa.array(pareto_front(trusted, ef, extrapolation, passed), mask=np.isnan(trusted))
    return places[best], front.take(pa.array(best))


def _compositions(rows: Any) -> NDArray[np.int32]:
    """A number (n,) for the composition of each row, -1 for a row without a formula. Formulas of families keep the
    order of their bases, so that these count by their `identity`.
    """
    formulas = rows["formula"].cast(pa.large_string()).combine_chunks()
    of_families = pc.is_valid(rows["source"]).combine_chunks()
    own = formulas.filter(of_families).dictionary_encode()
    identities = pa.array([identity(text) for text in own.dictionary.to_pylist()], pa.large_string())
    texts = pc.replace_with_mask(formulas, of_families, identities.take(own.indices))
    numbers: NDArray[np.int32] = texts.dictionary_encode().indices.fill_null(-1).to_numpy()
    return numbers


def with_ranks(rows: Any, ranks: NDArray[Any], front: Any) -> Any:
    """A table with these values (n,) in its columns `rank` and `pareto`."""
    for name, values in (("rank", pa.array(ranks, pa.int32())), ("pareto", front)):
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, rows.schema.field(at), values)
    return rows


def standing(table: Any) -> Standing:
    """The rows of a table of candidates as ranking sees them."""
    numbers = {name: table[name].to_numpy() for name in _RANKED_BY}
    marks = {name: table[name].fill_null(False).to_numpy() for name in _MARKS}
    taken = pc.or_(pc.is_valid(table["known"]), pc.is_valid(table["tried"])).to_numpy()
    return Standing(**numbers, **marks, taken=taken)


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
    described = schema(names)
    with opened(Location.of(where)) as file:
        return file.read(described.names).select(described.names).cast(described)


def blocks(place: Location) -> Iterator[Any]:
    """The rows of a table's file, one table a row group. Raises StorageError as `opened` does."""
    with opened(place) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group).select(schema().names).cast(schema())


def first_rows(place: Location, rows: int) -> Any:
    """The first rows of a table's file, of its first row group at most, all columns. Raises StorageError as `opened`
    does.
    """
    return next(blocks(place), schema().empty_table()).slice(0, rows)


@contextmanager
def opened(place: Location) -> Iterator[Any]:
    """A table of candidates as a `pq.ParquetFile`, to be read in parts.

    Raises StorageError for a file that is missing, isn't Parquet or is cut off, and, naming the column, for a table of
    something else.
    """
    try:
        with place.filesystem.open_input_file(place.path) as stream:
            file = pq.ParquetFile(stream, pre_buffer=True)
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
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in (passed if len(passed) else head).to_pylist():
        writer.writerow([_cell(row[name], columns()[name].decimals) for name in names])
    return text.getvalue()


def _cell(value: Any, decimals: int | None) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if decimals is None else f"{value:z.{decimals}f}"  # z: no -0.0


def _fractions_text(row: NDArray[Any]) -> str | None:
    rounded = np.round(np.asarray(row, dtype=np.float64), _START_DECIMALS)
    held = {SYMBOLS[z]: float(rounded[z]) for z in WRITING_ORDER if rounded[z] > 0}
    return write(held) if held else None
