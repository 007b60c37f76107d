"""The rows of a search that any allowed element may come into: what they can reach, where they start and the formulas
that they end at, under fixed amounts, element masks and the element limit (sections 2.3 to 2.6, 3.2 and 3.3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from kiago_ray.chemistry.elements import N_ELEMENTS, Floats, Ints, Mask
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.search.integers import choose, fractional_amounts, neutral_formulas, project
from kiago_ray.search.losses import Norm, integer_loss
from kiago_ray.search.problem import MIN_TOTAL, Problem
from kiago_ray.search.result import Cost, Proposals, Score, Singles, scored
from kiago_ray.search.sections import SpecError, StartSpec
from kiago_ray.search.stages import SearchState, init, largest, rectified

_RULED_OUT = 1e6  # K: what a screen rules out loses to what none does


@dataclass(frozen=True)
class OpenSpace:
    """x_const beside any allowed element in any amount, at most `limit` elements in stage 2.

    const: (118,) fractions, x_const. always: (118,) bool elements, such as fixed ones that may grow, that stay allowed
    in stage 2 and don't count. totals: (n,) numbers of atoms, N_unit. width: most elements that a row can hold.
    """

    const: Tensor
    limit: int
    always: Tensor
    totals: Tensor
    width: int | None = None

    def compose(self, x_base: Tensor, mask: Tensor, *, straight_through: bool = False) -> Tensor:
        """x = x_const + σ(x_base·M)·(1 − Σ x_const), σ(x) = ReLU(x) / Σ ReLU(x): eq. 12 with stage 1's mask M_elem,
        eq. 15 with stage 2's M_max·M_elem.

        x_base: (rows, 118); mask: (rows, 118) or (118,) bool. Returns (rows, 118) fractions: each row sums to 1, holds
        const exactly where the mask is off, and exactly 0 where neither has anything. A row with nothing left is
        x_const alone; `has_something` tells. straight_through: absent elements keep the gradient that they would have
        on coming back, which ReLU makes 0.
        """
        positive = rectified(x_base, mask, straight_through=straight_through)  # eq. 6
        total = positive.sum(dim=1, keepdim=True)
        share = positive / torch.where(total > 0, total, torch.ones_like(total))  # eq. 5
        return self.const + share * (1 - self.const.sum())  # eq. 4, in stage 1 eq. 12, in stage 2 eq. 15

    def has_something(self, x_base: Tensor, mask: Tensor) -> Tensor:
        """(rows,) bool: where some allowed value is above 0, so that eq. 5 has something to divide by."""
        return rectified(x_base, mask).sum(dim=1) > MIN_TOTAL

    def off_grid(self, x_base: Tensor, mask: Tensor, x: Tensor, norm: Norm) -> Tensor:
        """L_integer of fractions x (rows, 118), (rows,)."""
        return integer_loss(x, self.totals, norm, self.width)

    def limited(self, x_base: Tensor, mask: Tensor) -> tuple[Self, Tensor]:
        """M_max·M, (rows, 118) bool: the `limit` largest values of stage 1's result. Only elements that are present
        are kept, and of equal ones that with the lower atomic number.
        """
        present = rectified(x_base, mask).masked_fill(self.always, 0)
        return self, largest(present, self.limit) | (mask & self.always)  # eq. 7 and eq. 8

    def propose(
        self, problem: Problem, state: SearchState, x_final: Singles, score: Score, climbed: Score, cost: Cost
    ) -> Proposals:
        """The formulas of rows, chosen by what is `climbed`."""
        spec = problem.spec
        x = exact_fractions(x_final.astype(np.float64), problem)
        if spec.projection.kind == "none":
            amounts = fractional_amounts(x, problem.const, spec.fixed_may_grow, problem.atoms)
        else:
            amounts = _integer_counts(problem, x, climbed).astype(np.float64)
        return scored(x, amounts, state.status.cpu().numpy(), score)


def begin_open(
    problem: Problem, frequencies: Mapping[str, Floats], rows: Ints, size: int, device: torch.device
) -> tuple[OpenSpace, SearchState]:
    """The space and the state before stage 1 of rows (n,) at their places in a shard of `size`, padded."""
    space = OpenSpace(
        const=torch.as_tensor(problem.const, dtype=torch.float32, device=device),
        limit=problem.limit,
        always=torch.as_tensor(problem.fixed & problem.allowed, device=device),
        totals=torch.tensor(problem.totals, device=device),
        width=problem.limit + int(problem.fixed.sum()),
    )
    x_start = np.tile(problem.allowed / problem.allowed.sum(), (size, 1))  # padding: an even mixture
    x_start[rows % size] = starts(problem, frequencies, rows.tolist())
    x = torch.as_tensor(x_start, dtype=torch.float32, device=device)
    allowed = torch.as_tensor(problem.allowed, device=device)
    return space, init(x, allowed, problem.spec.revive, space)


def starts(problem: Problem, frequencies: Mapping[str, Floats], rows: Sequence[int]) -> Floats:
    """Start values of x_base for these rows of the search, (len(rows), 118): each sums to 1.

    A row in which no allowed element is left is all zeros. `frequencies` are described at `drawing_weights`.
    """
    start = problem.spec.start
    if start.kind == "rows":
        return _normalised(parse_fractions(start.rows[row] for row in rows) * problem.allowed)
    weights = drawing_weights(start.frequencies, frequencies)
    generators = (problem.generator(row) for row in rows)
    if start.kind == "random" or problem.base is None:
        drawn = [random_row(rng, problem.allowed, start.random_elements) for rng in generators]
    else:
        # What x_const holds comes back on top (eq. 4), so a start lies at the base only without it.
        kept = np.maximum(problem.base - problem.const, 0) * (problem.allowed | ~problem.fixed)
        drawn = [perturbed_row(rng, kept, problem.allowed, weights, start) for rng in generators]
    return np.stack(drawn)


def drawing_weights(name: str, frequencies: Mapping[str, Floats]) -> Floats:
    """How often each element is drawn, (118,), under the specification's name for it.

    `frequencies` maps "supercon" and "non_superconductors" to (118,) counts or shares of compositions that hold the
    element; the two are added as they are given. Raises SpecError where one is missing or isn't such an array.
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
        total += weights
    return total


def perturbed_row(
    rng: np.random.Generator, base: Floats, allowed: Mask, weights: Floats, start: StartSpec
) -> Floats:
    """One start around `base` (118,): elements substituted, then others added, normalised.

    An element that isn't allowed is always substituted. A substitute is another allowed element, drawn by `weights`;
    where the row holds it already, the amounts add up.
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
    """A composition of `number` allowed elements, each as likely, with uniform amounts; every allowed one if None."""
    among = np.flatnonzero(allowed)
    chosen = rng.choice(among, size=min(number or len(among), len(among)), replace=False)
    row = np.zeros(N_ELEMENTS)
    row[chosen] = 1 - rng.random(len(chosen))  # in (0, 1]
    return _normalised(row)


def _drawn(rng: np.random.Generator, allowed: Mask, weights: Floats, instead_of: int) -> int:
    """Another allowed element, by weights; each alike where none of them has a weight; itself where there is none."""
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


def exact_fractions(x: Floats, problem: Problem) -> Floats:
    """Fractions (rows, 118) of float32 with their rounding taken out: fixed amounts exact, each sum 1."""
    if problem.spec.fixed_may_grow or not problem.fixed.any():
        return np.asarray(x / x.sum(axis=1, keepdims=True))
    free = np.where(problem.fixed, 0.0, x)
    return np.asarray(problem.const + free / free.sum(axis=1, keepdims=True) * (1 - problem.const.sum()))


def _integer_counts(problem: Problem, x: Floats, score: Score) -> Ints:
    """The integer formula of each row (rows, 118): the nearest, or the best of those that are near and neutral."""
    spec, projection = problem.spec, problem.spec.projection
    limits = (problem.totals, problem.const, spec.fixed_may_grow)
    if projection.kind == "nearest":
        return project(x, *limits).counts[:, 0]
    candidates = project(x, *limits, projection.max_candidates)
    if projection.neutral:
        candidates = neutral_formulas(
            x,
            *limits,
            oxidation_set=spec.oxidation_set,
            mixed_valence=spec.charge.mixed_valence,
            keep=projection.max_candidates,
            max_distance=max(projection.max_distance, projection.neutral_distance),
            otherwise=candidates,
        )
    cost = spec.charge.weight * candidates.nats
    for at in range(cost.shape[1]):
        counts = candidates.counts[:, at]
        total = counts.sum(axis=1, keepdims=True)
        tc, ef = score(np.where(total > 0, counts / np.maximum(total, 1), x))
        cost[:, at] += -tc + spec.alpha * ef
        if projection.neutral and "ef_negative" in spec.screens.names:
            cost[:, at] += np.where(ef >= 0, _RULED_OUT, 0.0)
    return choose(candidates, cost, projection.max_distance)
