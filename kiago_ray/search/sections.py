"""The sections of a search specification: start, elements, schedules, projection, screens. Unknown keys are refused,
and a failed validation is one line that a person can act on.

Defaults are those of the preset `default`. Where one departs from the paper, its description says why.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.data.names import read
from kiago_ray.errors import InputError


class SpecError(InputError):
    """A search that can't be run as specified. The message is one line: what is wrong, and what to do."""

    status = 422


Model = TypeVar("Model", bound=BaseModel)


def validated(kind: type[Model], values: Any) -> Model:
    """The values as a specification of this kind. Raises SpecError, in one line."""
    if not isinstance(values, Mapping):
        raise SpecError(f"write a mapping of keys to values, not {reprlib.repr(values)}")
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise SpecError(spec_error_line(error, kind)) from error


def spec_error_line(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem of a failed validation of `model` in one line: the key, what is wrong, the value."""
    # An unknown key first: it often is what another, missing one was meant to be.
    problems = sorted(error.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden")
    problem: Any = problems[0]
    path = [str(part) for part in problem["loc"] if part != "[key]"]
    if problem["type"] == "extra_forbidden":
        message = f"unknown key; {_advice(path, model)}"
    else:
        message = str(problem["msg"]).removeprefix("Value error, ")
        if problem["type"] != "value_error":
            message = f"{message[0].lower()}{message[1:]}, got {reprlib.repr(problem['input'])}"
    line = ": ".join([*([".".join(path)] if path else []), message])
    return line if len(problems) == 1 else f"{line} (and {len(problems) - 1} more)"


def _advice(path: list[str], model: type[BaseModel]) -> str:
    """The nearest known keys in the section that `path` ends in, else the field of that name in another section, else
    all keys of the section.
    """
    section, key = model, path[-1]
    for part in path[:-1]:
        inner = _section_of(section, part)
        if inner is None:
            return "remove it"
        section = inner
    close = [name for name in _dotted(model) if name.rpartition(".")[2] == key]
    own, all_names = [*section.model_fields], [*_dotted(model)]
    for names, most, alike in ((own, 3, 0.75), (own, 1, 0.6), (all_names, 3, 0.7)):
        close = close or difflib.get_close_matches(key, names, most, alike)
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    return f"the known keys are {', '.join(own)}"


def _section_of(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """The section that a field is; None where it is something else."""
    field = model.model_fields.get(name)
    kinds = () if field is None else (field.annotation, *get_args(field.annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _dotted(model: type[BaseModel]) -> Iterator[str]:
    """The names of a model's fields and of those of its sections."""
    for name in model.model_fields:
        yield name
        inner = _section_of(model, name)
        yield from (() if inner is None else (f"{name}.{each}" for each in _dotted(inner)))


def _known_symbol(symbol: str) -> str:
    if symbol not in INDEX:
        raise ValueError(f"unknown element {symbol!r}; write a symbol such as 'La'")
    return symbol


def _readable(formula: str) -> str:
    """The formula itself. Raises FormulaError for one that can't be read."""
    read(formula)
    return formula


def _in_one_line(schema: dict[str, Any]) -> None:
    """Take the line breaks out of the descriptions of a section's JSON schema."""
    for field in schema.get("properties", {}).values():
        if "description" in field:
            field["description"] = " ".join(field["description"].split())


Symbol = Annotated[str, AfterValidator(_known_symbol)]
Formula = Annotated[str, AfterValidator(_readable)]
Share = Annotated[float, Field(ge=0, le=1)]
Distance = Annotated[float, Field(ge=0, le=2)]
ScreenName = Literal[
    "neutral",
    "pauling",
    "balanced",
    "plausible",
    "neutral_mixed",
    "neutral_atoms",
    "hydride",
    "ef_negative",
    "few_elements",
    "near_hull",
    "structure_stable",
]
RankBy = Literal["improvement", "trusted", "tc", "plausibility"]


class Section(BaseModel):
    """A frozen part of a specification that refuses keys it doesn't know, and NaN and infinite numbers. What stands
    under a field is its description.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        json_schema_extra=_in_one_line,
    )


class StartSpec(Section):
    """Initial candidates (section 2.3, 3.2)."""

    kind: Literal["perturb", "random", "rows"] = "perturb"
    """perturb: the base with elements substituted and added; random: elements drawn at random; rows: those given."""
    substitute_probability: Share = 0.22
    """Probability that an element of the base is replaced by another one."""
    frequencies: Literal["supercon", "supercon+non_superconductors", "uniform"] = "supercon"
    """How often each element is drawn as a substitute: as it occurs in these data."""
    add_number: int = Field(default=2, ge=0, le=118)
    """How many elements that the base doesn't hold are added. The paper doesn't say; its Fig. 3 shows 3."""
    add_probability: Share = 0.0
    """Instead of `add_number`: the probability with which each element is added."""
    add_by: Literal["uniform", "frequencies"] = "frequencies"
    """uniform: each alike, as in the paper; frequencies: by those, as predictors know little of rare elements."""
    add_max_ratio: Share = 0.15
    """Most of an added element, relative to the base, drawn evenly from 0. The paper has 0.3, which rivals the base.
    """
    random_elements: int | None = Field(default=4, ge=1, le=118)
    """How many elements a random start holds; null for every allowed element."""
    rows: tuple[Formula, ...] = ()
    """Formulas to start from, one a candidate, for kind `rows`."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.add_number and self.add_probability:
            raise ValueError(
                f"elements are added by number or by probability, not both; set add_number ({self.add_number}) or "
                f"add_probability ({self.add_probability:g}) to 0"
            )
        if (self.kind == "rows") != bool(self.rows):
            raise ValueError("kind 'rows' and the formulas under 'rows' go together; give both or neither")
        return self


class ElementsSpec(Section):
    """Which elements the optimised part may hold (M_elem of eq. 6)."""

    allow: tuple[Symbol, ...] | None = Field(default=None, max_length=118)
    """Only these elements; null for all."""
    forbid: tuple[Symbol, ...] = Field(default=(), max_length=118)
    """None of these elements."""

    @model_validator(mode="after")
    def _leaves_something(self) -> Self:
        if self.allow is not None and not set(self.allow) - set(self.forbid):
            raise ValueError("allow and forbid together leave no element; allow more or forbid fewer")
        return self


class FamilySpec(Section):
    """A search that keeps the structure of its base: what stands on its sites changes, and nothing else (ours)."""

    enabled: bool = True
    """Whether the base's sites are kept. False, as in the paper, lets any element come in."""
    max_foreign: int = Field(default=2, ge=1, le=10)
    """Most elements that the base's sites don't hold, and kinds of vacancies, in stage 2."""
    max_foreign_per_site: int = Field(default=2, ge=1, le=10)
    """The same on one site."""
    whole_swaps: int = Field(default=1, ge=0, le=10)
    """Sites that may give up more than half of their own elements in stage 2."""
    grid: int = Field(default=20, ge=1, le=1000)
    """Amounts on a site are multiples of 1/grid of an atom; its main element takes what the others leave."""
    substitutes: int = Field(default=12, ge=1, le=N_ELEMENTS)
    """Elements that may come in on a site: those that take the place of its own most often."""
    keep: tuple[Symbol, ...] = Field(default=(), max_length=N_ELEMENTS)
    """Elements of the base whose sites stay as they are."""
    dope: dict[Symbol, tuple[Symbol, ...]] = Field(default_factory=dict)
    """Elements of the base and the only ones that may come in on their sites, such as {La: [Sr, Ba]}. Other sites stay
    as they are; {} lets all change.
    """
    range: tuple[Share, Share] = (0.0, 1.0)
    """Least and most of a site that foreign elements take where there are any, such as [0, 0.3]."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.range[0] > self.range[1]:
            raise ValueError(f"range: {self.range[0]:g} is above {self.range[1]:g}; swap them")
        if self.range[1] == 0:
            raise ValueError(
                "range: at most 0 of a site leaves nothing to search; give more, such as [0, 0.3]"
            )
        for symbol, others in self.dope.items():
            if not set(others) - {symbol}:
                raise ValueError(f"dope: no other element for {symbol}; name some, such as {{La: [Sr, Ba]}}")
            if symbol in self.keep:
                raise ValueError(f"dope: {symbol} is to be kept as well; remove one of the two")
        return self


class SourcesSpec(Section):
    """Where a family's rows come from, in shares of all rows; a row whose source has no more to give is of `family`.
    Only `family` is optimised; all are judged alike, and the table names the source of each.
    """

    family: float = Field(default=0.3, ge=0, le=1e6)
    """Optimised over the sites by the gradient of the objective."""
    swap: float = Field(default=0.4, ge=0, le=1e6)
    """One element of a site replaced wholly, by falling odds."""
    made: float = Field(default=0.15, ge=0, le=1e6)
    """Compounds that exist, were never tested and differ from the base on one site."""
    plus_one: float = Field(default=0.15, ge=0, le=1e6)
    """One foreign element on a quarter or half of a site, the most plausible first, then by odds."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.family + self.swap + self.made + self.plus_one > 0:
            raise ValueError("all shares are 0; give one of family, swap, made and plus_one more")
        return self


class SiteSpec(Section):
    """A part of the base that is to be substituted (section 3.5)."""

    state: int = Field(ge=-8, le=9)
    """Its oxidation state in the base."""
    atoms: float | None = Field(default=None, gt=0)
    """How many of its atoms, as the base's formula counts them; null for all."""


class RangeSpec(Section):
    """Numbers of atoms from min to max, both included."""

    min: int = Field(default=1, ge=1, le=1000)
    """Fewest atoms of a formula."""
    max: int = Field(default=25, ge=1, le=1000)
    """Most atoms of a formula."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}; swap them")
        return self


class RampSpec(Section):
    """A weight that goes linearly from `start` to `end` over stage 2; a single number stays constant."""

    start: float = Field(default=10.0, ge=0)
    """Weight of the integer loss in stage 2's first step, in K. The paper's 1 is little beside slopes of hundreds."""
    end: float = Field(default=1000.0, ge=0)
    """Weight of the integer loss in stage 2's last step, in K."""

    @model_validator(mode="before")
    @classmethod
    def _constant(cls, value: Any) -> Any:
        return {"start": value, "end": value} if isinstance(value, int | float | str) else value

    def at(self, step: int, steps: int) -> float:
        """The weight in step `step` (from 0) of `steps`."""
        return self.start + (self.end - self.start) * step / max(steps - 1, 1)


class ChargeSpec(Section):
    """Charge neutrality as a term of the loss (ours)."""

    weight: float = Field(default=0.0, ge=0)
    """In K per nat an atom: how unlikely the oxidation states are that balance a row, in a family beyond the base's.
    0, as in the paper, leaves it out; so does `default`, whose plausibility weighs the states. `open` has 60.
    """
    mixed_valence: bool = False
    """Whether atoms of one element may take two of its states, as Cu(2+) and Cu(3+) in YBa2Cu3O7, for
    `projection.neutral` and the screen neutral_mixed; ask for that one in place of SMACT's `neutral` and `pauling`.
    The term above always lets them.
    """


class ProjectionSpec(Section):
    """From the optimised fractions to the integer formula that is proposed."""

    kind: Literal["nearest", "best", "none"] = "best"
    """nearest: the integer formula nearest to the fractions in L1; best: of the near ones that with the best
    objective, because there the predictors tell more than distance does; none: fractions are kept, with four decimals.
    """
    max_distance: Distance = 0.1
    """For `best`: L1 distance in fractions up to which a formula counts as near."""
    max_candidates: int = Field(default=16, ge=1, le=64)
    """For `best`: how many near formulas a row compares."""
    neutral: bool = False
    """For `best`: of a row's near formulas those count alone that balance under the Pauling rule, where it has any,
    and of these those with E_f < 0, if there are any, where the screen ef_negative is asked for. Half of `open`'s
    proposals would be ruled out otherwise.
    """
    neutral_distance: Distance = 0.4
    """L1 distance in fractions up to which the nearest neutral formula is taken where none is within max_distance."""


class ScreensSpec(Section):
    """Screens that proposals are judged by afterwards, in this order (section 3.1), and what orders them. They don't
    steer the search, but for what `charge` and `projection.neutral` do.
    """

    names: tuple[ScreenName, ...] = Field(default=("balanced", "plausible", "few_elements"), max_length=20)
    """neutral: oxidation states add up to 0; pauling: and cations are less electronegative than anions; balanced:
    likely states add up to 0, mixed valence being the rule, or a metal; plausible: exists with a probability of at
    least min_existence; neutral_mixed: as pauling, mixed valence allowed (needs charge.mixed_valence); neutral_atoms:
    neutral, each atom with a state of its own (section 3.6); hydride: at least 40 % hydrogen, two or three elements,
    at most 15 atoms; ef_negative: formation energy below 0 eV/atom; few_elements: at most `max_elements` elements;
    near_hull: at most max_e_hull_ev_per_atom above the hull of the competing phases; structure_stable: the same of
    the structure that `kiago structures` makes of a row, which keeps its prototype. Rows without one aren't failed.
    """
    max_elements: int = Field(default=9, ge=1, le=118)
    """Most elements a proposal may hold to pass few_elements."""
    max_e_hull_ev_per_atom: float = Field(default=0.1, ge=0, le=10)
    """Most eV/atom above the hull to pass near_hull or structure_stable. Of stable compounds 98 % lie within 0.1, of
    others 68 %.
    """
    max_charge_nats: float = Field(default=1.25, ge=0, le=10)
    """How unlikely the states may be, in nats an atom, to pass balanced, as 99.0 % of SuperCon's superconductors do
    (97.6 % at 0.75).
    """
    min_existence: Share = 0.06
    """Least probability to exist to pass plausible; `kiago search --help` has the recall."""
    nearby_distance: Distance = 0.2
    """L1 distance in fractions, from a row or the base, within which the best known composition is to be beaten."""
    rank_by: RankBy = "improvement"
    """What orders the proposals that passed. improvement: the plausibility and what T_c is expected to gain over the
    best known nearby; trusted: the lower bound by the ensemble's spread, the oracle and the extrapolation; tc, as in
    the paper: the predicted T_c, highest where the predictor is most optimistic; plausibility.
    """
    improvement_offset_k: float = Field(default=0.1, gt=0, le=10_000)
    """For rank_by improvement: K added to the expected improvement before the plausibility multiplies it; at 100
    plausibility counts most.
    """
    improvement_tc_share: Share = 0.02
    """For rank_by improvement: share of the trusted T_c that is added likewise, so that rows which are no gain stand
    by how near they come.
    """
    most_per_system: int = Field(default=3, ge=1, le=1000)
    """For rank_by improvement: most of the first 30 proposals that hold the same elements."""
    new_systems_first: bool = False
    """Rows of chemical systems with a known superconductor stand behind the others, as known compositions do."""
