"""The contract: both networks keep it, and each way to break it is found."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kiago_ray.predictors.base import ContractError, Inference, Predictors, check_contract
from kiago_ray.predictors.networks import ElemNet, TcResNet

ALL = torch.ones(118, dtype=torch.bool)


class Made:
    """A predictor made from a function."""

    def __init__(self, function: Callable[[Tensor], Tensor], supported: Tensor = ALL) -> None:
        self.function = function
        self.supported = supported

    def __call__(self, fractions: Tensor) -> Tensor:
        return self.function(fractions)


@pytest.mark.parametrize("network", [TcResNet, ElemNet])
def test_the_networks_keep_the_contract(network: type[torch.nn.Module]) -> None:
    torch.manual_seed(3)
    check_contract(network().eval().requires_grad_(False))


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        (lambda x: x, "must give"),
        (lambda x: x.sum(1) / 0, "not finite"),
        (lambda x: (x * x).sum(1) * x.shape[0], "differs from the batch"),
        (lambda x: torch.sqrt(x).sum(1), "gradients are not finite"),
        (lambda x: (x * x).sum(1) if len(x) else torch.zeros(1), "empty batch"),
    ],
)
def test_a_broken_clause_is_named(function: Callable[[Tensor], Tensor], complaint: str) -> None:
    with pytest.raises(ContractError, match=complaint):
        check_contract(Made(function))


def test_a_changed_input_is_named() -> None:
    def greedy(x: Tensor) -> Tensor:
        value = (x * x).sum(1)
        x.data.mul_(0.5)
        return value

    with pytest.raises(ContractError, match="changed in place"):
        check_contract(Made(greedy))


def test_supported_elements_are_those_that_both_know() -> None:
    some = torch.arange(118) < 50
    pair = Predictors(tc=Made(lambda x: x.sum(1), some), ef=Made(lambda x: x.sum(1), torch.arange(118) > 10))
    assert int(pair.supported.sum()) == 39
    with pytest.raises(ContractError, match="supported"):
        check_contract(Made(lambda x: x.sum(1), some[:5]))


def test_an_inference_without_values_cannot_be_made() -> None:
    class Nothing(Inference):
        def wide_layers(self) -> list[torch.nn.Module]:
            return []

    with pytest.raises(TypeError, match="direct"):
        Nothing()  # type: ignore[abstract]
