"""Compositions that somebody made and measured, with or without success: no proposal has to repeat them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kiago_ray.data.identity import KnownCompositions
from kiago_ray.screening.failures import Outcomes, Reweighed, reweigh

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TriedMaterials:
    """t samples. compositions: by the text that tells what came of each. tc_k: (t,) in K, 0 where none was found.
    down_to_k: (t,) the lowest temperature at which it was measured, NaN where unknown. tc_predicted_k: (t,) what the
    search's model says of each, NaN where it can't; None where it wasn't asked. source: where they are from, in words.
    """

    compositions: KnownCompositions
    tc_k: Floats
    down_to_k: Floats
    tc_predicted_k: Floats | None = None
    source: str = ""

    @classmethod
    def from_table(cls, table: pd.DataFrame, source: str = "") -> TriedMaterials:
        """Of a table with `formula` (canonical), `tc_k` and maybe `down_to_k` (see `datasets.tried_file`)."""
        tc_k = table["tc_k"].to_numpy(dtype=np.float64)
        down_to_k = (
            table["down_to_k"].to_numpy(dtype=np.float64)
            if "down_to_k" in table
            else np.full(len(tc_k), np.nan)
        )
        formulas = table["formula"].tolist()
        names = [_told(*each) for each in zip(formulas, tc_k.tolist(), down_to_k.tolist(), strict=True)]
        return cls(KnownCompositions.of(formulas, names=names), tc_k, down_to_k, source=source)

    @property
    def fractions(self) -> Floats:
        """(t, 118), summing to 1."""
        dense: Floats = self.compositions.fractions.toarray()
        return dense

    def predicted(self, tc_k: Callable[[Floats], Floats]) -> TriedMaterials:
        """The same with what a model of T_c in K, (t, 118) → (t,), says of each; NaN for what it doesn't know."""
        return replace(self, tc_predicted_k=tc_k(self.fractions))

    def reweigh(self, fractions: Floats, tc_k: Floats, log_plausibility: Floats) -> Reweighed:
        """See `failures.reweigh`. Where no model was asked of the samples, T_c stays what it is."""
        predicted = np.full(len(self.tc_k), np.nan) if self.tc_predicted_k is None else self.tc_predicted_k
        outcomes = Outcomes.of(self.fractions, self.tc_k, self.down_to_k, predicted)
        return reweigh(fractions, tc_k, log_plausibility, outcomes)


def _told(formula: str, tc_k: float, down_to_k: float) -> str:
    """Such as "LaFeAsO: 26 K" and "CaFeAsH: none down to 2 K"."""
    if tc_k > 0:
        return f"{formula}: {tc_k:g} K"
    return f"{formula}: none" + ("" if math.isnan(down_to_k) else f" down to {down_to_k:g} K")
