"""Which searches may be asked for: a specification from a request, and its price."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kiago_ray.search.sections import SpecError
from kiago_ray.search.spec import PRESETS, SearchSpec, build_spec
from kiago_ray.service.settings import Limits


def requested_search(values: Mapping[str, Any], limits: Limits) -> tuple[SearchSpec, str]:
    """The specification that a request asks for, as `kiago search` would run it, and its preset's name. Raises
    SpecError: there is no such, or it costs too much.
    """
    preset = values.get("preset", "default")
    if not isinstance(preset, str) or preset not in PRESETS:
        raise SpecError(f"preset: {str(preset)[:40]!r} is none; choose one of {', '.join(PRESETS)}")
    spec = build_spec(values)
    if preset == "substitution" and spec.substitute is None:
        raise SpecError('substitute: this preset needs a site and its oxidation state, such as {"La": 3}')
    price = spec.row_count * sum(spec.steps)
    if spec.row_count > limits.search_candidates:
        raise SpecError(
            f"candidates: {spec.row_count:,} are more than this service's {limits.search_candidates:,}"
        )
    if price > limits.search_row_steps:
        raise SpecError(
            f"candidates: {spec.row_count:,} rows of {sum(spec.steps):,} steps are {price:,} row-steps; this service "
            f"does {limits.search_row_steps:,} a search, so lower candidates or steps"
        )
    if spec.n_unit.max > limits.search_atoms:
        raise SpecError(
            f"n_unit: {spec.n_unit.max:,} atoms are more than this service's {limits.search_atoms:,}"
        )
    return spec, preset
