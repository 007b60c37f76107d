"""Formation energy from a composition: ElemNet.

Jha et al., Sci. Rep. 8, 17593 (2018): a fully connected network of 17 layers on the atomic fractions of
86 elements. Those are not Z = 1 to 86: see `chemistry.elements.ELEMNET_SYMBOLS`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from kiago_ray.chemistry.elements import ELEMNET_INDEX, N_ELEMENTS

LAYERS = (1024,) * 4 + (512,) * 3 + (256,) * 3 + (128,) * 3 + (64,) * 2 + (32, 1)


class ElemNet(nn.Module):
    """E_f in eV/atom: fractions (rows, 118) → (rows,)."""

    index: Tensor
    supported: Tensor

    def __init__(self) -> None:
        super().__init__()
        widths = (len(ELEMNET_INDEX), *LAYERS)
        linear = [nn.Linear(i, o) for i, o in pairwise(widths)]
        for layer in linear:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        self.layers = nn.ModuleList(linear)
        self.register_buffer("index", torch.tensor(ELEMNET_INDEX), persistent=False)
        supported = torch.zeros(N_ELEMENTS, dtype=torch.bool)
        supported[list(ELEMNET_INDEX)] = True
        self.register_buffer("supported", supported, persistent=False)

    def forward(self, fractions: Tensor) -> Tensor:
        hidden = fractions.index_select(1, self.index)
        for layer in self.layers[:-1]:
            hidden = torch.relu(layer(hidden))
        return cast(Tensor, self.layers[-1](hidden)).squeeze(1).float()
