"""Where the rows of a search start (section 2.3, details in 3.2): at the base material perturbed, at random
compositions, or at given rows; and the state before stage 1.

Row r draws from a generator made of (seed, base material, r) alone: never from what ran before, nor where.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import N_ELEMENTS, SYMBOLS
from kiago_ray.search.errors import SpecError
from kiago_ray.search.problem import Problem
from kiago_ray.search.sections import StartSpec
from kiago_ray.search.space import OpenSpace, Space
from kiago_ray.search.stages import SearchState, init

if TYPE_CHECKING:
    from kiago_ray.search.family_rows import FamilyStarts

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Begun:
    """A shard of `size` places before stage 1. family: of a family search what stands in each place, else None."""

    space: Space
    state: SearchState
    family: FamilyStarts | None = None


def begin_open(
    problem: Problem,
    frequencies: Mapping[str, Floats],
    rows: Sequence[int],
    places: NDArray[np.int64],
    size: int,
    device: torch.device,
) -> Begun:
    """The rows of a search that any allowed element may come into, at their places (n,) in a shard of `size`; the
    other places are padding.
    """
    space = open_space(problem, device)
    allowed = torch.as_tensor(problem.allowed, device=device)
    x_start = np.tile(problem.allowed / problem.allowed.sum(), (size, 1))  # padding: an even mixture
    x_start[places] = starts(problem, frequencies, rows)
    x = torch.as_tensor(x_start, dtype=torch.float32, device=device)
    return Begun(space, init(x, allowed, problem.spec.revive, space))


def open_space(problem: Problem, device: torch.device) -> OpenSpace:
    """The space of a search that any allowed element may come into."""
    return OpenSpace(
        const=torch.as_tensor(problem.const, dtype=torch.float32, device=device),
        limit=problem.limit,
        always=torch.as_tensor(problem.fixed & problem.allowed, device=device),
        totals=torch.tensor(problem.totals, device=device),
        width=problem.limit + int(problem.fixed.sum()),
    )


def starts(problem: Problem, frequencies: Mapping[str, Floats], rows: Sequence[int]) -> Floats:
    """Start values of x_base for these rows of the search, (len(rows), 118): each sums to 1.

    A row in which no allowed element is left is all zeros. `frequencies` are described at `drawing_weights`.
    """
    start = problem.spec.start
    if start.kind == "rows":
        given = np.zeros((0, N_ELEMENTS)) if problem.rows is None else problem.rows
        return _normalised(given[np.asarray(rows, dtype=np.int64)] * problem.allowed)
    weights = drawing_weights(start.frequencies, frequencies)
    text = canonical_text(problem.base)
    generators = (row_generator(problem.spec.seed, text, row) for row in rows)
    if start.kind == "random" or problem.base is None:
        drawn = [random_row(rng, problem.allowed, start.random_elements) for rng in generators]
    else:
        # What x_const holds comes back on top (eq. 4), so a start lies at the base only without it.
        kept = np.maximum(problem.base - problem.const, 0) * (problem.allowed | ~problem.fixed)
        drawn = [perturbed_row(rng, kept, problem.allowed, weights, start) for rng in generators]
    return np.stack(drawn) if drawn else np.zeros((0, N_ELEMENTS))


def canonical_text(base: Floats | None) -> str:
    """One text for every way to write a composition (118,), by atomic number; "" for none."""
    if base is None:
        return ""
    return " ".join(f"{SYMBOLS[z]}{base[z]:.9f}" for z in np.flatnonzero(base))


def row_generator(seed: int, base_text: str, row: int) -> np.random.Generator:
    """The generator of one row, the same in every process and on every machine."""
    digest = hashlib.sha256(base_text.encode()).digest()
    words = [int.from_bytes(digest[at : at + 4], "big") for at in range(0, len(digest), 4)]
    return np.random.default_rng(np.random.SeedSequence([seed, row, *words]))


def drawing_weights(name: str, frequencies: Mapping[str, Floats]) -> Floats:
    """How often each element is drawn, (118,), under the specification's name for it.

    `frequencies` maps "supercon" and "non_superconductors" to (118,) counts or shares of compositions that
    hold the element; the two are added as they are given. Raises SpecError where one is missing or isn't such
    an array.
    """
    if name == "uniform":
        return np.ones(N_ELEMENTS)
    total = np.zeros(N_ELEMENTS)
    for part in name.split("+"):
        if part not in frequencies:
            raise SpecError(
                f"start.frequencies: {name!r} needs the element frequencies {part!r}, which aren't given"
            )
        weights = np.asarray(frequencies[part], dtype=np.float64)
        if weights.shape != (N_ELEMENTS,) or not np.isfinite(weights).all() or (weights < 0).any():
            raise SpecError(f"start.frequencies: {part!r} must be {N_ELEMENTS} finite numbers of 0 or more")
        total = total + weights
    return total


def perturbed_row(
    rng: np.random.Generator, base: Floats, allowed: Mask, weights: Floats, start: StartSpec
) -> Floats:
    """One start around `base` (118,): elements substituted, then others added, normalised.

    An element that isn't allowed is always substituted. A substitute is another allowed element, drawn by
    `weights`; where the row holds it already, the amounts add up.
    """
    row = np.zeros(N_ELEMENTS)
    for z in np.flatnonzero(base):
        replaced = rng.random() < start.substitute_probability or not allowed[z]
        row[_drawn(rng, allowed, weights, int(z)) if replaced else z] += base[z]
    row = _normalised(row * allowed)
    if start.add_number:
        row += _added(rng, allowed & (row == 0), weights, start)
    elif start.add_probability:
        chosen = rng.random(N_ELEMENTS) < start.add_probability
        row += np.where(chosen & allowed, rng.uniform(0, start.add_max_ratio, N_ELEMENTS), 0)
    return _normalised(row)


def random_row(rng: np.random.Generator, allowed: Mask, number: int | None) -> Floats:
    """A composition of `number` allowed elements, each as likely, with uniform amounts; every allowed one if
    None.
    """
    among = np.flatnonzero(allowed)
    chosen = rng.choice(among, size=min(number or len(among), len(among)), replace=False)
    row = np.zeros(N_ELEMENTS)
    row[chosen] = 1 - rng.random(len(chosen))  # in (0, 1]
    return _normalised(row)


def _drawn(rng: np.random.Generator, allowed: Mask, weights: Floats, instead_of: int) -> int:
    """Another allowed element, by weights; each alike where none of them has a weight; itself where there is
    none.
    """
    others = allowed.copy()
    others[instead_of] = False
    if not others.any():
        return instead_of
    reach = np.cumsum(_usable(weights, others))
    return int(np.searchsorted(reach, rng.random() * reach[-1], side="right"))


def _added(rng: np.random.Generator, among: Mask, weights: Floats, start: StartSpec) -> Floats:
    """Amounts (118,) of `add_number` different elements among these."""
    usable = _usable(weights, among) if start.add_by == "frequencies" else among.astype(np.float64)
    number = min(start.add_number, int((usable > 0).sum()))
    added = np.zeros(N_ELEMENTS)
    if number:
        chosen = rng.choice(N_ELEMENTS, size=number, replace=False, p=usable / usable.sum())
        added[chosen] = rng.uniform(0, start.add_max_ratio, number)
    return added


def _usable(weights: Floats, among: Mask) -> Floats:
    usable = weights * among
    return usable if usable.any() else among.astype(np.float64)


def _normalised(rows: Floats) -> Floats:
    """Rows (…, 118) divided by their sum; a row of zeros stays."""
    total = rows.sum(axis=-1, keepdims=True)
    return np.asarray(rows / np.where(total > 0, total, 1))
