"""SearchSpec: everything that defines a search (sections 2 and 3 of the paper), checked before anything runs; and
presets, which are complete specifications in the files under presets/. Defaults are the preset `default`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from importlib.resources import files
from typing import Annotated, Any, Literal, Self

import numpy as np
import yaml
from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticKnownError

from kiago_ray.chemistry.elements import N_ELEMENTS, SYMBOLS, Floats
from kiago_ray.chemistry.formula import amounts_row, feasible_totals, parse
from kiago_ray.chemistry.oxidation import OxidationSet
from kiago_ray.search import sections
from kiago_ray.search.sections import SpecError, validated

MAX_CANDIDATES = 10_000_000
MOST_ATOMS = 1000  # that n_unit may have
_ROUNDED = 0.0006  # of a fixed fraction: 0.333 may stand for a third
MAX_STEPS = 20_000  # a stage; each keeps its terms for the trajectory
MOST_DOTS = 8  # that open a key; no section lies as deep
PRESETS = ("default", "open", "paper", "reference", "hydride", "substitution")


def _as_fraction(value: Any) -> Any:
    """'1/3' as a number, so that thirds can be fixed exactly; anything else as it is, but for whole atoms."""
    if isinstance(value, str) and "/" in value:
        try:
            value = float(Fraction(value.replace(" ", "")))
        except (ValueError, ZeroDivisionError, OverflowError):
            raise ValueError(f"{value!r} is not a fraction such as '1/3'") from None
    if isinstance(value, int | float) and not 0 < value < 1:
        raise ValueError(f"{value:g} is no fraction of all atoms; a fixed amount lies above 0 and below 1")
    return value


def _for_both_stages(value: Any, pair: ValidatorFunctionWrapHandler) -> Any:
    """The pair, or one value twice; what is wrong with one value is said once, of the field itself."""
    if isinstance(value, list | tuple):
        return pair(value)
    try:
        return pair((value, value))
    except ValidationError as error:
        problem: Any = error.errors()[0]
        raise PydanticKnownError(problem["type"], problem.get("ctx")) from None


Amount = Annotated[float, BeforeValidator(_as_fraction), Field(gt=0, lt=1)]
Steps = Annotated[int, Field(ge=0, le=MAX_STEPS)]
Rate = Annotated[float, Field(gt=0, le=10)]


class SearchSpec(sections.Section):
    """One search: a base material, a start, constraints, an objective, a schedule."""

    base: sections.Formula | None = None
    """Formula of the base material."""
    candidates: int = Field(default=256, ge=1, le=MAX_CANDIDATES)
    """Rows of the search. The paper has 4096, `open` 512; `default` needs fewer, as a family holds fewer formulas."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Row r draws from a generator of (seed, base, r) alone."""

    start: sections.StartSpec = Field(default_factory=sections.StartSpec)
    """Initial candidates."""
    family: sections.FamilySpec = Field(default_factory=sections.FamilySpec)
    """Whether and how the base's sites are kept, as chemists do; then max_elements, n_unit and start say nothing."""
    sources: sections.SourcesSpec = Field(default_factory=sections.SourcesSpec)
    """Where the rows of a family search come from."""
    fixed: dict[sections.Symbol, Amount] = Field(default_factory=dict)
    """Fractions of all atoms (0 to 1) held by these elements (x_const, eq. 3)."""
    fixed_may_grow: bool = False
    """False: fixed amounts hold exactly. True: they are least amounts, as for hydrides (3.6)."""
    elements: sections.ElementsSpec = Field(default_factory=sections.ElementsSpec)
    """Elements that may occur."""
    oxidation_state: int | None = Field(default=None, ge=-8, le=9)
    """Only elements that have this oxidation state (section 3.5)."""
    oxidation_set: OxidationSet = OxidationSet.ICSD24
    """SMACT's oxidation states for masks and screens: the paper's smact14, or icsd24, which leaves out rare ones."""
    substitute: dict[sections.Symbol, int | sections.SiteSpec] | None = None
    """Elements of the base and their oxidation states, such as {La: 3}, or {Ti: 4, O: {state: -2, atoms: 1}} for a
    part of the atoms: what they held is optimised over elements with this state, the rest is fixed (section 3.5).
    """
    substitute_by: int | None = Field(default=None, ge=-8, le=9)
    """Oxidation state of the substitutes, which keep the charge: two of +3 for 2 Ti4+ and 1 O2-. Null: the sites'."""
    max_elements: int = Field(default=7, ge=1, le=N_ELEMENTS)
    """Most elements in stage 2 (n_elem^max, eq. 7). The paper has 10; `default` has 7, the most in OQMD."""
    limit_counts_fixed: bool = True
    """Whether fixed elements count towards max_elements."""
    n_unit: sections.RangeSpec = Field(default_factory=sections.RangeSpec)
    """Numbers of atoms N of the grids n/N that formulas lie on (N_unit, eq. 9); they are written reduced."""

    alpha: float = Field(default=0.0, ge=0)
    """Weight of the formation energy, in K per eV/atom (eq. 1). The paper has 4, `open` 20. `default` leaves it
    out: within a family the plausibility tells more.
    """
    plausibility_weight: float = Field(default=10.0, ge=0, le=1000)
    """Weight of the plausibility, in K per nat. The paper has 0; but what nobody can make is worth nothing."""
    beta: sections.RampSpec = Field(default_factory=sections.RampSpec)
    """Weight of the integer loss in stage 2, in K (eq. 16)."""
    integer_norm: Literal["l1", "l2"] = "l1"
    """l1: the integer loss sums |x - c| (eq. 10); l2: it sums (x - c)²."""
    tc_gradient: Literal["before_relu", "after_relu"] = "before_relu"
    """Whether the loss takes T_c before the final ReLU or after it, as in the paper, where 0 K has no gradient."""

    tc_predictor: Literal["ensemble", "resnet18"] = "ensemble"
    """The T_c predictor to climb: the paper's ResNet-18, or the ensemble, which is nearer to measured T_c."""
    ef_predictor: Literal["ensemble", "elemnet"] = "ensemble"
    """The predictor of E_f: the paper's ElemNet, or the ensemble, which errs by about half as much; but its slopes,
    which a search needs where alpha isn't 0, cost some 30 times ElemNet's.
    """
    kappa: float = Field(default=1.0, ge=0, le=10)
    """κ: the search climbs T_c − κ·σ, σ being the ensemble's. With the paper's 0 rows gather where it errs."""
    extrapolation_weight: float = Field(default=0.0, ge=0)
    """K for each unit of the extrapolation score above 0.8; at 1 a formula is flagged. 0, as in the paper, leaves it
    out; so does `default`, whose sites and plausibility keep rows near what is known. `open` has 60.
    """

    charge: sections.ChargeSpec = Field(default_factory=sections.ChargeSpec)
    """Charge neutrality as a term of the loss."""

    steps: tuple[Steps, Steps] = (30, 30)
    """Steps of stage 1 and of stage 2. The paper has 500 each; in a family 30 larger ones are enough."""
    learning_rate: Annotated[tuple[Rate, Rate], WrapValidator(_for_both_stages)] = (0.06, 0.06)
    """Adam's step in both stages, in units of x_base (which starts at sum 1, in a family on every site). The paper has
    0.03; `default` doubles it, as a site is a dozen elements.
    """
    learning_rate_schedule: Literal["constant", "cosine"] = "cosine"
    """Over each stage: constant, as in the paper, or falling to 0 as a cosine, so that a row settles."""
    precision: Literal["auto", "float32", "mixed", "bfloat16"] = "auto"
    """What the predictors' wide layers compute in while a search steps; formulas are scored in float32. mixed: those
    of E_f in bfloat16. auto: bfloat16 where the processor multiplies it in hardware, else float32.
    """
    reset_optimizer_between_stages: bool = True
    """Whether Adam's moments start anew in stage 2."""
    revive: Literal["none", "start", "allowed"] = "allowed"
    """Which absent elements can return, one a step, that with the best gradient: none, as in the paper; those of the
    row's start; any allowed one, because otherwise no row finds an element that it lost or lacked.
    """
    projection: sections.ProjectionSpec = Field(default_factory=sections.ProjectionSpec)
    """To integer formulas."""
    screens: sections.ScreensSpec = Field(default_factory=sections.ScreensSpec)
    """Screens applied afterwards."""

    @property
    def sites(self) -> dict[str, sections.SiteSpec]:
        """What `substitute` takes out of the base, by element."""
        return {
            symbol: sections.SiteSpec(state=site) if isinstance(site, int) else site
            for symbol, site in (self.substitute or {}).items()
        }

    @property
    def substitute_state(self) -> int | None:
        """The oxidation state that substitutes need; None where nothing is substituted."""
        states = {site.state for site in self.sites.values()}
        return self.substitute_by if self.substitute_by is not None or not states else states.pop()

    @property
    def row_count(self) -> int:
        """Rows of the search: `candidates`, or the number of rows given."""
        return len(self.start.rows) or self.candidates

    @model_validator(mode="after")
    def _can_run(self) -> Self:
        for problem in self._problems():
            raise SpecError(problem)
        return self

    def _problems(self) -> Iterator[str]:
        """What makes the search impossible, one after the other; each holds only where those before it don't."""
        if not any(self.steps):
            yield "steps: both stages have 0 steps; give one of them at least 1, such as [200, 200]"
        for symbol in set(self.fixed) & set(self.elements.forbid):
            yield f"fixed: {symbol} is both fixed and forbidden; remove one of the two"
        if (total := sum(self.fixed.values())) >= 1 - 1e-9:
            yield f"fixed: the amounts add up to {total:g}; they must leave something, so below 1"
        self.free_elements(len(self.fixed))
        yield from self._problems_of_substitute()
        yield from self._problems_of_family()
        if "neutral_mixed" in self.screens.names and not self.charge.mixed_valence:
            yield "screens.names: neutral_mixed needs charge.mixed_valence; set that to true"
        if self.fixed:
            self.totals(amounts_row(self.fixed))
        if self.projection.kind == "none":
            return
        most, elements = self.n_unit.max, self.max_elements
        elements += 0 if self.limit_counts_fixed else len(self.fixed)
        if most < elements:
            yield (
                f"n_unit: formulas of up to {most} atoms can't hold {elements} elements; raise n_unit.max to "
                f"{elements} or lower max_elements"
            )

    def free_elements(self, fixed: int) -> int:
        """Elements that may be optimised at once in stage 2, beside `fixed` fixed ones. Raises SpecError for none."""
        left = self.max_elements - (fixed if self.limit_counts_fixed else 0)
        if left < 1:
            raise SpecError(
                f"max_elements: {self.max_elements} is used up by {fixed} fixed element(s); allow at least {fixed + 1}"
            )
        return left

    def totals(self, const: Floats) -> tuple[int, ...]:
        """The numbers of atoms of formulas in which fixed fractions (118,) are whole atoms, all of n_unit where
        fractions are kept. Raises SpecError for none.
        """
        fewest, most = self.n_unit.min, self.n_unit.max
        totals = tuple(range(fewest, most + 1))
        if self.projection.kind != "none":
            totals = feasible_totals(totals, const, self.fixed_may_grow)
        if not totals:
            given = ", ".join(f"{SYMBOLS[z]} {const[z]:g}" for z in np.flatnonzero(const))
            raise SpecError(
                f"n_unit: no number of atoms from {fewest} to {most} makes the fixed amounts ({given}) whole atoms; "
                f"{self._what_would_do(const)}"
            )
        return totals

    def _what_would_do(self, const: Floats) -> str:
        """What to write where no number of atoms makes fixed fractions (118,) whole atoms."""
        may_grow, within = self.fixed_may_grow, range(self.n_unit.min, self.n_unit.max + 1)
        near = {
            SYMBOLS[z]: Fraction(const[z]).limit_denominator(self.n_unit.max) for z in np.flatnonzero(const)
        }
        exact = amounts_row({symbol: float(share) for symbol, share in near.items()})
        if np.abs(exact - const).max() < _ROUNDED and (there := feasible_totals(within, exact, may_grow)):
            shares = ", ".join(f"{symbol}={share}" for symbol, share in near.items())
            return f"rounded amounts aren't exact, so write fractions: {shares}; N = {there[0]} would do"
        if others := feasible_totals(range(1, MOST_ATOMS + 1), const, may_grow):
            end = "max" if others[0] > self.n_unit.max else "min"
            return f"N = {others[0]} would do, so set n_unit.{end} to {others[0]}"
        return "change fixed or n_unit, or set projection.kind to 'none' to keep fractions"

    def _problems_of_substitute(self) -> Iterator[str]:
        if self.substitute is None:
            if self.substitute_by is not None:
                yield "substitute_by: it needs substitute; name a site and its state, such as {La: 3}"
            return
        if not self.substitute:
            yield "substitute: it names no site; give one and its state, such as {La: 3}"
        if self.fixed or self.oxidation_state is not None:
            yield "substitute: it sets the fixed amounts and the oxidation state itself; remove those"
        if self.substitute_by is None and len({site.state for site in self.sites.values()}) > 1:
            yield "substitute: the sites have different states; say in substitute_by which one their substitutes have"
        if self.base is not None:
            self.substituted()

    def _problems_of_family(self) -> Iterator[str]:
        family, there = self.family, parse(self.base) if self.base else {}
        if not family.enabled:
            for name in ("keep", "dope", "range"):
                if getattr(family, name) != getattr(sections.FamilySpec(), name):
                    yield (
                        f"family.{name}: this search doesn't keep its base's sites; choose the preset 'default', or "
                        "set family.enabled to true"
                    )
            return
        excluded = {
            "fixed": self.fixed,
            "substitute": self.substitute is not None,
            "oxidation_state": self.oxidation_state is not None,
            "start.kind": self.start.kind != "perturb",
        }
        for name in (name for name, given in excluded.items() if given):
            yield (
                f"{name}: a search that keeps its base's sites can't have it; choose the preset 'open' or "
                "'substitution', or set family.enabled to false"
            )
        for name, named in (("keep", family.keep), ("dope", family.dope)):
            for symbol in (each for each in named if there and each not in there):
                yield f"family.{name}: {symbol} is not in {self.base}; name one of {', '.join(there)}"

    def substituted(self) -> tuple[Floats, float]:
        """x_const (eq. 3), (118,) fractions, of the base without what its sites take out, and the atoms of all of it
        with the substitutes.

        One site and substitutes of its state is the paper's experiment (section 3.5). Several give way to Σ nᵢ·qᵢ / q
        atoms with the state q, so that the charge stays: 2 Ti4+ and 1 O2- carry +6, so Ti2O4 becomes X2O3. Raises
        SpecError where the base doesn't have that, nothing would stay, or no number of substitutes carries the charge.
        """
        amounts, state, sites = parse(self.base or ""), self.substitute_state, self.sites
        left, charge, count, atoms = dict(amounts), 0.0, 0.0, sum(amounts.values())
        for symbol, site in sites.items():
            if symbol not in amounts:
                raise SpecError(
                    f"substitute: {symbol} is not in {self.base}; name one of {', '.join(amounts)}"
                )
            taken = amounts[symbol] if site.atoms is None else site.atoms
            if taken > amounts[symbol]:
                raise SpecError(f"substitute: {self.base} has {amounts[symbol]:g} of {symbol}, not {taken:g}")
            left[symbol] -= taken
            charge, count = charge + taken * site.state, count + taken
        if not any(left.values()):
            raise SpecError(
                f"substitute: {self.base} holds {', '.join(sites)} alone; nothing would stay fixed"
            )
        if any(site.state != state for site in sites.values()):
            if not state or charge * state <= 0:
                raise SpecError(
                    f"substitute_by: no number of atoms with {state:+d} carries the charge {charge:+g} of the sites"
                )
            atoms += charge / state - count
        return amounts_row(left) / atoms, atoms


def preset_values(name: str) -> dict[str, Any]:
    """What the preset's file says. Raises SpecError for an unknown name."""
    if name not in PRESETS:
        raise SpecError(f"preset: there is no preset {name!r}; choose one of {', '.join(PRESETS)}")
    text = files("kiago_ray.search").joinpath("presets", f"{name}.yaml").read_text(encoding="utf-8")
    values: dict[str, Any] = yaml.safe_load(text)
    return values


def load_preset(name: str, overrides: Mapping[str, Any] | None = None) -> SearchSpec:
    """The preset `name` with `overrides` merged over it, nested like the specification or dotted (`{"start.kind":
    "random"}`). Sections are merged key by key; everything else, `fixed` and `substitute` among it, is replaced.
    Raises SpecError for an unknown preset or key and for values that can't be run.
    """
    return build_spec({"preset": name}, overrides or {})


def build_spec(*layers: Mapping[str, Any]) -> SearchSpec:
    """A specification as files and requests give it: the preset that the last layer to name one has under `preset`,
    `default` without one, and each layer's other values merged over it (see `load_preset`). In place of a name a
    preset may be a mapping: values over a preset of its own.
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
        merged = _merge(merged, _nested({key: value for key, value in layer.items() if key != "preset"}))
    return validated(SearchSpec, merged)


def preset_named(layer: Mapping[str, Any]) -> str:
    """The shipped preset that a layer of `build_spec` rests on."""
    chosen = layer.get("preset", "default")
    return str(chosen.get("preset", "default") if isinstance(chosen, Mapping) else chosen)


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys opened into sections."""
    nested: dict[str, Any] = {}
    for key, value in values.items():
        head, *rest = str(key).split(".", MOST_DOTS)
        for section in reversed(rest):
            value = {section: value}
        if isinstance(value, Mapping) and isinstance(nested.get(head), Mapping):
            value = {**nested[head], **value}
        nested[head] = value
    return nested


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` over `below`, section by section."""
    merged = dict(below)
    for key, value in above.items():
        field, under = SearchSpec.model_fields.get(key), below.get(key)
        is_section = field is not None and isinstance(field.annotation, type)
        if is_section and isinstance(value, Mapping) and isinstance(under, Mapping):
            value = {**under, **value}
        merged[key] = value
    return merged
