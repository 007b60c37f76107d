"""A scan: the compositions of doping series with what is known and what models say of each, in the order of x."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from kiago_ray.chemistry.formula import AMOUNT_DECIMALS
from kiago_ray.chemistry.series import Series
from kiago_ray.screening.known import KnownMaterials

PLANNED = pa.schema(
    [
        pa.field("series", pa.string()),
        pa.field("x", pa.float64()),
        pa.field("y", pa.float64()),  # null in a curve
        pa.field("on_grid", pa.bool_()),
        pa.field("formula", pa.string()),
        pa.field("known_tc_k", pa.float64()),
        pa.field("known_pressure_gpa", pa.float64()),
        pa.field("known_reports", pa.int32()),
        pa.field("known_reference", pa.string()),
    ]
)
"""What a row of a scan has before it is scored. on_grid: it was asked for; the others are known compositions between.
known_…: of the known composition, the median of its reports, at ambient pressure where there is such; else null."""


@dataclass(frozen=True)
class Scan:
    """Series of one base, and the rows of all of them as an Arrow table: PLANNED and, once scored, what `api.score`
    says of each.
    """

    series: tuple[Series, ...]
    table: Any

    @property
    def formulas(self) -> list[str]:
        """Of each row."""
        return list(self.table["formula"].to_pylist())

    def scored(self, scores: Any) -> Scan:
        """The scan with an Arrow table of its rows' scores."""
        columns = dict(zip(self.table.column_names, self.table.columns, strict=True))
        return replace(
            self, table=pa.table(columns | dict(zip(scores.column_names, scores.columns, strict=True)))
        )

    def rows(self, series: Series) -> list[dict[str, Any]]:
        """The rows of one of the series."""
        return [row for row in self.table.to_pylist() if row["series"] == series.name]


def planned_rows(series: Sequence[Series], known: KnownMaterials | None) -> Any:
    """The rows of all series, by x and y: the compositions that were asked for and the known ones between them."""
    rows = [row for each in series for row in _rows(each, known)]
    return pa.Table.from_pylist(rows, schema=PLANNED)


def _rows(series: Series, known: KnownMaterials | None) -> list[dict[str, Any]]:
    asked = {tuple(round(each, AMOUNT_DECIMALS) for each in x) for x in series.points()}
    measured = {} if known is None else _known_at(series, known)
    rows = []
    for x in sorted(asked | measured.keys()):
        row = {"series": series.name, "x": x[0], "y": x[1] if len(x) > 1 else None}
        row |= {"on_grid": x in asked, "formula": series.formula(x)}
        if known is not None and (at := measured.get(x)) is not None:
            pressure = float(known.pressure_gpa[at])
            row["known_tc_k"] = float(known.tc_k[at])
            row["known_pressure_gpa"] = None if np.isnan(pressure) else pressure
            row["known_reports"] = int(known.reports[at])
            row["known_reference"] = known.reference[at] or None
        rows.append(row)
    return rows


def _known_at(series: Series, known: KnownMaterials) -> dict[tuple[float, ...], int]:
    """The known compositions of a series: x to four decimals → place; of several there that without pressure, then
    the first, which is the one that `KnownMaterials.measured` takes.
    """
    on, x = series.places(known.fractions)
    at = np.flatnonzero(on)
    better_last = at[np.lexsort((-at, ~(known.pressure_gpa[at] > 0)))]
    return {tuple(np.round(x[each], AMOUNT_DECIMALS).tolist()): each for each in better_last.tolist()}
