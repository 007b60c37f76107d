"""Unique formulas, and the order in which a person reads them.

Formulas written from reduced integers, or from fractional amounts in one fixed order, are the same text
exactly when they are the same composition; so the text is the identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

RankBy = Literal["trusted", "tc"]
"""What decides among rows that passed: the T_c that they can be trusted with, or that which the search predicts."""

Floats = NDArray[np.float64]
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


def order(
    formulas: Sequence[str],
    passed: NDArray[np.bool_],
    tc_k: Floats,
    trusted_tc_k: Floats | None = None,
    taken: NDArray[np.bool_] | None = None,
) -> Ints:
    """Positions (n,), best first: by `group`, then by falling trusted T_c where it is given, then by falling T_c
    (unknown last, in either), then by formula.
    """
    return np.lexsort(
        (
            np.array(formulas, dtype=np.str_),
            falling(tc_k),
            falling(np.full(len(tc_k), np.nan) if trusted_tc_k is None else trusted_tc_k),
            group(passed, np.zeros(len(tc_k), dtype=np.bool_) if taken is None else taken),
        )
    )


def group(passed: NDArray[np.bool_], taken: NDArray[np.bool_]) -> NDArray[np.int8]:
    """(n,): 0 for rows that passed, 1 for those of them whose composition is `taken` (known, tried), 2 for others."""
    passed = np.asarray(passed, dtype=np.bool_)
    return np.where(passed, np.where(taken, 1, 0), 2).astype(np.int8)


def falling(values: Floats) -> Floats:
    """A key (n,) that sorts values (n,) from high to low, NaN last."""
    return np.where(np.isnan(values), np.inf, -values)
