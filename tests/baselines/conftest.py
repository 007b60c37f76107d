"""A network of random weights, for what holds whatever a model has learnt; predictors of known gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kiago_ray.baselines.superdiff import NetworkSettings, SuperDiff, UNet
from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.chemistry.formula import parse


@pytest.fixture(scope="session")
def untrained() -> SuperDiff:
    """Every weight is random, those included that training starts from 0."""
    torch.manual_seed(3)
    network = UNet(NetworkSettings(width=8, depth=1))
    for weights in network.parameters():
        if weights.ndim > 1 and not weights.any():
            nn.init.normal_(weights, std=0.05)
    return SuperDiff(network.eval().requires_grad_(False), {})


class SmoothPredictor:
    """A smooth function of fractions, in double precision if they are."""

    def __init__(self, seed: int, scale: float) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.supported = torch.ones(N_ELEMENTS, dtype=torch.bool)
        self.linear = scale * torch.randn(N_ELEMENTS, generator=generator, dtype=torch.float64)
        self.square = scale * torch.randn(N_ELEMENTS, generator=generator, dtype=torch.float64)

    def __call__(self, fractions: Tensor, /) -> Tensor:
        linear, square = self.linear.to(fractions.dtype), self.square.to(fractions.dtype)
        return (fractions * linear + (fractions * square).sin()).sum(dim=1)


@pytest.fixture(scope="session")
def smooth() -> Callable[[int, float], SmoothPredictor]:
    return SmoothPredictor


@pytest.fixture(scope="session")
def lanthanum_base() -> np.ndarray:
    """LaNiAsO's amounts (118,)."""
    amounts = np.zeros(N_ELEMENTS)
    for symbol, amount in parse("LaNiAsO").items():
        amounts[INDEX[symbol]] = amount
    return amounts
