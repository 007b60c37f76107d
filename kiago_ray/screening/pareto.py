"""The Pareto front: rows that no other row beats in all of trusted T_c, formation energy and nearness to the known.

Exact, in O(n log n): sorted by the first aim, a row is beaten only by rows before it, and of those a staircase in the
other two aims is enough (Kung, Luccio and Preparata, J. ACM 22, 469 (1975)).
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def pareto_front(trusted_tc_k: Floats, ef_ev_per_atom: Floats, extrapolation: Floats, eligible: Mask) -> Mask:
    """Which of n rows are on the front (n,): eligible, and no eligible row is as good in all aims and better in one.

    Trusted T_c counts upwards, E_f and the extrapolation score downwards; rows that tie in all three stand or fall
    together. A row without the first two isn't on the front. An unknown score is the farthest of all, so that where
    none is known the other two aims decide.
    """
    rows = np.flatnonzero(eligible & ~np.isnan(trusted_tc_k) & ~np.isnan(ef_ev_per_atom))
    costs = np.stack(
        [
            -trusted_tc_k[rows],
            ef_ev_per_atom[rows],
            np.nan_to_num(extrapolation[rows], nan=np.inf, posinf=np.inf),
        ],
        axis=1,
    )
    costs += 0.0  # no -0.0
    # The different ones, in the order of their values.
    points, place = np.unique(costs, axis=0, return_inverse=True)
    front = np.zeros(len(eligible), dtype=np.bool_)
    front[rows] = _unbeaten(points[:, 1].tolist(), points[:, 2].tolist())[place.reshape(-1)]
    return front


def _unbeaten(second: list[float], third: list[float]) -> Mask:
    """Of different points in rising order of (first, second, third), those that none before is as low as in both."""
    unbeaten = np.zeros(len(second), dtype=np.bool_)
    steps: list[float] = []  # the staircase: second rises, third falls
    depths: list[float] = []
    for at, (across, down) in enumerate(zip(second, third, strict=True)):
        end = bisect_right(steps, across)
        if end and depths[end - 1] <= down:
            continue
        unbeaten[at] = True
        begin = end - 1 if end and steps[end - 1] == across else end
        while end < len(steps) and depths[end] >= down:
            end += 1
        steps[begin:end], depths[begin:end] = [across], [down]
    return unbeaten
