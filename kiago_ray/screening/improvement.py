"""How much better than what is known nearby: the expected improvement of T_c (Jones, Schonlau and Welch, J. Global
Optim. 13, 455 (1998), eq. 15).

Nearby are known compositions within an L1 distance of the row, and for a search also those within it of the base, at
ambient pressure. Their T_c is weighed: what one report says counts as much as the compositions around it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from kiago_ray.data.neighbours import within

if TYPE_CHECKING:
    from kiago_ray.screening.known import KnownMaterials

NEARBY_DISTANCE = 0.2  # L1, of fractions: a tenth of the atoms exchanged
AROUND_DISTANCE = 0.1  # L1, around a known composition, whose T_c should be like its own

MOST_SPREAD, LEAST_SPREAD_K = 0.2, 2.0  # of T_c, and beside it in K

_SURE_K = 1e-6  # a spread below which there is none

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def weighed_tc_k(materials: KnownMaterials) -> Floats:
    """T_c (m,) in K of each known composition, few reports weighed down; NaN for what was measured under pressure.

    t = (n T + M) / (n + 1) with T the median of its n reports and M the median T of the other known compositions
    within L1 0.1 of it: those around it count as one more report. Without others t = T. So a single 40 K among 30 K
    counts as 35 K, while 150 reports of 39 K stay 39 K.
    """
    weighed = np.full(len(materials.tc_k), np.nan)
    rows, index = materials.ambient_rows, materials.ambient_index
    tc_k, reports = materials.tc_k[rows], materials.reports[rows]
    for at, near in enumerate(within(index.points, index, AROUND_DISTANCE)):
        others = near[near != at]
        around = float(np.median(tc_k[others])) if len(others) else tc_k[at]
        weighed[rows[at]] = (reports[at] * tc_k[at] + around) / (reports[at] + 1)
    return weighed


def best_nearby(
    fractions: Floats,
    materials: KnownMaterials,
    radius: float = NEARBY_DISTANCE,
    *,
    base: Floats | None = None,
) -> tuple[Floats, Ints]:
    """The highest weighed T_c (n,) in K among the known compositions within `radius`, an L1 distance, of each of
    fractions (n, 118) or of the base (118,), and its index (n,) in `materials`; NaN and -1 where there is none.
    """
    rows, known = materials.ambient_rows, materials.ambient_index
    weighed = materials.weighed_tc_k[rows]
    found = np.full(len(fractions), -1, dtype=np.int64)
    of_base = np.zeros(0, dtype=np.int64)
    if base is not None:
        of_base = next(iter(within(base[None], known, radius)))
    for at, near in enumerate(within(fractions, known, radius)):
        every = np.concatenate([near, of_base])
        if len(every):
            found[at] = rows[every[weighed[every].argmax()]]
    tc_k = np.where(found >= 0, np.append(materials.weighed_tc_k, np.nan)[found], np.nan)
    return tc_k, found


def expected_improvement_k(tc_k: Floats, tc_std_k: Floats, best_k: Floats) -> Floats:
    """E[max(0, T − best)] in K, (n,), for T normal with mean tc_k and standard deviation tc_std_k, (n,) each.

    Without a spread T is taken as sure; NaN where T_c or the best isn't known. No T_c is below 0, nor is a best, so
    that the part of the normal below 0 K adds nothing. A spread above MOST_SPREAD of the higher of the two counts as
    that: networks that disagree by tens of kelvin know nothing, and ignorance is no promise.
    """
    above = np.asarray(tc_k, dtype=np.float64) - best_k
    spread = np.nan_to_num(np.asarray(tc_std_k, dtype=np.float64), nan=0.0)
    spread = np.fmin(spread, MOST_SPREAD * np.fmax(tc_k, best_k) + LEAST_SPREAD_K)
    sure = spread < _SURE_K
    z = above / np.where(sure, 1.0, spread)
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    expected = above * ndtr(z) + spread * density
    # max: far below the best the two terms cancel to their last bits.
    return np.where(sure, np.maximum(above, 0.0), np.maximum(expected, 0.0))
