"""How a search came to its candidates: statistics of every step, from the steps that its shards kept."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kiago_ray.runs.plan import CURVE_ROWS, PlannedSearch
from kiago_ray.runs.shards import ShardFiles, read_steps
from kiago_ray.search.result import QUANTITIES, Trajectory
from kiago_ray.storage.location import Location, StorageError

CURVES = "curves.parquet"
STATISTICS = ("mean", "p10", "p50", "p90")
_UNITS = {"tc_k": "K", "ef_ev_per_atom": "eV/atom", "integer_loss": ""}

CURVES_SCHEMA = pa.schema(
    [
        pa.field("step", pa.int32(), nullable=False, metadata={"description": "Steps taken, from 0."}),
        pa.field("stage", pa.int8(), nullable=False, metadata={"description": "1 or 2."}),
        pa.field(
            "rows", pa.int32(), nullable=False, metadata={"description": "Rows of the sample still going."}
        ),
        *(
            pa.field(f"{name}_{statistic}", pa.float64(), metadata={"unit": _UNITS[name]})
            for name in QUANTITIES
            for statistic in STATISTICS
        ),
    ]
)


def read_trajectory(campaign: Location, search: PlannedSearch, numbers: Sequence[int]) -> Trajectory:
    """The kept rows' steps of the shards `numbers`, or of CURVE_ROWS of them, evenly chosen. Raises StorageError."""
    shards = search.shards
    chosen = np.unique(np.linspace(0, len(numbers) - 1, min(len(numbers), CURVE_ROWS)).round().astype(int))
    parts = []
    for index in chosen.tolist():
        shard = shards[numbers[index]]
        table = read_steps(campaign, shard)
        points = sum(search.spec.steps) + 1
        step = table["step"].to_numpy()
        if not len(step) or not np.array_equal(step, np.tile(np.arange(points), len(step) // points)):
            place = ShardFiles.of(campaign, shard).steps.text
            raise StorageError(f"{place} holds other steps than those of its search; run the campaign again")
        parts.append({name: table[name].to_numpy().reshape(-1, points) for name in table.column_names})
    values = {name: np.concatenate([part[name] for part in parts]) for name in ("row", *QUANTITIES)}
    return Trajectory(
        rows=values["row"][:, 0],
        stage=parts[0]["stage"][0].astype(np.int64),
        **{name: values[name].T for name in QUANTITIES},
    )


def curves_table(trajectory: Trajectory) -> Any:
    """A row a step (CURVES_SCHEMA): living rows, and mean and quantiles of them, null where none lives."""
    columns = {
        "step": np.arange(len(trajectory.stage), dtype=np.int32),
        "stage": trajectory.stage.astype(np.int8),
        "rows": np.isfinite(trajectory.tc_k).sum(axis=1).astype(np.int32),
        **{name: pa.array(values, from_pandas=True) for name, values in trajectory.summary().items()},
    }
    return pa.table(columns, schema=CURVES_SCHEMA)


def write_curves(table: Any, place: Location) -> None:
    """Write a table of curves. Raises StorageError."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    place.write_bytes(sink.getvalue())


def read_curves(place: Location) -> Any:
    """The table of curves in a file. Raises StorageError."""
    try:
        table = pq.read_table(io.BytesIO(place.read_bytes()))
    except pa.ArrowException as error:
        raise StorageError(f"{place.text} is not a whole Parquet file; run the campaign again") from error
    if not table.schema.equals(CURVES_SCHEMA):
        raise StorageError(f"{place.text} is not a table of curves of this version; run the campaign again")
    return table
