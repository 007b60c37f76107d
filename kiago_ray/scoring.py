"""What the models say of many formulas, bad ones among them: the same rows in the same order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.chemistry.formula import FormulaError, fractions, parse
from kiago_ray.predictors import load_predictors
from kiago_ray.predictors.base import predict
from kiago_ray.predictors.second_opinion import load_second_opinion

if TYPE_CHECKING:
    from kiago_ray.predictors import Predictors
    from kiago_ray.predictors.second_opinion import SecondOpinion

VALUES = (
    "tc_k",
    "tc_std_k",
    "tc_oracle_k",
    "tc_oracle_std_k",
    "extrapolation",
    "ef_ev_per_atom",
)
"""What is known of a formula; of a bad one nothing is (NaN)."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Of n formulas: `values` by name (VALUES), (n,) each, and `errors`: why one has none, None where it has."""

    formulas: tuple[str, ...]
    values: dict[str, Floats]
    errors: tuple[str | None, ...]

    def part(self, rows: slice) -> Scores:
        """Those of some of the formulas."""
        values = {name: column[rows] for name, column in self.values.items()}
        return Scores(self.formulas[rows], values, self.errors[rows])


def joined(parts: Sequence[Scores]) -> Scores:
    """Scores one after another."""
    return Scores(
        tuple(formula for part in parts for formula in part.formulas),
        {name: np.concatenate([np.empty(0), *(part.values[name] for part in parts)]) for name in VALUES},
        tuple(error for part in parts for error in part.errors),
    )


@dataclass(frozen=True)
class Scorer:
    """The predictors of a search and those who judge it."""

    predictors: Predictors
    second: SecondOpinion

    @classmethod
    def load(cls, weights: Path | None = None, *, device: str = "cpu") -> Scorer:
        """The shipped models, or those of a folder that `kiago train` wrote. Raises WeightsError."""
        predictors = load_predictors(weights, device=device)
        return cls(predictors, load_second_opinion(predictors, weights))

    def score(self, formulas: Sequence[object], *, threads: int = 1) -> Scores:
        """What the models say of each; a formula that can't be read, or isn't text, gets an error.

        threads: for the oracle's trees.
        """
        foreign = self.predictors.unknown_elements()
        rows = np.zeros((len(formulas), N_ELEMENTS))
        errors: list[str | None] = []
        for row, text in enumerate(formulas):
            try:
                amounts = parse(text if isinstance(text, str) else "")
            except FormulaError as error:
                errors.append(str(error))
                continue
            unknown = [symbol for symbol in amounts if symbol in foreign]
            errors.append(f"the predictors don't know {', '.join(unknown)}" if unknown else None)
            rows[row] = fractions(amounts)
        good = np.flatnonzero([error is None for error in errors])
        values = {name: np.full(len(rows), np.nan) for name in VALUES}
        for name, found in self.values_of(rows[good].astype(np.float32), threads=threads).items():
            values[name][good] = found
        texts = tuple(text if isinstance(text, str) else "" for text in formulas)
        return Scores(texts, values, tuple(errors))

    def values_of(self, rows: NDArray[np.float32], *, threads: int = 1) -> dict[str, Floats]:
        """VALUES of fractions (n, 118), every row summing to 1, of elements that the predictors know."""
        if not len(rows):
            return {name: np.empty(0) for name in VALUES}
        ensemble, unknown = self.second.ensemble, np.full(len(rows), np.nan)
        tc_k, std, extrapolation = (unknown,) * 3 if ensemble is None else ensemble.beliefs(rows)
        if self.predictors.tc is not ensemble:
            tc_k = np.clip(predict(self.predictors.tc, rows), 0, None)
        oracle, oracle_std = self.second.oracle.predict(rows, num_threads=threads)
        ef = predict(self.predictors.ef, rows)
        return dict(zip(VALUES, (tc_k, std, oracle, oracle_std, extrapolation, ef), strict=True))
