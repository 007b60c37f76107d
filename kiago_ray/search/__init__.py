"""The search: from a specification and two predictors to scored formulas. Torch and numpy, no files, no Ray.

The public names load on first use, so that reading a specification doesn't wait for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kiago_ray.lazy import loader

if TYPE_CHECKING:
    from kiago_ray.search.errors import SpecError
    from kiago_ray.search.family import Substitutions
    from kiago_ray.search.presets import PRESETS, build_spec, load_preset
    from kiago_ray.search.result import RowStatus, SearchResult, Trajectory
    from kiago_ray.search.run import run_search
    from kiago_ray.search.spec import SearchSpec
    from kiago_ray.search.stages import Progress

__all__ = [
    "PRESETS",
    "Progress",
    "RowStatus",
    "SearchResult",
    "SearchSpec",
    "SpecError",
    "Substitutions",
    "Trajectory",
    "build_spec",
    "load_preset",
    "run_search",
]

__getattr__ = loader(
    __name__,
    {
        "PRESETS": "presets",
        "Progress": "stages",
        "RowStatus": "result",
        "SearchResult": "result",
        "SearchSpec": "spec",
        "SpecError": "errors",
        "Substitutions": "family",
        "Trajectory": "result",
        "build_spec": "presets",
        "load_preset": "presets",
        "run_search": "run",
    },
)
