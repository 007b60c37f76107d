"""What is known of many formulas, bad ones among them: a search's columns, the same rows in the same order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.chemistry.formula import FormulaError, parse
from kiago_ray.hull.energy_hull import MAX_FORMULAS
from kiago_ray.judging import JudgedRows, judged
from kiago_ray.models import Models
from kiago_ray.search import SearchSpec, load_preset
from kiago_ray.search.result import RowStatus
from kiago_ray.search.run import given_result
from kiago_ray.storage.columns import PREDICTED, schema

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


def score(
    formulas: Sequence[object], models: Models, *, near: NDArray[np.bool_] | None = None, threads: int = 1
) -> Scores:
    """What the models say of each formula, judged by the screens of `default`; one that can't be read, or isn't text,
    gets an error.

    near: (n,) which ones get their energy above the hull, milliseconds each; by default the first HULL_FORMULAS.
    threads: for the oracle's trees.
    """
    near = np.arange(len(formulas)) < HULL_FORMULAS if near is None else near
    pieces = [slice(start, start + AT_ONCE) for start in range(0, len(formulas), AT_ONCE)]
    return joined([_score(formulas[piece], models, near[piece], threads) for piece in pieces])


def _score(formulas: Sequence[object], models: Models, near: NDArray[np.bool_], threads: int) -> Scores:
    amounts = np.zeros((len(formulas), N_ELEMENTS))
    errors: list[str | None] = []
    for row, text in enumerate(formulas):
        try:
            amounts[row] = read_formula(text if isinstance(text, str) else "", models)
            errors.append(None)
        except FormulaError as error:
            errors.append(str(error))
    good = np.flatnonzero([error is None for error in errors])
    rows = score_amounts(amounts[good], models, near=near[good], threads=threads)
    for row in good[~rows.candidates.ok].tolist():
        errors[row] = "its predictions are no finite numbers"
    place = np.full(len(formulas), -1)
    place[good[rows.candidates.ok]] = np.flatnonzero(rows.candidates.ok)
    table = rows.table.select(PREDICTED).take(pa.array(place, mask=place < 0))
    texts = tuple(text if isinstance(text, str) else "" for text in formulas)
    return Scores(texts, table, tuple(errors))


def read_formula(formula: str, models: Models) -> Floats:
    """The amounts (118,) of a formula. Raises FormulaError, also for an element that the predictors don't know."""
    amounts = parse(formula)
    unknown = [symbol for symbol in amounts if symbol in models.foreign]
    if unknown:
        raise FormulaError("unknown element", f"the predictors don't know {', '.join(unknown)}")
    row = np.zeros(N_ELEMENTS)
    for symbol, amount in amounts.items():
        row[INDEX[symbol]] = amount
    return row


def score_amounts(
    amounts: Floats, models: Models, *, near: NDArray[np.bool_] | None = None, threads: int = 1
) -> JudgedRows:
    """Amounts (n, 118) of elements that the predictors know, as rows of a search without a base, and without their
    neighbours by element mover's distance. near: (n,) as in `score`, by default all.
    """
    result = given_result(amounts, models.predictors)
    e_hull = None
    if models.hull is not None:
        e_hull = np.full(len(amounts), np.nan)
        asked = np.flatnonzero((result.status == RowStatus.OK) & (True if near is None else near))
        e_hull[asked] = models.hull.e_hull(amounts[asked], result.ef_ev_per_atom[asked].astype(np.float64))
    judge = _judge()
    return judged(
        result,
        judge,
        replace(models, tried=None),  # what was tried re-weighs proposals, not what a person asks about
        base=None,
        seed=judge.seed,
        e_hull_ev_per_atom=e_hull,
        emd=False,
        threads=threads,
    )


@cache
def _judge() -> SearchSpec:
    """Whose screens decide which formulas pass."""
    return load_preset("default")


def _columns() -> Any:
    """The Arrow schema of PREDICTED."""
    every = schema()
    return pa.schema([every.field(name) for name in PREDICTED])
