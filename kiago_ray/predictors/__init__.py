"""T_c and E_f of a composition, with gradients: the networks, their weights, how they are trained and judged."""

from __future__ import annotations

from kiago_ray.predictors.base import ContractError, Predictor, Predictors, check_contract
from kiago_ray.predictors.weights import WeightsError, load_card, load_predictors

__all__ = [
    "ContractError",
    "Predictor",
    "Predictors",
    "WeightsError",
    "check_contract",
    "load_card",
    "load_predictors",
]
