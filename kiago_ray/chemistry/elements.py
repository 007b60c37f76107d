"""The 118 elements in the one order that every array of the package uses, their places in the periodic table, their
physical properties, and ElemNet's 86 among them.

Column z - 1 of a composition belongs to atomic number z. ElemNet (Jha et al., Sci. Rep. 8, 17593, 2018) takes
86 elements: not Z = 1 to 86, but without He, Ne, Ar and Po to Ra, and with Ac to Pu.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import inf
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

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
COMMON = 96  # elements that properties are standardised over; nothing beyond Cm is in the data
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
WRITING_RANK: Mapping[str, int] = MappingProxyType({SYMBOLS[z]: rank for rank, z in enumerate(WRITING_ORDER)})

# The image that the T_c network reads (section 3.1): 4 channels (s, p, d, f), 7 periods, 32 columns, those of the long
# form: s at 0 and 1, f at 2 to 15, d at 16 to 25, p at 26 to 31. Helium is an s element in the last column; La to Yb
# and Ac to No are the f block, Lu and Lr open the d block.
BLOCKS = "spdf"
SHAPE = (len(BLOCKS), 7, 32)
_LAST = (2, 10, 18, 36, 54, 86, 118)  # the noble gas that ends each period


def position(z: int) -> tuple[str, int, int]:
    """Block, period (1 to 7) and column (0 to 31) of atomic number z. Raises ValueError outside 1 to 118."""
    if not 1 <= z <= N_ELEMENTS:
        raise ValueError(f"there is no element with the atomic number {z}; it goes from 1 to {N_ELEMENTS}")
    period = 1 + sum(z > last for last in _LAST)
    first = _LAST[period - 2] + 1 if period > 1 else 1
    # Counted from the left for the s block, from the right for all others: periods differ in the middle.
    column = z - first if z - first < 2 and z != 2 else 31 - (_LAST[period - 1] - z)
    block = "s" if column < 2 or z == 2 else "f" if column < 16 else "d" if column < 26 else "p"
    return block, period, column


def element_map() -> NDArray[np.float32]:
    """The map of each of the 118 elements, (118, 4, 7, 32), one flag each."""
    flags = np.zeros((N_ELEMENTS, *SHAPE), dtype=np.float32)
    for index in range(N_ELEMENTS):
        block, period, column = position(index + 1)
        flags[index, BLOCKS.index(block), period - 1, column] = 1
    return flags


GROUPS: Mapping[str, tuple[str, ...]] = {
    # Common compounds need precautions of their own. So do As, Se, Sb and Te, on which whole families rest.
    "toxic": ("Be", "Cd", "Os", "Hg", "Tl", "Pb"),
    # No isotope is stable, or nearly so as that of Bi.
    "radioactive": ("Tc", "Pm", *SYMBOLS[INDEX["Po"] :]),
    "noble-gas": ("He", "Ne", "Ar", "Kr", "Xe", "Rn", "Og"),
    # Re, Au, platinum metals, and what is won as a trace of other ores alone, some hundred tonnes a year or less.
    "rare": (
        *("Sc", "Ga", "Ge", "Rb", "Ru", "Rh", "Pd", "In", "Te"),
        *("Cs", "Tm", "Lu", "Re", "Os", "Ir", "Pt", "Au", "Tl"),
    ),
    "arsenic": ("As",),
}
"""Words for elements that a laboratory may want to leave out → their symbols by atomic number."""


def named_elements(words: list[str], own: frozenset[str] = frozenset()) -> list[str]:
    """The symbols that these words and symbols stand for, by atomic number. own: elements that a word doesn't take
    away, such as those of a base; a symbol does. Raises ValueError for what is neither.
    """
    found: set[str] = set()
    for word in words:
        if word in INDEX:
            found.add(word)
        elif word in GROUPS:
            found |= set(GROUPS[word]) - own
        else:
            raise ValueError(f"{word!r} is neither an element nor one of {', '.join(GROUPS)}")
    return sorted(found, key=INDEX.__getitem__)


PROPERTIES_FILE = Path(__file__).with_name("element_properties.csv")


@dataclass(frozen=True)
class ElementProperties:
    """`names` of the p properties, units included, and their `values` (118, p), all finite, by atomic number."""

    names: tuple[str, ...]
    values: NDArray[np.float64]


@cache
def properties() -> ElementProperties:
    """What pymatgen and SMACT tabulate, with every gap filled; the array is read-only. It ships as a table, so that a
    model sees the same figures whatever version of either is installed; `tests/chemistry/test_elements.py` makes it.
    Raises ValueError where it isn't 118 whole rows of numbers.
    """
    with PROPERTIES_FILE.open(encoding="utf-8") as file:
        names = file.readline().strip().split(",")[1:]
        values = np.loadtxt(file, delimiter=",", usecols=range(1, len(names) + 1), ndmin=2)
    if len(values) != N_ELEMENTS or not np.isfinite(values).all():
        raise ValueError(f"{PROPERTIES_FILE} doesn't hold numbers for all 118 elements: reinstall kiago-ray")
    values.flags.writeable = False
    return ElementProperties(tuple(names), values)


def standard_properties() -> Floats:
    """The `properties` (118, p), each with mean 0 and standard deviation 1 over the first COMMON elements, as networks
    read them.
    """
    values = properties().values
    standard: Floats = (values - values[:COMMON].mean(axis=0)) / values[:COMMON].std(axis=0)
    return standard
