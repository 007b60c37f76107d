"""The known composition nearest to each of many: exact, by the L1 distance of atomic fractions.

L1 counts what share of the atoms must be exchanged, twice: 0 for the same composition, 2 for no element in
common; 0.1 Sr for La in La2CuO4 is 0.2/7.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

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
    queries, points = np.asarray(fractions, dtype=np.float64), np.asarray(known, dtype=np.float64)
    if queries.ndim != 2 or points.ndim != 2 or queries.shape[1] != points.shape[1]:
        raise ValueError(f"shapes {queries.shape} and {points.shape} don't fit; give (M, 118) and (N, 118)")
    if not len(points):
        raise ValueError("there is no known composition to compare with; give at least one row")
    if not (np.isfinite(queries).all() and np.isfinite(points).all()):
        raise ValueError("the fractions hold values that are not finite; leave those rows out")
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
