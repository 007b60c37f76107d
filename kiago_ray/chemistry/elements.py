"""The 118 elements in the one order that every array of the package uses, and ElemNet's 86 among them.

Column z - 1 of a composition belongs to atomic number z. ElemNet (Jha et al., Sci. Rep. 8, 17593, 2018) takes
86 elements: not Z = 1 to 86, but without He, Ne, Ar and Po to Ra, and with Ac to Pu.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from types import MappingProxyType

_PERIODS = (
    "H He",
    "Li Be B C N O F Ne",
    "Na Mg Al Si P S Cl Ar",
    "K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr",
    "Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe",
    "Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn",
    "Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og",
)
SYMBOLS: tuple[str, ...] = tuple(symbol for period in _PERIODS for symbol in period.split())
"""The 118 symbols by atomic number."""

N_ELEMENTS = len(SYMBOLS)
INDEX: Mapping[str, int] = MappingProxyType({symbol: index for index, symbol in enumerate(SYMBOLS)})
"""Symbol → column (0 for H, 117 for Og)."""

_NOT_IN_ELEMNET = frozenset(("He", "Ne", "Ar", "Po", "At", "Rn", "Fr", "Ra"))
ELEMNET_SYMBOLS: tuple[str, ...] = tuple(
    symbol for symbol in SYMBOLS[: INDEX["Pu"] + 1] if symbol not in _NOT_IN_ELEMNET
)
"""ElemNet's 86 inputs, in its own order (by atomic number)."""
ELEMNET_INDEX: tuple[int, ...] = tuple(INDEX[symbol] for symbol in ELEMNET_SYMBOLS)
"""The columns of ElemNet's 86 among the 118."""

# Pauling's scale as pymatgen tabulates it; inf where there is no value, so that those elements sort last.
# It only orders the elements of a written formula; the Pauling rule uses SMACT's table (oxidation.py).
ELECTRONEGATIVITY: tuple[float, ...] = (
    *(2.2, inf),
    *(0.98, 1.57, 2.04, 2.55, 3.04, 3.44, 3.98, inf),
    *(0.93, 1.31, 1.61, 1.9, 2.19, 2.58, 3.16, inf),
    *(0.82, 1.0, 1.36, 1.54, 1.63, 1.66, 1.55, 1.83, 1.88, 1.91, 1.9, 1.65),
    *(1.81, 2.01, 2.18, 2.55, 2.96, 3.0),
    *(0.82, 0.95, 1.22, 1.33, 1.6, 2.16, 1.9, 2.2, 2.28, 2.2, 1.93, 1.69),
    *(1.78, 1.96, 2.05, 2.1, 2.66, 2.6),
    *(0.79, 0.89, 1.1, 1.12, 1.13, 1.14, 1.13, 1.17, 1.2, 1.2, 1.1, 1.22, 1.23, 1.24, 1.25, 1.1, 1.27),
    *(1.3, 1.5, 2.36, 1.9, 2.2, 2.2, 2.28, 2.54, 2.0, 1.62, 2.33, 2.02, 2.0, 2.2, 2.2),
    *(0.7, 0.9, 1.1, 1.3, 1.5, 1.38, 1.36, 1.28, 1.3, 1.3, 1.3, 1.3, 1.3, 1.3, 1.3, 1.3, 1.3),
    *(inf,) * 15,
)

WRITING_ORDER: tuple[int, ...] = tuple(sorted(range(N_ELEMENTS), key=lambda z: (ELECTRONEGATIVITY[z], z)))
"""Columns from the least to the most electronegative, ties by atomic number: a written formula's order."""
