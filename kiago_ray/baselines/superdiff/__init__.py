"""SuperDiff (Yuan & Dordevic, Sci. Rep. 14, 10275, 2024), as the paper compares with it: a 1-D diffusion model on
SuperCon's unnormalised compositions, conditioned on a base by ILVR, with or without guidance by the predictors.
"""

from __future__ import annotations

from kiago_ray.baselines.superdiff.network import SuperDiff, load_superdiff
from kiago_ray.baselines.superdiff.sampling import (
    Guidance,
    Samples,
    SampleStatus,
    TcChanges,
    formulas,
    sample,
)

__all__ = [
    "Guidance",
    "SampleStatus",
    "Samples",
    "SuperDiff",
    "TcChanges",
    "formulas",
    "load_superdiff",
    "sample",
]
