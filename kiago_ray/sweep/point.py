"""From a point of a sweep's space to the specification of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from kiago_ray.search.errors import SpecError, spec_error_line
from kiago_ray.search.presets import PRESETS, build_spec
from kiago_ray.search.spec import SearchSpec

PRESET = "preset"
OWN = {
    "base": "bases",
    "seed": "seeds",
    "candidates": "candidates, under search",
    "screens": "screens, under search",
}
"""Fields that a sweep holds fast, and where they are said: what differs in them can't be compared."""


def check_field(name: str) -> None:
    """Raise SpecError for what is no field of a search, or none that trials may differ in."""
    if name == PRESET:
        return
    head, *rest = name.split(".")
    if head in OWN:
        raise SpecError(
            f"{name}: trials can't differ in {head}, or they couldn't be compared; give {OWN[head]}"
        )
    model: Any = SearchSpec
    for depth, part in enumerate([head, *rest]):
        where = ".".join([head, *rest][:depth])
        if isinstance(model, type) and issubclass(model, BaseModel):
            field = model.model_fields.get(part)
            if field is None:
                known = ", ".join(model.model_fields)
                raise SpecError(
                    f"{name}: unknown field{f' of {where}' if where else ''}; the known are {known}"
                )
            model = field.annotation
        elif not _takes(model, part):
            raise SpecError(
                f"{name}: {where} has no part {part!r}; name {where} as a whole, or one of its parts"
            )
        else:
            model = None


def _takes(annotation: Any, part: str) -> bool:
    """Whether a list or a mapping, optional or not, may have this part."""
    kinds = (annotation, *get_args(annotation))
    origins = [getattr(kind, "__origin__", kind) for kind in kinds]
    return (part.isdigit() and any(kind in (list, tuple) for kind in origins)) or dict in origins


def spec_at(
    shared: Mapping[str, Any], point: Mapping[str, Any], own: Mapping[str, Any] | None = None
) -> SearchSpec:
    """The search of a point. shared: a preset and overrides, as `search` of a sweep has them, above which the point's
    values lie. own: base and seed. Raises SpecError, in one line, for what can't be run.
    """
    preset = {PRESET: point[PRESET]} if PRESET in point else {}
    if PRESET in point and point[PRESET] not in PRESETS:
        raise SpecError(f"preset: there is no preset {point[PRESET]!r}; choose one of {', '.join(PRESETS)}")
    values = build_spec(shared, preset).model_dump(mode="json")
    if preset:  # presets differ in these two, trials must not
        same = build_spec(shared).model_dump(mode="json")
        values |= {name: same[name] for name in ("candidates", "screens")}
    for name, value in {**point, **(own or {})}.items():
        if name != PRESET:
            _put(values, name.split("."), value, name)
    try:
        return SearchSpec.model_validate(values)
    except ValidationError as error:
        raise SpecError(spec_error_line(error, SearchSpec)) from error


def _put(values: Any, path: Sequence[str], value: Any, name: str) -> None:
    head, *rest = path
    key: Any = int(head) if isinstance(values, list) and head.isdigit() else head
    if isinstance(values, list) and not (isinstance(key, int) and key < len(values)):
        raise SpecError(f"{name}: there is no part {head} among {len(values)}")
    if not rest:
        values[key] = value
        return
    if isinstance(values, dict) and values.get(key) is None:
        values[key] = {}
    _put(values[key], rest, value, name)
