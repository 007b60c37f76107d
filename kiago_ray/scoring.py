"""What is known of many formulas, bad ones among them: a search's columns, the same rows in the same order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.chemistry.formula import FormulaError, parse
from kiago_ray.hull.energy_hull import MAX_FORMULAS, EnergyHull
from kiago_ray.judging import JudgedRows, judged
from kiago_ray.plausibility.shipped import load_prospects
from kiago_ray.predictors import load_predictors
from kiago_ray.predictors.oracle.opinions import load_second_opinion
from kiago_ray.screening import KnownMaterials
from kiago_ray.search import load_preset
from kiago_ray.search.external_formulas import given_result
from kiago_ray.search.result import RowStatus
from kiago_ray.storage.columns import PREDICTED, schema

if TYPE_CHECKING:
    from kiago_ray.plausibility.shipped import Prospects
    from kiago_ray.predictors import Predictors
    from kiago_ray.predictors.oracle.opinions import SecondOpinion
    from kiago_ray.search import SearchSpec

HULL_FORMULAS = MAX_FORMULAS  # of one request
AT_ONCE = 4096  # formulas; bounds memory

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Of n formulas: `table`, a pyarrow table of their columns (storage.columns.PREDICTED), and `errors`: why one has
    none and is null in all of them, None where it has.
    """

    formulas: tuple[str, ...]
    table: Any
    errors: tuple[str | None, ...]

    def part(self, rows: slice) -> Scores:
        """Those of some neighbouring formulas."""
        start, end, _ = rows.indices(len(self.formulas))
        return Scores(self.formulas[rows], self.table.slice(start, max(end - start, 0)), self.errors[rows])


def joined(parts: Sequence[Scores]) -> Scores:
    """Scores one after another."""
    return Scores(
        tuple(formula for part in parts for formula in part.formulas),
        pa.concat_tables([_columns().empty_table(), *(part.table for part in parts)]).combine_chunks(),
        tuple(error for part in parts for error in part.errors),
    )


@dataclass(frozen=True)
class Scorer:
    """The predictors of a search and everything that judges its rows. judge: whose screens decide `passed`. known,
    hull: None for nothing to compare with.
    """

    predictors: Predictors
    second: SecondOpinion
    prospects: Prospects
    judge: SearchSpec
    known: KnownMaterials | None
    hull: EnergyHull | None

    @classmethod
    def load(
        cls,
        weights: Path | None = None,
        *,
        known: KnownMaterials | None = None,
        hull: EnergyHull | None = None,
        device: str = "cpu",
    ) -> Scorer:
        """The shipped models, or those of a folder that `kiago train` wrote, with the screens of `default`. Raises
        WeightsError.
        """
        predictors = load_predictors(weights, device=device)
        second, prospects = load_second_opinion(predictors, weights), load_prospects(weights)
        return cls(predictors, second, prospects, load_preset("default"), known, hull)

    @classmethod
    def shipped(cls, weights: Path | None = None) -> Scorer:
        """The same with the known superconductors and the competing phases that ship. Raises DataError too."""
        return cls.load(weights, known=KnownMaterials.shipped(), hull=EnergyHull.of(weights=weights))

    @cached_property
    def foreign(self) -> frozenset[str]:
        """The symbols of the elements that the predictors don't know."""
        return frozenset(self.predictors.unknown_elements())

    def score(
        self, formulas: Sequence[object], *, near: NDArray[np.bool_] | None = None, threads: int = 1
    ) -> Scores:
        """What is known of each; a formula that can't be read, or isn't text, gets an error.

        near: (n,) which ones get their energy above the hull, milliseconds each; by default the first HULL_FORMULAS.
        threads: for the oracle's trees.
        """
        near = np.arange(len(formulas)) < HULL_FORMULAS if near is None else near
        pieces = [slice(start, start + AT_ONCE) for start in range(0, len(formulas), AT_ONCE)]
        return joined([self._score(formulas[piece], near[piece], threads) for piece in pieces])

    def _score(self, formulas: Sequence[object], near: NDArray[np.bool_], threads: int) -> Scores:
        amounts = np.zeros((len(formulas), N_ELEMENTS))
        errors: list[str | None] = []
        for row, text in enumerate(formulas):
            try:
                amounts[row] = self.read(text if isinstance(text, str) else "")
                errors.append(None)
            except FormulaError as error:
                errors.append(str(error))
        good = np.flatnonzero([error is None for error in errors])
        rows = self.judged(amounts[good], near=near[good], threads=threads)
        for row in good[~rows.candidates.ok].tolist():
            errors[row] = "its predictions are no finite numbers"
        place = np.full(len(formulas), -1)
        place[good[rows.candidates.ok]] = np.flatnonzero(rows.candidates.ok)
        table = rows.table.select(PREDICTED).take(pa.array(place, mask=place < 0))
        texts = tuple(text if isinstance(text, str) else "" for text in formulas)
        return Scores(texts, table, tuple(errors))

    def read(self, formula: str) -> Floats:
        """The amounts (118,) of a formula. Raises FormulaError, also for an element that the predictors don't know."""
        amounts = parse(formula)
        unknown = [symbol for symbol in amounts if symbol in self.foreign]
        if unknown:
            raise FormulaError("unknown element", f"the predictors don't know {', '.join(unknown)}")
        row = np.zeros(N_ELEMENTS)
        for symbol, amount in amounts.items():
            row[INDEX[symbol]] = amount
        return row

    def judged(
        self, amounts: Floats, *, near: NDArray[np.bool_] | None = None, threads: int = 1
    ) -> JudgedRows:
        """Amounts (n, 118) of elements that the predictors know, as rows of a search without a base, and
        without their neighbours by element mover's distance.

        near: (n,) as in `score`, by default all.
        """
        result = given_result(amounts, self.predictors)
        e_hull = None
        if self.hull is not None:
            e_hull = np.full(len(amounts), np.nan)
            asked = np.flatnonzero((result.status == RowStatus.OK) & (True if near is None else near))
            e_hull[asked] = self.hull.e_hull(amounts[asked], result.ef_ev_per_atom[asked].astype(np.float64))
        return judged(
            result,
            self.judge,
            None,
            seed=self.judge.seed,
            second=self.second,
            known=self.known,
            e_hull_ev_per_atom=e_hull,
            prospects=self.prospects,
            emd=False,
            threads=threads,
        )


def _columns() -> Any:
    """The Arrow schema of PREDICTED."""
    every = schema()
    return pa.schema([every.field(name) for name in PREDICTED])
