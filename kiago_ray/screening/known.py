"""Compositions whose T_c has been measured, to hold candidates against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from kiago_ray.chemistry.elements import INDEX
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.data.compositions import sparse_fractions
from kiago_ray.data.identity import KnownCompositions
from kiago_ray.data.known import known_table
from kiago_ray.data.neighbours import CompositionIndex, nearest
from kiago_ray.screening.improvement import weighed_tc_k

if TYPE_CHECKING:
    import pandas as pd

SAME_COMPOSITION = 1e-6  # L1 distance in fractions below which two compositions are one

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class KnownMaterials:
    """m compositions: their formulas, fractions (m, 118), measured T_c (m,) in K and the pressure (m,) in GPa at which
    it was, NaN where the source doesn't say. reports: (m,) how often it was measured. year, reference, structure: m
    of each, of the first report; None and "" where unknown. compositions: all that count as known, also those of
    undetermined oxygen, which have no fractions. source: where they come from, for a person.
    """

    formulas: tuple[str, ...]
    fractions: Floats
    tc_k: Floats
    pressure_gpa: Floats
    reports: NDArray[np.int64]
    year: tuple[int | None, ...]
    reference: tuple[str, ...]
    structure: tuple[str, ...]
    compositions: KnownCompositions
    source: str = ""

    @classmethod
    def shipped(cls) -> KnownMaterials:
        """SuperCon's and the landmarks, as they ship. Raises DataError where the installation is damaged."""
        found = known_table()
        if found is None:
            raise ValueError("the shipped table is no table")
        return cls.from_table(found.table, found.source)

    @classmethod
    def from_formulas(
        cls,
        formulas: Sequence[str],
        tc_k: Sequence[float],
        *,
        pressure_gpa: Sequence[float] | None = None,
        source: str = "",
    ) -> KnownMaterials:
        """Known materials from formulas alone. Raises FormulaError, and ValueError where the lengths differ."""
        pressures = np.full(len(formulas), np.nan) if pressure_gpa is None else pressure_gpa
        for values, what in ((tc_k, "T_c"), (pressures, "pressure")):
            if len(formulas) != len(values):
                counts = f"{len(formulas)} formulas and {len(values)} {what}"
                raise ValueError(f"{counts}; give one {what} a formula")
        fractions, m = parse_fractions(formulas), len(formulas)
        return cls(
            tuple(formulas),
            fractions,
            np.asarray(tc_k, dtype=np.float64),
            np.asarray(pressures, dtype=np.float64),
            np.ones(m, dtype=np.int64),
            (None,) * m,
            ("",) * m,
            ("",) * m,
            KnownCompositions(tuple(formulas), csr_matrix(fractions), np.zeros(m, dtype=np.bool_)),
            source,
        )

    @classmethod
    def from_table(cls, table: pd.DataFrame, source: str) -> KnownMaterials:
        """The materials of a table with canonical formulas: its columns `formula`, `tc_k` and as many as it has of
        `oxygen`, `pressure_gpa`, `reports`, `year`, `reference` and `structure`.
        """
        any_oxygen = np.zeros(len(table), dtype=np.bool_)
        if "oxygen" in table:
            any_oxygen = (table["oxygen"] == "any").to_numpy()
        definite = table[~any_oxygen]
        m, formulas = len(definite), definite["formula"].tolist()

        def column(name: str, otherwise: Any) -> list[Any]:
            return definite[name].tolist() if name in definite else [otherwise] * m

        return cls(
            formulas=tuple(formulas),
            fractions=sparse_fractions(formulas).toarray(),
            tc_k=np.array(column("tc_k", np.nan), dtype=np.float64),
            pressure_gpa=np.array(column("pressure_gpa", np.nan), dtype=np.float64),
            reports=np.array(column("reports", 1), dtype=np.int64),
            year=tuple(int(year) if isinstance(year, int) else None for year in column("year", None)),
            reference=tuple(column("reference", "")),
            structure=tuple(column("structure", "")),
            compositions=KnownCompositions.of(table["formula"].tolist(), any_oxygen=any_oxygen),
            source=source,
        )

    @cached_property
    def index(self) -> CompositionIndex:
        """All compositions, for looking through."""
        return CompositionIndex.of(self.fractions)

    @cached_property
    def ambient_rows(self) -> NDArray[np.int64]:
        """Which were measured at no stated pressure, or at 0."""
        return np.flatnonzero(~(self.pressure_gpa > 0))

    @cached_property
    def ambient_index(self) -> CompositionIndex:
        """The compositions at ambient pressure, for looking through."""
        return CompositionIndex.of(self.fractions[self.ambient_rows])

    @cached_property
    def weighed_tc_k(self) -> Floats:
        """T_c (m,) in K with few reports weighed down (see `improvement`); half a second for SuperCon, once."""
        return weighed_tc_k(self)

    @cached_property
    def chemical_systems(self) -> frozenset[bytes]:
        """The sets of elements of those with T_c above 0 or undetermined oxygen, each (118,) bool as bytes."""
        others = self.compositions.fractions[self.compositions.any_oxygen].toarray() > 0
        others[:, INDEX["O"]] = True
        return frozenset(row.tobytes() for row in np.vstack([self.fractions[self.tc_k > 0] > 0, others]))

    def measured_tc_k(self, fractions: Floats) -> float | None:
        """T_c of the composition (118,) itself; None where it is not known, or only under pressure."""
        index, distance = nearest(fractions[None, :], self.fractions)
        if distance[0] > SAME_COMPOSITION or self.pressure_gpa[index[0]] > 0:
            return None
        return float(self.tc_k[index[0]])
