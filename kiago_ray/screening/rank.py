"""Unique formulas, and the order in which a person reads them.

Formulas written from reduced integers, or from fractional amounts in one fixed order, are the same text
exactly when they are the same composition; so the text is the identity.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def unique(formulas: Sequence[str], seeds: NDArray[np.int64], rows: NDArray[np.int64]) -> Ints:
    """The positions (u,), ascending, that stand for the different formulas: lowest row of the lowest seed.

    Positions with "" have no formula and are left out. The choice doesn't depend on the order of the input.
    """
    text = np.array(formulas, dtype=np.str_)
    order = np.lexsort((rows, seeds))
    order = order[text[order] != ""]
    _, first = np.unique(text[order], return_index=True)
    return np.sort(order[first])


def order(formulas: Sequence[str], passed: NDArray[np.bool_], tc_k: NDArray[np.float64]) -> Ints:
    """Positions (n,), best first: those that passed, then by falling T_c (unknown last), then by formula."""
    falling = np.where(np.isnan(tc_k), np.inf, -tc_k)
    return np.lexsort((np.array(formulas, dtype=np.str_), falling, ~np.asarray(passed, dtype=np.bool_)))
