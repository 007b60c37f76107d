"""The search: from a specification and two predictors to scored formulas. Torch and numpy, no files, no Ray.

What reads and checks a specification stands here and needs no torch, so that a wrong one is refused at once.
"""

from __future__ import annotations

from kiago_ray.search.sections import SpecError
from kiago_ray.search.spec import PRESETS, SearchSpec, build_spec, load_preset

__all__ = ["PRESETS", "SearchSpec", "SpecError", "build_spec", "load_preset"]
