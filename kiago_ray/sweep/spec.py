"""SweepSpec: which fields of a search are tried, on which bases and seeds, by which metric, against what.

Everything that can be wrong with it is found here, before anything runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from kiago_ray.runs.spec import Name, ResourcesSpec, Seed, beside, read_yaml
from kiago_ray.search.sections import Formula, Section, SpecError, spec_error_line
from kiago_ray.search.spec import SearchSpec, preset_named
from kiago_ray.sweep.metrics import DEFAULT_METRIC, DEFAULT_METRIC_OF, METRICS
from kiago_ray.sweep.space import MAX_VALUES, OWN, Point, Space, check_order, grid_draws, spec_at

BEST = "best"  # what the sweep finds, among the names of a comparison

MAX_TRIALS = 100_000
MAX_ROWS = 65_536  # of a search, which runs in one piece


class SchedulerSpec(Section):
    """Whether trials that look bad end early."""

    kind: Literal["asha", "none"] = Field(
        default="asha",
        description="asha: at each rung only the best trials go on; none: all run to their end.",
    )
    first: int = Field(default=1, ge=1, description="Seeds before the first rung.")
    reduction: float = Field(
        default=3,
        gt=1,
        le=100,
        description="One in so many goes on, and the next rung has so many times the seeds.",
    )


class SearcherSpec(Section):
    """How points are chosen."""

    kind: Literal["tpe", "random", "grid"] = Field(
        default="tpe",
        description="tpe: Optuna's, near what was good, of one or several metrics; random; grid: every listed point.",
    )
    seed: int = Field(default=0, ge=0, lt=2**32)
    startup: int = Field(default=8, ge=1, le=10_000, description="Random points before tpe looks at results.")


class CompareSpec(Section):
    """What the best is held against afterwards, on seeds (and, if given, bases) that no trial saw."""

    bases: tuple[Formula, ...] = Field(default=(), description="By default the sweep's own.")
    seeds: tuple[Seed, ...] = Field(
        default=(1000, 1001, 1002), min_length=2, max_length=100, description="None of the sweep's."
    )
    against: dict[Name, dict[str, Any]] = Field(
        default={"default": {}},
        min_length=1,
        max_length=20,
        description="Name → overrides of `search`; {} is `search` as it stands.",
    )


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class SweepSpec(Section):
    """A sweep: `trials` points of `space`, each searched for on every base with every seed."""

    name: Name = Field(description="Names the sweep in reports and in MLflow.")
    description: str = Field(default="", max_length=2000, description="For the report: why.")
    bases: tuple[Formula, ...] = Field(
        default=(),
        max_length=MAX_VALUES,
        description="Base materials; none for searches that start at random.",
    )
    seeds: tuple[Seed, ...] = Field(
        default=(0, 1, 2),
        min_length=1,
        max_length=MAX_VALUES,
        description="In this order; a trial reports after each.",
    )
    search: dict[str, Any] = Field(
        default_factory=dict, description="What all trials share: a preset and overrides of it."
    )
    space: Space = Field(description="Field of a search → its values; `preset` counts as one.")
    metrics: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        default=(DEFAULT_METRIC,),
        min_length=1,
        max_length=3,
        description="What makes a trial good, by default improvement where `search` has the preset default; with "
        "several, a front is sought, and the first picks from it.",
    )
    top: int = Field(
        default=10, ge=1, le=1000, description="How many of a search's best the metrics look at."
    )
    trials: int | None = Field(
        default=None, ge=1, le=MAX_TRIALS, description="Points to try; of a grid all, by default."
    )
    scheduler: SchedulerSpec = Field(default_factory=SchedulerSpec)
    searcher: SearcherSpec = Field(default_factory=SearcherSpec)
    concurrency: int | None = Field(
        default=None, ge=1, le=10_000, description="Trials at a time; by default what the cluster holds."
    )
    resources: ResourcesSpec = Field(default_factory=ResourcesSpec, description="Of one trial.")
    compare: CompareSpec = Field(default_factory=CompareSpec)
    known: str | None = Field(
        default=None, description="Compositions to hold the rows against, as in a campaign."
    )
    weights: str | None = Field(default=None, description="Folder that `kiago train` wrote.")

    @property
    def points(self) -> int:
        """How many trials there are."""
        listed = len(grid_draws(self.space)) if self.searcher.kind == "grid" else None
        return min(each for each in (listed, self.trials) if each is not None)

    @property
    def trial_bases(self) -> tuple[str | None, ...]:
        """The bases; one without a name for searches that start at random."""
        return self.bases or (None,)

    @property
    def compare_bases(self) -> tuple[str | None, ...]:
        """The bases of the comparison."""
        return self.compare.bases or self.trial_bases

    def spec(self, point: Mapping[str, Any], base: str | None, seed: int) -> SearchSpec:
        """The search of a point on a base. Raises SpecError."""
        return spec_at(self.search, point, {"base": base, "seed": seed})

    def judge(self) -> SearchSpec:
        """The search whose screens and oxidation states judge the rows of every trial."""
        return spec_at(self.search, {})

    def defining(self) -> dict[str, Any]:
        """What decides the results: everything but what only says how it is run."""
        values = self.model_dump(mode="json", exclude={"resources", "known", "weights", "concurrency"})
        return {**values, "threads": self.resources.threads, "device": self.resources.torch_device}

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
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError(f"metrics: {self.metrics[0]} is given twice; give it once")
        for where, given in (("", self), ("compare.", self.compare)):
            for name in ("seeds", "bases"):
                values = getattr(given, name)
                twice = [value for value in values if values.count(value) > 1]
                if twice:
                    raise ValueError(f"{where}{name}: {twice[0]} is given twice; give it once")
        if len(self.metrics) > 1 and self.scheduler.kind != "none":
            raise ValueError(
                "scheduler: with several metrics no trial is plainly worse, so none can end early; give kind: none"
            )
        self._check_seeds()
        self._check_space()
        self._check_searches()
        return self

    def _check_seeds(self) -> None:
        seen = sorted(set(self.seeds) & set(self.compare.seeds))
        if seen:
            raise ValueError(f"compare.seeds: {seen[0]} is a seed of the sweep; give seeds that no trial saw")
        if self.scheduler.kind == "asha" and self.scheduler.first > len(self.seeds):
            raise ValueError(
                f"scheduler.first: {self.scheduler.first} seeds before the first rung, of {len(self.seeds)}"
            )

    def _check_space(self) -> None:
        for key in ("base", "seed"):
            if key in self.search:
                raise ValueError(f"search: {key} is what `{OWN[key]}` of the sweep says; give it there alone")
        for name in self.space:
            head = name.split(".")[0]
            if head in OWN:
                raise ValueError(
                    f"{name}: trials can't differ in {head}, or they couldn't be compared; give {OWN[head]}"
                )
        nested = [(a, b) for a in self.space for b in self.space if b.startswith(a + ".")]
        if nested:
            raise ValueError(f"space: {nested[0][1]} is a part of {nested[0][0]}; give one of them")
        check_order(self.space)
        if self.searcher.kind == "grid":
            grid_draws(self.space)
            return
        gridded = [name for name, parameter in self.space.items() if parameter.kind == "grid"]
        if gridded:
            raise ValueError(
                f"space: {gridded[0]} has a grid, which searcher {self.searcher.kind} doesn't go through; give "
                "choice, or searcher: {kind: grid}"
            )
        if self.trials is None:
            raise ValueError("trials: give the number of points to try")

    def _check_searches(self) -> None:
        """Every bound and every listed value, each with the others at their first, makes a search that can run."""
        for base in (*self.trial_bases, *self.compare_bases):
            if self.spec({}, base, 0).row_count > MAX_ROWS:
                raise ValueError(f"search: a trial's searches have up to {MAX_ROWS:,} candidates; give fewer")
        for base in self.trial_bases:
            for point in _corners(self.space):
                self._check_comparable(self.spec(point, base, 0), base, f"space: {point}")
        for name, overrides in self.compare.against.items():
            if name == BEST:
                raise ValueError(f"compare.against: {BEST} is what the sweep finds; give another name")
            self.check_against(name, overrides)

    def _check_comparable(self, spec: SearchSpec, base: str | None, what: str) -> None:
        """The best of more rows is higher by itself. Raises ValueError."""
        rows = self.spec({}, base, 0).row_count
        if spec.row_count != rows:
            raise ValueError(f"{what} has {spec.row_count} rows, the others {rows}; trials need equally many")

    def check_against(self, name: str, overrides: Mapping[str, Any]) -> None:
        """Raise SpecError where a comparison can't run."""
        foreign = [key for key in overrides if key.split(".")[0] in OWN]
        if foreign:
            raise SpecError(
                f"compare.against.{name}: {foreign[0]} is the same for all that are compared; remove it"
            )
        for base in self.compare_bases:
            try:
                spec = self.spec(overrides, base, 0)
            except SpecError as error:
                raise SpecError(f"compare.against.{name}: {error}") from None
            self._check_comparable(spec, base, f"compare.against.{name}")


def _corners(space: Mapping[str, Any]) -> list[Point]:
    """Points in which each value that can be named occurs, and one between bounds, the rest at their first."""
    points: list[Point] = []
    for name, parameter in space.items():
        values = list(parameter.values)
        if parameter.kind in ("uniform", "loguniform"):
            low, high = values
            values.append(low + 0.618 * (high - low))  # a whole number would take the bounds and nothing else
        for value in values:
            point: Point = {}
            for other, each in space.items():
                wanted = {**{key: values[0] for key, values in parameter.when.items()}, name: value}
                if other in wanted:
                    point[other] = wanted[other]
                elif each.applies(point):
                    point[other] = each.values[0]
            points.append(point)
    return points


def read_sweep(path: Path) -> SweepSpec:
    """The sweep of a YAML file; the paths in it are relative to it. Raises SpecError, in one line that names it."""
    values = read_yaml(path, "sweep")
    try:
        return beside(path, sweep_from(values))
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from error


def sweep_from(values: Any) -> SweepSpec:
    """A sweep from plain values. Raises SpecError, in one line."""
    if not isinstance(values, Mapping):
        raise SpecError(
            "a sweep is a mapping of keys to values, such as 'space: {alpha: {uniform: [0, 20]}}'"
        )
    try:
        return SweepSpec.model_validate(values)
    except ValidationError as error:
        raise SpecError(spec_error_line(error, SweepSpec)) from error
