"""When two compositions are the same: one tolerance for what is known to superconduct, was made, and was tried.

L1 distance of atomic fractions of at most 0.02: 1 % of the atoms exchanged, "the same" in section 3.5 of the paper. A
composition of undetermined oxygen (SuperCon's YBa2Cu3OZ) is the same as any with oxygen whose other elements agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.data.compositions import sparse_fractions

SAME_TOLERANCE = 0.02  # L1 distance
_SLACK = 1e-9  # last bits of a sum must not decide
# Fractions sum to 1 on both sides, so no element differs by more than half the L1 distance.
_MUST_SHARE = SAME_TOLERANCE / 2 + _SLACK

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class KnownCompositions:
    """m compositions. names: what `same_as` says of each. fractions: (m, 118), sparse by rows, summing to 1; where
    any_oxygen (m,) holds, those of the elements beside oxygen, of which any amount is meant.
    """

    names: tuple[str, ...]
    fractions: csr_matrix
    any_oxygen: NDArray[np.bool_]
    _definite: _Index = field(init=False, repr=False, compare=False)
    _without_oxygen: _Index = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        m = len(self.names)
        if self.fractions.shape != (m, N_ELEMENTS) or np.shape(self.any_oxygen) != (m,):
            raise ValueError(
                f"{m} names, fractions {self.fractions.shape} and {np.shape(self.any_oxygen)} marks; give one of each"
            )
        rows = np.asarray(self.any_oxygen, dtype=np.bool_)
        object.__setattr__(self, "_definite", _Index.of(self.fractions, np.flatnonzero(~rows)))
        object.__setattr__(self, "_without_oxygen", _Index.of(self.fractions, np.flatnonzero(rows)))

    @classmethod
    def of(
        cls,
        formulas: Sequence[str],
        *,
        names: Sequence[str] | None = None,
        any_oxygen: NDArray[np.bool_] | None = None,
    ) -> KnownCompositions:
        """The same of canonical formulas; names: by default the formulas, with Oz behind those of any oxygen."""
        marks = np.zeros(len(formulas), dtype=np.bool_) if any_oxygen is None else np.asarray(any_oxygen)
        texts = names or [
            f"{text}Oz" if mark else text for text, mark in zip(formulas, marks.tolist(), strict=True)
        ]
        return cls(tuple(texts), sparse_fractions(formulas), marks)

    def nearest_same(self, fractions: Floats) -> Ints:
        """(n,): the index of the nearest composition within the tolerance of each of fractions (n, 118), -1 for none.

        One of determined oxygen goes before one of any; of equally near ones it is the first. Raises ValueError for
        rows that don't sum to 1.
        """
        queries = np.asarray(fractions, dtype=np.float64)
        if queries.ndim != 2 or not np.allclose(queries.sum(axis=1), 1, atol=1e-6):
            raise ValueError("compositions are atomic fractions (n, 118), every row summing to 1")
        found = self._definite.nearest(queries)
        oxygen = queries[:, INDEX["O"]]
        asked = np.flatnonzero((found < 0) & (oxygen > 0) & (oxygen < 1 - _SLACK))
        if len(asked) and len(self._without_oxygen.rows):
            others = queries[asked]
            others[:, INDEX["O"]] = 0
            found[asked] = self._without_oxygen.nearest(others / others.sum(axis=1, keepdims=True))
        return found

    def same_as(self, fractions: Floats) -> list[str | None]:
        """The names of those that `nearest_same` finds, None where there is none."""
        return [self.names[at] if at >= 0 else None for at in self.nearest_same(fractions).tolist()]


@dataclass(frozen=True)
class _Index:
    """Some rows of the known, by the elements that a composition within the tolerance must share with them.

    fractions: (p, 118) of them. rows: (p,) what they are among all. held: (2, p) bits of their elements; needed: of
    those that such a composition can't lack. with_element: for each element the places of the p that hold it.
    """

    fractions: csr_matrix
    rows: Ints
    held: Masks
    needed: Masks
    with_element: tuple[Ints, ...]

    @classmethod
    def of(cls, fractions: csr_matrix, rows: Ints) -> _Index:
        mine = fractions[rows]
        by_element = mine.tocsc()
        by_element.sort_indices()
        places = tuple(
            by_element.indices[by_element.indptr[z] : by_element.indptr[z + 1]].astype(np.int64)
            for z in range(N_ELEMENTS)
        )
        return cls(mine, rows, masks_of(mine), masks_of(mine, _MUST_SHARE), places)

    def nearest(self, queries: Floats) -> Ints:
        """(n,): as `nearest_same`. Queries of the same elements are compared with the same few rows."""
        found = np.full(len(queries), -1, dtype=np.int64)
        groups: dict[bytes, list[int]] = {}
        for row, signs in enumerate((queries > 0).astype(np.int8) + (queries > _MUST_SHARE)):
            groups.setdefault(signs.tobytes(), []).append(row)
        for rows in groups.values():
            held, needed = (
                np.flatnonzero(queries[rows[0]] > 0),
                np.flatnonzero(queries[rows[0]] > _MUST_SHARE),
            )
            places = self._possible(held, needed)
            if not len(places):
                continue
            near = self.fractions[places].toarray()[:, held]
            foreign = 1 - near.sum(axis=1)  # what a known one holds of elements that the query lacks
            for row in rows:
                distance = np.round(np.abs(near - queries[row, held]).sum(axis=1) + foreign, 12)
                at = int(distance.argmin())
                if distance[at] <= SAME_TOLERANCE + _SLACK:
                    found[row] = self.rows[places[at]]
        return found

    def _possible(self, held: Ints, needed: Ints) -> Ints:
        """Places, ascending, of rows that hold all that is needed and need nothing that isn't held."""
        rarest = min(needed.tolist(), key=lambda z: len(self.with_element[z]), default=None)
        places = np.arange(len(self.rows)) if rarest is None else self.with_element[rarest]
        must, may = mask_of(needed), mask_of(held)
        fits = np.ones(len(places), dtype=np.bool_)
        for half in range(2):
            fits &= (self.held[half, places] & must[half]) == must[half]
            fits &= (self.needed[half, places] & ~may[half]) == 0
        return places[fits]


Masks = NDArray[np.uint64]


def mask_of(elements: NDArray[np.int64]) -> Masks:
    """(2,) bits of the elements' columns."""
    bits = np.zeros(2, dtype=np.uint64)
    for z in elements.tolist():
        bits[z // 64] |= np.uint64(1) << np.uint64(z % 64)
    return bits


def masks_of(rows: csr_matrix, above: float = 0.0) -> Masks:
    """(2, p) bits of each row's elements, those of which it holds more than `above`."""
    bits = np.zeros((2, rows.shape[0]), dtype=np.uint64)
    counted = rows.data > above
    row = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))[counted]
    z = rows.indices[counted].astype(np.int64)
    np.bitwise_or.at(bits, (z // 64, row), np.uint64(1) << (z % 64).astype(np.uint64))
    return bits
