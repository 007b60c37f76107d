"""The one table of candidates: its columns, made from a search's rows and their verdicts, ranked, kept as Parquet and
as top.csv.

A column is a line of `columns.csv`, in the order of the table; `decimals` are those of top.csv. Names carry their
unit. Each Arrow field carries `description` and `unit` in its metadata, and so does the Parquet file. A value that a
row does not have is null.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

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
_HASH_BYTES = 1 << 20
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
_TEXTS = ("formula", "source", "known", "tried")
RANKED = (*_RANKED_BY, *_MARKS, *_TEXTS, "row", "ef_ev_per_atom", "extrapolation")
"""What ranking reads of a table of candidates."""
_NUMBERS = (
    "trusted_tc_k tc_k tc_std_k tc_oracle_k tc_oracle_std_k extrapolation ef_ev_per_atom plausibility existence "
    "expected_improvement_k best_nearby_tc_k nearest_distance tc_given_tried_k"
)


@dataclass(frozen=True)
class Column:
    """One column. unit: "" for pure numbers, texts and yes or no. decimals: those of top.csv, None for what is not a
    decimal number. header: what stands above it on pages.
    """

    name: str
    type: Any
    unit: str
    decimals: int | None
    header: str
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
            row["header"],
            row["description"],
        )
        for row in csv.DictReader(text.splitlines())
    }


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

    search: its name within a campaign.
    """
    n, ok, screens = len(candidates.formulas), candidates.ok, verdicts.by_screen
    atoms = candidates.counts.sum(axis=1)
    e_hull = candidates.e_hull_ev_per_atom
    e_hull = np.full(n, np.nan) if e_hull is None else e_hull
    judged = {
        "near_hull": ~np.isnan(e_hull)
    }  # where other rows have no energy above the hull, they have no verdict
    labels = {int(status): status.label for status in RowStatus}
    values = {
        "rank": pa.nulls(n, pa.int32()),
        "formula": [text or None for text in candidates.formulas],
        "base": [None if base is None else base.formula] * n,
        "source": candidates.sources,
        "search": [search] * n,
        **{name: _numbers(getattr(candidates, name)) for name in _NUMBERS.split()},
        "extrapolated": _where(candidates.extrapolated, ~np.isnan(candidates.extrapolation)),
        "tc_relaxed_k": _numbers(result.tc_relaxed_k),
        "delta_tc_k": _numbers(candidates.tc_k - (np.nan if base is None else base.tc_predicted_k)),
        "e_hull_ev_per_atom": _numbers(e_hull),
        "n_atoms": _where(atoms.astype(np.int32), atoms > 0),
        "n_elements": _where(candidates.n_elements.astype(np.int32), ok),
        **{name: pa.nulls(n, pa.bool_()) for name in available_screens()},
        **{name: _where(verdict, judged.get(name, ok)) for name, verdict in screens.items()},
        "passed": verdicts.passed,
        "pareto": pa.nulls(n, pa.bool_()),
        "alloy": _where(candidates.neutrality.alloy | candidates.neutrality.elemental, ok),
        **_charge(candidates),
        "made": candidates.made,
        "tried": candidates.tried,
        "tried_nearby": candidates.tried_nearby,
        **_known(candidates),
        "integer_distance": _numbers(result.distance),
        "status": [labels[status] for status in result.status.tolist()],
        "recoveries": result.recoveries.astype(np.int32),
        "seed": np.full(n, seed, dtype=np.int64),
        "row": result.rows.astype(np.int64),
        "start_formula": [_fractions_text(row) for row in result.start],
    }
    return pa.table({name: values[name] for name in columns()}, schema=schema())


def _known(candidates: Candidates) -> dict[str, Any]:
    """The columns that tell a row by what is known: whether it is known, its neighbours, what it is better than."""
    materials = candidates.materials

    def of(name: str, rows: NDArray[np.int64]) -> list[Any]:
        values = None if materials is None else getattr(materials, name)
        return [None if values is None or row < 0 else values[row] for row in rows.tolist()]

    near, near_emd = candidates.nearest, candidates.nearest_emd
    return {
        "known": candidates.known,
        "plausibility_reason": candidates.plausibility_reasons,
        "gain": _where(candidates.gain, ~np.isnan(candidates.expected_improvement_k)),
        "new_system": _where(candidates.new_system, candidates.ok & (materials is not None)),
        "best_nearby": of("formulas", candidates.best_nearby),
        "nearest_known": of("formulas", near),
        "nearest_tc_k": _numbers(of("tc_k", near)),
        "nearest_pressure_gpa": _numbers(of("pressure_gpa", near)),
        "nearest_reports": of("reports", near),
        "nearest_reference": [text or None for text in of("reference", near)],
        "nearest_emd_known": of("formulas", near_emd),
        "nearest_emd": _numbers(candidates.nearest_emd_distance),
        "nearest_emd_tc_k": _numbers(of("tc_k", near_emd)),
        "nearest_emd_pressure_gpa": _numbers(of("pressure_gpa", near_emd)),
    }


def _charge(candidates: Candidates) -> dict[str, Any]:
    """The columns on charges: the likeliest states that balance each row, and what follows from them."""
    balances, ok = candidates.balances, candidates.ok
    holes, nats = balances.holes_per_cu, balances.nats_per_atom
    states = [text or None for text in balances.certificates]
    if candidates.by_atoms is not None:  # a hydride without states that balance shows those of its atoms
        for row, assignment in enumerate(balances.assignments):
            states[row] = states[row] if assignment else write_shares(candidates.by_atoms[row]) or states[row]
    return {
        "oxidation_states": states,
        "charge_kind": pa.array(list(balances.kinds), mask=~ok),
        "charge_nats_per_atom": _numbers(np.where(np.isfinite(nats), nats, np.nan)),
        "mean_valences": [write_means(means) or None for means in balances.mean_valences],
        "holes_per_cu": _numbers(holes),
        "undoped": _where(balances.undoped_parent, ~np.isnan(holes)),
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
    front = _where(pareto_front(trusted, ef, extrapolation, passed), ~np.isnan(trusted))
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
    return parquet_bytes(table.select(list(columns())).cast(schema()))


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


def read_table(where: Where) -> Any:
    """The table of candidates in a Parquet file. Raises StorageError as `opened` does."""
    with opened(Location.of(where)) as file:
        return file.read().select(list(columns()))


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


def _numbers(values: Any) -> Any:
    """float64 with null for what is not a number."""
    return pa.array(np.asarray(values, dtype=np.float64), from_pandas=True)


def _where(values: NDArray[Any], known: NDArray[np.bool_]) -> Any:
    """The values, null where they are not known."""
    return pa.array(values, mask=~known)


def _fractions_text(row: NDArray[Any]) -> str | None:
    rounded = np.round(np.asarray(row, dtype=np.float64), _START_DECIMALS)
    held = {SYMBOLS[z]: float(rounded[z]) for z in WRITING_ORDER if rounded[z] > 0}
    return write(held) if held else None


def blocks(place: Location, names: Sequence[str] | None = None) -> Iterator[Any]:
    """The rows of a table's file, one table a row group, with these columns; with all of them by default.

    Raises StorageError as `read_table` does.
    """
    described = _fields(list(columns()) if names is None else names)
    with opened(place) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, described.names).select(described.names).cast(described)


def read_columns(place: Location, names: Sequence[str]) -> Any:
    """All rows of a table's file with these columns alone. Raises StorageError as `read_table` does."""
    return pa.concat_tables([_fields(names).empty_table(), *blocks(place, names)])


def first_rows(place: Location, rows: int) -> Any:
    """The first rows of a table's file, all columns. Raises StorageError as `read_table` does."""
    head = [schema().empty_table()]
    for block in blocks(place):
        head.append(block.slice(0, rows - sum(map(len, head))))
        if sum(map(len, head)) >= rows:
            break
    return pa.concat_tables(head)


def file_sha256(place: Location) -> str:
    """SHA-256 of a file, read piece by piece. Raises StorageError."""
    digest = hashlib.sha256()
    try:
        with place.filesystem.open_input_stream(place.path) as stream:
            while piece := stream.read(_HASH_BYTES):
                digest.update(piece)
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"can't read {place.text}: {reason(error)}") from error
    return digest.hexdigest()


def _fields(names: Sequence[str]) -> Any:
    every = schema()
    return pa.schema([every.field(name) for name in names])
