"""Formulas as this package writes them, many at once: symbols and plain decimals, no brackets, no element twice.

`chemistry.formula.parse` reads whatever a person writes and takes 20 µs a formula; a shipped table of 100,000 is read
here in a quarter of a second.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS

_PART = re.compile(r"([A-Z][a-z]?)([0-9.]*)|(\n)")


def sparse_fractions(formulas: Sequence[str]) -> csr_matrix:
    """Atomic fractions (N, 118), sparse by rows, of formulas that `chemistry.formula.write` wrote.

    Raises KeyError for a symbol that is none.
    """
    columns: list[int] = []
    amounts: list[float] = []
    ends: list[int] = []
    for symbol, amount, end in _PART.findall("".join(f"{text}\n" for text in formulas)):
        if end:
            ends.append(len(columns))
        else:
            columns.append(INDEX[symbol])
            amounts.append(float(amount) if amount else 1.0)
    indptr = np.array([0, *ends], dtype=np.int32)
    row = np.repeat(np.arange(len(ends)), np.diff(indptr))
    data = np.array(amounts, dtype=np.float64)
    totals = np.bincount(row, weights=data, minlength=len(ends))
    table = csr_matrix(
        (data / totals[row], np.array(columns, dtype=np.int32), indptr), (len(ends), N_ELEMENTS)
    )
    table.sort_indices()
    return table
