"""The rows of a search as screens see them: formulas, their oxidation states, the nearest known composition.

What needs a formula is worked out once for each different one and handed to all rows that share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry import neutrality
from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.chemistry.formula import parse_fractions, reduce_counts
from kiago_ray.chemistry.neutrality import Neutrality
from kiago_ray.chemistry.oxidation import OxidationSet
from kiago_ray.datasets.neighbours import nearest
from kiago_ray.search.status import RowStatus

if TYPE_CHECKING:
    from kiago_ray.search.result import SearchResult

DECIMALS = 4  # of amounts that stay fractional (search.integers.fractional_amounts)
SAME_COMPOSITION = 1e-6  # L1 distance in fractions below which two compositions are one

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class KnownMaterials:
    """Compositions whose T_c has been measured: m formulas, their fractions (m, 118) and T_c (m,) in K."""

    formulas: tuple[str, ...]
    fractions: Floats
    tc_k: Floats

    @classmethod
    def from_formulas(cls, formulas: Sequence[str], tc_k: Sequence[float]) -> KnownMaterials:
        """The same from formulas alone. Raises FormulaError, and ValueError where the lengths differ."""
        if len(formulas) != len(tc_k):
            raise ValueError(f"{len(formulas)} formulas and {len(tc_k)} T_c; give one T_c a formula")
        return cls(tuple(formulas), parse_fractions(formulas), np.asarray(tc_k, dtype=np.float64))

    def measured_tc_k(self, fractions: Floats) -> float | None:
        """T_c of the composition (118,) itself, or None where it is not among the known ones."""
        index, distance = nearest(fractions[None, :], self.fractions)
        return float(self.tc_k[index[0]]) if distance[0] <= SAME_COMPOSITION else None


@dataclass(frozen=True)
class Candidates:
    """n rows. What a row without a formula doesn't have is "", 0, False or NaN.

    formulas: n texts. ok: (n,) the row has a formula. counts: (n, 118) its reduced whole numbers of atoms;
    zeros where its amounts are fractional. n_elements: (n,). tc_k, ef_ev_per_atom: (n,) predicted for the
    formula. neutrality: SMACT's verdicts, n rows. nearest: (n,) index into `known`, -1 without one;
    nearest_distance: (n,) L1 distance in fractions.
    """

    formulas: tuple[str, ...]
    ok: Mask
    counts: Ints
    n_elements: Ints
    tc_k: Floats
    ef_ev_per_atom: Floats
    neutrality: Neutrality
    known: KnownMaterials | None
    nearest: Ints
    nearest_distance: Floats


def collect(
    result: SearchResult,
    *,
    oxidation_set: OxidationSet = OxidationSet.ICSD24,
    known: KnownMaterials | None = None,
) -> Candidates:
    """The rows of `result` with what screens need: neutrality by `oxidation_set`, the nearest of `known`.

    Amounts that stay fractional are judged as whole numbers of a ten-thousandth of an atom. A formula that
    this makes larger than neutrality.MAX_ATOMS, or whose amounts have more decimals, can't be judged and is
    not neutral.
    """
    ok = np.asarray(result.status == RowStatus.OK)
    formulas = tuple(text if fine else "" for text, fine in zip(result.formulas(), ok, strict=True))
    first, place = _different(formulas, ok)
    amounts = result.amounts[first]
    whole, judged = _whole_numbers(amounts)
    verdicts = neutrality.check(whole[judged], oxidation_set)
    index = np.full(len(first), -1, dtype=np.int64)
    distance = np.full(len(first), np.nan)
    if known is not None and len(first):
        index, distance = nearest(amounts / amounts.sum(axis=1, keepdims=True), known.fractions)
    return Candidates(
        formulas=formulas,
        ok=ok,
        counts=np.where(ok[:, None], reduce_counts(result.counts), 0),
        n_elements=np.where(ok, (result.amounts > 0).sum(axis=1), 0),
        tc_k=np.where(ok, result.tc_k, np.nan).astype(np.float64),
        ef_ev_per_atom=np.where(ok, result.ef_ev_per_atom, np.nan).astype(np.float64),
        neutrality=_for_rows(verdicts, judged, place),
        known=known,
        nearest=np.append(index, -1)[place],
        nearest_distance=np.append(distance, np.nan)[place],
    )


def _different(formulas: Sequence[str], ok: Mask) -> tuple[Ints, Ints]:
    """The first row of each different formula (u,); for each row its place among them (n,), u without one."""
    places: dict[str, int] = {}
    first: list[int] = []
    for row in np.flatnonzero(ok).tolist():
        if formulas[row] not in places:
            places[formulas[row]] = len(first)
            first.append(row)
    place = [places[text] if fine else len(first) for text, fine in zip(formulas, ok, strict=True)]
    return np.array(first, dtype=np.int64), np.array(place, dtype=np.int64)


def _whole_numbers(amounts: Floats) -> tuple[Ints, Mask]:
    """Reduced whole numbers in the proportions of amounts (u, 118), and whether there are any (u,)."""
    scale = np.where((amounts == np.rint(amounts)).all(axis=1), 1, 10**DECIMALS)[:, None]
    whole = reduce_counts(np.rint(amounts * scale).astype(np.int64))
    exact = (np.abs(amounts * scale - np.rint(amounts * scale)) < 1e-6).all(axis=1)
    return whole, exact & (whole.sum(axis=1) <= neutrality.MAX_ATOMS)


def _for_rows(verdicts: Neutrality, judged: Mask, place: Ints) -> Neutrality:
    """The verdicts on the judged of u formulas, spread over the rows that stand at `place` among the u."""

    def spread(values: NDArray[np.bool_]) -> NDArray[np.bool_]:
        every = np.zeros(len(judged) + 1, dtype=np.bool_)
        every[:-1][judged] = values
        return every[place]

    states = np.zeros((len(judged) + 1, N_ELEMENTS), dtype=np.int16)
    states[:-1][judged] = verdicts.states
    return Neutrality(
        neutral=spread(verdicts.neutral),
        pauling=spread(verdicts.pauling),
        alloy=spread(verdicts.alloy),
        elemental=spread(verdicts.elemental),
        assigned=spread(verdicts.assigned),
        states=states[place],
    )
