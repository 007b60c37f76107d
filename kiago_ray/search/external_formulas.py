"""Formulas that no search made, as the result of one: so that screens, columns and ranking are the same for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.predictors.base import predict
from kiago_ray.search.result import RowStatus, SearchResult, Trajectory

if TYPE_CHECKING:
    from kiago_ray.predictors.base import Predictors

Floats = NDArray[np.float64]


def given_result(amounts: Floats, predictors: Predictors) -> SearchResult:
    """The rows of amounts (n, 118) as a search that took no step: scored as they are, whole numbers or not.

    T_c is what `predictors.tc` says. A row of zeros has no formula, and neither has one with an element that the
    predictors don't know. Raises ValueError for another shape, and amounts that are negative or not finite.
    """
    amounts = np.asarray(amounts, dtype=np.float64)
    if amounts.ndim != 2 or amounts.shape[1] != N_ELEMENTS:
        raise ValueError(f"amounts have the shape {amounts.shape}; give (rows, {N_ELEMENTS})")
    if not np.isfinite(amounts).all() or (amounts < 0).any():
        raise ValueError("amounts must be finite and not negative")
    n = len(amounts)
    supported = predictors.supported.cpu().numpy()
    some = amounts.any(axis=1)
    known = some & ~(amounts > 0)[:, ~supported].any(axis=1)
    fractions = amounts / np.where(some, amounts.sum(axis=1), 1)[:, None]
    tc, ef = np.full((2, n), np.nan, dtype=np.float32)
    if known.any():
        rows = fractions[known].astype(np.float32)
        tc[known] = np.maximum(predict(predictors.tc, rows), 0)
        ef[known] = predict(predictors.ef, rows)
    status = np.where(some, RowStatus.UNKNOWN_ELEMENT, RowStatus.NO_INTEGER_FORMULA)
    status = np.where(
        known, np.where(np.isfinite(tc) & np.isfinite(ef), RowStatus.OK, RowStatus.NOT_FINITE), status
    )
    ok = status == RowStatus.OK
    whole = (amounts == np.rint(amounts)).all(axis=1) & ok
    none = np.zeros((1, 0), dtype=np.float32)
    return SearchResult(
        rows=np.arange(n),
        status=status.astype(np.int8),
        recoveries=np.zeros(n, dtype=np.int64),
        start=fractions.astype(np.float32),
        x_final=fractions.astype(np.float32),
        tc_stage1_k=tc,
        ef_stage1_ev_per_atom=ef,
        tc_relaxed_k=tc,
        ef_relaxed_ev_per_atom=ef,
        counts=np.where(whole[:, None], amounts, 0).astype(np.int64),
        amounts=np.where(ok[:, None], amounts, 0),
        distance=np.where(ok, 0.0, np.nan),
        tc_k=np.where(ok, tc, np.float32(np.nan)),
        ef_ev_per_atom=np.where(ok, ef, np.float32(np.nan)),
        trajectory=Trajectory(np.zeros(0, dtype=np.int64), np.ones(1, dtype=np.int64), none, none, none),
        wall_s=0.0,
        seconds={},
    )
