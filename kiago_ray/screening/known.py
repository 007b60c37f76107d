"""Compositions whose T_c has been measured, to hold candidates against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.datasets.neighbours import nearest

if TYPE_CHECKING:
    import pandas as pd

SAME_COMPOSITION = 1e-6  # L1 distance in fractions below which two compositions are one

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class KnownMaterials:
    """m compositions: their formulas, fractions (m, 118), measured T_c (m,) in K and the pressure (m,) in GPa at which
    it was, NaN where the source doesn't say. source: where they come from, for a person.
    """

    formulas: tuple[str, ...]
    fractions: Floats
    tc_k: Floats
    pressure_gpa: Floats
    source: str = ""

    @classmethod
    def from_formulas(
        cls,
        formulas: Sequence[str],
        tc_k: Sequence[float],
        *,
        pressure_gpa: Sequence[float] | None = None,
        source: str = "",
    ) -> KnownMaterials:
        """The same from formulas alone. Raises FormulaError, and ValueError where the lengths differ."""
        pressures = np.full(len(formulas), np.nan) if pressure_gpa is None else pressure_gpa
        for values, what in ((tc_k, "T_c"), (pressures, "pressure")):
            if len(formulas) != len(values):
                counts = f"{len(formulas)} formulas and {len(values)} {what}"
                raise ValueError(f"{counts}; give one {what} a formula")
        return cls(
            tuple(formulas),
            parse_fractions(formulas),
            np.asarray(tc_k, dtype=np.float64),
            np.asarray(pressures, dtype=np.float64),
            source,
        )

    @classmethod
    def from_table(cls, table: pd.DataFrame, source: str) -> KnownMaterials:
        """Of a loader's table: its columns `formula`, `tc_k` and, if it has it, `pressure_gpa`."""
        pressure_gpa = table["pressure_gpa"].tolist() if "pressure_gpa" in table else None
        return cls.from_formulas(
            table["formula"].tolist(), table["tc_k"].tolist(), pressure_gpa=pressure_gpa, source=source
        )

    def measured_tc_k(self, fractions: Floats) -> float | None:
        """T_c of the composition (118,) itself; None where it is not known, or only under pressure."""
        index, distance = nearest(fractions[None, :], self.fractions)
        if distance[0] > SAME_COMPOSITION or self.pressure_gpa[index[0]] > 0:
            return None
        return float(self.tc_k[index[0]])
