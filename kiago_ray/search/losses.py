"""The loss of each row, one function a term: L = −T_c + α·E_f + β·L_integer + γ·L_charge (eq. 13 and 16; the last is
ours, see charge.py).

Nothing is averaged over rows, so a row's gradient is its own.
"""

from __future__ import annotations

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
    """Weights and settings of the loss. alpha: K per eV/atom; beta: K, a number or a tensor of no dimension;
    totals: (n,) numbers of atoms, N_unit.

    width: most elements that a row can hold, so that the integer loss looks at no more; None for all. charge: what
    L_charge is read from, None without it; charge_weight: γ, K per nat.
    """

    alpha: float
    tc_gradient: Literal["before_relu", "after_relu"]
    beta: float | Tensor = 0.0
    integer_norm: Literal["l1", "l2"] = "l1"
    totals: Tensor | None = None
    width: int | None = None
    charge: ChargeTable | None = None
    charge_weight: float = 0.0


@dataclass(frozen=True)
class Terms:
    """What a row's loss is made of, each (rows,): T_c in K (0 or more), E_f in eV/atom, L_integer and L_charge in nats
    an atom (NaN where they aren't part of it).
    """

    tc_k: Tensor
    ef_ev_per_atom: Tensor
    integer_loss: Tensor
    charge_loss: Tensor


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


def row_losses(x: Tensor, predictors: Predictors, objective: Objective) -> tuple[Tensor, Terms]:
    """The loss of each row of fractions x (rows, 118), (rows,) in K, and the terms it is made of."""
    tc, ef = predictors.tc(x), predictors.ef(x)
    loss = tc_term(tc, objective.tc_gradient) + objective.alpha * ef
    integer = torch.full_like(tc, torch.nan)
    if objective.totals is not None:
        integer = integer_loss(x, objective.totals, objective.integer_norm, objective.width)
        loss = loss + objective.beta * integer
    charge = torch.full_like(tc, torch.nan)
    if objective.charge is not None:
        charge = charge_loss(x, objective.charge)
        loss = loss + objective.charge_weight * charge
    return loss, Terms(tc.detach().relu(), ef.detach(), integer.detach(), charge.detach())
