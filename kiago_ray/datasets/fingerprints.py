"""Whether a composition is one of SuperCon's, without SuperCon: 64-bit fingerprints of its compositions.

A fingerprint is a hash of the atomic fractions to a ten-thousandth. It tells a composition that is written the same or
otherwise (Ba0.6K0.4Fe2As2, Ba3K2Fe10As10) from one that differs, and nothing else: no T_c, no neighbour. One in
10¹⁵ unknown compositions is taken for a known one. The shipped file was made from SuperCon (NIMS, v220808, CC BY 4.0)
by `kiago data fingerprint`.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kiago_ray.datasets.files import DataError, PathLike

SHIPPED_FILE = "supercon_fingerprints.bin"
STEPS = 10_000  # of a fraction
TYPE = "<u8"

Floats = NDArray[np.float64]


def fingerprints(fractions: Floats) -> NDArray[np.uint64]:
    """The fingerprint of each of fractions (N, 118), (N,). Raises ValueError for rows that don't sum to 1."""
    if fractions.ndim != 2 or not np.allclose(fractions.sum(axis=1), 1, atol=1e-6):
        raise ValueError("fingerprints are of fractions (N, 118), every row summing to 1")
    steps = np.floor(fractions * STEPS + 0.5 + 1e-7).astype("<u2")  # halves go up, whatever their last bit
    texts = (hashlib.sha256(row.tobytes()).digest()[:8] for row in steps)
    return np.frombuffer(b"".join(texts), dtype=TYPE).astype(np.uint64)


def write_fingerprints(path: PathLike, fractions: Floats) -> int:
    """Write the sorted fingerprints of fractions (N, 118); return how many different ones there are."""
    known = np.unique(fingerprints(fractions))
    Path(path).write_bytes(known.astype(TYPE).tobytes())
    return len(known)


def load_fingerprints(path: PathLike | None = None) -> NDArray[np.uint64]:
    """The shipped fingerprints, ascending, or those of another file. Raises DataError."""
    file = resources.files(__package__) / SHIPPED_FILE if path is None else Path(path)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: can't be read ({error}); reinstall kiago-ray") from error
    if not content or len(content) % 8:
        raise DataError(f"{file}: not a file of fingerprints; write it again or reinstall")
    known = np.frombuffer(content, dtype=TYPE).astype(np.uint64)
    if not (known[:-1] < known[1:]).all():
        raise DataError(f"{file}: its fingerprints are not in order; write it again or reinstall")
    return known


def is_known(fractions: Floats, known: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether each of fractions (N, 118) is among ascending fingerprints `known`, (N,)."""
    mine = fingerprints(fractions)
    at = np.minimum(np.searchsorted(known, mine), len(known) - 1)
    return np.asarray(known[at] == mine)
