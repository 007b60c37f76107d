"""Which compounds are judged as metals: those whose bonds are no matter of charges that add up.

Anions are strong or weak. N, O, P, S, As, Se, Te and the halogens are strong: with enough of them a compound is ionic,
and its charges have to balance. H, B, C, Si, Ge, Sn, Sb and Bi are weak: borides, carbides, silicides, A15, Heusler
and Laves phases and alloys hold as many electrons as their bands take (MgB2, LuNi2B2C, Nb3Sn, CeCoIn5, LaPt3Si).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import INDEX

Kind = Literal["ionic", "metallic"]

HARD = ("O", "F", "Cl", "Br", "I")
SOFT = ("N", "P", "S", "As", "Se", "Te")
FEW_STRONG = 0.15  # share of atoms up to which strong anions are interstitials of a metal, as O in Nb5Ir3O
FEW_HARD = 0.05  # the same of hard anions where electrons are left over beside soft ones
MOST_SOFT = (
    0.575  # share of soft anions up to which electrons may be left over, as in LaS, Mo3P, ZrRuP and La3Se4
)
MOSTLY_HYDROGEN = 0.5
POLYANIONIC = 0.95  # P or As to a metal, above which they bond to one another: CaFeAs2, LaRu4P12
_ROUNDING = 1e-9

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def _columns(symbols: tuple[str, ...]) -> list[int]:
    return [INDEX[symbol] for symbol in symbols]


def oxides(amounts: Floats) -> Mask:
    """Whether more than half of the strong anions of amounts (n, 118) are O or halogens, (n,)."""
    hard, soft = amounts[:, _columns(HARD)].sum(axis=1), amounts[:, _columns(SOFT)].sum(axis=1)
    return np.asarray(hard > soft)


def pnictogen_rich(amounts: Floats) -> Mask:
    """Whether amounts (n, 118) hold more than POLYANIONIC times as much P and As as metals, and little else, (n,)."""
    pnictogens = amounts[:, _columns(("P", "As"))].sum(axis=1)
    strong = amounts[:, _columns((*HARD, *SOFT))].sum(axis=1)
    return np.asarray((pnictogens > POLYANIONIC * (amounts.sum(axis=1) - strong)) & (pnictogens > strong / 2))


def metallic(amounts: Floats, unlikely: Mask) -> Mask:
    """Whether each of amounts (n, 118) is judged as a metal, (n,): a single element; no more than FEW_STRONG strong
    anions; no likely states that balance (`unlikely`) where anions are soft and no more than MOST_SOFT of the atoms;
    or hydrogen for half of its atoms. The last two with no more than FEW_HARD hard anions.
    """
    share = amounts / amounts.sum(axis=1, keepdims=True)
    hard, soft = share[:, _columns(HARD)].sum(axis=1), share[:, _columns(SOFT)].sum(axis=1)
    single = (amounts > 0).sum(axis=1) == 1
    few = hard + soft <= FEW_STRONG + _ROUNDING
    left_over = unlikely & (soft <= MOST_SOFT + _ROUNDING)
    hydride = share[:, INDEX["H"]] >= MOSTLY_HYDROGEN - _ROUNDING
    return np.asarray(single | few | (left_over | hydride) & (hard <= FEW_HARD + _ROUNDING))
