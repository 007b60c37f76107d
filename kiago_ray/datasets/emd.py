"""Element mover's distance: how far a composition must be carried to become another, by chemical similarity.

Wasserstein-1 between atomic fractions whose elements stand on a line (ElMD: Hargreaves et al., Chem. Mater. 32, 10610,
2020), here the modified Pettifor scale (Glawe et al., New J. Phys. 18, 093011, 2016), in which neighbours most often
take each other's place in known crystals. On a line it is exact: the L1 distance of the cumulative fractions. One unit
is all atoms moved by one place, so Sr for all Ba in BaO is 0.5; L1 would call that as far as Cl for all Ba.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.datasets.neighbours import DECIMALS, nearest

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
