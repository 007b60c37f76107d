"""How likely the charges of a composition are, with a slope: the nats of its likeliest states that add up to zero.

The linear program of `chemistry.balance` by its dual (see `price_table` there).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from kiago_ray.chemistry.balance import price_table
from kiago_ray.chemistry.compound_kinds import HARD, SOFT
from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.chemistry.state_costs import state_costs
from kiago_ray.search.losses import nats_of_balance

CHARGE_NAMES = ("charge_nats", "charge_nats_ionic", "strong_anions")
UNCHARGED_NATS = 12.0  # of an atom without a charge where its states don't balance
MOST_NATS = 4.0  # an atom; what is unlikelier counts as this
IONIC = 0.3  # share of strong anions from which a composition is wholly ionic
MIXED = (1.1, 1.3)  # hard anions to soft ones: from the one to the other a composition becomes an oxide
_NOTHING = 1e-9
_PRICES = np.linspace(-12, 12, 97)


class Charges(nn.Module):
    """Fractions (rows, 118) → (rows, CHARGE_NAMES): nats an atom, the same as far as it is ionic, and the share of
    anions of oxygen's and sulfur's kind. tables: (2, cuts, prices, 118), of oxides and of all else.
    """

    tables: Tensor
    hard: Tensor
    soft: Tensor

    def __init__(self) -> None:
        super().__init__()
        costs = state_costs()
        # Without the last cut, above all elements, which leaves no anions.
        tables = np.stack(
            [price_table(nats, costs.scale, _PRICES, UNCHARGED_NATS)[:-1] for nats in costs.nats[:2]]
        )
        self.register_buffer("tables", torch.tensor(tables, dtype=torch.float32), persistent=False)
        for name, symbols in (("hard", HARD), ("soft", SOFT)):
            held = torch.zeros(N_ELEMENTS)
            held[[INDEX[symbol] for symbol in symbols]] = 1.0
            self.register_buffer(name, held, persistent=False)

    def forward(self, fractions: Tensor) -> Tensor:
        hard, soft = fractions @ self.hard, fractions @ self.soft
        oxide, other = (nats_of_balance(fractions, table).clamp(0, MOST_NATS) for table in self.tables)
        as_oxide = ((hard - MIXED[0] * soft) / ((MIXED[1] - MIXED[0]) * soft + _NOTHING)).clamp(0, 1)
        nats = as_oxide * oxide + (1 - as_oxide) * other
        strong = hard + soft
        return torch.stack([nats, nats * (strong / IONIC).clamp(max=1), strong], dim=1)
