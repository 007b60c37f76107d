"""Cuprates: their holes per copper, and those that are undoped as written.

Superconductivity comes with 0.05 to 0.27 holes a planar Cu, or with about 0.15 electrons. With every Cu at 2+ a
cuprate is an antiferromagnetic insulator, the parent (La2CuO4, Nd2CuO4). In the 123 family one Cu of three lies in
chains, at 1+ until oxygen fills them: from YBa2Cu3O6 to O6.35 the planes stay undoped. At O6.5 the mean is 2+, and it
is marked by that, though its chains are then half full, of Cu1+ and Cu3+, and the planes hold holes.

The mark is a remark on the formula as written. Nominal formulas such as HgBa2Ca2Cu3O8 and Bi2Sr2CaCu2O8 are undoped
too: what makes them superconduct is excess oxygen that nobody writes, or a dopant.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import INDEX
from kiago_ray.chemistry.state_costs import TRANSITION_METALS

UNDOPED = 0.02  # holes (or electrons) per Cu, fewer than which a cuprate counts as undoped
CHAINS_EMPTY = (6.0, 6.35)  # oxygen to three Cu of the 123 family, between which its planes are undoped
UNDOPED_REMARK = "undoped as written and so an insulator: it needs excess oxygen or a dopant"

_HALOGENS = ("F", "Cl", "Br", "I")
_SOFT_ANIONS = ("N", "P", "S", "As", "Se", "Te")
_RARE_EARTHS = ("Y", "La", "Pr", "Nd", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu")

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def _sum(amounts: Floats, *symbols: str) -> Floats:
    return np.asarray(amounts[:, [INDEX[symbol] for symbol in symbols]].sum(axis=1))


def cuprates(amounts: Floats) -> Mask:
    """Whether each of amounts (n, 118) is one, (n,): Cu, at least as much O, no more halogens than O and less of
    other anions, and Cu at least half of its transition metals.
    """
    copper, oxygen = _sum(amounts, "Cu"), _sum(amounts, "O")
    metals = amounts[:, TRANSITION_METALS].sum(axis=1)
    ours = (copper > 0) & (oxygen >= copper) & (_sum(amounts, *_HALOGENS) <= oxygen)
    ours &= _sum(amounts, *_SOFT_ANIONS) < oxygen
    return np.asarray(ours & (2 * copper >= metals))


def holes_per_cu(amounts: Floats, mean_valence: Floats) -> Floats:
    """The mean valence of Cu (n,) less 2 where amounts (n, 118) is a cuprate, NaN elsewhere; below 0 for electrons."""
    return np.where(cuprates(amounts), mean_valence - 2, np.nan)


def undoped_parents(amounts: Floats, holes: Floats) -> Mask:
    """Whether each of amounts (n, 118) with these holes per Cu (n,) is undoped as written, (n,): every Cu at 2+ but
    for UNDOPED, or of the 123 family with its chains empty.
    """
    plain = np.abs(np.nan_to_num(holes, nan=np.inf)) < UNDOPED - 1e-9
    return np.asarray(plain | _empty_chains(amounts) & np.isfinite(holes))


def _empty_chains(amounts: Floats) -> Mask:
    """RBa2Cu3O6 to O6.35, R a rare earth, with Sr or Ca for some of it and nothing else."""
    copper = np.where(_sum(amounts, "Cu") > 0, _sum(amounts, "Cu"), np.nan)
    three = 3 * amounts / copper[:, None]
    rare_earth, barium = _sum(three, *_RARE_EARTHS), _sum(three, "Ba", "Sr", "Ca")
    oxygen = _sum(three, "O")
    whole = rare_earth + barium + 3 + oxygen
    with np.errstate(invalid="ignore"):
        family = (np.abs(rare_earth - 1) < 0.15) & (np.abs(barium - 2) < 0.15)
        empty = (oxygen > CHAINS_EMPTY[0] - 0.05) & (oxygen < CHAINS_EMPTY[1] + 1e-9)
        return np.asarray(family & empty & (np.abs(whole - three.sum(axis=1)) < 1e-6))
