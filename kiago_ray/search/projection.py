"""From optimised fractions to the formula that each row proposes, under every constraint of the
specification.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kiago_ray.search.integers import IntegerCandidates, choose, fractional_amounts, project
from kiago_ray.search.neutral_formulas import NeutralCandidates, neutral_formulas
from kiago_ray.search.problem import Problem
from kiago_ray.search.result import RowStatus

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_RULED_OUT = 1e6  # K: what a screen rules out loses to what none does

Score = Callable[[Floats], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Fractions (rows, 118) → T_c in K, 0 or more, and E_f in eV/atom, (rows,) each."""


@dataclass(frozen=True)
class Proposals:
    """counts: (rows, 118) atoms, zeros without an integer formula. amounts: (rows, 118) of the formula.
    distance: (rows,)
    L1 distance in fractions to where the row ended. tc_k, ef_ev_per_atom: (rows,) of the formula. status:
    (rows,). texts: (rows,) formulas as they are written, None where that follows from the amounts.
    """

    counts: Ints
    amounts: Floats
    distance: Floats
    tc_k: NDArray[np.float32]
    ef_ev_per_atom: NDArray[np.float32]
    status: NDArray[np.int8]
    texts: NDArray[np.object_] | None = None


def project_rows(
    problem: Problem,
    x_final: NDArray[np.float32],
    status: NDArray[np.int64],
    score: Score,
    climbed: Score | None = None,
) -> Proposals:
    """The formula of each row of fractions x_final (rows, 118), scored as that formula.

    Rows whose status isn't OK get none, and neither do rows whose formula isn't predicted to be finite.
    `climbed` gives what formulas are chosen by, `score` without it. Both always get all rows, each in its place.
    """
    spec = problem.spec
    x = exact_fractions(x_final.astype(np.float64), problem)
    if spec.projection.kind == "none":
        counts = np.zeros(x.shape, dtype=np.int64)
        amounts = fractional_amounts(x, problem.const, spec.fixed_may_grow, problem.atoms)
    else:
        counts = _integer_counts(problem, x, climbed or score)
        amounts = counts.astype(np.float64)
    return scored(x, counts, amounts, status, score)


def scored(
    x: Floats,
    counts: Ints,
    amounts: Floats,
    status: NDArray[np.int64],
    score: Score,
    *,
    texts: Sequence[str] | None = None,
) -> Proposals:
    """Formulas with these amounts (rows, 118), scored, and which of the rows that ended at x (rows, 118) with a status
    have one. texts: how the formulas are written, where not from the amounts.
    """
    total = amounts.sum(axis=1, keepdims=True)
    found = (total > 0)[:, 0]
    formula = np.where(total > 0, amounts / np.where(total > 0, total, 1), x)
    tc, ef = score(formula)
    ok = status == RowStatus.OK
    status = np.where(ok & ~found, RowStatus.NO_INTEGER_FORMULA, status)
    status = np.where(ok & found & ~(np.isfinite(tc) & np.isfinite(ef)), RowStatus.NOT_FINITE, status)
    ok = status == RowStatus.OK
    return Proposals(
        counts=np.where(ok[:, None], counts, 0),
        amounts=np.where(ok[:, None], amounts, 0.0),
        distance=np.where(ok, np.abs(formula - x).sum(axis=1), np.nan),
        tc_k=np.where(ok, tc, np.float32(np.nan)),
        ef_ev_per_atom=np.where(ok, ef, np.float32(np.nan)),
        status=status.astype(np.int8),
        texts=None if texts is None else np.where(ok, np.array(texts, dtype=object), ""),
    )


def exact_fractions(x: Floats, problem: Problem) -> Floats:
    """Fractions (rows, 118) of float32 with their rounding taken out: fixed amounts exact, each sum 1."""
    if problem.spec.fixed_may_grow or not problem.fixed.any():
        return np.asarray(x / x.sum(axis=1, keepdims=True))
    free = np.where(problem.fixed, 0.0, x)
    return np.asarray(problem.const + free / free.sum(axis=1, keepdims=True) * (1 - problem.const.sum()))


def _integer_counts(problem: Problem, x: Floats, score: Score) -> Ints:
    """The integer formula of each row (rows, 118): the nearest, or the best of those that are near and neutral."""
    spec, projection = problem.spec, problem.spec.projection
    if projection.kind == "nearest":
        return project(x, problem.totals, problem.const, spec.fixed_may_grow).counts[:, 0]
    keep = projection.max_candidates
    candidates = project(x, problem.totals, problem.const, spec.fixed_may_grow, keep)
    nats = np.zeros(candidates.distance.shape)
    if projection.neutral:
        neutral = neutral_formulas(
            x,
            problem.totals,
            problem.const,
            spec.fixed_may_grow,
            oxidation_set=spec.oxidation_set,
            mixed_valence=spec.charge.mixed_valence,
            keep=keep,
            max_distance=max(projection.max_distance, projection.neutral_distance),
        )
        candidates, nats = _neutral_where_found(candidates, neutral, keep)
    cost, ef = _costs(candidates, x, spec.alpha, score)
    cost += spec.charge.weight * nats
    if projection.neutral and "ef_negative" in spec.screens.names:
        cost += np.where(ef >= 0, _RULED_OUT, 0.0)
    return choose(candidates, cost, projection.max_distance)


def _neutral_where_found(
    candidates: IntegerCandidates, neutral: NeutralCandidates, keep: int
) -> tuple[IntegerCandidates, Floats]:
    """The neutral candidates of each row, or all it has where none is neutral, and their nats, (rows, keep)."""
    found = np.isfinite(neutral.distance[:, 0])
    missing = keep - candidates.distance.shape[1]  # fewer totals than candidates
    counts = np.pad(candidates.counts, ((0, 0), (0, missing), (0, 0)))
    distance = np.pad(candidates.distance, ((0, 0), (0, missing)), constant_values=np.inf)
    chosen = IntegerCandidates(
        np.where(found[:, None, None], neutral.counts, counts),
        np.where(found[:, None], neutral.distance, distance),
    )
    return chosen, np.where(found[:, None] & np.isfinite(neutral.nats), neutral.nats, 0.0)


def _costs(candidates: IntegerCandidates, x: Floats, alpha: float, score: Score) -> tuple[Floats, Floats]:
    """−T_c + α·E_f in K and E_f in eV/atom of each row's candidates, (rows, k)."""
    cost, energy = np.full((2, *candidates.distance.shape), np.inf)
    for at in range(candidates.counts.shape[1]):
        total = candidates.counts[:, at].sum(axis=1, keepdims=True)
        tc, ef = score(np.where(total > 0, candidates.counts[:, at] / np.maximum(total, 1), x))
        cost[:, at], energy[:, at] = -tc + alpha * ef, ef
    return cost, energy
