"""Chemical systems next to known ones: one element swapped for another, or one element more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kiago_ray.plausibility.literature import Floats, Literature, Mask
from kiago_ray.plausibility.odds import swap_odds


@dataclass(frozen=True)
class Neighbours:
    """n systems that aren't known, best supported first.

    systems: (n, 118) sets of elements. support: (n,) the sum over the known systems that they come from of weight ×
    odds. parent: (n,) the one that supports it most. lost, new: (n,) the element that gives way there (of one added:
    whose site it shares) and the one that comes in. added: (n,) whether it comes in beside the others.
    """

    systems: Mask
    support: Floats
    parent: NDArray[np.int64]
    lost: NDArray[np.int64]
    new: NDArray[np.int64]
    added: Mask


def swapped_systems(literature: Literature, elements: Mask, most: int) -> Neighbours:
    """Those that come from a known system by one swap, among `elements` (118,)."""
    odds = swap_odds(literature.systems) * elements
    found: dict[bytes, list[float]] = {}
    known = {row.tobytes() for row in literature.systems}
    for at, (row, weight) in enumerate(zip(literature.systems, literature.weights, strict=True)):
        for lost in np.flatnonzero(row).tolist():
            for new in np.flatnonzero((odds[lost] > 0) & ~row).tolist():
                other = row.copy()
                other[lost], other[new] = False, True
                _count(found, known, other.tobytes(), float(weight * odds[lost, new]), at, lost, new)
    return _best(found, most, added=False)


def added_systems(literature: Literature, elements: Mask, most: int) -> Neighbours:
    """Those that hold one element more than a known system, among `elements` (118,): Σ w·max over a of p(a, c), times
    the mean of ln(1 + systems) in which it stands beside the others.
    """
    odds = swap_odds(literature.systems) * elements
    one = literature.systems.astype(np.float64)
    together = np.log1p(one.T @ one)
    found: dict[bytes, list[float]] = {}
    known = {row.tobytes() for row in literature.systems}
    for at, (row, weight) in enumerate(zip(literature.systems, literature.weights, strict=True)):
        held = np.flatnonzero(row)
        values = weight * odds[held].max(axis=0) * together[held].mean(axis=0)
        for new in np.flatnonzero((values > 0) & ~row).tolist():
            other = row.copy()
            other[new] = True
            site = int(held[odds[held, new].argmax()])
            _count(found, known, other.tobytes(), float(values[new]), at, site, new)
    return _best(found, most, added=True)


def _count(
    found: dict[bytes, list[float]],
    known: set[bytes],
    key: bytes,
    value: float,
    parent: int,
    lost: int,
    new: int,
) -> None:
    """Add one parent's support: [sum, most, parent, lost, new]."""
    if key in known:
        return
    entry = found.setdefault(key, [0.0, -1.0, 0, 0, 0])
    entry[0] += value
    if value > entry[1]:
        entry[1:] = [value, parent, lost, new]


def _best(found: dict[bytes, list[float]], most: int, *, added: bool) -> Neighbours:
    keys = sorted(found, key=lambda key: -found[key][0])[:most]
    table = np.array([found[key] for key in keys]).reshape(-1, 5)
    systems = np.array([np.frombuffer(key, dtype=np.bool_) for key in keys], dtype=np.bool_).reshape(-1, 118)
    parent, lost, new = (table[:, column].astype(np.int64) for column in (2, 3, 4))
    return Neighbours(systems, table[:, 0], parent, lost, new, np.full(len(keys), added))
