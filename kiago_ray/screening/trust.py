"""The T_c that a row can be trusted with: a lower bound that heeds whatever is known beside the search's own value.

trusted T_c = min(T_c, T_c of the oracle) − σ, at least 0, and 0 for a composition beyond what the predictors know:
there nobody has a say, and 0 is the only lower bound that is sure. σ is calibrated on held-out rows, so that about one
in six known superconductors lies below T_c − σ. Where the oracle says less, σ comes off that: of two rows with equal
T_c and σ, the one that it doubts is trusted less. The oracle's own spread isn't used: it is no calibrated error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EXTRAPOLATED = 1.0  # the score beyond which a composition is flagged, with 1 in 20 held-out superconductors

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class SecondOpinions:
    """What others say of n rows, each (n,) or None where nobody was asked; NaN for a row that can't be judged.

    tc_std_k: calibrated standard deviation of the search's T_c. tc_oracle_k, tc_oracle_std_k: T_c by a model that the
    search never sees, and how far its members disagree; all in K. extrapolation: how far a composition lies from what
    the predictors have learnt from, 1 at the 95th percentile of known superconductors that were held out.
    """

    tc_std_k: Floats | None = None
    tc_oracle_k: Floats | None = None
    tc_oracle_std_k: Floats | None = None
    extrapolation: Floats | None = None

    def column(self, name: str, rows: int) -> Floats:
        """One of them as (rows,), NaN where unknown. Raises ValueError where it is of another length."""
        values: Floats | None = getattr(self, name)
        if values is None:
            return np.full(rows, np.nan)
        if len(values) != rows:
            raise ValueError(f"{name} is of {len(values)} rows, the search of {rows}; give one value a row")
        return np.asarray(values, dtype=np.float64)


def is_extrapolated(extrapolation: Floats) -> Mask:
    """Whether each score (n,) is beyond the flag; False where there is none."""
    return np.asarray(extrapolation > EXTRAPOLATED)


def trusted_tc_k(tc_k: Floats, tc_std_k: Floats, tc_oracle_k: Floats, extrapolation: Floats) -> Floats:
    """The lower bound of T_c in K, (n,), of values (n,) each, NaN for what a row doesn't have.

    Without a spread nothing is taken off, without an oracle T_c alone counts. NaN without T_c and where nothing else
    is known.
    """
    alone = np.isnan(tc_std_k) & np.isnan(tc_oracle_k) & np.isnan(extrapolation)
    bound = np.fmin(tc_k, tc_oracle_k) - np.nan_to_num(tc_std_k, nan=0.0)
    trusted = np.where(is_extrapolated(extrapolation), 0.0, np.clip(bound, 0.0, None))
    return np.where(np.isnan(tc_k) | alone, np.nan, trusted)
