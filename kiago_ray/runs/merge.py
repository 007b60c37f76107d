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

from kiago_ray.screening.rank import Ranking, Standing, identity, ordered, pareto_front
from kiago_ray.screening.screens import available_screens
from kiago_ray.screening.summary import count_gains
from kiago_ray.storage.columns import schema
from kiago_ray.storage.location import Location, StorageError, reason
from kiago_ray.storage.table import blocks, read_columns

BLOCK_ROWS = 65_536
_RUN_ROWS = 131_072  # rows sorted in memory at a time
_READERS = 8  # on a remote storage reading a few columns is mostly waiting

_RANKED_BY = ("tc_k", "trusted_tc_k", "plausibility", "expected_improvement_k")
_NUMBERS = (*_RANKED_BY, "ef_ev_per_atom", "extrapolation")
_MARKS = ("passed", "undoped", "gain", "new_system")

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Merged:
    """What was merged, as counting needs it: u unique formulas in the order of their ranks.

    rows: how many were read. passed: (u,). tc_k: (u,) in K, NaN where unknown. screens: (u,) for each screen that
    judged, in the order of `available_screens`; False where it has no verdict. known: how many of the u are known
    compositions; None where none was held against any. ranking: their order. gains, left_out: as in `Summary`.
    new_systems: how many of those that passed and are neither known nor tried are of chemical systems without a known
    superconductor; None where none was held against any.
    sha256: of the file written.
    """

    rows: int
    passed: Bools
    tc_k: Floats
    screens: Mapping[str, Bools]
    known: int | None
    ranking: Ranking
    gains: int | None
    left_out: int
    new_systems: int | None
    sha256: str

    @property
    def unique(self) -> int:
        """How many different formulas there are."""
        return len(self.passed)

    @property
    def counted(self) -> dict[str, Any]:
        """What was counted of all of them, as `summarise_ranked` takes it."""
        return {
            "known": self.known,
            "ranked_by": self.ranking.by,
            "gains": self.gains,
            "left_out": self.left_out,
        }


def merge_tables(
    inputs: Sequence[Location],
    output: Location,
    *,
    ranking: Ranking | None = None,
    block_rows: int = BLOCK_ROWS,
    scratch: Path | None = None,
) -> Merged:
    """Merge tables of candidates into one of unique formulas, best first, `rank` from 1; its directory must exist.

    The order is that of `screening.rank.ordered`, by trusted T_c unless `ranking` says otherwise. The Pareto front is
    that of the merged table. For a composition that occurs more than once stands the first by (not passed, position of
    its input, row); so the shards of one search give what `storage.table.ranked` makes of all of them. Rows without
    a formula drop out.

    block_rows: rows of a row group. scratch: a local directory for temporary files, some 150 bytes a formula;
    None for the system's. Raises StorageError, with nothing written.
    """
    narrow, ranking = _read_narrow(inputs), ranking or Ranking()
    winners = _ranked_rows(narrow, ranking)
    ranks = np.zeros(len(narrow.passed), dtype=np.int32)
    ranks[winners] = np.arange(1, len(winners) + 1, dtype=np.int32)
    passed, tc_k = narrow.passed[winners], narrow.tc_k[winners]
    known = int(narrow.known[winners].sum()) if narrow.compared else None
    standing = narrow.standing.take(winners)
    gains = count_gains(standing) if narrow.compared else None
    left_out = int((passed & narrow.taken[winners]).sum())
    new = passed & ~narrow.taken[winners] & np.asarray(standing.new_system)
    new_systems = int(new.sum()) if narrow.compared else None
    front = _front(narrow, winners)
    screens = {name: verdict[winners] for name, verdict in narrow.screens.items()}
    del narrow, standing
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
    return Merged(len(ranks), passed, tc_k, screens, known, ranking, gains, left_out, new_systems, sha256)


@dataclass(frozen=True)
class _Narrow:
    """All n rows of all inputs, the few columns that decide.

    text: (n,) number of its formula among `texts`, -1 without one. composition: (n,) the same number for all formulas
    of one composition. alphabetical: (u,) place of each formula by its bytes. standing: the rows as ranking sees them.
    known, taken: (n,) whether its composition is known; or was tried. compared: whether any row was held against known
    compositions. turn: (n,) place by (input, row).
    """

    text: NDArray[np.int32]
    texts: Any
    composition: NDArray[np.int32]
    alphabetical: NDArray[np.int32]
    standing: Standing
    known: Bools
    taken: Bools
    compared: bool
    ef_ev_per_atom: Floats
    extrapolation: Floats
    turn: Ints
    screens: dict[str, Bools]

    @property
    def passed(self) -> Bools:
        return self.standing.passed

    @property
    def tc_k(self) -> Floats:
        return self.standing.tc_k

    @property
    def trusted_tc_k(self) -> Floats:
        trusted = self.standing.trusted_tc_k
        return np.full(len(self.tc_k), np.nan) if trusted is None else trusted


def _read_narrow(inputs: Sequence[Location]) -> _Narrow:
    available = available_screens()
    others = ("formula", "source", "known", "tried", "nearest_distance", "row")
    names = (*others, *_NUMBERS, *_MARKS, *available)
    with ThreadPoolExecutor(_READERS) as readers:
        tables = list(readers.map(lambda place: read_columns(place, names), inputs))
    rows = pa.concat_tables([schema().empty_table().select(names), *tables])
    firsts = np.cumsum([0, *map(len, tables)])
    turns = [first + _places(table["row"]) for first, table in zip(firsts, tables, strict=False)]
    text, texts, alphabetical = _numbered(rows["formula"])
    known, tried = (pc.is_valid(rows[name]).to_numpy() for name in ("known", "tried"))
    return _Narrow(
        text=text,
        texts=texts,
        composition=_compositions(text, texts, pc.is_valid(rows["source"]).to_numpy()),
        alphabetical=alphabetical,
        standing=Standing(
            **{name: rows[name].to_numpy() for name in _RANKED_BY},
            **{name: rows[name].fill_null(False).to_numpy() for name in _MARKS},
            taken=known | tried,
        ),
        known=known,
        taken=known | tried,
        compared=rows["nearest_distance"].null_count < len(rows),
        ef_ev_per_atom=rows["ef_ev_per_atom"].to_numpy(),
        extrapolation=rows["extrapolation"].to_numpy(),
        turn=np.concatenate([np.zeros(0, dtype=np.int64), *turns]),
        screens={
            name: rows[name].fill_null(False).to_numpy()
            for name, screen in available.items()
            if not screen.optional or rows[name].null_count < len(rows)
        },
    )


def _numbered(formulas: Any) -> tuple[NDArray[np.int32], Any, NDArray[np.int32]]:
    """A number for each formula, -1 for none; the formulas by number; the place of each number in the order of their
    bytes.
    """
    present = pc.if_else(pc.equal(formulas, ""), None, formulas)
    # A null first, so that there is a chunk, and with it a dictionary, in any case.
    codes = pa.chunked_array([pa.nulls(1, pa.string()), *present.chunks]).dictionary_encode()
    distinct = codes.chunk(0).dictionary  # the same for all chunks
    alphabetical = np.empty(len(distinct), dtype=np.int32)
    alphabetical[pc.sort_indices(distinct).to_numpy()] = np.arange(len(distinct), dtype=np.int32)
    numbers = np.concatenate([chunk.indices.fill_null(-1).to_numpy() for chunk in codes.chunks])[1:]
    return numbers, distinct, alphabetical


def _compositions(text: NDArray[np.int32], texts: Any, of_families: Bools) -> NDArray[np.int32]:
    """For each row (n,) the number of its composition: that of its formula but for rows of families, whose formulas
    keep the order of their bases (`rank.identity`).
    """
    own = np.unique(text[of_families & (text >= 0)])
    if not len(own):
        return text
    named = pa.array([identity(each) for each in texts.take(pa.array(own)).to_pylist()])
    distinct = pc.unique(named)
    same = pc.index_in(distinct, value_set=texts)  # what a search without a family wrote as its formula
    fresh = np.arange(len(texts), len(texts) + len(distinct))
    numbers = np.where(pc.is_valid(same).to_numpy(False), same.fill_null(0).to_numpy(), fresh)
    by_text = np.zeros(len(texts), dtype=np.int32)
    by_text[own] = numbers[pc.index_in(named, value_set=distinct).to_numpy()]
    composition = text.copy()
    composition[of_families & (text >= 0)] = by_text[text[of_families & (text >= 0)]]
    return composition


def _places(rows: Any) -> Ints:
    """The place of each row of an input when they are in order; mostly they are."""
    numbers = rows.fill_null(0).to_numpy()
    if (numbers[1:] > numbers[:-1]).all():
        return np.arange(len(numbers))
    places = np.empty(len(numbers), dtype=np.int64)
    places[np.argsort(numbers, kind="stable")] = np.arange(len(numbers))
    return places


def _ranked_rows(narrow: _Narrow, ranking: Ranking) -> Ints:
    """Positions (u,) of the rows that stand for the compositions, best first."""
    held = np.flatnonzero(narrow.text >= 0)
    composition = narrow.composition[held]
    turn = narrow.turn[held] + np.where(narrow.passed[held], 0, len(narrow.turn))
    first = np.full(int(composition.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, composition, turn)
    chosen = held[turn == first[composition]]
    text = narrow.text[chosen]
    order = ordered(
        narrow.alphabetical[text],
        narrow.standing.take(chosen),
        ranking,
        lambda at: str(narrow.texts[int(text[at])].as_py()),
    )
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
