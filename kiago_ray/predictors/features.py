"""What the networks read of a composition, and the scale on which those of T_c predict.

All of it is smooth in the fractions, also where an element comes in or leaves: a search follows its slope.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS, properties
from kiago_ray.chemistry.oxidation import state_shares

WAVES = (4, 16)  # periods of 1/4 and 1/16 of all atoms
AMOUNTS = 3 + 2 * len(WAVES)
COMMON = 96  # elements that properties are standardised over; nothing beyond Cm is in the data
TRANSITION_METALS = "Ti V Cr Mn Fe Co Ni Cu Zn Nb Mo Ru Rh Pd Ag Ta W Re Os Ir Pt Au"
VALENCE_OF = ("Cu", "Fe", "Ni", "Bi", "Ru", "Nb")
BESIDE_COPPER = ("O", "Ca", "Ba", "Sr", "Y", "Tl", "Hg", "Bi", "La", "Pb")
BESIDE_IRON = ("As", "Se", "O", "Co", "Te")
LITTLE = 0.01  # of all atoms; rounds off where an amount meets 0
LEAST = 1e-3
LEAST_VARIANCE = 0.02  # so that a trace of an element with another property makes no jump
LOG_SCALE = 50.0
CHARGE_SCALE = 4.0


def buffer(values: Any) -> nn.Buffer:
    """Numbers that a module holds in single precision and that its weights' file leaves out."""
    return nn.Buffer(torch.tensor(values, dtype=torch.float32), persistent=False)


def amounts(fractions: Tensor) -> Tensor:
    """Functions of the amount, each 0 at 0 with a finite slope there: (rows, 118) → (rows, 7·118). On plain fractions
    a network learns coarse trends long before the small dopings that decide T_c.
    """
    root = torch.sqrt(fractions + 1e-3) - torch.full_like(fractions, 1e-3).sqrt()  # 0 at 0 in any precision
    functions = [fractions, root, torch.log1p(100 * fractions) / 5]
    for wave in WAVES:
        angle = 2 * torch.pi * wave * fractions
        functions += [torch.sin(angle), 1 - torch.cos(angle)]
    return torch.cat(functions, dim=1)


def amount_slopes(fractions: Tensor) -> Tensor:
    """The derivative of each of `amounts` by its fraction: (rows, 118) → (rows, 7·118)."""
    slopes = [torch.ones_like(fractions), 0.5 * torch.rsqrt(fractions + 1e-3), 20 / (1 + 100 * fractions)]
    for wave in WAVES:
        turn = 2 * torch.pi * wave
        slopes += [turn * torch.cos(turn * fractions), turn * torch.sin(turn * fractions)]
    return torch.cat(slopes, dim=1)


class LogScale(NamedTuple):
    """What a network predicts instead of T_c: ln(1 + T_c / scale_k). The inverse is exact and has a slope below 0 K
    too; above `highest` it is clipped, where the exponential would only amplify an error.
    """

    scale_k: float
    highest: float

    def log(self, tc_k: Tensor) -> Tensor:
        """T_c in K → the network's scale."""
        return torch.log1p(tc_k / self.scale_k)

    def tc_k(self, log_tc: Tensor) -> Tensor:
        """The network's scale → T_c in K, negative below 0."""
        return self.scale_k * torch.expm1(log_tc.clamp(max=self.highest))

    def slope(self, tc_k: Tensor) -> Tensor:
        """The derivative of `tc_k` where its value is tc_k in K, 0 where it is clipped."""
        return torch.where(tc_k < self.tc_k(torch.full_like(tc_k, self.highest)), tc_k + self.scale_k, 0)


class TcFeatures(nn.Module):
    """What the ensemble sees of fractions (rows, 118), every row summing to 1: (rows, features), first the seven
    functions of each element's amount (`amounts`), then statistics and chemistry.
    """

    def __init__(self) -> None:
        super().__init__()
        values = properties().values
        self.properties = buffer((values - values[:COMMON].mean(0)) / values[:COMMON].std(0))
        self.charges = buffer([next(iter(shares), 0) for shares in state_shares()])  # the most frequent
        transition = np.zeros(N_ELEMENTS)
        transition[[INDEX[symbol] for symbol in TRANSITION_METALS.split()]] = 1
        self.transition = buffer(transition)
        self.valence_of, self.beside_copper, self.beside_iron = (
            nn.Buffer(torch.tensor([INDEX[s] for s in symbols]), persistent=False)
            for symbols in (VALENCE_OF, BESIDE_COPPER, BESIDE_IRON)
        )

    def forward(self, fractions: Tensor) -> Tensor:
        return torch.cat([amounts(fractions), self.described(fractions)], dim=1)

    def described(self, fractions: Tensor) -> Tensor:
        """All but the amounts of single elements: statistics, valences and ratios."""
        return torch.cat([self.statistics(fractions), self.chemistry(fractions)], dim=1)

    def statistics(self, fractions: Tensor) -> Tensor:
        """Mean, deviation and skewness of the p properties (Ward et al., npj Comput. Mater. 2, 16028 (2016)), weighted
        by the fractions and by their logarithms, where a doping counts for more, and three measures of mixing:
        (rows, 6·p + 3).
        """
        parts = []
        for weights in (fractions, torch.log1p(LOG_SCALE * fractions)):
            share = weights / weights.sum(dim=1, keepdim=True)
            mean, square, cube = (share @ self.properties**power for power in (1, 2, 3))
            deviation = (square - mean**2 + LEAST_VARIANCE).sqrt()
            parts += [mean, deviation, (cube - 3 * mean * square + 2 * mean**3) / 5]
        entropy = -(fractions * (fractions + LEAST).log()).sum(dim=1)  # x·ln x alone has no slope at 0
        mixing = [entropy, (fractions**2).sum(dim=1), (fractions**3).sum(dim=1)]
        return torch.cat([*parts, torch.stack(mixing, dim=1)], dim=1)

    def chemistry(self, fractions: Tensor) -> Tensor:
        """The charge that each of six metals needs for neutrality where every other element has its most frequent
        state (the holes of a cuprate, the electrons of an iron pnictide), and amounts beside copper and iron, which
        say layer and site where plain fractions don't: (rows, 26).
        """
        charge, metals = fractions @ self.charges, fractions @ self.transition
        others = charge - fractions @ (self.charges * self.transition)
        anions = fractions @ (self.charges < 0).to(fractions)
        oxygen = fractions[:, INDEX["O"]]
        need = torch.tanh(-others / (metals + 2 * LITTLE) / CHARGE_SCALE)
        general = [charge, need, metals, anions, oxygen / (oxygen + metals + LITTLE)]
        held = fractions[:, self.valence_of]
        needed = (held * self.charges[self.valence_of] - charge[:, None]) / (held + LITTLE)
        valence = torch.tanh(needed / CHARGE_SCALE) * held / (held + LITTLE)
        ratios = []
        for index, symbol in ((self.beside_copper, "Cu"), (self.beside_iron, "Fe")):
            amount = fractions[:, index]
            ratios.append(amount / (amount + fractions[:, INDEX[symbol], None] + LITTLE))
        return torch.cat([torch.stack(general, dim=1), valence, *ratios], dim=1)
