"""How far a composition is from charge neutrality, with a slope everywhere and likely oxidation states preferred.

Each atom takes state s with a probability q(s), its element's share p(s) in the ICSD being what is expected of it. The
loss is the least Σ x·KL(q‖p) over all q whose mean charge is 0: how unlikely the likeliest neutral assignment is, in
nats an atom. By Lagrange it is max over λ of −Σ x·ln Σ_s p(s)·exp(λ·s), λ being a potential that draws charge one way;
it is linear in x at a given λ, so the gradient needs no more than the λ that attains the maximum (envelope theorem).

The Pauling rule is a cut over electronegativity (see chemistry.neutrality): up to it only positive states count,
beyond it only negative ones, and of all cuts the cheapest holds. Where no such states balance, atoms without charge
fill in at UNCHARGED nats each; so the loss is finite, and never more than that.

On a grid of λ all of it is one table, (cuts × potentials, 118), that fractions are multiplied by.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kiago_ray.chemistry import oxidation
from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.chemistry.oxidation import OxidationSet

UNCHARGED = (
    6.0  # nats of an atom without a charge; also the greatest |λ|, at which one such charge is given up
)
COMPOUND = 0.25  # share of non-metals from which a row counts as a compound, not as an alloy
POTENTIALS = 37  # λ from −UNCHARGED to UNCHARGED in steps of a third


@dataclass(frozen=True)
class ChargeTable:
    """ln Σ_s p(s)·exp(λ·s) for each cut and potential λ, (cuts, potentials, 118), and the elements that are no metals,
    (118,) bool.
    """

    log_mean: Tensor
    nonmetals: Tensor


def charge_table(oxidation_set: OxidationSet, device: torch.device | None = None) -> ChargeTable:
    """The table of one set of oxidation states on a device."""
    return ChargeTable(
        torch.as_tensor(_log_means(oxidation_set), dtype=torch.float32, device=device),
        torch.as_tensor(~oxidation.metals(), device=device),
    )


@cache
def _log_means(oxidation_set: OxidationSet) -> NDArray[Any]:
    """(cuts, potentials, 118). The cuts are those at which a negative element can begin: any other allows no more than
    the next of these. An element without electronegativity has no charge.
    """
    states = oxidation.states_by_frequency(oxidation_set)
    shares = oxidation.state_shares(oxidation_set)
    scale = oxidation.electronegativities()
    first = {e for e, known in zip(scale, states, strict=True) if e is not None and any(s < 0 for s in known)}
    potentials = np.linspace(-UNCHARGED, UNCHARGED, POTENTIALS)
    log_mean = np.full((len(first) + 1, POTENTIALS, N_ELEMENTS), -UNCHARGED)
    for cut, start in enumerate([*sorted(first), np.inf]):
        for z, (known, share) in enumerate(zip(states, shares, strict=True)):
            electronegativity = scale[z]
            if electronegativity is None:
                continue
            sign = 1 if electronegativity < start else -1
            terms = [np.log(p) + potentials * s for s, p in zip(known, share, strict=True) if s * sign >= 0]
            log_mean[cut, :, z] = np.logaddexp.reduce([np.full(POTENTIALS, -UNCHARGED), *terms])
    return log_mean


def charge_loss(x: Tensor, table: ChargeTable) -> Tensor:
    """Nats an atom of each row of fractions x (rows, 118), (rows,), 0 to UNCHARGED.

    SMACT's screens let metals alone pass unseen, so alloys must not be pushed into salts: 0 without non-metals, and
    less in proportion where they are less than COMPOUND of all atoms. That proportion has no gradient, or it would pay
    to lose them.

    The nearest potential of the grid gives a little less than the greatest one would: less than 0.03 nats for states
    that differ by 2.
    """
    log_mean = table.log_mean.to(x.dtype)
    potentials = log_mean.shape[1]
    with torch.no_grad():
        cost = -(x @ log_mean.flatten(0, 1).T).reshape(len(x), -1, potentials)
        highest = cost.max(dim=2)
        cut = highest.values.argmin(dim=1)
        chosen = cut * potentials + highest.indices.gather(1, cut[:, None])[:, 0]
        compound = ((x * table.nonmetals).sum(dim=1) / COMPOUND).clamp(max=1)
    return -(x * log_mean.flatten(0, 1)[chosen]).sum(dim=1) * compound
