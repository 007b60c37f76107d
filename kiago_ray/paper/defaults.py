"""How the search of the columns "ours" differs from the paper and from the reference code: read off the presets, with
the reasons that the specification's descriptions give.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from kiago_ray.search import SearchSpec, load_preset

PRESETS = ("open", "paper", "reference")
MODES = ("substitution", "hydride")
_OF_A_SEARCH = ("base", "seed")


@dataclass(frozen=True)
class Difference:
    """A field in which presets differ. values: in the order of the presets that were compared."""

    field: str
    values: tuple[str, ...]
    reason: str


def differences(presets: tuple[str, ...] = PRESETS) -> tuple[Difference, ...]:
    """Every field whose value isn't the same in all of these presets, in the specification's order, with its
    description.
    """
    dumps = [load_preset(name).model_dump(mode="json") for name in presets]
    found = []
    for path, description in _fields(SearchSpec):
        values = tuple(_at(dump, path) for dump in dumps)
        if path[0] not in _OF_A_SEARCH and any(value != values[0] for value in values):
            found.append(Difference(".".join(path), tuple(map(_text, values)), description))
    return tuple(found)


def _fields(
    model: type[BaseModel], above: tuple[str, ...] = (), reason: str = ""
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Path and description of every field, those of sections one by one, with the section's where it gives reasons."""
    for name, field in model.model_fields.items():
        path = (*above, name)
        kind, told = field.annotation, " ".join((field.description or "").split())
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _fields(kind, path, f"{told} " if "`default`" in told else "")
        else:
            yield path, reason + told


def _at(values: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        values = values[name]
    return values


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
