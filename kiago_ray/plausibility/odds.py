"""How often one element takes the place of another, and beside which others: counted in what is known.

p(a, c) = times that a and c complete the same rest of a chemical system, over √((n_a + 5)(n_c + 5)), n_a being the
systems that hold a. Beside b: the same among the systems that hold b, with 3 for 5.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import N_ELEMENTS

PRIOR, PRIOR_BESIDE = 5.0, 3.0  # systems; what is seen once or twice says little

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Ints = NDArray[np.int64]


def swap_odds(systems: Mask) -> Floats:
    """p(a, c) of chemical systems (s, 118) as sets of elements: (118, 118), symmetric, 0 on its diagonal."""
    counts = np.zeros((N_ELEMENTS, N_ELEMENTS))
    for together, _ in completions(systems):
        counts[np.ix_(together, together)] += 1
    np.fill_diagonal(counts, 0)
    return per_system(counts, systems.sum(axis=0))


def per_system(counts: Floats, held: NDArray[Any]) -> Floats:
    """Counts of pairs (118, 118) over √((n_a + 5)(n_c + 5)), held (118,) being how many systems hold each element."""
    return np.asarray(counts / np.sqrt((held[:, None] + PRIOR) * (held + PRIOR)))


def completion_counts(systems: Mask) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """How often a and c complete the same rest of the systems (s, 118): (118, 118); and how often one that holds b,
    [a, c, b], (118, 118, 118).
    """
    counts = np.zeros((N_ELEMENTS, N_ELEMENTS), dtype=np.float32)
    beside = np.zeros((N_ELEMENTS,) * 3, dtype=np.float32)  # (b, a, c)
    for together, rest in completions(systems):
        grid = np.ix_(together, together)
        counts[grid] += 1
        for b in rest:
            beside[b][grid] += 1
    z = np.arange(N_ELEMENTS)
    counts[z, z] = 0
    beside[:, z, z] = 0
    return counts, np.ascontiguousarray(beside.transpose(1, 2, 0))


def completions(systems: Mask) -> Iterable[tuple[Ints, tuple[int, ...]]]:
    """Each rest that two or more elements complete to one of the systems (s, 118): those elements, and the rest."""
    by_rest: dict[tuple[int, ...], list[int]] = {}
    for row in systems:
        held = np.flatnonzero(row).tolist()
        for a in held:
            by_rest.setdefault(tuple(z for z in held if z != a), []).append(a)
    return [(np.array(found), rest) for rest, found in by_rest.items() if len(found) > 1]
