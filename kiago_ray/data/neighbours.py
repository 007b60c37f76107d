"""The known composition nearest to each of many: exact, by the L1 distance of atomic fractions.

L1 counts what share of the atoms must be exchanged, twice: 0 for the same composition, 2 for no element in
common; 0.1 Sr for La in La2CuO4 is 0.2/7.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS

MAX_BLOCK_BYTES = 64 * 2**20  # of distances held at once
DECIMALS = 12  # of a distance; the last bits of a sum must not decide between equals


def nearest(
    fractions: NDArray[np.float64], known: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The row of `known` (N, 118) nearest to each of `fractions` (M, 118): index (M,), L1 distance (M,).

    Distances are rounded to 1e-12, and of equally near rows it is the one with the lowest index. A row's
    answer does not depend on the others. Raises ValueError for arrays of other shapes, for N = 0 and for
    values that are not finite.
    """
    queries, points = _checked(fractions, known)
    index = np.empty(len(queries), dtype=np.int64)
    distance = np.empty(len(queries))
    block = max(1, MAX_BLOCK_BYTES // (8 * len(points)))
    for start in range(0, len(queries), block):
        part = slice(start, start + block)
        distances = cdist(queries[part], points, metric="cityblock")
        np.round(distances, DECIMALS, out=distances)
        index[part] = distances.argmin(axis=1)  # the first of equals
        distance[part] = distances.min(axis=1)
    return index, distance


@dataclass(frozen=True)
class CompositionIndex:
    """Compositions that are looked through often. points: (N, 118), rows summing to 1; by_element: (118, N), the same
    by element; holders: for each element the rows that hold it.
    """

    points: NDArray[np.float64]
    by_element: NDArray[np.float64]
    holders: tuple[NDArray[np.int64], ...]

    @classmethod
    def of(cls, known: NDArray[np.float64]) -> CompositionIndex:
        """Of `known` (N, 118). Raises ValueError for rows that don't sum to 1."""
        points = _summing_to_one(known)
        by_element = np.ascontiguousarray(points.T)
        return cls(points, by_element, tuple(np.flatnonzero(column) for column in by_element))


def nearest_composition(
    fractions: NDArray[np.float64], known: NDArray[np.float64] | CompositionIndex
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The same as `nearest` of rows that sum to 1, but faster: 2 − 2 Σ min(x, y) needs a row's own elements alone.

    Raises ValueError as `nearest` does, and for rows that don't sum to 1.
    """
    found = known if isinstance(known, CompositionIndex) else CompositionIndex.of(known)
    queries, _ = _checked(fractions, found.points)
    _summing_to_one(queries)
    index = np.empty(len(queries), dtype=np.int64)
    distance = np.empty(len(queries))
    for row, x in enumerate(queries):
        held = np.flatnonzero(x)
        shared = np.minimum(found.by_element[held], x[held, None]).sum(axis=0)
        distances = np.round(2 - 2 * shared, DECIMALS)
        index[row] = distances.argmin()  # the first of equals
        distance[row] = max(distances[index[row]], 0.0)
    return index, distance


def within(
    fractions: NDArray[np.float64], known: NDArray[np.float64] | CompositionIndex, radius: float
) -> Iterator[NDArray[np.int64]]:
    """For each of `fractions` (M, 118) the rows of `known` (N, 118) within an L1 distance, ascending; rows sum to 1.

    An element of more than half the radius must be shared: the rarest such one leaves few rows to compare with. N may
    be 0. Raises ValueError as `nearest_composition` does.
    """
    found = known if isinstance(known, CompositionIndex) else CompositionIndex.of(known)
    if not len(found.points):
        yield from (np.zeros(0, dtype=np.int64) for _ in range(len(fractions)))
        return
    queries, _ = _checked(fractions, found.points)
    _summing_to_one(queries)
    counts = np.array([len(rows) for rows in found.holders])
    for x in queries:
        needed = np.flatnonzero(x > radius / 2 + 1e-9)
        rows = found.holders[needed[counts[needed].argmin()]] if len(needed) else np.arange(len(found.points))
        held = np.flatnonzero(x)
        shared = np.minimum(found.by_element[np.ix_(held, rows)], x[held, None]).sum(axis=0)
        yield rows[np.round(2 - 2 * shared, DECIMALS) <= radius]


def _summing_to_one(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    rows = np.asarray(rows, dtype=np.float64)
    if not np.allclose(rows.sum(axis=-1), 1, atol=1e-9):
        raise ValueError("compositions are atomic fractions; every row must sum to 1")
    return rows


def _checked(
    fractions: NDArray[np.float64], known: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    queries, points = np.asarray(fractions, dtype=np.float64), np.asarray(known, dtype=np.float64)
    if queries.ndim != 2 or points.ndim != 2 or queries.shape[1] != points.shape[1]:
        raise ValueError(f"shapes {queries.shape} and {points.shape} don't fit; give (M, 118) and (N, 118)")
    if not len(points):
        raise ValueError("there is no known composition to compare with; give at least one row")
    if not (np.isfinite(queries).all() and np.isfinite(points).all()):
        raise ValueError("the fractions hold values that are not finite; leave those rows out")
    return queries, points


_LINES = (
    "He Ne Ar Kr Xe Rn Fr Cs Rb K Na Li Ra Ba Sr Ca",
    "Eu Yb Lu Tm Y Er Ho Dy Tb Gd Sm Pm Nd Pr Ce La Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Sc",
    "Zr Hf Ti Ta Nb V Cr Mo W Re Tc Os Ru Ir Rh Pt Pd Au Ag Cu Ni Co Fe Mn Mg Zn Cd Hg Be",
    "Al Ga In Tl Pb Sn Ge Si B C N P As Sb Bi Po Te Se S O At I Br Cl F H",
)
SCALE: tuple[str, ...] = tuple(symbol for line in _LINES for symbol in line.split())
"""The modified Pettifor scale: He, the 1st, to H, the 103rd. The 15 elements after Lr are not on it."""

_PERIOD = 32  # from an element of the seventh period to its homologue above

_GROUP = 9  # places of the scale that are looked at together first
_SLACK = 1e-6

Floats = NDArray[np.float64]


def cumulative(fractions: Floats) -> Floats:
    """Of atomic fractions (N, 118), how much lies at or before each place of the scale, (N, 103).

    An element after Lr counts at the place of its lighter homologue.
    """
    on_scale = np.array(fractions, dtype=np.float64)
    beyond = slice(len(SCALE), N_ELEMENTS)
    homologues = slice(len(SCALE) - _PERIOD, N_ELEMENTS - _PERIOD)
    on_scale[:, homologues] += on_scale[:, beyond]
    return np.cumsum(on_scale[:, [INDEX[symbol] for symbol in SCALE]], axis=1)


def nearest_emd(fractions: Floats, known: Floats) -> tuple[NDArray[np.int64], Floats]:
    """The row of `known` (N, 118) nearest to each of `fractions` (M, 118): index (M,), distance (M,) in places.

    Of equally near rows it is the one with the lowest index. Raises ValueError as `nearest` does.
    """
    if np.shape(fractions)[1:] != (N_ELEMENTS,) or np.shape(known)[1:] != (N_ELEMENTS,):
        raise ValueError(f"shapes {np.shape(fractions)} and {np.shape(known)}; give (M, 118) and (N, 118)")
    queries, points = cumulative(fractions), cumulative(known)
    if not len(points) or not (np.isfinite(queries).all() and np.isfinite(points).all()):
        return nearest(queries, points)  # says what is wrong
    # What lies at several places together differs by no more than what lies at each: a bound that spares most looks.
    groups = np.arange(0, len(SCALE), _GROUP)
    coarse = np.add.reduceat(points, groups, axis=1).T.copy()
    index, distance = np.empty(len(queries), dtype=np.int64), np.empty(len(queries))
    for row, query in enumerate(queries):
        bounds = np.abs(coarse - np.add.reduceat(query, groups)[:, None]).sum(axis=0)
        most = np.abs(points[bounds.argmin()] - query).sum() + _SLACK
        left = np.flatnonzero(bounds <= most)
        distances = np.round(np.abs(points[left] - query).sum(axis=1), DECIMALS)
        at = distances.argmin()  # the first of equals
        index[row], distance[row] = left[at], distances[at]
    return index, distance
