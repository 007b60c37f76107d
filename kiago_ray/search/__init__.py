"""The search: from a specification and two predictors to scored formulas. Torch and numpy, no files, no Ray."""

from __future__ import annotations

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
