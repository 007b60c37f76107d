"""A specification turned into arrays for one pair of predictors: x_const, M_elem, the limits (sections 2.4 to 2.6)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from kiago_ray.chemistry import oxidation
from kiago_ray.chemistry.elements import INDEX, SYMBOLS, Floats, Mask
from kiago_ray.chemistry.formula import amounts_row, feasible_totals, fractions, parse
from kiago_ray.search.family import Family, Substitutions, family_of
from kiago_ray.search.sections import SpecError
from kiago_ray.search.spec import SearchSpec

MIN_TOTAL = 1e-6  # of ReLU(x_base): below this a row has nothing left to normalise


@dataclass(frozen=True)
class Problem:
    """What a search optimises over.

    base: (118,) fractions of the base material, or None. atoms: the base formula's total as written, with its
    substitutes where sites are substituted (1 without a base). const: (118,) fractions, x_const. allowed: (118,)
    M_elem of the optimised part. totals: atoms that an integer formula may have. family: the base's sites, None for a
    search that doesn't keep them.
    """

    spec: SearchSpec
    base: Floats | None
    atoms: float
    const: Floats
    allowed: Mask
    totals: tuple[int, ...]
    family: Family | None = None

    @property
    def fixed(self) -> Mask:
        """Where x_const holds something, (118,)."""
        return self.const > 0

    @property
    def limit(self) -> int:
        """Elements that may be optimised at once in stage 2, besides fixed ones."""
        return self.spec.max_elements - (int(self.fixed.sum()) if self.spec.limit_counts_fixed else 0)


def resolve(spec: SearchSpec, supported: Mask, substitutions: Substitutions | None = None) -> Problem:
    """Check what needs the predictors' supported elements (118,) and the data, and build the arrays.

    Raises SpecError where the base is missing, fixed elements are unknown to the predictors, the mask leaves nothing
    or no number of atoms fits, and for a family without `substitutions` or without anything that may change.
    """
    if spec.base is None and (spec.start.kind == "perturb" or spec.substitute is not None):
        raise SpecError("base: this search starts from a base material; give a formula such as 'LaNiAsO'")
    amounts = parse(spec.base) if spec.base is not None else {}
    const, atoms = amounts_row(spec.fixed), sum(amounts.values()) or 1.0  # eq. 3
    if spec.substitute is not None:
        const, atoms = spec.substituted()
    _check_known(np.flatnonzero(const), supported, "fixed", "fix elements that they support")
    allowed, family = _allowed(spec, supported, const), None
    if spec.family.enabled:
        _check_known([INDEX[symbol] for symbol in amounts], supported, "base", "choose another base")
        if substitutions is None:
            raise SpecError(
                "family.enabled: a search that keeps its base's sites has to be given which elements replace one "
                "another; give substitutions, or choose the preset 'open'"
            )
        family = family_of(spec, allowed, substitutions)
    base = fractions(amounts) if amounts else None
    problem = Problem(spec, base, atoms, const, allowed, _totals(spec, const), family)
    if problem.limit < 1:
        number = int(problem.fixed.sum())
        raise SpecError(
            f"max_elements: {spec.max_elements} is used up by {number} fixed element(s); allow at least {number + 1}"
        )
    return problem


def _check_known(elements: Iterable[int], supported: Mask, field: str, advice: str) -> None:
    unknown = [SYMBOLS[z] for z in elements if not supported[z]]
    if unknown:
        raise SpecError(f"{field}: the predictors don't know {', '.join(unknown)}; {advice}")


def _allowed(spec: SearchSpec, supported: Mask, const: Floats) -> Mask:
    """M_elem, (118,): what predictors support, the specification allows, has the state and is not fixed exactly."""
    allowed: Mask = supported & ~np.isin(SYMBOLS, spec.elements.forbid)
    if spec.elements.allow is not None:
        allowed &= np.isin(SYMBOLS, spec.elements.allow)
    state = spec.oxidation_state if spec.substitute is None else spec.substitute_state
    if state is not None:
        try:
            allowed &= oxidation.mask(state, spec.oxidation_set)
        except ValueError as error:
            raise SpecError(f"oxidation_state: {error}") from error
    if not spec.fixed_may_grow:
        allowed &= const <= 0
    if not allowed.any():
        reason = "" if state is None else f" (with oxidation state {state:+d} in {spec.oxidation_set})"
        raise SpecError(f"elements: the mask leaves no element to optimise{reason}; allow more or fix fewer")
    return allowed


def _totals(spec: SearchSpec, const: Floats) -> tuple[int, ...]:
    every = tuple(range(spec.n_unit.min, spec.n_unit.max + 1))
    if spec.projection.kind == "none":
        return every
    totals = feasible_totals(every, const, spec.fixed_may_grow)
    if not totals:
        amounts = ", ".join(f"{SYMBOLS[z]} {const[z]:g}" for z in np.flatnonzero(const))
        raise SpecError(
            f"n_unit: no number of atoms from {every[0]} to {every[-1]} makes the fixed amounts ({amounts}) whole "
            "atoms; change fixed or n_unit, or set projection.kind to 'none' to keep fractions"
        )
    return totals


def canonical_text(base: Floats | None) -> str:
    """One text for every way to write a composition (118,), by atomic number; "" for none."""
    if base is None:
        return ""
    return " ".join(f"{SYMBOLS[z]}{base[z]:.9f}" for z in np.flatnonzero(base))


def row_generator(seed: int, base_text: str, row: int) -> np.random.Generator:
    """The generator of one row, the same in every process and on every machine."""
    words = np.frombuffer(hashlib.sha256(base_text.encode()).digest(), dtype=">u4")
    return np.random.default_rng(np.random.SeedSequence([seed, row, *words.tolist()]))
