"""What the ensemble's networks see of a composition: amounts, statistics of element properties, valence and ratios.

All of it is smooth in the fractions, also where an element comes in or leaves, because a search follows its slope.

* The seven functions of each element's amount that the ResNet-18 draws on its map (`tc.amounts`).
* Mean, deviation and skewness of the properties of the elements (Ward et al., npj Comput. Mater. 2, 16028 (2016)),
  once weighted by the fractions and once by their logarithms, where a doping counts for more; and how mixed the
  composition is.
* The charge that each of six metals needs so that the whole is neutral, when every other element has its most frequent
  state: the holes of a cuprate, the electrons of an iron pnictide.
* The amount of an element beside copper or iron, which says layer and site where plain fractions don't.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from kiago_ray.chemistry.element_properties import properties
from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.chemistry.oxidation import states_by_frequency
from kiago_ray.predictors.climbed.resnet18 import amounts

COMMON = 96  # elements that properties are standardised over; nothing beyond Cm is in the data
TRANSITION_METALS = tuple(
    "Ti V Cr Mn Fe Co Ni Cu Zn Nb Mo Ru Rh Pd Ag Ta W Re Os Ir Pt Au".split()  # noqa: SIM905
)
VALENCE_OF = ("Cu", "Fe", "Ni", "Bi", "Ru", "Nb")
BESIDE_COPPER = ("O", "Ca", "Ba", "Sr", "Y", "Tl", "Hg", "Bi", "La", "Pb")
BESIDE_IRON = ("As", "Se", "O", "Co", "Te")
LITTLE = 0.01  # of all atoms; rounds off where an amount meets 0
LEAST = 1e-3
LEAST_VARIANCE = 0.02  # so that a trace of an element with another property makes no jump
LOG_SCALE = 50.0
CHARGE_SCALE = 4.0


class TcFeatures(nn.Module):
    """Fractions (rows, 118), every row summing to 1 → features (rows, `width`)."""

    properties: Tensor
    charges: Tensor
    transition: Tensor
    valence_of: Tensor
    beside_copper: Tensor
    beside_iron: Tensor

    def __init__(self) -> None:
        super().__init__()
        values = properties().values
        standard = (values - values[:COMMON].mean(0)) / values[:COMMON].std(0)
        charges = np.array([states[0] if states else 0 for states in states_by_frequency()])
        transition = np.zeros(N_ELEMENTS)
        transition[[INDEX[symbol] for symbol in TRANSITION_METALS]] = 1
        for name, array in (("properties", standard), ("charges", charges), ("transition", transition)):
            self.register_buffer(name, torch.tensor(array, dtype=torch.float32), persistent=False)
        for name, symbols in (
            ("valence_of", VALENCE_OF),
            ("beside_copper", BESIDE_COPPER),
            ("beside_iron", BESIDE_IRON),
        ):
            self.register_buffer(name, torch.tensor([INDEX[s] for s in symbols]), persistent=False)

    def forward(self, fractions: Tensor) -> Tensor:
        """The features, in the order of the module's list."""
        return torch.cat([amounts(fractions), self.described(fractions)], dim=1)

    def described(self, fractions: Tensor) -> Tensor:
        """All but the amounts of single elements: statistics, valences and ratios."""
        return torch.cat([self.statistics(fractions), self.chemistry(fractions)], dim=1)

    def statistics(self, fractions: Tensor) -> Tensor:
        """Moments of the properties under two weights, and three measures of mixing: (rows, 6·p + 3)."""
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
        """Charges that metals need for neutrality, and ratios to copper and iron: (rows, 26)."""
        charge = fractions @ self.charges
        metals = fractions @ self.transition
        others = charge - fractions @ (self.charges * self.transition)
        anions = fractions @ (self.charges < 0).to(fractions)
        oxygen = fractions[:, INDEX["O"]]
        general = [
            charge,
            torch.tanh(-others / (metals + 2 * LITTLE) / CHARGE_SCALE),
            metals,
            anions,
            oxygen / (oxygen + metals + LITTLE),
        ]
        held = fractions[:, self.valence_of]
        needed = (held * self.charges[self.valence_of] - charge[:, None]) / (held + LITTLE)
        valence = torch.tanh(needed / CHARGE_SCALE) * held / (held + LITTLE)
        ratios = []
        for index, symbol in ((self.beside_copper, "Cu"), (self.beside_iron, "Fe")):
            amount = fractions[:, index]
            ratios.append(amount / (amount + fractions[:, INDEX[symbol], None] + LITTLE))
        return torch.cat([torch.stack(general, dim=1), valence, *ratios], dim=1)
