"""The loss of each row: L = −T_c + α·E_f (eq. 13) + β·L_integer (eq. 16) + γ·L_charge − π·ln P.

The last two are ours. A further term is a function of fractions (rows, 118) and predictors that gives what it adds to
each row's loss, (rows,) in K, and its line in `further_terms`. Nothing is averaged over rows, so a row's gradient is
its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from kiago_ray.chemistry import oxidation
from kiago_ray.chemistry.balance import price_table
from kiago_ray.chemistry.oxidation import OxidationSet
from kiago_ray.predictors.base import Predictors

if TYPE_CHECKING:
    from kiago_ray.search.problem import Problem

UNCHARGED = 6.0  # nats of an atom without a charge; also the greatest price of one, at which it is given up
COMPOUND = 0.25  # share of non-metals from which a row counts as a compound, not as an alloy
PRICES = 37  # of a charge, from UNCHARGED to −UNCHARGED in steps of a third
_MOST_VALUES = 1 << 22  # rows × elements × totals at once: 16 MB for each intermediate

Norm = Literal["l1", "l2"]
Term = Callable[[Tensor, Predictors], Tensor]
ChargeTable = tuple[Tensor, Tensor]
"""−ln Σ_s p(s)·exp(−λ·s) for each cut and price λ, (cuts, prices, 118), and the elements that are no metals, (118,)
bool."""


@dataclass(frozen=True)
class Objective:
    """Weights and settings of the loss. alpha: K per eV/atom. beta: K, a number or a tensor of no dimension.
    integer_norm: of the integer loss, None without it, as in stage 1. further: the terms that the paper doesn't have.
    """

    alpha: float
    tc_gradient: Literal["before_relu", "after_relu"]
    beta: float | Tensor = 0.0
    integer_norm: Norm | None = None
    further: tuple[Term, ...] = ()


@dataclass(frozen=True)
class Terms:
    """What the paper's loss of a row is made of, each (rows,): T_c in K (0 or more), E_f in eV/atom and L_integer, NaN
    where they are no part of it. climbed_k: the lower bound of T_c that is climbed in its place, NaN where T_c is.
    """

    tc_k: Tensor
    ef_ev_per_atom: Tensor
    integer_loss: Tensor
    climbed_k: Tensor


def row_losses(
    x: Tensor, predictors: Predictors, objective: Objective, off_grid: Callable[[], Tensor] | None = None
) -> tuple[Tensor, Terms]:
    """The loss of each row of fractions x (rows, 118), (rows,) in K, and the terms it is made of.

    off_grid: gives L_integer of each row (rows,), None where it is no part of the loss.
    """
    tc, tc_itself = predictors.climbed(x)
    ef = integer = torch.full_like(tc, torch.nan)
    loss = -tc if objective.tc_gradient == "before_relu" else -tc.relu()
    if objective.alpha:
        ef = predictors.ef(x)
        loss = loss + objective.alpha * ef  # eq. 1, eq. 13
    if off_grid is not None:
        integer = off_grid()  # only now: gradients add up in the reverse order of the terms, to the last bit
        loss = loss + objective.beta * integer  # eq. 16
    for term in objective.further:
        loss = loss + term(x, predictors)
    climbed = torch.full_like(tc, torch.nan) if tc is tc_itself else tc
    return loss, Terms(tc_itself.relu().detach(), ef.detach(), integer.detach(), climbed.detach())


def integer_distance(x: Tensor, total: Tensor, norm: Norm) -> Tensor:
    """L_int^N: how far fractions x (…, k) are from multiples of 1/N, N given for each (…)."""
    atoms = total.unsqueeze(-1)
    gap = x - (x.detach() * atoms).round() / atoms  # to the nearest n/N, eq. 9
    return gap.abs().sum(dim=-1) if norm == "l1" else gap.square().sum(dim=-1)  # eq. 10


def integer_loss(x: Tensor, totals: Tensor, norm: Norm, width: int | None = None) -> Tensor:
    """L_integer, (rows,): the least L_int^N over `totals` (n,), the paper's {N_unit}; of equal N the first. Its
    gradient is that of this N, which is found first, without gradients. `width`: rows hold at most so many elements;
    zeros are on every grid and cost nothing, so they are left out.
    """
    if width is not None and width < x.shape[1]:
        x = x.topk(width, dim=1).values
    atoms = totals.to(x.dtype)
    nearest = torch.empty_like(x[:, 0])
    at_once = max(1, _MOST_VALUES // (x.shape[1] * len(atoms)))
    with torch.no_grad():
        for start in range(0, len(x), at_once):
            rows = slice(start, start + at_once)
            nearest[rows] = atoms[integer_distance(x[rows, None], atoms, norm).argmin(dim=1)]  # eq. 11
    return integer_distance(x, nearest, norm)


def further_terms(problem: Problem, device: torch.device) -> tuple[Term, ...]:
    """The terms that a search has beside the paper's, in the order in which they are added up.

    In a family the charge costs what it is unlikelier than in the base, which exists: MgB2's states are most unlikely,
    and to make them likelier would make another compound.
    """
    spec, terms = problem.spec, list[Term]()
    if spec.charge.weight > 0:
        table, free = charge_table(spec.oxidation_set, device), None
        if problem.family is not None and problem.base is not None:
            base = torch.as_tensor(problem.base[None], dtype=torch.float32, device=device)
            free = float(charge_loss(base, table))
        terms.append(partial(charge_term, table=table, weight=spec.charge.weight, free=free))
    if spec.plausibility_weight:
        terms.append(partial(plausibility_term, weight=spec.plausibility_weight))
    return tuple(terms)


def plausibility_term(x: Tensor, predictors: Predictors, *, weight: float) -> Tensor:
    """−π·ln P, P being how likely a composition exists (`Predictors.plausibility`). weight: π, K per nat."""
    assert predictors.plausibility is not None
    return -weight * predictors.plausibility(x)


def charge_term(
    x: Tensor, predictors: Predictors, *, table: ChargeTable, weight: float, free: float | None = None
) -> Tensor:
    """γ·L_charge. weight: γ, K per nat. free: nats an atom that cost nothing, None where all cost."""
    nats = charge_loss(x, table)
    return weight * (nats if free is None else (nats - free).relu())


@cache
def charge_table(oxidation_set: OxidationSet, device: torch.device | None = None) -> ChargeTable:
    """The table of one set of oxidation states on a device."""
    prices = np.linspace(UNCHARGED, -UNCHARGED, PRICES)
    scale = np.array(oxidation.electronegativities(), dtype=np.float64)
    nats = price_table(oxidation.state_nats(oxidation_set), scale, prices, UNCHARGED, soft=True)
    nonmetals = torch.as_tensor(~oxidation.metals(), device=device)
    return torch.as_tensor(nats, dtype=torch.float32, device=device), nonmetals


def charge_loss(x: Tensor, table: ChargeTable) -> Tensor:
    """L_charge, nats an atom of each row of fractions x (rows, 118), (rows,), 0 to UNCHARGED: how far a row is from
    charge neutrality, likely oxidation states preferred.

    Each atom takes state s with a probability q(s), its element's share p(s) in the ICSD being what is expected of it.
    The loss is the least Σ x·KL(q‖p) over all q whose mean charge is 0, of all Pauling cuts (see
    `chemistry.balance.price_table`) the cheapest. Where nothing balances, atoms without charge fill in at UNCHARGED
    nats each. The nearest price of the grid gives less than 0.03 nats too little for states that differ by 2.

    SMACT's screens let metals alone pass unseen, so alloys must not be pushed into salts: 0 without non-metals, and
    less in proportion where they are below COMPOUND of all atoms; without a gradient, or it would pay to lose them.
    """
    nats, nonmetals = table
    with torch.no_grad():
        compound = ((x * nonmetals).sum(dim=1) / COMPOUND).clamp(max=1)
    return nats_of_balance(x, nats.to(x.dtype)) * compound


def nats_of_balance(x: Tensor, table: Tensor) -> Tensor:
    """The maximum over prices of Σ x·table, (cuts, prices, 118), at the cheapest cut, of fractions x (rows, 118),
    (rows,); its gradient is the table's row that attains it.
    """
    cuts, prices, _ = table.shape
    flat = table.flatten(0, 1)
    with torch.no_grad():
        highest = (x @ flat.T).reshape(len(x), cuts, prices).max(dim=2)
        cut = highest.values.argmin(dim=1)
        chosen = cut * prices + highest.indices.gather(1, cut[:, None])[:, 0]
    return (x * flat[chosen]).sum(dim=1)
