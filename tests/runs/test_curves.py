from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kiago_ray.api import judged_rows
from kiago_ray.models import Models
from kiago_ray.runs.outcome import CURVES, CURVES_SCHEMA, curves_table, read_curves
from kiago_ray.runs.plan import CURVE_ROWS, Plan, PlannedSearch, Shard
from kiago_ray.runs.shards import Manifest, read_manifest, read_trajectory, write_shard
from kiago_ray.search.result import QUANTITIES, Trajectory
from kiago_ray.storage.location import Location, StorageError
from kiago_ray.storage.table import parquet_bytes, schema


def trajectory_of(rows: int, points: int = 5) -> Trajectory:
    """Row r has T_c r + step; row 0 stops after two steps; the integer loss is of stage 2 alone."""
    tc_k = (np.arange(rows) + np.arange(points)[:, None]).astype(np.float32)
    tc_k[2:, 0] = np.nan
    stage = np.where(np.arange(points) < 2, 1, 2)
    loss = np.where(stage[:, None] == 2, tc_k / 10, np.nan).astype(np.float32)
    return Trajectory(np.arange(rows), stage, tc_k, -tc_k, loss, tc_k - 1)


def keep(campaign: Location, shard: Shard, trajectory: Trajectory) -> Manifest:
    empty = schema().empty_table()
    return write_shard(campaign, shard, empty, trajectory, base=None, wall_s=0, made={})


def test_the_steps_of_all_shards_are_those_of_the_search(
    two_shards: Plan, shipped: Models, made: Location
) -> None:
    (search,) = two_shards.searches
    done = [each for each in (read_manifest(made, shard) for shard in search.shards) if each is not None]
    found = read_trajectory(made, search, done)
    alone = judged_rows(search.spec, shipped, shard_rows=8).result.trajectory
    assert found.rows.tolist() == alone.rows.tolist() == list(range(12))
    assert found.stage.tolist() == alone.stage.tolist()
    for name in QUANTITIES:
        np.testing.assert_array_equal(getattr(found, name), getattr(alone, name))
    assert read_trajectory(made, search, done[1:]).rows.tolist() == [8, 9, 10, 11]


def test_curves_worked_by_hand() -> None:
    table = curves_table(trajectory_of(11))
    assert table.schema.equals(CURVES_SCHEMA)
    first, last = table.to_pylist()[0], table.to_pylist()[4]
    assert (first["step"], first["stage"], first["rows"]) == (0, 1, 11)
    assert [first[f"tc_k_{name}"] for name in ("mean", "p10", "p50", "p90")] == [5.0, 1.0, 5.0, 9.0]
    assert first["integer_loss_mean"] is None
    # Row 0 has stopped: rows 1 to 10 stand at 5 to 14 K.
    assert (last["step"], last["stage"], last["rows"]) == (4, 2, 10)
    assert last["tc_k_mean"] == pytest.approx(9.5)
    assert last["tc_k_p10"] == pytest.approx(5.9)
    assert last["ef_ev_per_atom_mean"] == pytest.approx(-9.5)
    assert last["integer_loss_p50"] == pytest.approx(0.95)


def test_curves_are_read_as_they_were_written(tmp_path: Path) -> None:
    place = Location.of(tmp_path) / CURVES
    place.write_bytes(parquet_bytes(curves_table(trajectory_of(3))))
    assert read_curves(Location.of(tmp_path)).equals(curves_table(trajectory_of(3)))
    place.write_bytes(place.read_bytes()[:-9])
    with pytest.raises(StorageError, match=r"curves.parquet is not a whole Parquet file; run"):
        read_curves(Location.of(tmp_path))
    pq.write_table(pa.table({"step": [1]}), place.path)
    with pytest.raises(StorageError, match=r"curves.parquet is not a table of curves of this version"):
        read_curves(Location.of(tmp_path))


def test_steps_of_another_search_are_refused(two_shards: Plan, tmp_path: Path) -> None:
    campaign = Location.of(tmp_path)
    (search,) = two_shards.searches
    for points in (4, 6):
        manifest = keep(campaign, search.shards[0], trajectory_of(8, points))
        with pytest.raises(StorageError, match=r"00000-\w+.steps.parquet holds other steps"):
            read_trajectory(campaign, search, [manifest])


def test_a_table_of_something_else_is_not_written(two_shards: Plan, tmp_path: Path) -> None:
    (search,) = two_shards.searches
    other = schema().empty_table().drop_columns(["tc_k"])
    how: dict[str, Any] = {"base": None, "wall_s": 0, "made": {}}
    with pytest.raises(ValueError, match="no column 'tc_k'"):
        write_shard(Location.of(tmp_path), search.shards[0], other, trajectory_of(1), **how)


def test_of_very_many_shards_some_are_read(two_shards: Plan, tmp_path: Path) -> None:
    campaign = Location.of(tmp_path)
    (search,) = two_shards.searches
    many: PlannedSearch = replace(search, spec=search.spec.model_copy(update={"candidates": 8 * 200}))
    done = [
        keep(campaign, many.shards[number], replace(trajectory_of(1), rows=np.array([8 * number])))
        for number in range(0, 200, 2)
    ]
    rows = read_trajectory(campaign, many, done).rows
    assert len(rows) == CURVE_ROWS
    assert (rows[0], rows[-1]) == (0, 8 * 198)
    assert np.diff(rows).min() >= 16
    assert np.diff(rows).max() <= 32
