"""ElemNet's shape, and that it reads its own 86 elements."""

from __future__ import annotations

import torch

from kiago_ray.chemistry.elements import INDEX
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.predictors.inference import ElemNet


def test_it_has_the_published_layers() -> None:
    widths = [layer.out_features for layer in ElemNet().layers]
    assert widths == [1024] * 4 + [512] * 3 + [256] * 3 + [128] * 3 + [64] * 2 + [32, 1]
    assert len(widths) == 17
    assert ElemNet().layers[0].in_features == 86


def test_it_reads_plutonium_and_not_radon() -> None:
    network = ElemNet()
    assert bool(network.supported[INDEX["Pu"]])
    assert not bool(network.supported[INDEX["Rn"]])
    assert not bool(network.supported[INDEX["He"]])
    assert int(network.supported.sum()) == 86
    x = torch.from_numpy(parse_fractions(["PuO2", "ThO2"])).float()
    assert network(x)[0] != network(x)[1]


def test_the_first_layer_sees_each_element_at_its_own_place() -> None:
    network = ElemNet()
    eye = torch.eye(118)
    seen = eye.index_select(1, network.index)[network.supported]
    assert torch.equal(seen, torch.eye(86))
