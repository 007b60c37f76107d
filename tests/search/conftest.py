"""Predictors with a formula instead of weights: their optimum and their gradients are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.chemistry.formula import fractions, parse
from kiago_ray.predictors.base import Predictors
from kiago_ray.search.problem import Substitutions


def every_element() -> Tensor:
    return torch.ones(N_ELEMENTS, dtype=torch.bool)


@dataclass(frozen=True)
class HillTc:
    """T_c = 100 K − 400 K·|x − x*|², highest at the composition `peak`; below 0 K far from it."""

    peak: str
    supported: Tensor = field(default_factory=every_element)

    def __call__(self, fractions_: Tensor, /) -> Tensor:
        peak = torch.as_tensor(fractions(parse(self.peak)), dtype=fractions_.dtype)
        return 100 - 400 * (fractions_ - peak).square().sum(dim=1)


@dataclass(frozen=True)
class TanhEf:
    """E_f = Σ w·tanh(3x) in eV/atom with weights from −1 to 1 that differ from element to element."""

    supported: Tensor = field(default_factory=every_element)

    def __call__(self, fractions_: Tensor, /) -> Tensor:
        weights = torch.cos(torch.arange(N_ELEMENTS, dtype=fractions_.dtype) * 1.7)
        return (torch.tanh(3 * fractions_) * weights).sum(dim=1)


@dataclass(frozen=True)
class PoisonedTc:
    """Another T_c that is NaN for every composition with more than `above` of one element."""

    inner: HillTc
    symbol: str
    above: float
    supported: Tensor = field(default_factory=every_element)

    def __call__(self, fractions_: Tensor, /) -> Tensor:
        bad = fractions_[:, INDEX[self.symbol]] > self.above
        return torch.where(bad, torch.nan, self.inner(fractions_))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def predictors() -> Predictors:
    """T_c is highest at LaFeAsO."""
    return Predictors(HillTc("LaFeAsO"), TanhEf())


@pytest.fixture
def poisoned() -> Predictors:
    """As `predictors`, but T_c is NaN where there is more than 30 % gold."""
    return Predictors(PoisonedTc(HillTc("LaFeAsO"), "Au", 0.3), TanhEf())


@pytest.fixture
def frequencies() -> Mapping[str, np.ndarray]:
    """Oxygen is the most frequent, then copper, iron, lanthanum; a few others are rare."""
    supercon = np.zeros(N_ELEMENTS)
    for symbol, count in {"O": 60, "Cu": 40, "Fe": 20, "La": 20, "As": 10, "Ba": 10, "Y": 5, "Ni": 5}.items():
        supercon[INDEX[symbol]] = count
    others = np.zeros(N_ELEMENTS)
    others[[INDEX["Na"], INDEX["Cl"]]] = 30
    return {"supercon": supercon, "non_superconductors": others}


ODDS: Mapping[str, Mapping[str, float]] = {
    "La": {"Sm": 0.5, "Nd": 0.45, "Sr": 0.4, "Ba": 0.2, "Th": 0.05},
    "Sm": {"La": 0.5, "Nd": 0.5},
    "Fe": {"Ni": 0.35, "Co": 0.5, "Mn": 0.2},
    "Ni": {"Fe": 0.35, "Pd": 0.3, "Cu": 0.1},
    "As": {"P": 0.5, "Sb": 0.2},
    "O": {"F": 0.4, "S": 0.1},
    "Se": {"Te": 0.6, "S": 0.4},
    "Ba": {"K": 0.4, "Sr": 0.6},
    "Nb": {"Zr": 0.3, "Ta": 0.5},
    "Cu": {"Ni": 0.2, "Zn": 0.25},
    "Y": {"Gd": 0.5, "Ca": 0.2},
    "Mg": {"Al": 0.3},
    "B": {"C": 0.3},
}
"""How often the second takes the place of the first, by hand."""


@pytest.fixture
def substitutions() -> Substitutions:
    """Odds for some families; oxygen's places are known to stay empty in part; LaFePO and CeFeAsO exist."""
    odds = np.zeros((N_ELEMENTS, N_ELEMENTS))
    for own, others in ODDS.items():
        for other, value in others.items():
            odds[INDEX[own], INDEX[other]] = value
    vacancies = np.zeros(N_ELEMENTS, dtype=np.bool_)
    vacancies[INDEX["O"]] = True
    made = np.stack([fractions(parse(each)) for each in ("LaFePO", "CeFeAsO", "NaCl", "CeFePO", "LaFeAsO")])
    return Substitutions(odds, vacancies, made)
