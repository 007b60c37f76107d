"""Kinds of compounds by their composition: metals, whose bonds are no matter of charges that add up, and cuprates,
whose doping is.

**Metals.** Anions are strong or weak. N, O, P, S, As, Se, Te and the halogens are strong: with enough of them a
compound is ionic, and its charges have to balance. H, B, C, Si, Ge, Sn, Sb and Bi are weak: borides, carbides,
silicides, A15, Heusler and Laves phases and alloys hold as many electrons as their bands take (MgB2, LuNi2B2C, Nb3Sn,
CeCoIn5, LaPt3Si).

**Cuprates.** Superconductivity comes with 0.05 to 0.27 holes a planar Cu, or with about 0.15 electrons. With every Cu
at 2+ a cuprate is an antiferromagnetic insulator, the parent (La2CuO4, Nd2CuO4). In the 123 family one Cu of three
lies in chains, at 1+ until oxygen fills them: from YBa2Cu3O6 to O6.35 the planes stay undoped. At O6.5 the mean is 2+,
and it is marked by that, though its chains are then half full, of Cu1+ and Cu3+, and the planes hold holes. The mark
is a remark on the formula as written. Nominal formulas such as HgBa2Ca2Cu3O8 and Bi2Sr2CaCu2O8 are undoped too: what
makes them superconduct is excess oxygen that nobody writes, or a dopant.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import INDEX
from kiago_ray.chemistry.state_costs import TRANSITION_METALS

Kind = Literal["ionic", "metallic"]

HARD = ("O", "F", "Cl", "Br", "I")
SOFT = ("N", "P", "S", "As", "Se", "Te")
FEW_STRONG = 0.15  # share of atoms up to which strong anions are interstitials of a metal, as O in Nb5Ir3O
FEW_HARD = 0.05  # share of hard anions up to which electrons may be left over beside soft ones
MOST_SOFT = 0.575  # share of soft anions up to which electrons may be left over: LaS, Mo3P, ZrRuP and La3Se4
MOSTLY_HYDROGEN = 0.5
POLYANIONIC = 0.95  # P or As to a metal, above which they bond to one another: CaFeAs2, LaRu4P12
UNDOPED = 0.02  # holes (or electrons) per Cu, fewer than which a cuprate counts as undoped
CHAINS_EMPTY = (6.0, 6.35)  # oxygen to three Cu of the 123 family, between which its planes are undoped
UNDOPED_REMARK = "undoped as written and so an insulator: it needs excess oxygen or a dopant"

_RARE_EARTHS = ("Y", "La", "Pr", "Nd", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu")
_ROUNDING = 1e-9

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def _sum(amounts: Floats, *symbols: str) -> Floats:
    return np.asarray(amounts[:, [INDEX[symbol] for symbol in symbols]].sum(axis=1))


def oxides(amounts: Floats) -> Mask:
    """Whether more than half of the strong anions of amounts (n, 118) are O or halogens, (n,)."""
    return np.asarray(_sum(amounts, *HARD) > _sum(amounts, *SOFT))


def pnictogen_rich(amounts: Floats) -> Mask:
    """Whether amounts (n, 118) hold more than POLYANIONIC times as much P and As as metals, and little else, (n,)."""
    pnictogens = _sum(amounts, "P", "As")
    strong = _sum(amounts, *HARD, *SOFT)
    return np.asarray((pnictogens > POLYANIONIC * (amounts.sum(axis=1) - strong)) & (pnictogens > strong / 2))


def metallic(amounts: Floats, unlikely: Mask) -> Mask:
    """Whether each of amounts (n, 118) is judged as a metal, (n,): a single element; no more than FEW_STRONG strong
    anions; no likely states that balance (`unlikely`) where anions are soft and no more than MOST_SOFT of the atoms;
    or hydrogen for half of its atoms. The last two with no more than FEW_HARD hard anions.
    """
    share = amounts / amounts.sum(axis=1, keepdims=True)
    hard, soft = _sum(share, *HARD), _sum(share, *SOFT)
    single = (amounts > 0).sum(axis=1) == 1
    few = hard + soft <= FEW_STRONG + _ROUNDING
    left_over = unlikely & (soft <= MOST_SOFT + _ROUNDING)
    hydride = share[:, INDEX["H"]] >= MOSTLY_HYDROGEN - _ROUNDING
    return np.asarray(single | few | (left_over | hydride) & (hard <= FEW_HARD + _ROUNDING))


def cuprates(amounts: Floats) -> Mask:
    """Whether each of amounts (n, 118) is one, (n,): Cu, at least as much O, no more halogens than O and less of
    other anions, and Cu at least half of its transition metals.
    """
    copper, oxygen = _sum(amounts, "Cu"), _sum(amounts, "O")
    metals = amounts[:, TRANSITION_METALS].sum(axis=1)
    ours = (copper > 0) & (oxygen >= copper) & (_sum(amounts, "F", "Cl", "Br", "I") <= oxygen)
    ours &= _sum(amounts, *SOFT) < oxygen
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
