"""Rule-based conversion to whole atoms (3.3, Table 1): times the number of atoms, each rounded, no repair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_ATOMS = 1_000_000


@dataclass(frozen=True)
class Rounded:
    """counts: whole atoms (N, 118) int64, whose sum may differ from the number asked for. empty: (N,) True where
    nothing is left.
    """

    counts: NDArray[np.int64]
    empty: NDArray[np.bool_]


def round_to_atoms(amounts: NDArray[np.floating], atoms: int) -> Rounded:
    """Each row of amounts (N, 118), normalised, times `atoms`, each element rounded to the nearest whole number.

    A half goes to the even neighbour, as NumPy and PyTorch round. Rows that sum to 0 are empty. Raises ValueError
    for another shape, for negative or non-finite amounts and for a number of atoms that is not 1 to 1,000,000.
    """
    given = np.asarray(amounts, dtype=np.float64)
    if given.ndim != 2:
        raise ValueError(f"amounts have the shape {given.shape}; give rows of amounts, (N, 118)")
    if not 1 <= atoms <= MOST_ATOMS:
        raise ValueError(f"atoms is {atoms!r}: give a whole number from 1 to {MOST_ATOMS:,}")
    wrong = ~np.isfinite(given) | (given < 0)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ValueError(
            f"amounts[{row}, {column}] is {given[row, column]}: amounts are finite and not negative"
        )
    totals = given.sum(axis=1, keepdims=True)
    fractions = np.divide(given, totals, out=np.zeros_like(given), where=totals > 0)
    counts = np.rint(fractions * atoms).astype(np.int64)
    return Rounded(counts, ~counts.any(axis=1))
