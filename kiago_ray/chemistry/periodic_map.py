"""The periodic-table map: each element's place in the s, p, d and f blocks of the long-form table.

The image that the T_c network reads (section 3.1 of the paper): 4 channels (s, p, d, f), 7 periods, 32
columns. The columns are those of the long form: s at 0 and 1, f at 2 to 15, d at 16 to 25, p at 26 to 31.
Helium is an s element in the last column; La to Yb and Ac to No are the f block, Lu and Lr open the d
block.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import N_ELEMENTS

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
