"""What a search returns: arrays with one entry a row, how each row ended, and how the rows came there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Self

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import Floats, Ints
from kiago_ray.chemistry.formula import reduce_counts, write_row

Singles = NDArray[np.float32]

Score = Callable[[Floats], tuple[Singles, Singles]]
"""Fractions (rows, 118) → T_c in K, 0 or more, and E_f in eV/atom, (rows,) each."""
Cost = Callable[[Floats], Floats]
"""Fractions (rows, 118) → the loss that a search climbs down, (rows,) in K."""


class RowStatus(IntEnum):
    """How a row ended, with its meaning for a person. OK rows, and only they, have a formula."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> Self:
        status = int.__new__(cls, value)
        status._value_, status.meaning = value, meaning
        return status

    OK = 0, "The row was optimised and has a formula."
    NOTHING_ALLOWED = 1, "The row's start holds no element that may be optimised."
    NOT_FINITE = 2, "A prediction or its gradient was not finite; the row keeps its last finite one."
    NO_INTEGER_FORMULA = 3, "No allowed number of atoms gives a formula under the constraints."
    UNKNOWN_ELEMENT = 4, "The given formula holds an element that the predictors don't know."

    @property
    def label(self) -> str:
        """The name in tables: "ok", "nothing_allowed", …"""
        return self.name.lower()


QUANTITIES = ("tc_k", "ef_ev_per_atom", "integer_loss", "climbed_k")


@dataclass(frozen=True)
class Trajectory:
    """T_c, E_f and the integer loss of a sample of rows before each step and after the last (Fig. 3).

    rows: (k,) row numbers. stage: (steps + 1,) 1 or 2. tc_k, ef_ev_per_atom, integer_loss, climbed_k: (steps + 1, k),
    NaN where a row had stopped or wasn't reached; the integer loss exists in stage 2 alone, E_f where the loss has it.
    climbed_k: the lower bound T_c − κσ − w·max(extrapolation − 0.8, 0) in K that `default` and `open` climb; NaN where
    a search climbs T_c itself.
    """

    rows: Ints
    stage: Ints
    tc_k: Singles
    ef_ev_per_atom: Singles
    integer_loss: Singles
    climbed_k: Singles

    def summary(self) -> dict[str, Floats]:
        """For each quantity q the arrays q_mean, q_p10, q_p50 and q_p90, (steps + 1,), over living rows."""
        result: dict[str, Floats] = {}
        for name in QUANTITIES:
            columns = np.full((4, len(self.stage)), np.nan)
            for point, values in enumerate(getattr(self, name)):
                living = values[np.isfinite(values)].astype(np.float64)
                if len(living):
                    columns[:, point] = living.mean(), *np.quantile(living, (0.1, 0.5, 0.9))
            suffixes = ("mean", "p10", "p50", "p90")
            result |= {f"{name}_{suffix}": each for suffix, each in zip(suffixes, columns, strict=True)}
        return result


@dataclass(frozen=True, kw_only=True)
class Proposals:
    """What n rows propose.

    status: (n,) RowStatus. counts: (n, 118) atoms of the integer formula, zeros where there is none. amounts: (n, 118)
    the formula's amounts, which may be fractional. distance: (n,) L1 distance in fractions between the formula and
    where the row ended. tc_k, ef_ev_per_atom: (n,) of the formula, T_c 0 or more. texts: (n,) formulas as a family's
    sites have them, "" without one; None where they are written from the amounts. source: (n,) which list of a family
    each row came from, None outside families. What a row doesn't have is NaN.
    """

    status: NDArray[np.int8]
    counts: Ints
    amounts: Floats
    distance: Floats
    tc_k: Singles
    ef_ev_per_atom: Singles
    texts: NDArray[np.object_] | None = None
    source: NDArray[np.object_] | None = None


def scored(
    x: Floats, amounts: Floats, status: Ints, score: Score, *, texts: Sequence[str] | None = None
) -> Proposals:
    """Formulas with these amounts (rows, 118), scored, and which of the rows that ended at x (rows, 118) with a status
    have one. texts: how the formulas are written, where not from the amounts.
    """
    total = amounts.sum(axis=1, keepdims=True)
    formula = np.where(total > 0, amounts / np.where(total > 0, total, 1), x)
    tc, ef = score(formula)
    ended = status == RowStatus.OK
    status = np.where(ended & ~(np.isfinite(tc) & np.isfinite(ef)), RowStatus.NOT_FINITE, status)
    status = np.where(ended & (total[:, 0] == 0), RowStatus.NO_INTEGER_FORMULA, status)
    ok = status == RowStatus.OK
    amounts = np.where(ok[:, None], amounts, 0.0)
    whole = (amounts == np.rint(amounts)).all(axis=1, keepdims=True)
    return Proposals(
        status=status.astype(np.int8),
        counts=np.where(whole, amounts, 0).astype(np.int64),
        amounts=amounts,
        distance=np.where(ok, np.abs(formula - x).sum(axis=1), np.nan),
        tc_k=np.where(ok, tc, np.float32(np.nan)),
        ef_ev_per_atom=np.where(ok, ef, np.float32(np.nan)),
        texts=None if texts is None else np.where(ok, np.array(texts, dtype=object), ""),
    )


@dataclass(frozen=True, kw_only=True)
class SearchResult(Proposals):
    """All rows of a search, in the order of `rows`; n rows.

    rows: (n,) row numbers. recoveries: (n,) steps taken back. start, x_final: (n, 118) fractions at the start and at
    the end of stage 2 (zeros for NOTHING_ALLOWED). tc_relaxed_k: (n,) of x_final. seconds: what of wall_s went into
    start, stage_1, stage_2 and projection.

    stopped_at_step: the step, counted over both stages, after which a request to stop ended the search; its shard's
    rows went on to a formula from there, and later shards aren't among the rows. None if it ran to its end.
    """

    rows: Ints
    recoveries: Ints
    start: Singles
    x_final: Singles
    tc_relaxed_k: Singles
    trajectory: Trajectory
    wall_s: float = 0.0
    seconds: Mapping[str, float] = field(default_factory=dict)
    stopped_at_step: int | None = None

    def formulas(self) -> list[str]:
        """Each row's formula, in the order of its base or the least electronegative element first; "" for none."""
        if self.texts is not None:
            return [str(text) for text in self.texts]
        pairs = zip(self.counts, self.amounts, strict=True)
        return [write_row(reduce_counts(counts) if counts.any() else amounts) for counts, amounts in pairs]

    def status_counts(self) -> dict[str, int]:
        """How many rows ended with each status, by label."""
        return {status.label: int((self.status == status).sum()) for status in RowStatus}


def join(parts: Sequence[SearchResult], wall_s: float) -> SearchResult:
    """The results of shards as one, in their order. `wall_s` is the time of all of them."""
    paths = [part.trajectory for part in parts]
    curves = {name: np.concatenate([getattr(each, name) for each in paths], axis=1) for name in QUANTITIES}
    arrays = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name, values in vars(parts[0]).items()
        if isinstance(values, np.ndarray)
    }
    return SearchResult(
        **arrays,
        trajectory=Trajectory(np.concatenate([each.rows for each in paths]), paths[0].stage, **curves),
        wall_s=wall_s,
        seconds={phase: sum(part.seconds[phase] for part in parts) for phase in parts[0].seconds},
        stopped_at_step=parts[-1].stopped_at_step,
    )
