"""SweepSpec: which fields of a search are tried, on which bases and seeds, by which metric, against what.

Everything that can be wrong with it is found here, before anything runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from kiago_ray.runs.spec import Name, RunSpec, Seed, check_compositions_once, check_once, written
from kiago_ray.search.sections import Formula, Section, SpecError, validated
from kiago_ray.search.spec import SearchSpec, build_spec, preset_named
from kiago_ray.sweep.metrics import DEFAULT_METRIC, DEFAULT_METRIC_OF, METRICS

BEST = "best"  # what the sweep finds, among the names of a comparison
_PRESET = "preset"
KINDS = ("uniform", "loguniform", "randint", "choice", "grid")
OWN = {"base": "bases", "seed": "seeds", "candidates": "search.candidates", "screens": "search.screens"}
"""Fields in which trials can't differ, because they couldn't be compared, and where the sweep has them."""
MAX_VALUES = 1000
MAX_GRID = 10_000
MAX_TRIALS = 100_000
MAX_ROWS = 65_536  # of a search, which runs in one piece
_BOUND = 1e12

Point = dict[str, Any]
"""Field → value, of those fields that apply."""
Bound = Annotated[float, Field(ge=-_BOUND, le=_BOUND)]
Whole = Annotated[int, Field(ge=-(10**9), le=10**9)]
Values = Annotated[tuple[Any, ...], Field(min_length=1, max_length=MAX_VALUES)]
_ONE_OR_MORE = BeforeValidator(lambda value: value if isinstance(value, list | tuple) else (value,))
Names = Annotated[tuple[str, ...], _ONE_OR_MORE]


class Parameter(Section):
    """The values of one field: exactly one of the five kinds, and when the field applies."""

    uniform: tuple[Bound, Bound] | None = None
    """Any number from low to high."""
    loguniform: tuple[Bound, Bound] | None = None
    """Any number from low to high, each factor as likely; both above 0."""
    randint: tuple[Whole, Whole] | None = None
    """Any whole number from low to high, both among them."""
    choice: Values | None = None
    """One of these, whatever a field takes."""
    grid: Values | None = None
    """Each of these in turn, with every other grid."""
    when: dict[str, Annotated[tuple[Any, ...], _ONE_OR_MORE]] = Field(default_factory=dict)
    """Only where other parameters have these values, such as {preset: default}."""

    @property
    def kind(self) -> str:
        """One of KINDS."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def values(self) -> tuple[Any, ...]:
        """What it lists, or its bounds."""
        return tuple(getattr(self, self.kind))

    @property
    def listed(self) -> bool:
        """Whether it lists its values."""
        return self.kind in ("choice", "grid")

    def place(self, value: Any) -> int:
        """Where a value stands among those that it lists; True and 1 are two values."""
        return [written(each) for each in self.values].index(written(value))

    def applies(self, point: Mapping[str, Any]) -> bool:
        """Whether the fields chosen before ask for it."""
        return all(name in point and point[name] in values for name, values in self.when.items())

    @model_validator(mode="after")
    def _possible(self) -> Self:
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(KINDS)}, not {' and '.join(given) or 'none'}")
        if self.listed:
            check_once(self.kind, [*map(written, self.values)])
            return self
        low, high = self.values
        if low >= high:
            raise ValueError(f"{self.kind}: the range from {low:g} to {high:g} is empty; give low below high")
        if self.kind == "loguniform" and low <= 0:
            raise ValueError(f"loguniform: a range of factors can't begin at {low:g}; give a low above 0")
        return self


Space = Mapping[str, Parameter]


def is_number(value: Any) -> bool:
    """Whether a field's value is a number; True isn't."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_order(space: Space) -> None:
    """Raise ValueError for a condition on what isn't chosen before, or on a value that it never has."""
    seen: dict[str, Parameter] = {}
    for name, parameter in space.items():
        for other, values in parameter.when.items():
            if other not in seen:
                raise ValueError(f"{name}.when: {other} is no parameter above {name}; put it first")
            never = [value for value in values if not seen[other].listed or value not in seen[other].values]
            if never:
                raise ValueError(f"{name}.when: {other} never is {never[0]!r}; name values that it lists")
        seen[name] = parameter


def grid_points(space: Space) -> list[Point]:
    """Every combination of listed values, each once. Raises ValueError for what can't be listed or is too much."""
    points: list[Point] = [{}]
    for name, parameter in space.items():
        if not parameter.listed:
            raise ValueError(f"{name}: a grid search needs values to go through; list them under grid")
        grown = (
            {**point, **chosen}
            for point in points
            for chosen in ([{name: each} for each in parameter.values] if parameter.applies(point) else [{}])
        )
        points = list(itertools.islice(grown, MAX_GRID + 1))
    if len(points) > MAX_GRID:
        raise ValueError(f"the grid has more than {MAX_GRID:,} points; list fewer values")
    return points


def _corners(space: Space) -> list[Point]:
    """Points in which each value that can be named occurs, and one between bounds, the rest at their first."""
    points: list[Point] = []
    for name, parameter in space.items():
        values = list(parameter.values)
        if parameter.kind in ("uniform", "loguniform"):
            low, high = values
            values.append(low + 0.618 * (high - low))  # a whole number would take the bounds and nothing else
        for value in values:
            point: Point = {}
            wanted = {**{other: needed[0] for other, needed in parameter.when.items()}, name: value}
            for other, each in space.items():
                if other in wanted or each.applies(point):
                    point[other] = wanted.get(other, each.values[0])
            points.append(point)
    return points


class SchedulerSpec(Section):
    """Whether trials that look bad end early."""

    kind: Literal["asha", "none"] = "asha"
    """asha: at each rung only the best trials go on; none: all run to their end."""
    first: int = Field(default=1, ge=1)
    """Seeds before the first rung."""
    reduction: float = Field(default=3, gt=1, le=100)
    """One in so many goes on, and the next rung has so many times the seeds."""


class SearcherSpec(Section):
    """How points are chosen."""

    kind: Literal["tpe", "random", "grid"] = "tpe"
    """tpe: Optuna's, near what was good, of one or several metrics; random; grid: every listed point."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Of what is drawn at random."""
    startup: int = Field(default=8, ge=1, le=10_000)
    """Random points before tpe looks at results."""


class CompareSpec(Section):
    """What the best is held against afterwards, on seeds (and, if given, bases) that no trial saw."""

    bases: tuple[Formula, ...] = ()
    """By default the sweep's own."""
    seeds: tuple[Seed, ...] = Field(default=(1000, 1001, 1002), min_length=2, max_length=100)
    """None of the sweep's."""
    against: dict[Name, dict[str, Any]] = Field(default={"default": {}}, min_length=1, max_length=20)
    """Name → overrides of `search`; {} is `search` as it stands."""


class SweepSpec(RunSpec):
    """A sweep: `trials` points of `space`, each searched for on every base with every seed."""

    what: ClassVar = "sweep"
    description: str = Field(default="", max_length=2000)
    """For the report: why."""
    bases: tuple[Formula, ...] = Field(default=(), max_length=MAX_VALUES)
    """Base materials; none for searches that start at random."""
    seeds: tuple[Seed, ...] = Field(default=(0, 1, 2), min_length=1, max_length=MAX_VALUES)
    """In this order; a trial reports after each."""
    space: dict[str, Parameter] = Field(min_length=1, max_length=50)
    """Field of a search → its values; `preset` counts as one."""
    metrics: Names = Field(
        default=(DEFAULT_METRIC,),
        min_length=1,
        max_length=3,
        json_schema_extra={"items": {"enum": [*METRICS]}},
    )
    """What makes a trial good, by default improvement where `search` has the preset default; with several, a front is
    sought, and the first picks from it.
    """
    top: int = Field(default=10, ge=1, le=1000)
    """How many of a search's best the metrics look at."""
    trials: int | None = Field(default=None, ge=1, le=MAX_TRIALS)
    """Points to try; of a grid all, by default."""
    scheduler: SchedulerSpec = Field(default_factory=SchedulerSpec)
    searcher: SearcherSpec = Field(default_factory=SearcherSpec)
    concurrency: int | None = Field(default=None, ge=1, le=10_000)
    """Trials at a time; by default what the cluster holds."""
    compare: CompareSpec = Field(default_factory=CompareSpec)

    @property
    def points(self) -> int:
        """How many trials there are."""
        listed = len(grid_points(self.space)) if self.searcher.kind == "grid" else MAX_TRIALS
        return min(listed, self.trials or MAX_TRIALS)

    @property
    def trial_bases(self) -> tuple[str | None, ...]:
        """The bases; one without a name for searches that start at random."""
        return self.bases or (None,)

    @property
    def compare_bases(self) -> tuple[str | None, ...]:
        """The bases of the comparison."""
        return self.compare.bases or self.trial_bases

    def spec(self, point: Mapping[str, Any], base: str | None = None, seed: int = 0) -> SearchSpec:
        """The search of a point on a base: the point's values above those of `search`. The search of no point and no
        base has the screens and oxidation states that judge the rows of every trial.

        Raises SpecError, in one line, for what can't be run.
        """
        preset = {_PRESET: point[_PRESET]} if _PRESET in point else {}
        values = build_spec(self.search, preset).model_dump(mode="json")
        if preset:  # presets differ in these two, trials must not
            same = build_spec(self.search).model_dump(mode="json")
            values |= {name: same[name] for name in ("candidates", "screens")}
        for name, value in {**point, "base": base, "seed": seed}.items():
            if name != _PRESET:
                _put(values, name, value)
        return validated(SearchSpec, values)

    @model_validator(mode="before")
    @classmethod
    def _metric_of_its_preset(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or "metrics" in values:
            return values
        search = values.get("search", {})
        preset = preset_named(search) if isinstance(search, Mapping) else ""
        return {**values, "metrics": (DEFAULT_METRIC_OF.get(preset, DEFAULT_METRIC),)}

    @model_validator(mode="after")
    def _can_run(self) -> Self:
        for metric in self.metrics:
            if metric not in METRICS:
                raise ValueError(f"metrics: nothing reports {metric!r}; choose among {', '.join(METRICS)}")
        check_once("metrics", self.metrics)
        for where, given in (("", self), ("compare.", self.compare)):
            check_once(where + "seeds", given.seeds)
            check_compositions_once(where + "bases", given.bases)
        if len(self.metrics) > 1 and self.scheduler.kind != "none":
            raise ValueError("scheduler: with several metrics no trial is plainly worse; give kind: none")
        seen = sorted(set(self.seeds) & set(self.compare.seeds))
        if seen:
            raise ValueError(f"compare.seeds: {seen[0]} is a seed of the sweep; give seeds that no trial saw")
        first, all_seeds = self.scheduler.first, len(self.seeds)
        if self.scheduler.kind == "asha" and first > all_seeds:
            raise ValueError(f"scheduler.first: {first} seeds before the first rung, of {all_seeds}")
        self._check_space()
        self._check_searches()
        return self

    def _check_space(self) -> None:
        for key in ("base", "seed"):
            if key in self.search:
                raise ValueError(f"search: {key} is what `{OWN[key]}` of the sweep says; give it there alone")
        for name in self.space:
            head = name.split(".")[0]
            if head in OWN:
                raise ValueError(f"{name}: trials can't differ in {head} and be compared; give {OWN[head]}")
        nested = [(a, b) for a in self.space for b in self.space if b.startswith(a + ".")]
        if nested:
            raise ValueError(f"space: {nested[0][1]} is a part of {nested[0][0]}; give one of them")
        check_order(self.space)
        if self.searcher.kind == "grid":
            grid_points(self.space)
            return
        gridded = [name for name, parameter in self.space.items() if parameter.kind == "grid"]
        if gridded:
            raise ValueError(f"space: {gridded[0]} has a grid; give choice, or searcher: {{kind: grid}}")
        if self.trials is None:
            raise ValueError("trials: give the number of points to try")

    def _check_searches(self) -> None:
        """Every bound and every listed value, each with the others at their first, makes a search that can run."""
        bases = dict.fromkeys((*self.trial_bases, *self.compare_bases))
        rows = {base: self.spec({}, base).row_count for base in bases}
        if max(rows.values()) > MAX_ROWS:
            raise ValueError(f"search: a trial's searches have up to {MAX_ROWS:,} candidates; give fewer")
        points = [("", point, base) for base in self.trial_bases for point in _corners(self.space)]
        for name, overrides in self.compare.against.items():
            where = f"compare.against.{name}: "
            if name == BEST:
                raise ValueError(f"compare.against: {BEST} is what the sweep finds; give another name")
            foreign = [key for key in overrides if key.split(".")[0] in OWN]
            if foreign:
                raise SpecError(f"{where}{foreign[0]} is the same for all that are compared; remove it")
            points += [(where, overrides, base) for base in self.compare_bases]
        for where, point, base in points:
            try:
                found = self.spec(point, base).row_count
            except SpecError as error:
                raise SpecError(f"{where}{error}") from None
            if found != rows[base]:  # the best of more rows is higher by itself
                told = f"{where or 'space: '}{point} has {found} rows, the others {rows[base]}"
                raise ValueError(f"{told}; trials need equally many")


def _put(values: Any, name: str, value: Any) -> None:
    """Set what a dotted name stands for in nested mappings and lists. Raises SpecError where there is no such part."""
    *way, last = name.split(".")
    for place, part in enumerate([*way, last]):
        key: Any = part
        if isinstance(values, list):
            if not part.isdigit() or int(part) >= len(values):
                raise SpecError(f"{name}: there is no part {part} among {len(values)}")
            key = int(part)
        elif not isinstance(values, dict):
            raise SpecError(f"{name}: {'.'.join(way[:place])} has no parts; name it as a whole")
        if place == len(way):
            values[key] = value
        elif isinstance(values, dict) and values.get(key) is None:
            values[key] = {}
        values = values[key]
