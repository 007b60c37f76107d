"""Where the files of a run lie, and those of a shard: a table of its rows, one of their steps, and the manifest that
vouches for both. What is done of a run is told from the manifests alone.

A manifest is written last: a shard without one isn't done. Tables hold nothing that depends on when or where
they were made, so the same shard made twice is the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from kiago_ray.errors import KiagoError
from kiago_ray.runs.plan import Plan, Shard
from kiago_ray.screening.rank import order
from kiago_ray.screening.summary import BaseMaterial
from kiago_ray.storage.columns import schema_problem
from kiago_ray.storage.location import TEMPORARY, Location, StorageError
from kiago_ray.storage.table import read_table, standing, table_bytes

if TYPE_CHECKING:
    from kiago_ray.search.result import Trajectory

SHARDS, SEARCHES = "shards", "searches"
_READERS = 8  # on a remote storage a look at a shard is mostly waiting
STEPS_SCHEMA = pa.schema(
    [
        pa.field("step", pa.int32(), nullable=False, metadata={"description": "Steps taken, from 0."}),
        pa.field("stage", pa.int8(), nullable=False, metadata={"description": "1 or 2."}),
        pa.field("row", pa.int64(), nullable=False, metadata={"description": "Row of the search."}),
        pa.field("tc_k", pa.float32(), metadata={"unit": "K"}),
        pa.field("ef_ev_per_atom", pa.float32(), metadata={"unit": "eV/atom"}),
        pa.field("integer_loss", pa.float32(), metadata={"description": "Exists in stage 2 alone."}),
    ]
)


class DamagedError(KiagoError):
    """A shard whose files aren't what its manifest says. The message is one line: which, and what is wrong."""


@dataclass(frozen=True)
class Manifest:
    """What is known of a finished shard: small enough to travel, with the hashes of its files.

    statuses: rows by how they ended. base: the base material's predictions (BaseMaterial) or None. best:
    formula, trusted_tc_k and tc_k of the best row that passed, or None. made: where, by what and when it was made.
    """

    search: str
    number: int
    first_row: int
    rows: int
    passed: int
    statuses: Mapping[str, int]
    base: Mapping[str, Any] | None
    best: Mapping[str, Any] | None
    sha256: str
    bytes: int
    steps_sha256: str
    wall_s: float
    made: Mapping[str, Any]

    @property
    def shard(self) -> str:
        """The shard's name (see Shard)."""
        return f"{self.search}/{self.number:05d}"


def search_folder(run: Location, name: str) -> Location:
    """Where the results of a search of a campaign are."""
    return run / SEARCHES / name


@cache
def _manifests() -> TypeAdapter[Manifest]:
    return TypeAdapter(Manifest)


@dataclass(frozen=True)
class ShardFiles:
    """The three files of a shard below a campaign's directory."""

    table: Location
    steps: Location
    manifest: Location

    @classmethod
    def of(cls, campaign: Location, shard: Shard) -> ShardFiles:
        """Where they are."""
        folder = campaign / SHARDS / shard.search
        stem = f"{shard.number:05d}"
        return cls(folder / f"{stem}.parquet", folder / f"{stem}.steps.parquet", folder / f"{stem}.json")


def write_shard(
    campaign: Location,
    shard: Shard,
    table: Any,
    trajectory: Trajectory,
    *,
    statuses: Mapping[str, int],
    base: Mapping[str, Any] | None,
    wall_s: float,
    made: Mapping[str, Any],
) -> Manifest:
    """Write a shard's rows and steps, then the manifest, each whole or not at all. Raises StorageError."""
    files = ShardFiles.of(campaign, shard)
    (campaign / SHARDS / shard.search).make_directory()
    content, steps = table_bytes(table), _steps_bytes(trajectory)
    manifest = Manifest(
        search=shard.search,
        number=shard.number,
        first_row=shard.rows.start,
        rows=len(table),
        passed=int(np.count_nonzero(table["passed"].to_numpy())),
        statuses=dict(statuses),
        base=base,
        best=_best(table),
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        steps_sha256=hashlib.sha256(steps).hexdigest(),
        wall_s=round(wall_s, 3),
        made=dict(made),
    )
    files.table.write_bytes(content)
    files.steps.write_bytes(steps)
    files.manifest.write_bytes(json.dumps(asdict(manifest), indent=1, ensure_ascii=False).encode("utf-8"))
    return manifest


def read_manifest(campaign: Location, shard: Shard) -> Manifest | None:
    """The shard's manifest, None where it isn't done. Raises DamagedError, StorageError."""
    place = ShardFiles.of(campaign, shard).manifest
    if place.kind() != "file":
        return None
    content = place.read_bytes()
    try:
        manifest = _manifests().validate_json(content, strict=True)
        _ = float(manifest.made["finished_at"]), manifest.base and BaseMaterial(**manifest.base)
        _ = manifest.best and (manifest.best["formula"], float(manifest.best["tc_k"]))
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedError(f"{place.text} is no manifest") from error
    expected = (shard.search, shard.number, shard.rows.start, len(shard.rows))
    if (manifest.search, manifest.number, manifest.first_row, manifest.rows) != expected:
        raise DamagedError(f"{place.text} is the manifest of other rows")
    return manifest


def check_shard(campaign: Location, shard: Shard) -> Manifest | None:
    """The manifest of a shard whose files were read and found whole; None where it isn't done.

    Raises DamagedError where the hash, the schema or the rows aren't what they should be, and where a file that the
    manifest vouches for is missing.
    """
    manifest = read_manifest(campaign, shard)
    if manifest is None:
        return None
    files = ShardFiles.of(campaign, shard)
    content = _vouched(files.table, manifest.sha256)
    _vouched(files.steps, manifest.steps_sha256)
    try:
        file = pq.ParquetFile(io.BytesIO(content))
        columns = file.read(columns=["row", "passed"])
        rows, passed = columns["row"].to_numpy(), int(np.count_nonzero(columns["passed"].to_numpy()))
        problem = schema_problem(file.schema_arrow)
    except (OSError, pa.ArrowException, KeyError) as error:
        raise DamagedError(f"{files.table.text} is not a whole Parquet file") from error
    if problem:
        raise DamagedError(f"{files.table.text} is not a table of candidates of this version: {problem}")
    if not np.array_equal(rows, np.asarray(shard.rows)):
        raise DamagedError(
            f"{files.table.text} holds other rows than {shard.rows.start} to {shard.rows.stop - 1}"
        )
    if (manifest.passed, sum(manifest.statuses.values())) != (passed, manifest.rows):
        raise DamagedError(f"{files.manifest.text} counts other rows than its table holds")
    return manifest


def read_shard(campaign: Location, shard: Shard) -> Any:
    """The table of a shard's rows. Raises StorageError."""
    return read_table(ShardFiles.of(campaign, shard).table)


def read_steps(campaign: Location, shard: Shard) -> Any:
    """The table of a shard's steps (STEPS_SCHEMA), its rows one after another. Raises StorageError."""
    place = ShardFiles.of(campaign, shard).steps
    try:
        return pq.read_table(io.BytesIO(place.read_bytes()))
    except pa.ArrowException as error:
        raise StorageError(f"{place.text} is not a whole Parquet file; run the campaign again") from error


def _vouched(place: Location, sha256: str) -> bytes:
    if place.kind() != "file":
        raise DamagedError(f"{place.text} is missing")
    content = place.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DamagedError(f"{place.text} was cut off or changed: its SHA-256 is not its manifest's")
    return content


def _best(table: Any) -> dict[str, Any] | None:
    """The first of the rows that passed and are neither known nor tried."""
    new = pc.and_(pc.is_null(table["known"]), pc.is_null(table["tried"]))
    passed = table.filter(pc.and_(table["passed"], new))
    if not len(passed):
        return None
    at = int(order(passed["formula"].to_pylist(), standing(passed))[0])
    return {name: passed[name][at].as_py() for name in ("formula", "trusted_tc_k", "tc_k", "delta_tc_k")}


def _steps_bytes(trajectory: Trajectory) -> bytes:
    points, rows = trajectory.tc_k.shape
    columns = {
        "step": np.tile(np.arange(points, dtype=np.int32), rows),
        "stage": np.tile(trajectory.stage.astype(np.int8), rows),
        "row": np.repeat(trajectory.rows.astype(np.int64), points),
        **{
            name: pa.array(getattr(trajectory, name).T.ravel(), from_pandas=True)
            for name in ("tc_k", "ef_ev_per_atom", "integer_loss")
        },
    }
    sink = io.BytesIO()
    pq.write_table(pa.table(columns, schema=STEPS_SCHEMA), sink, compression="zstd")
    return sink.getvalue()


@dataclass(frozen=True)
class State:
    """manifests: of the finished shards by name. damaged: shard → what is wrong with its files."""

    manifests: dict[str, Manifest]
    damaged: dict[str, str]

    def left(self, plan: Plan) -> list[Shard]:
        """The shards still to run, in the plan's order."""
        return [shard for shard in plan.shards if shard.name not in self.manifests]

    def by_search(self) -> dict[str, list[Manifest]]:
        """The finished shards of each search that has any."""
        grouped: dict[str, list[Manifest]] = {}
        for manifest in self.manifests.values():
            grouped.setdefault(manifest.search, []).append(manifest)
        return grouped


def checked_state(campaign: Location, plan: Plan) -> State:
    """The state with every finished shard read and compared to its hashes. Raises StorageError."""
    return _state(plan, lambda shard: check_shard(campaign, shard))


def listed_state(campaign: Location, plan: Plan) -> State:
    """The state as the manifests have it: quick, for a look at a running campaign. Raises StorageError."""
    return _state(plan, lambda shard: read_manifest(campaign, shard))


def _state(plan: Plan, look: Callable[[Shard], Manifest | None]) -> State:
    shards = plan.shards
    manifests: dict[str, Manifest] = {}
    damaged: dict[str, str] = {}

    def guarded(shard: Shard) -> Manifest | str | None:
        try:
            return look(shard)
        except DamagedError as error:
            return str(error)

    with ThreadPoolExecutor(_READERS) as readers:
        for shard, found in zip(shards, readers.map(guarded, shards), strict=True):
            if isinstance(found, Manifest):
                manifests[shard.name] = found
            elif found is not None:
                damaged[shard.name] = found
    return State(manifests, damaged)


def best_of(manifests: Sequence[Manifest]) -> dict[str, Any] | None:
    """The best row that passed, of all these shards: formula, trusted_tc_k, tc_k, delta_tc_k."""
    best = [manifest.best for manifest in manifests if manifest.best]
    return max(map(dict, best), key=best_key) if best else None


def best_key(best: Mapping[str, Any]) -> tuple[float, float]:
    """What the best rows of shards are compared by: trusted T_c where it is known, then T_c."""
    trusted = best.get("trusted_tc_k")
    return -1.0 if trusted is None else float(trusted), float(best["tc_k"])


def remove_leftovers(campaign: Location, plan: Plan) -> None:
    """Remove the temporary files of processes that were killed while they wrote. For the campaign's only driver."""
    folders = [campaign, *(campaign / SHARDS / search.name for search in plan.searches)]
    folders += [search_folder(campaign, search.name) for search in plan.searches]
    with ThreadPoolExecutor(_READERS) as readers:
        for folder, names in zip(folders, readers.map(_entries, folders), strict=True):
            for name in names:
                if name.startswith(".") and name.endswith(TEMPORARY):
                    (folder / name).delete()


def _entries(folder: Location) -> list[str]:
    return folder.entries() if folder.kind() == "directory" else []
