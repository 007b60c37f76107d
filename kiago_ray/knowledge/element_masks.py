"""Which elements a composition holds, as 128 bits: subsets of elements are then found by two operations a row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

Masks = NDArray[np.uint64]


def mask_of(elements: NDArray[np.int64]) -> Masks:
    """(2,) bits of the elements' columns."""
    bits = np.zeros(2, dtype=np.uint64)
    for z in elements.tolist():
        bits[z // 64] |= np.uint64(1) << np.uint64(z % 64)
    return bits


def masks_of(rows: csr_matrix, above: float = 0.0) -> Masks:
    """(2, p) bits of each row's elements, those of which it holds more than `above`."""
    bits = np.zeros((2, rows.shape[0]), dtype=np.uint64)
    counted = rows.data > above
    row = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))[counted]
    z = rows.indices[counted].astype(np.int64)
    np.bitwise_or.at(bits, (z // 64, row), np.uint64(1) << (z % 64).astype(np.uint64))
    return bits
