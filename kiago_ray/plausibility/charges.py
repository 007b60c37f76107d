"""How likely the charges of a composition are, with a slope: the nats of its likeliest states that add up to zero.

The same linear program as in `chemistry.balance`, by its dual: with λ the price of a charge it is the maximum over λ
of Σ x·min over states s of (nats(s) + λ·s), and the cheapest of all cuts between cations and anions. At the λ that
attains it the sum is linear in x, so that the gradient is that of the optimum (envelope theorem).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from kiago_ray.chemistry.compound_kinds import HARD, SOFT
from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.chemistry.state_costs import StateCosts, state_costs
from kiago_ray.plausibility.literature import Floats

CHARGE_NAMES = ("charge_nats", "charge_nats_ionic", "strong_anions")
UNCHARGED_NATS = 12.0  # of an atom without a charge where its states don't balance
MOST_NATS = 4.0  # an atom; what is unlikelier counts as this
IONIC = 0.3  # share of strong anions from which a composition is wholly ionic
MIXED = (1.1, 1.3)  # hard anions to soft ones: from the one to the other a composition becomes an oxide
_NOTHING = 1e-9
_PRICES = np.linspace(-12, 12, 97)


class Charges(nn.Module):
    """Fractions (rows, 118) → (rows, CHARGE_NAMES): nats an atom, the same as far as it is ionic, and the share of
    anions of oxygen's and sulfur's kind. tables: (2, cuts × prices, 118), of oxides and of all else.
    """

    tables: Tensor
    hard: Tensor
    soft: Tensor

    def __init__(self) -> None:
        super().__init__()
        costs = state_costs()
        tables = np.stack([_table(costs, surroundings) for surroundings in (0, 1)])
        self.register_buffer("tables", torch.tensor(tables, dtype=torch.float32), persistent=False)
        for name, symbols in (("hard", HARD), ("soft", SOFT)):
            held = torch.zeros(N_ELEMENTS)
            held[[INDEX[symbol] for symbol in symbols]] = 1.0
            self.register_buffer(name, held, persistent=False)

    def forward(self, fractions: Tensor) -> Tensor:
        hard, soft = fractions @ self.hard, fractions @ self.soft
        oxide, other = (_nats(fractions, table) for table in self.tables)
        as_oxide = ((hard - MIXED[0] * soft) / ((MIXED[1] - MIXED[0]) * soft + _NOTHING)).clamp(0, 1)
        nats = as_oxide * oxide + (1 - as_oxide) * other
        strong = hard + soft
        return torch.stack([nats, nats * (strong / IONIC).clamp(max=1), strong], dim=1)


def _nats(fractions: Tensor, table: Tensor) -> Tensor:
    """Nats an atom of the likeliest states by one table (cuts × prices, 118), (rows,)."""
    with torch.no_grad():
        cuts = len(table) // len(_PRICES)
        highest = (fractions @ table.T).reshape(len(fractions), cuts, len(_PRICES)).max(dim=2)
        cut = highest.values.argmin(dim=1)
        chosen = cut * len(_PRICES) + highest.indices.gather(1, cut[:, None])[:, 0]
    return (fractions * table[chosen]).sum(dim=1).clamp(0, MOST_NATS)


def _table(costs: StateCosts, surroundings: int) -> Floats:
    """min over s of (nats + λ·s) for each cut, price λ and element, (cuts × prices, 118). Elements below a cut of the
    electronegativity scale have no negative states, the others no positive ones.
    """
    known = costs.nats[surroundings]
    scale = costs.scale
    negative = {
        scale[z] for z in range(N_ELEMENTS) if not np.isnan(scale[z]) and min(known[z], default=0) < 0
    }
    rows = np.full((len(negative), len(_PRICES), N_ELEMENTS), UNCHARGED_NATS)
    for cut, begins in enumerate(sorted(negative)):
        for z, states in enumerate(known):
            if np.isnan(scale[z]):
                continue
            sign = 1 if scale[z] < begins else -1
            for state, nats in states.items():
                if state * sign >= 0:
                    rows[cut, :, z] = np.minimum(rows[cut, :, z], nats + _PRICES * state)
    return rows.reshape(-1, N_ELEMENTS)
