"""Presets: complete specifications in files, and the specification that a preset and some overrides make."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from kiago_ray.search.errors import SpecError, spec_error_line
from kiago_ray.search.spec import SearchSpec

MOST_DOTS = 8  # in a key; no section lies as deep
PRESETS = ("default", "open", "paper", "reference", "hydride", "substitution")


def preset_values(name: str) -> dict[str, Any]:
    """What the preset's file says. Raises SpecError for an unknown name."""
    if name not in PRESETS:
        raise SpecError(f"preset: there is no preset {name!r}; choose one of {', '.join(PRESETS)}")
    text = files("kiago_ray.search").joinpath("presets", f"{name}.yaml").read_text(encoding="utf-8")
    values: dict[str, Any] = yaml.safe_load(text)
    return values


def load_preset(name: str, overrides: Mapping[str, Any] | None = None) -> SearchSpec:
    """The preset `name` with `overrides` merged over it.

    Overrides are nested like the specification (`{"start": {"kind": "random"}}`) or dotted (`{"start.kind":
    "random"}`). Sections are merged key by key; everything else, `fixed` and `substitute` among it, is
    replaced. Raises SpecError, in one line, for an unknown preset or key and for values that can't be run.
    """
    return build_spec({"preset": name}, overrides or {})


def build_spec(*layers: Mapping[str, Any]) -> SearchSpec:
    """A specification as files and requests give it: the preset that the last layer to name one has under
    `preset`, `default` without one, and each layer's other values merged over it (see `load_preset`). In place of a
    name a preset may be a mapping: values over a preset of its own.
    """
    chosen: Any = "default"
    for layer in layers:
        if not isinstance(layer, Mapping):
            raise SpecError(f"a search is a mapping of keys to values, not {type(layer).__name__}")
        chosen = layer.get("preset", chosen)
    below: Mapping[str, Any] = {}
    if isinstance(chosen, Mapping):
        chosen, below = chosen.get("preset", "default"), chosen
    merged = preset_values(chosen)
    for layer in (below, *layers):
        overrides = {key: value for key, value in layer.items() if key != "preset"}
        merged = _merge(merged, _nested(overrides), SearchSpec)
    try:
        return SearchSpec.model_validate(merged)
    except ValidationError as error:
        raise SpecError(spec_error_line(error, SearchSpec)) from error


def preset_named(layer: Mapping[str, Any]) -> str:
    """The shipped preset that a layer of `build_spec` rests on."""
    chosen = layer.get("preset", "default")
    return str(chosen.get("preset", "default") if isinstance(chosen, Mapping) else chosen)


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys opened into sections."""
    nested: dict[str, Any] = {}
    for key, value in values.items():
        if str(key).count(".") > MOST_DOTS:
            raise SpecError(f"{str(key)[:80]}…: unknown key; it has more than {MOST_DOTS} dots")
        head, _, rest = str(key).partition(".")
        if rest:
            value = _nested({rest: value})
        if isinstance(value, Mapping) and isinstance(nested.get(head), Mapping):
            value = {**nested[head], **value}
        nested[head] = value
    return nested


def _merge(below: Mapping[str, Any], above: Mapping[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """`above` over `below`, section by section of `model`."""
    merged = dict(below)
    for key, value in above.items():
        field = model.model_fields.get(key)
        section = field.annotation if field is not None else None
        is_section = isinstance(section, type) and issubclass(section, BaseModel)
        if is_section and isinstance(value, Mapping) and isinstance(below.get(key), Mapping):
            merged[key] = {**below[key], **value}
        else:
            merged[key] = value
    return merged
