"""Held-out sets that anyone can rebuild: membership is a hash, not a draw.

A composition is held out where the hash of its formula (random split) or of its chemical system (system
split) falls below the share. So a split is the same on any machine, and a composition that is added or dropped
moves no other one, as long as formulas are written alike. SuperCon comes in doping series: a random split puts
near-twins on both sides, the system split does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Split = Literal["random", "system"]
SPLITS: tuple[Split, ...] = ("random", "system")


def held_out(keys: Iterable[str], *, share: float, salt: str) -> NDArray[np.bool_]:
    """(N,) True where a key is held out: about `share` of all distinct keys, equal keys together."""
    if not 0 < share < 1:
        raise ValueError(f"a held-out share must lie between 0 and 1, not {share}")
    bound = int(share * 2**64)
    return np.array([_hash(f"{salt}:{key}") < bound for key in keys], dtype=np.bool_)


def folds(keys: Iterable[str], count: int, *, salt: str) -> NDArray[np.int64]:
    """(N,) which of `count` folds each key falls into, equal keys together."""
    return np.array([_hash(f"{salt}:{key}") % count for key in keys], dtype=np.int64)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
