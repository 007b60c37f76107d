"""One shard from its search to its files: a table of its rows, one of their steps, and the manifest that vouches for
both.

A manifest is written last: a shard without one isn't done. Tables hold nothing that depends on when or where
they were made, so the same shard made twice is the same bytes. They are named by their contents, so that a worker that
was given up and writes after all never changes what a manifest vouches for.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from kiago_ray.predictors.base import step_precision
from kiago_ray.runs.plan import CURVE_ROWS, PlannedSearch, Shard
from kiago_ray.screening.candidates import new_rows, order
from kiago_ray.screening.known import BaseMaterial
from kiago_ray.search.result import QUANTITIES, RowStatus, Trajectory
from kiago_ray.storage.location import Location, StorageError, read_all
from kiago_ray.storage.machines import MACHINE
from kiago_ray.storage.run_directory import DamagedError, adapter
from kiago_ray.storage.table import parquet_bytes, read_parquet, schema, schema_problem, table_bytes

if TYPE_CHECKING:
    from kiago_ray.models import Models

SHARDS, SEARCHES = "shards", "searches"  # folders of a campaign
_BEST = ("formula", "trusted_tc_k", "tc_k", "delta_tc_k")
_DIGITS = 16  # of the SHA-256 in a table's name
TABLE, STEPS, MANIFEST = ".parquet", ".steps.parquet", ".json"  # endings of a shard's files
STEPS_SCHEMA = pa.schema(
    [("step", pa.int32()), ("stage", pa.int8()), ("row", pa.int64())]
    + [(name, pa.float32()) for name in QUANTITIES]
)


class StoppedError(Exception):
    """A shard that was stopped before its last step; nothing of it is kept."""


@dataclass(frozen=True)
class Manifest:
    """What is known of a finished shard: small enough to travel, with the hashes of its files.

    statuses: rows by how they ended. best: formula, trusted_tc_k, tc_k and delta_tc_k of the best new row that passed,
    or None. made: where, by what and when it was made.
    """

    search: str
    number: int
    first_row: int
    rows: int
    passed: int
    statuses: Mapping[str, int]
    base: BaseMaterial | None
    best: Mapping[str, Any] | None
    sha256: str
    bytes: int
    steps_sha256: str
    steps_bytes: int
    wall_s: float
    made: Mapping[str, Any]

    @property
    def shard(self) -> str:
        """The shard's name (see Shard)."""
        return f"{self.search}/{self.number:05d}"

    def file(self, ending: str) -> str:
        """The name of its file with this ending, below SHARDS."""
        digest = {TABLE: f"-{self.sha256[:_DIGITS]}", STEPS: f"-{self.steps_sha256[:_DIGITS]}"}.get(
            ending, ""
        )
        return f"{self.shard}{digest}{ending}"

    def is_of(self, shard: Shard) -> bool:
        """Whether it tells of just these rows."""
        return (self.shard, self.first_row, self.rows) == (shard.name, shard.rows.start, len(shard.rows))


def shard_file(campaign: Location, made: Manifest, ending: str) -> Location:
    """A file of a shard, by its ending TABLE, STEPS or MANIFEST."""
    return campaign / SHARDS / made.file(ending)


def manifest_file(campaign: Location, shard: Shard) -> Location:
    """The manifest of a shard."""
    return campaign / SHARDS / f"{shard.name}{MANIFEST}"


def search_folder(campaign: Location, name: str) -> Location:
    """Where the results of a search of a campaign are."""
    return campaign / SEARCHES / name


def compute_shard(
    search: PlannedSearch,
    shard: Shard,
    campaign: Location,
    models: Models,
    *,
    made: Mapping[str, Any] | None = None,
    vouch: bool = True,
    kept: Callable[[Callable[[], Manifest]], Manifest] = lambda write: write(),
    **options: Any,
) -> Manifest:
    """Run the shard's rows, judge them, write them below `campaign`; of a search around all known families the
    shard's families one after another, the steps of the first alone being kept.

    made: what the manifest says of where it was made. vouch: whether to write the manifest; where several may work on
    one shard, it is for the one who gave it out (`write_manifest`). kept: writes the shard by calling what it is
    given, and may try again where storage fails. options: `progress` and `should_stop` of the search. Raises
    StorageError where it can't be written, StoppedError where `should_stop` said so; what the search raises passes
    through.
    """
    from kiago_ray.api import judged_rows  # who looks at shards needs nothing of what makes them

    began = time.perf_counter()
    options |= {} if search.bases else {"rows": shard.rows, "shard_rows": search.shard_rows}
    base: BaseMaterial | None = None
    tables, paths = list[Any](), list[Trajectory]()
    for first_row, spec in search.parts(shard):
        part = judged_rows(spec, models, name=search.name, trajectory_rows=search.curve_rows, **options)
        if part.result.stopped_at_step is not None:
            raise StoppedError(shard.name)
        at, path = schema().get_field_index("row"), part.result.trajectory
        numbers = pc.add(part.table["row"], pa.scalar(first_row, pa.int64()))
        tables.append(part.table.set_column(at, schema().field(at), numbers))
        paths.append(replace(path, rows=path.rows + first_row))
        base = None if search.bases else part.base
    made = {
        **(made or {}),
        "precision": step_precision(search.spec.precision, torch.device(models.device)),
        "finished_at": time.time(),
    }
    wall_s = time.perf_counter() - began
    told: dict[str, Any] = {"base": base, "wall_s": wall_s, "made": made, "vouch": vouch}
    return kept(partial(write_shard, campaign, shard, pa.concat_tables(tables), paths[0], **told))


def write_shard(
    campaign: Location,
    shard: Shard,
    table: Any,
    trajectory: Trajectory,
    *,
    base: BaseMaterial | None,
    wall_s: float,
    made: Mapping[str, Any],
    vouch: bool = True,
) -> Manifest:
    """Write a shard's rows and steps, then the manifest, each whole or not at all. The rest is as in `compute_shard`.
    Raises StorageError.
    """
    (campaign / SHARDS / shard.search).make_directory()
    content, steps = table_bytes(table), parquet_bytes(_steps_table(trajectory))
    ended = Counter(table["status"].to_pylist())
    manifest = Manifest(
        search=shard.search,
        number=shard.number,
        first_row=shard.rows.start,
        rows=len(table),
        passed=int(np.count_nonzero(table["passed"].to_numpy())),
        statuses={status.label: ended[status.label] for status in RowStatus},
        base=base,
        best=_best(table),
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        steps_sha256=hashlib.sha256(steps).hexdigest(),
        steps_bytes=len(steps),
        wall_s=round(wall_s, 3),
        made=made,
    )
    for ending, part in ((TABLE, content), (STEPS, steps)):
        shard_file(campaign, manifest, ending).write_bytes(part)
    if vouch:
        write_manifest(campaign, manifest)
    return manifest


def write_manifest(campaign: Location, manifest: Manifest) -> None:
    """Say that a shard is done, in place of what was said before. Raises StorageError."""
    shard_file(campaign, manifest, MANIFEST).write_bytes(adapter(Manifest).dump_json(manifest, indent=1))


def _best(table: Any) -> dict[str, Any] | None:
    """The first of the rows that passed and are neither known nor tried."""
    passed = table.filter(pa.array(new_rows(table)))
    first = passed.select(_BEST).take(pa.array(order(passed)[:1])).to_pylist()
    return first[0] if first else None


def _steps_table(trajectory: Trajectory) -> Any:
    """A row a step (STEPS_SCHEMA), one row of the search after another."""
    points, rows = trajectory.tc_k.shape
    columns = {
        "step": np.tile(np.arange(points, dtype=np.int32), rows),
        "stage": np.tile(trajectory.stage.astype(np.int8), rows),
        "row": np.repeat(trajectory.rows.astype(np.int64), points),
        **{name: pa.array(getattr(trajectory, name).T.ravel(), from_pandas=True) for name in QUANTITIES},
    }
    return pa.table(columns, schema=STEPS_SCHEMA)


def read_trajectory(campaign: Location, search: PlannedSearch, done: Sequence[Manifest]) -> Trajectory:
    """The kept rows' steps of these shards, or of CURVE_ROWS of them, evenly chosen. Raises StorageError."""
    points = sum(search.spec.steps) + 1
    chosen = np.unique(np.linspace(0, len(done) - 1, min(len(done), CURVE_ROWS)).round().astype(int))
    places = [shard_file(campaign, done[index], STEPS) for index in chosen.tolist()]
    tables = read_all(read_parquet, places)
    for place, table in zip(places, tables, strict=True):
        step = table["step"].to_numpy()
        if not len(step) or not np.array_equal(step, np.tile(np.arange(points), len(step) // points)):
            raise StorageError(
                f"{place.text} holds other steps than those of its search; run the campaign again"
            )
    steps = pa.concat_tables(tables)
    of_rows = {name: steps[name].to_numpy().reshape(-1, points).T for name in ("stage", "row", *QUANTITIES)}
    stage, rows = of_rows.pop("stage")[:, 0], of_rows.pop("row")[0]
    return Trajectory(rows=rows, stage=stage.astype(np.int64), **of_rows)


def read_manifest(campaign: Location, shard: Shard) -> Manifest | None:
    """The shard's manifest, None where it isn't done. Raises DamagedError, StorageError."""
    place = manifest_file(campaign, shard)
    content = place.read_if_there()
    if content is None:
        return None
    try:
        manifest: Manifest = adapter(Manifest).validate_json(content, strict=True)
        _ = float(manifest.made["finished_at"]), {**manifest.made.get(MACHINE, {})}
        _ = manifest.best and [manifest.best[name] for name in _BEST]
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedError(f"{place.text} is no manifest") from error
    if not manifest.is_of(shard):
        raise DamagedError(f"{place.text} is the manifest of other rows")
    return manifest


def check_shard(campaign: Location, shard: Shard) -> Manifest | None:
    """The manifest of a shard whose files were read and found whole; None where it isn't done.

    Raises DamagedError where a file that the manifest vouches for is missing, isn't the one by its hash or is a table
    of other columns or rows, and where the manifest counts others.
    """
    manifest = read_manifest(campaign, shard)
    if manifest is None:
        return None
    place = shard_file(campaign, manifest, TABLE)
    content = _vouched(place, manifest.sha256)
    _vouched(shard_file(campaign, manifest, STEPS), manifest.steps_sha256)
    try:
        file = pq.ParquetFile(io.BytesIO(content))
        problem, columns = schema_problem(file.schema_arrow), file.read(columns=["row", "passed"])
        rows, passed = columns["row"].to_numpy(), int(columns["passed"].to_numpy().sum())
    except (OSError, pa.ArrowException, KeyError) as error:
        raise DamagedError(f"{place.text} is not a whole Parquet file") from error
    if problem:
        raise DamagedError(f"{place.text} is not a table of candidates of this version: {problem}")
    if not np.array_equal(rows, np.asarray(shard.rows)):
        raise DamagedError(f"{place.text} holds other rows than {shard.rows.start} to {shard.rows.stop - 1}")
    if (sum(manifest.statuses.values()), manifest.passed) != (len(rows), passed):
        raise DamagedError(f"{manifest_file(campaign, shard).text} counts other rows than its table holds")
    return manifest


def _vouched(place: Location, sha256: str) -> bytes:
    content = place.read_if_there()
    if content is None:
        raise DamagedError(f"{place.text} is missing")
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DamagedError(f"{place.text} was cut off or changed: its SHA-256 is not its manifest's")
    return content
