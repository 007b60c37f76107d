"""From tables of candidates to one table of their unique formulas, ranked, without ever holding the rows in memory.

Two passes: the first reads the few columns that decide which row stands for a formula, at which rank, and whether it
is on the Pareto front; the second carries those rows to their places, by way of sorted runs on a local disk.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kiago_ray.campaign.tables import blocks, read_columns
from kiago_ray.screening.pareto import pareto_front
from kiago_ray.screening.rank import RankBy, falling, group
from kiago_ray.screening.screens import available_screens
from kiago_ray.storage.columns import schema
from kiago_ray.storage.location import Location, StorageError, reason

BLOCK_ROWS = 65_536
_RUN_ROWS = 131_072  # rows sorted in memory at a time
_READERS = 8  # on a remote storage reading a few columns is mostly waiting

_NUMBERS = ("tc_k", "trusted_tc_k", "ef_ev_per_atom", "extrapolation")

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Merged:
    """What was merged, as counting needs it: u unique formulas in the order of their ranks.

    rows: how many were read. passed: (u,). tc_k: (u,) in K, NaN where unknown. screens: (u,) for each screen that
    judged, in the order of `available_screens`; False where it has no verdict. known: how many of the u are known
    compositions; None where none was held against any. sha256: of the file written.
    """

    rows: int
    passed: Bools
    tc_k: Floats
    screens: Mapping[str, Bools]
    known: int | None
    sha256: str

    @property
    def unique(self) -> int:
        """How many different formulas there are."""
        return len(self.passed)


def merge_tables(
    inputs: Sequence[Location],
    output: Location,
    *,
    rank_by: RankBy = "trusted",
    block_rows: int = BLOCK_ROWS,
    scratch: Path | None = None,
) -> Merged:
    """Merge tables of candidates into one of unique formulas, best first, `rank` from 1; its directory must exist.

    Those that passed come first, of them those whose composition is known or was tried last; then it goes by falling
    trusted T_c (but not with rank_by "tc"), then by falling T_c (unknown last, in either), then by formula. The Pareto
    front is that of the merged table. For a formula that occurs more than once stands the first by (not passed,
    position of its input, row); so the shards of one search give what `storage.assemble.ranked` makes of all of them.
    Rows without a formula drop out.

    block_rows: rows of a row group. scratch: a local directory for temporary files, some 150 bytes a formula;
    None for the system's. Raises StorageError, with nothing written.
    """
    narrow = _read_narrow(inputs)
    winners = _ranked_rows(narrow, rank_by)
    ranks = np.zeros(len(narrow.passed), dtype=np.int32)
    ranks[winners] = np.arange(1, len(winners) + 1, dtype=np.int32)
    passed, tc_k = narrow.passed[winners], narrow.tc_k[winners]
    known = int(narrow.known[winners].sum()) if narrow.compared else None
    front = _front(narrow, winners)
    screens = {name: verdict[winners] for name, verdict in narrow.screens.items()}
    del narrow
    pa.default_memory_pool().release_unused()
    edges = [*range(1, len(winners) + 1, block_rows), len(winners) + 1]
    with ExitStack() as stack:
        folder = _scratch(stack, scratch)
        runs = [
            _write_run(folder / f"{number}.arrow", tables, edges)
            for number, tables in enumerate(_winning_rows(inputs, ranks, front))
        ]
        sha256 = _write_ranked(runs, len(edges) - 1, output, stack)
    pa.default_memory_pool().release_unused()
    return Merged(len(ranks), passed, tc_k, screens, known, sha256)


@dataclass(frozen=True)
class _Narrow:
    """All n rows of all inputs, the few columns that decide.

    formula: (n,) number of its formula, -1 without one. alphabetical: (u,) place of each formula by its bytes.
    known, taken: (n,) whether its composition is known; or was tried. compared: whether any row was held against known
    compositions. turn: (n,) place by (input, row).
    """

    formula: NDArray[np.int32]
    alphabetical: NDArray[np.int32]
    passed: Bools
    known: Bools
    taken: Bools
    compared: bool
    tc_k: Floats
    trusted_tc_k: Floats
    ef_ev_per_atom: Floats
    extrapolation: Floats
    turn: Ints
    screens: dict[str, Bools]


def _read_narrow(inputs: Sequence[Location]) -> _Narrow:
    available = available_screens()
    names = ("formula", "passed", "known", "tried", "nearest_distance", *_NUMBERS, "row", *available)
    with ThreadPoolExecutor(_READERS) as readers:
        tables = list(readers.map(lambda place: read_columns(place, names), inputs))
    rows = pa.concat_tables([schema().empty_table().select(names), *tables])
    firsts = np.cumsum([0, *map(len, tables)])
    turns = [first + _places(table["row"]) for first, table in zip(firsts, tables, strict=False)]
    number, alphabetical = _numbered(rows["formula"])
    known, tried = (pc.is_valid(rows[name]).to_numpy() for name in ("known", "tried"))
    return _Narrow(
        formula=number,
        alphabetical=alphabetical,
        passed=rows["passed"].fill_null(False).to_numpy(),
        known=known,
        taken=known | tried,
        compared=rows["nearest_distance"].null_count < len(rows),
        **{name: rows[name].to_numpy() for name in _NUMBERS},
        turn=np.concatenate([np.zeros(0, dtype=np.int64), *turns]),
        screens={
            name: rows[name].fill_null(False).to_numpy()
            for name, screen in available.items()
            if not screen.optional or rows[name].null_count < len(rows)
        },
    )


def _numbered(formulas: Any) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """A number for each formula, -1 for none, and the place of each number in the order of their bytes."""
    present = pc.if_else(pc.equal(formulas, ""), None, formulas)
    # A null first, so that there is a chunk, and with it a dictionary, in any case.
    codes = pa.chunked_array([pa.nulls(1, pa.string()), *present.chunks]).dictionary_encode()
    distinct = codes.chunk(0).dictionary  # the same for all chunks
    alphabetical = np.empty(len(distinct), dtype=np.int32)
    alphabetical[pc.sort_indices(distinct).to_numpy()] = np.arange(len(distinct), dtype=np.int32)
    return np.concatenate([chunk.indices.fill_null(-1).to_numpy() for chunk in codes.chunks])[
        1:
    ], alphabetical


def _places(rows: Any) -> Ints:
    """The place of each row of an input when they are in order; mostly they are."""
    numbers = rows.fill_null(0).to_numpy()
    if (numbers[1:] > numbers[:-1]).all():
        return np.arange(len(numbers))
    places = np.empty(len(numbers), dtype=np.int64)
    places[np.argsort(numbers, kind="stable")] = np.arange(len(numbers))
    return places


def _ranked_rows(narrow: _Narrow, rank_by: RankBy) -> Ints:
    """Positions (u,) of the rows that stand for the formulas, best first."""
    held = np.flatnonzero(narrow.formula >= 0)
    formula = narrow.formula[held]
    turn = narrow.turn[held] + np.where(narrow.passed[held], 0, len(narrow.turn))
    first = np.full(len(narrow.alphabetical), np.iinfo(np.int64).max)
    np.minimum.at(first, formula, turn)
    chosen = held[turn == first[formula]]
    values = (narrow.tc_k, narrow.trusted_tc_k) if rank_by == "trusted" else (narrow.tc_k,)
    keys = [falling(each[chosen]) for each in values]
    groups = group(narrow.passed[chosen], narrow.taken[chosen])
    order = np.lexsort((narrow.alphabetical[narrow.formula[chosen]], *keys, groups))
    return np.asarray(chosen[order])


def _front(narrow: _Narrow, winners: Ints) -> Any:
    """Of the rows at `winners`, which are on their Pareto front, for each of all n rows; null as in `ranked`."""
    trusted = narrow.trusted_tc_k[winners]
    front, unknown = np.zeros(len(narrow.passed), dtype=np.bool_), np.ones(len(narrow.passed), dtype=np.bool_)
    front[winners] = pareto_front(
        trusted, narrow.ef_ev_per_atom[winners], narrow.extrapolation[winners], narrow.passed[winners]
    )
    unknown[winners] = np.isnan(trusted)
    return pa.array(front, mask=unknown)


def _winning_rows(inputs: Sequence[Location], ranks: NDArray[np.int32], front: Any) -> Iterator[list[Any]]:
    """The rows that have a rank, with it and their place on the front, about _RUN_ROWS at a time."""
    at = {name: schema().get_field_index(name) for name in ("rank", "pareto")}
    tables: list[Any] = []
    held = position = 0
    for place in inputs:
        for block in blocks(place):
            own = ranks[position : position + len(block)]
            block = block.set_column(at["rank"], schema().field("rank"), pa.array(own))
            block = block.set_column(
                at["pareto"], schema().field("pareto"), front.slice(position, len(block))
            )
            position += len(block)
            rows = block.filter(pa.array(own > 0))
            tables.append(rows)
            held += len(rows)
            if held >= _RUN_ROWS:
                yield tables
                tables, held = [], 0
    if held:
        yield tables


def _in_order(tables: Sequence[Any]) -> Any:
    """The rows of these tables by rank, as one batch."""
    rows = pa.concat_tables(tables).combine_chunks()
    return rows.take(pc.sort_indices(rows["rank"])).combine_chunks().to_batches()[0]


def _write_run(path: Path, tables: Sequence[Any], edges: Sequence[int]) -> Path:
    """Write rows to an Arrow file with a batch, maybe empty, for each range of ranks between `edges`."""
    rows = _in_order(tables)
    cuts = np.searchsorted(rows["rank"].to_numpy(), edges).tolist()
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    try:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema(), options=options) as writer:
            for start, stop in pairwise(cuts):
                writer.write_batch(rows.slice(start, stop - start))
    except (OSError, pa.ArrowException) as error:
        raise _no_scratch(path.parent, error) from error
    return path


def _write_ranked(runs: Sequence[Path], ranges: int, output: Location, stack: ExitStack) -> str:
    """Join the runs, range by range, into a file of Parquet; its SHA-256."""
    readers = [pa.ipc.open_file(stack.enter_context(pa.OSFile(str(run)))) for run in runs]
    with output.writing() as stream:
        hashing = _Hashing(stream)
        with pq.ParquetWriter(pa.PythonFile(hashing, "w"), schema(), compression="zstd") as writer:
            for number in range(ranges):
                batches = [reader.get_batch(number) for reader in readers]
                rows = _in_order([pa.Table.from_batches(batches)])
                writer.write_table(pa.Table.from_batches([rows]), row_group_size=len(rows))
    return hashing.digest.hexdigest()


class _Hashing(io.RawIOBase):
    """A stream that passes on what is written to it, and hashes it."""

    def __init__(self, stream: Any) -> None:
        self.digest = hashlib.sha256()
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self._stream.write(data)
        return len(data)


def _scratch(stack: ExitStack, scratch: Path | None) -> Path:
    try:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kiago-merge-", dir=scratch)))
    except OSError as error:
        raise _no_scratch(scratch or Path(tempfile.gettempdir()), error) from error


def _no_scratch(folder: Path, error: BaseException) -> StorageError:
    return StorageError(
        f"can't write temporary files to {folder}: {reason(error)}; set TMPDIR to a place with room"
    )
