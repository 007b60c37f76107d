"""What a sweep may change: a field of a search, the values it may take, and when it applies; the search of a point."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Protocol, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from kiago_ray.search.sections import Section, SpecError, spec_error_line
from kiago_ray.search.spec import PRESETS, SearchSpec, build_spec

MAX_VALUES = 1000
MAX_GRID = 10_000
KINDS = ("uniform", "loguniform", "randint", "choice", "grid")
_BOUND = 1e12
PRESET = "preset"
OWN = {
    "base": "bases",
    "seed": "seeds",
    "candidates": "candidates, under search",
    "screens": "screens, under search",
}
"""Fields that a sweep holds fast, and where they are said: what differs in them can't be compared."""

Point = dict[str, Any]
"""Field → value, of those fields that apply."""


class Draws(Protocol):
    """What an Optuna trial offers."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...

    def suggest_int(self, name: str, low: int, high: int) -> int: ...

    def suggest_categorical(self, name: str, choices: Sequence[int]) -> Any: ...


def _listed(value: Any) -> Any:
    """A single value where a list may stand."""
    return list(value) if isinstance(value, list | tuple) else [value]


Bound = Annotated[float, Field(ge=-_BOUND, le=_BOUND)]
Whole = Annotated[int, Field(ge=-(10**9), le=10**9)]
Values = Annotated[tuple[Any, ...], Field(min_length=1, max_length=MAX_VALUES)]


class Parameter(Section):
    """The values of one field: exactly one of the five kinds. `when`: other field → the values it must have."""

    uniform: tuple[Bound, Bound] | None = Field(default=None, description="Any number from low to high.")
    loguniform: tuple[Bound, Bound] | None = Field(
        default=None, description="Any number from low to high, each factor as likely; both above 0."
    )
    randint: tuple[Whole, Whole] | None = Field(
        default=None, description="Any whole number from low to high, both among them."
    )
    choice: Values | None = Field(default=None, description="One of these, whatever a field takes.")
    grid: Values | None = Field(default=None, description="Each of these in turn, with every other grid.")
    when: dict[str, Annotated[tuple[Any, ...], BeforeValidator(_listed)]] = Field(
        default_factory=dict,
        description="Only where other parameters have these values, such as {preset: default}.",
    )

    @property
    def kind(self) -> str:
        """One of KINDS."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def values(self) -> tuple[Any, ...]:
        """What it lists; its bounds where it lists nothing."""
        return tuple(getattr(self, self.kind))

    @property
    def listed(self) -> bool:
        """Whether it lists its values."""
        return self.kind in ("choice", "grid")

    def place(self, value: Any) -> int:
        """Where a value stands among those that it lists; True and 1 are two values."""
        return [_written(each) for each in self.values].index(_written(value))

    def applies(self, point: Mapping[str, Any]) -> bool:
        """Whether the fields chosen before ask for it."""
        return all(name in point and point[name] in values for name, values in self.when.items())

    @model_validator(mode="after")
    def _possible(self) -> Self:
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            named = " and ".join(given) or "none"
            raise ValueError(f"give one of {', '.join(KINDS)}, not {named}")
        if self.listed:
            written = [_written(value) for value in self.values]
            twice = [value for value in written if written.count(value) > 1]
            if twice:
                raise ValueError(f"{self.kind}: {twice[0]} is given twice; give it once")
            return self
        low, high = self.values
        if low >= high:
            raise ValueError(
                f"{self.kind}: the range from {low:g} to {high:g} is empty; low must be below high"
            )
        if self.kind == "loguniform" and low <= 0:
            raise ValueError(f"loguniform: a range of factors can't begin at {low:g}; give a low above 0")
        return self


Space = Annotated[dict[str, Parameter], Field(min_length=1, max_length=50)]


def is_number(value: Any) -> bool:
    """Whether a field's value is a number; True isn't."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _written(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def check_order(space: Mapping[str, Parameter]) -> None:
    """Raise ValueError for a condition on what isn't chosen before, or on a value that it never has."""
    seen: dict[str, Parameter] = {}
    for name, parameter in space.items():
        for other, values in parameter.when.items():
            if other not in seen:
                raise ValueError(
                    f"{name}.when: {other} is no parameter above {name}; put it first, or remove the condition"
                )
            never = [value for value in values if seen[other].listed and value not in seen[other].values]
            if never or not seen[other].listed:
                raise ValueError(
                    f"{name}.when: {other} never is {never[0] if never else values[0]!r}; name values that its "
                    "choice or grid lists"
                )
        seen[name] = parameter


def draw(space: Mapping[str, Parameter], draws: Draws) -> Point:
    """Ask Optuna for a value of each field that applies, by its name; of a list for the place in it."""
    drawn: Point = {}
    for name, parameter in space.items():
        if not parameter.applies(decoded(space, drawn)):
            continue
        if parameter.listed:
            drawn[name] = draws.suggest_categorical(name, range(len(parameter.values)))
        elif parameter.kind == "randint":
            drawn[name] = draws.suggest_int(name, *parameter.values)
        else:
            drawn[name] = draws.suggest_float(name, *parameter.values, log=parameter.kind == "loguniform")
    return drawn


def decoded(space: Mapping[str, Parameter], drawn: Mapping[str, Any]) -> Point:
    """The point of what was drawn: places in lists as what stands there."""
    return {
        name: parameter.values[drawn[name]] if parameter.listed else drawn[name]
        for name, parameter in space.items()
        if name in drawn
    }


def encoded(space: Mapping[str, Parameter], point: Mapping[str, Any]) -> Point:
    """What was drawn to give this point: the inverse of `decoded`."""
    return {name: space[name].place(value) if space[name].listed else value for name, value in point.items()}


def grid_draws(space: Mapping[str, Parameter]) -> list[Point]:
    """Every combination of listed values, each once, as `draw` would give it. Raises ValueError for what can't be
    listed or is too much.
    """
    unlisted = [name for name, parameter in space.items() if not parameter.listed]
    if unlisted:
        raise ValueError(
            f"{unlisted[0]}: a grid search needs values to go through; list them under grid, or take another searcher"
        )
    draws = list(itertools.islice(_combined(space, list(space), {}), MAX_GRID + 1))
    if len(draws) > MAX_GRID:
        raise ValueError(f"the grid has more than {MAX_GRID:,} points; list fewer values")
    return draws


def _combined(space: Mapping[str, Parameter], names: Sequence[str], drawn: Point) -> Iterator[Point]:
    if not names:
        yield drawn
        return
    parameter = space[names[0]]
    if not parameter.applies(decoded(space, drawn)):
        yield from _combined(space, names[1:], drawn)
        return
    for place in range(len(parameter.values)):
        yield from _combined(space, names[1:], {**drawn, names[0]: place})


def spec_at(
    shared: Mapping[str, Any], point: Mapping[str, Any], own: Mapping[str, Any] | None = None
) -> SearchSpec:
    """The search of a point. shared: a preset and overrides, as `search` of a sweep has them, above which the point's
    values lie. own: base and seed. Raises SpecError, in one line, for what can't be run.
    """
    preset = {PRESET: point[PRESET]} if PRESET in point else {}
    if preset and point[PRESET] not in PRESETS:
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
    """Set a part of nested mappings and lists. Raises SpecError where there is no such part."""
    head, *rest = path
    if isinstance(values, list):
        if not head.isdigit() or int(head) >= len(values):
            raise SpecError(f"{name}: there is no part {head} among {len(values)}")
        inner: Any = int(head)
    elif isinstance(values, dict):
        inner = head
        if rest and values.get(head) is None:
            values[head] = {}
    else:
        whole = name.removesuffix("." + ".".join(path))
        raise SpecError(f"{name}: {whole} has no parts; name it as a whole")
    if rest:
        _put(values[inner], rest, value, name)
    else:
        values[inner] = value
