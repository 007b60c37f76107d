"""What others say of the compositions that a search proposed: the ensemble's spread, the extrapolation, the oracle.

A search follows one predictor of T_c; these judge its formulas afterwards, whichever it followed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kiago_ray.predictors.climbed.inference import LoweredEnsemble
from kiago_ray.predictors.oracle.trees import KIND, Oracle, load_oracle, oracle_folder
from kiago_ray.predictors.weights import PLAUSIBILITY, kinds_in, load_card, plausibility_folder

if TYPE_CHECKING:
    from kiago_ray.predictors.base import Predictors


Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Opinions:
    """Of N compositions, each (N,): the ensemble's standard deviation of T_c, T_c by the oracle and the deviation of
    its members, all in K, and the extrapolation score.
    """

    tc_std_k: Floats
    tc_oracle_k: Floats
    tc_oracle_std_k: Floats
    extrapolation: Floats


@dataclass(frozen=True)
class SecondOpinion:
    """The judges: the ensemble, where there is one, and the oracle."""

    ensemble: LoweredEnsemble | None
    oracle: Oracle

    def of(self, fractions: NDArray[np.floating], *, threads: int = 1) -> Opinions:
        """On fractions (N, 118), every row summing to 1. Without an ensemble its columns are NaN."""
        unknown = np.full(len(fractions), np.nan)
        std, extrapolation = unknown, unknown
        if self.ensemble is not None:
            _, std, extrapolation = self.ensemble.beliefs(fractions)
        tc_k, oracle_std = self.oracle.predict(fractions, num_threads=threads)
        return Opinions(std, tc_k, oracle_std, extrapolation)


def weights_hashes(folder: Path | None = None) -> dict[str, str]:
    """SHA-256 by kind of all weights that a search with those of `folder`, or the shipped ones, rests on."""
    cards = {kind: load_card(kind, folder) for kind in kinds_in(folder)}
    cards[KIND] = load_card(KIND, oracle_folder(folder))
    cards[PLAUSIBILITY] = load_card(PLAUSIBILITY, plausibility_folder(folder))
    return {kind: card["sha256"] for kind, card in cards.items()}


def load_second_opinion(predictors: Predictors, folder: Path | None = None) -> SecondOpinion:
    """The ensemble among `predictors` and the oracle of `folder`, else the shipped one. Raises WeightsError."""
    ensemble = predictors.named("ensemble")
    return SecondOpinion(
        ensemble if isinstance(ensemble, LoweredEnsemble) else None, load_oracle(oracle_folder(folder))
    )
