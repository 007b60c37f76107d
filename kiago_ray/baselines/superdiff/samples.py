"""What sampling gives: amounts, what became of each row, and where its T_c came from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import N_ELEMENTS, SYMBOLS, WRITING_ORDER
from kiago_ray.chemistry.formula import MAX_AMOUNT, write

LEAST_AMOUNT = 0.05  # eight times the noise of the lowest level; SuperCon has 1 in 40 amounts below it
DECIMALS = 2  # as SuperDiff rounds, and as the paper's Table 3 has its formulas


class SampleStatus(IntEnum):
    """What became of a row. EMPTY: no amount reached 0.05 atoms; DIVERGED: not finite, or beyond what a formula
    holds.
    """

    OK = 0
    EMPTY = 1
    DIVERGED = 2


@dataclass(frozen=True)
class TcChanges:
    """Where a sample's predicted T_c comes from, in K (rows,) each: start + denoise + guide + ilvr = end.

    start: of the first noise; denoise, guide, ilvr: the sums of the changes by these over all steps (Table 4).
    """

    start_k: NDArray[np.float64]
    denoise_k: NDArray[np.float64]
    guide_k: NDArray[np.float64]
    ilvr_k: NDArray[np.float64]
    end_k: NDArray[np.float64]

    def means(self) -> dict[str, float]:
        """The means over the rows, and their sum as Table 4 has it."""
        parts = {name: float(getattr(self, f"{name}_k").mean()) for name in ("denoise", "ilvr", "guide")}
        return {**{f"{name}_k": value for name, value in parts.items()}, "sum_k": sum(parts.values())}


@dataclass(frozen=True)
class Samples:
    """amounts: (count, 118) atoms, cleaned: below 0.05 counts as nothing, so does a negative one; the rest to two
    decimals.

    signal: (count, 118) what came out of the model. status: (count,) of SampleStatus; a row that isn't OK has no
    amounts. scale_factors: (count,) ILVR's, 0 without a base. changes: None where nobody asked.
    """

    amounts: NDArray[np.float64]
    signal: NDArray[np.float32]
    status: NDArray[np.int8]
    scale_factors: NDArray[np.int64]
    changes: TcChanges | None = None

    def counts(self) -> dict[str, int]:
        """How many rows ended how."""
        return {status.name.lower(): int((self.status == status).sum()) for status in SampleStatus}


def cleaned(signal: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """Amounts (N, 118) and statuses (N,) of what came out of the model (N, 118)."""
    diverged = ~np.all(np.isfinite(signal) & (np.abs(signal) < MAX_AMOUNT), axis=1)
    kept = np.where(diverged[:, None] | (signal < LEAST_AMOUNT), 0, signal)
    amounts = np.asarray(np.round(kept.astype(np.float64), DECIMALS), dtype=np.float64)
    status = np.where(amounts.any(axis=1), SampleStatus.OK, SampleStatus.EMPTY)
    return amounts, np.where(diverged, SampleStatus.DIVERGED, status).astype(np.int8)


def formulas(samples: Samples) -> list[str]:
    """The formulas of the rows that hold something, in their order: "LaNi0.99As0.99O1.01", not reduced."""
    return [formula_of(row) for row in samples.amounts[samples.status == SampleStatus.OK]]


def formula_of(amounts: NDArray[np.float64]) -> str:
    """The formula of amounts (118,), least electronegative element first. Raises FormulaError where all are 0."""
    if amounts.shape != (N_ELEMENTS,):
        raise ValueError(f"amounts have the shape {amounts.shape}; give one row of ({N_ELEMENTS},)")
    return write({SYMBOLS[z]: float(amounts[z]) for z in WRITING_ORDER if amounts[z]})
