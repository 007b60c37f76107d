"""The loss of each row, one function a term: L = −T_c + α·E_f + β·L_integer + γ·L_charge − π·ln P (eq. 13 and 16; the
last two are ours: charge.py, and the plausibility P of `Predictors`).

Nothing is averaged over rows, so a row's gradient is its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from kiago_ray.search.charge import ChargeTable, charge_loss

if TYPE_CHECKING:
    from kiago_ray.predictors.base import Predictors


_MOST_VALUES = 1 << 22  # rows × elements × totals at once: 16 MB for each intermediate


@dataclass(frozen=True)
class Objective:
    """Weights and settings of the loss. alpha: K per eV/atom; beta: K, a number or a tensor of no dimension.

    integer_norm: of the integer loss, None without it, as in stage 1. charge: what L_charge is read from, None without
    it; charge_weight: γ, K per nat; charge_free: nats an atom that cost nothing, None where all cost.
    plausibility_weight: K per nat of ln P, 0 without it.
    """

    alpha: float
    tc_gradient: Literal["before_relu", "after_relu"]
    beta: float | Tensor = 0.0
    integer_norm: Literal["l1", "l2"] | None = None
    charge: ChargeTable | None = None
    charge_weight: float = 0.0
    charge_free: float | None = None
    plausibility_weight: float = 0.0


@dataclass(frozen=True)
class Terms:
    """What a row's loss is made of, each (rows,): T_c in K (0 or more), E_f in eV/atom, L_integer, L_charge in nats an
    atom and ln P in nats (NaN where they aren't part of it).
    """

    tc_k: Tensor
    ef_ev_per_atom: Tensor
    integer_loss: Tensor
    charge_loss: Tensor
    plausibility_nats: Tensor


def tc_term(raw_tc: Tensor, gradient: Literal["before_relu", "after_relu"]) -> Tensor:
    """−T_c of each row in K, from T_c before the final ReLU (rows,)."""
    return -raw_tc if gradient == "before_relu" else -raw_tc.relu()


def integer_distance(x: Tensor, total: Tensor, norm: Literal["l1", "l2"]) -> Tensor:
    """L_int^N of eq. 10: how far fractions x (…, k) are from multiples of 1/N, N given for each (…)."""
    atoms = total.unsqueeze(-1)
    gap = x - (x.detach() * atoms).round() / atoms
    return gap.abs().sum(dim=-1) if norm == "l1" else gap.square().sum(dim=-1)


def integer_loss(x: Tensor, totals: Tensor, norm: Literal["l1", "l2"], width: int | None = None) -> Tensor:
    """L_integer of eq. 11, (rows,): the least L_int^N over `totals` (n,); of equal N the first.

    The gradient of a minimum is that of the N that attains it, so N is found first, without gradients.
    `width`: rows hold at most so many elements; zeros are on every grid and cost nothing, so they are left
    out.
    """
    if width is not None and width < x.shape[1]:
        x = x.topk(width, dim=1).values
    atoms = totals.to(x.dtype)
    nearest = torch.empty_like(x[:, 0])
    at_once = max(1, _MOST_VALUES // (x.shape[1] * len(atoms)))
    with torch.no_grad():
        for start in range(0, len(x), at_once):
            rows = slice(start, start + at_once)
            nearest[rows] = atoms[integer_distance(x[rows, None], atoms, norm).argmin(dim=1)]
    return integer_distance(x, nearest, norm)


def row_losses(
    x: Tensor, predictors: Predictors, objective: Objective, off_grid: Callable[[], Tensor] | None = None
) -> tuple[Tensor, Terms]:
    """The loss of each row of fractions x (rows, 118), (rows,) in K, and the terms it is made of.

    off_grid: gives L_integer of each row (rows,), None where it is no part of the loss. Raises ValueError where the
    plausibility has a weight and the predictors have none.
    """
    tc = predictors.tc(x)
    with torch.set_grad_enabled(torch.is_grad_enabled() and objective.alpha != 0):
        ef = predictors.ef(x)
    loss = tc_term(tc, objective.tc_gradient) + objective.alpha * ef
    nothing = torch.full_like(tc, torch.nan)
    integer = charge = plausibility = nothing
    if off_grid is not None:
        integer = off_grid()  # only now: gradients add up in the reverse order of the terms, to the last bit
        loss = loss + objective.beta * integer
    if objective.charge is not None:
        charge = charge_loss(x, objective.charge)
        beyond = charge if objective.charge_free is None else (charge - objective.charge_free).relu()
        loss = loss + objective.charge_weight * beyond
    if objective.plausibility_weight:
        if predictors.plausibility is None:
            raise ValueError("the plausibility has a weight, but the predictors have none")
        plausibility = predictors.plausibility(x)
        loss = loss - objective.plausibility_weight * plausibility
    detached = (each.detach() for each in (tc.relu(), ef, integer, charge, plausibility))
    return loss, Terms(*detached)
