"""What the model learns from: SuperCon's compositions as they are written, not normalised."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.chemistry.formula import parse
from kiago_ray.training.evaluation import HELD_OUT_SHARE, SALT, held_out

# 97 % of SuperCon. The others are alloys in per cent and clathrates: their amounts lie up to thirty times above all
# others', and a model of the rest would spend itself on them.
MAX_ATOMS = 40.0


@dataclass(frozen=True)
class Compositions:
    """formulas, and their amounts (N, 118) float32 in atoms; too_large: how many had more than `MAX_ATOMS` and were
    left out.
    """

    formulas: list[str]
    amounts: NDArray[np.float32]
    too_large: int

    @classmethod
    def of(cls, table: pd.DataFrame) -> Compositions:
        """From the `formula` column of a loader's table, which holds every composition once."""
        formulas = table["formula"].tolist()
        amounts = amounts_of(formulas)
        fits = amounts.sum(axis=1) <= MAX_ATOMS
        return cls(
            [f for f, keep in zip(formulas, fits, strict=True) if keep], amounts[fits], int((~fits).sum())
        )

    def split(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Amounts to train on and amounts held out, by the predictors' own random split."""
        test = held_out(self.formulas, share=HELD_OUT_SHARE, salt=f"{SALT} random")
        return self.amounts[~test], self.amounts[test]


def amounts_of(formulas: Iterable[str]) -> NDArray[np.float32]:
    """Atoms of each element as the formulas are written, (N, 118). Raises FormulaError."""
    rows = [parse(formula) for formula in formulas]
    amounts = np.zeros((len(rows), N_ELEMENTS), dtype=np.float32)
    for row, held in zip(amounts, rows, strict=True):
        for symbol, amount in held.items():
            row[INDEX[symbol]] = amount
    return amounts
