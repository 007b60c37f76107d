"""What was known at a time, as plausibility reads it: which elements were reported together, how often, how lately.

A chemical system is a set of elements. A system counts by w = ln(1 + its compositions of the last five years) + 0.2
ln(1 + all of them): where much is reported, more follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.data.compositions import sparse_fractions

RECENT_YEARS = 5
HOT_K = 10.0  # systems with a superconductor from here on draw more work than others
_OLD_SHARE = 0.2  # of a system's weight that all its compositions have, beside the recent ones
_NOT_AT_HAND = ("He", "Ne", "Ar", "Kr", "Xe", "Po", "At", "Rn", "Fr", "Ra")

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Literature:
    """Of m compositions of s chemical systems, known before the year `year`.

    fractions: (m, 118). tc_k, reports: (m,) median T_c and number of measurements. first_year: (m,) of the first
    report, 0 where it isn't known. system: (m,) the row of each in `systems` (s, 118), which are sets of elements.
    """

    year: int
    fractions: Floats
    tc_k: Floats
    reports: Floats
    first_year: NDArray[np.int64]
    system: NDArray[np.int64]
    systems: Mask

    @classmethod
    def of(cls, table: pd.DataFrame, year: int) -> Literature:
        """Of a table with `formula`, `tc_k`, `chemical_system` and, if it has them, `reports` (or `n_merged`) and
        `year`.
        """
        names = sorted(set(table["chemical_system"]))
        place = {name: at for at, name in enumerate(names)}
        counted = "reports" if "reports" in table else "n_merged"
        years = table["year"].fillna(0).to_numpy(dtype=np.int64) if "year" in table else np.zeros(len(table))
        return cls(
            year=year,
            fractions=sparse_fractions(table["formula"].tolist()).toarray(),
            tc_k=table["tc_k"].to_numpy(dtype=np.float64),
            reports=table[counted].to_numpy(dtype=np.float64) if counted in table else np.ones(len(table)),
            first_year=years.astype(np.int64),
            system=table["chemical_system"].map(place).to_numpy(dtype=np.int64),
            systems=element_sets(names),
        )

    def before(self, year: int) -> Literature:
        """The part of it that was known before `year`; of what has no date all."""
        return self.only(self.first_year < year, year)

    def only(self, kept: Mask, year: int | None = None) -> Literature:
        """The compositions where `kept` (m,) holds, and their systems."""
        there = np.unique(self.system[kept])
        return Literature(
            self.year if year is None else year,
            self.fractions[kept],
            self.tc_k[kept],
            self.reports[kept],
            self.first_year[kept],
            np.searchsorted(there, self.system[kept]),
            self.systems[there],
        )

    def with_one_more(self, fractions: Floats) -> Literature:
        """The same and a composition (118,) of a chemical system that isn't among its own, without a T_c."""
        return Literature(
            self.year,
            np.vstack([self.fractions, fractions]),
            np.append(self.tc_k, 0.0),
            np.append(self.reports, 1.0),
            np.append(self.first_year, self.year - 1),
            np.append(self.system, len(self.systems)),
            np.vstack([self.systems, fractions > 0]),
        )

    @cached_property
    def compositions(self) -> Floats:
        """(s,): how many compositions each system has."""
        return np.bincount(self.system, minlength=len(self.systems)).astype(np.float64)

    @cached_property
    def recent(self) -> Floats:
        """(s,): how many of them were first reported in the last RECENT_YEARS."""
        lately = self.first_year >= self.year - RECENT_YEARS
        return np.bincount(self.system[lately], minlength=len(self.systems)).astype(np.float64)

    @cached_property
    def weights(self) -> Floats:
        """(s,): how much each system counts."""
        return np.asarray(np.log1p(self.recent) + _OLD_SHARE * np.log1p(self.compositions))

    @property
    def highest_tc_k(self) -> Floats:
        """(s,): the highest median T_c of each system, in K."""
        highest = np.zeros(len(self.systems))
        np.maximum.at(highest, self.system, self.tc_k)
        return highest


def element_sets(systems: Sequence[str]) -> Mask:
    """Chemical systems such as "As-La-Ni-O" as sets of elements, (n, 118)."""
    sets = np.zeros((len(systems), N_ELEMENTS), dtype=np.bool_)
    for row, name in enumerate(systems):
        sets[row, [INDEX[symbol] for symbol in name.split("-")]] = True
    return sets


def elements_at_hand() -> Mask:
    """(118,): hydrogen to plutonium without noble gases and what nobody has in weighable amounts."""
    mask = np.arange(N_ELEMENTS) < INDEX["Am"]
    mask[[INDEX[symbol] for symbol in _NOT_AT_HAND]] = False
    return mask
