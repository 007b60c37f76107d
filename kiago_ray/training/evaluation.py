"""Scores of a predictor on held-out rows, and the two models that any network has to be held against."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.metrics import mean_absolute_error, r2_score

from kiago_ray.data.neighbours import nearest
from kiago_ray.errors import InputError

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


Array = NDArray[np.floating]
HIGH_TC_K = 50.0
EXTRA_TREES = 100


@dataclass(frozen=True)
class Scores:
    """`mae` and the biases (mean of predicted − true) in the property's unit; `bias_high` over true > 50 K."""

    rows: int
    mae: float
    r2: float
    bias: float
    bias_high: float | None = None


def score(predicted: Array, true: Array, *, high: float | None = None) -> Scores:
    """Scores of (N,) predictions; `high` is the true value above which `bias_high` is taken."""
    if len(true) < 2:
        raise InputError(
            f"{len(true)} held-out rows are too few for a score: use more data or a larger share"
        )
    error = np.asarray(predicted, dtype=np.float64) - np.asarray(true, dtype=np.float64)
    above = error[true > high] if high is not None else error[:0]
    return Scores(
        rows=len(true),
        mae=round(float(mean_absolute_error(true, predicted)), 4),
        r2=round(float(r2_score(true, predicted)), 4),
        bias=round(float(error.mean()), 4),
        bias_high=round(float(above.mean()), 4) if len(above) else None,
    )


def nearest_neighbour(train: Array, train_values: Array, test: Array) -> Array:
    """The value of the nearest training composition (L1 on fractions): (N,)."""
    index, _ = nearest(test.astype(np.float64), train.astype(np.float64))
    return np.asarray(train_values[index])


def extra_trees(train: Array, train_values: Array, test: Array, *, seed: int = 0) -> Array:
    """Predictions (N,) of extremely randomised trees on plain fractions, fitted to the training rows."""
    model = ExtraTreesRegressor(EXTRA_TREES, random_state=seed, n_jobs=-1)
    return np.asarray(model.fit(train, train_values).predict(test))
