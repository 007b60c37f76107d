"""kiago-ray: propose superconductor compositions with a higher T_c, by gradients through trained predictors.

The public names load on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kiago_ray.api import SearchOutcome, propose
    from kiago_ray.predictors import Predictors, load_predictors
    from kiago_ray.search import SearchSpec

__version__ = "0.1.0"
__all__ = ["Predictors", "SearchOutcome", "SearchSpec", "load_predictors", "propose"]

_HOMES = {
    "Predictors": "kiago_ray.predictors",
    "SearchOutcome": "kiago_ray.api",
    "SearchSpec": "kiago_ray.search",
    "load_predictors": "kiago_ray.predictors",
    "propose": "kiago_ray.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
