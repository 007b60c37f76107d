"""kiago-ray: propose superconductor compositions with a higher T_c, by gradients through trained predictors.

The public names load on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kiago_ray.lazy import loader

if TYPE_CHECKING:
    from kiago_ray.api import SearchOutcome, propose
    from kiago_ray.predictors import Predictors, load_predictors
    from kiago_ray.search import SearchSpec

__version__ = "0.1.0"
__all__ = ["Predictors", "SearchOutcome", "SearchSpec", "load_predictors", "propose"]

__getattr__ = loader(
    __name__,
    {
        "Predictors": "predictors",
        "SearchOutcome": "api",
        "SearchSpec": "search",
        "load_predictors": "predictors",
        "propose": "api",
    },
)
