"""kiago-ray: propose superconductor compositions with a higher T_c, by gradients through trained predictors.

The public names load on first use (PEP 562), so that the command line's help doesn't wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kiago_ray.api import SearchOutcome, propose, scan
    from kiago_ray.models import Models, load_models
    from kiago_ray.predictors.base import Predictors
    from kiago_ray.predictors.weights import load_predictors
    from kiago_ray.search import SearchSpec

__version__ = "0.1.0"
__all__ = [
    "Models",
    "Predictors",
    "SearchOutcome",
    "SearchSpec",
    "load_models",
    "load_predictors",
    "propose",
    "scan",
]

_ROOMS = {
    "api": ("SearchOutcome", "propose", "scan"),
    "models": ("Models", "load_models"),
    "predictors.base": ("Predictors",),
    "predictors.weights": ("load_predictors",),
    "search": ("SearchSpec",),
}


def __getattr__(name: str) -> Any:
    for room, names in _ROOMS.items():
        if name in names:
            return getattr(import_module(f"kiago_ray.{room}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
