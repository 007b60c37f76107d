"""Compositions as all tables have them: how one is written, when two are the same, and which is the nearest.

A composition is its atomic fractions, rounded to one part in a million: `LaNiAsO` and `La2Ni2As2O2` are one. Rows of
one composition are merged before anything is split, so that no composition is on both sides of a split.

Distances are L1 of atomic fractions, twice the share of the atoms that must be exchanged: 0 for the same composition,
2 for no element in common, 0.2/7 for 0.1 Sr in place of La in La2CuO4.

What is known to superconduct, was made or was tried is *the same* as a row where both hold the same elements and at
most 1 % of the atoms must be exchanged, a distance of 0.02 (section 3.5 of the paper). Elements count that are more
than half a per cent of the atoms: SmFe0.96Ni0.04AsO isn't SmFeAsO, but Ba2YCu4O6.998 is Ba2YCu4O7. All that says
"known", "made", "tried" or "measured" goes by this (`KnownCompositions`); whatever else compares compositions, such as
the hull with its phases, allows for rounding alone.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.spatial.distance import cdist

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS, WRITING_RANK, Floats, Ints
from kiago_ray.chemistry.formula import sparse_fractions, write

SAME_TOLERANCE = 0.02  # L1 distance
TRACE = 0.005  # of all atoms; an element that is no more of them makes no other composition
MAX_BLOCK_BYTES = 64 * 2**20  # of distances held at once
DECIMALS = 12  # of a distance; the last bits of a sum must not decide between equals
_SLACK = 1e-9

Amounts = Mapping[str, float]
CompositionKey = tuple[int, ...]


def composition_key(amounts: Amounts) -> CompositionKey:
    """What two formulas share exactly when they are one composition: (column, millionths, column, …)."""
    total = math.fsum(amounts.values())
    key: list[int] = []
    for symbol in sorted(amounts, key=INDEX.__getitem__):
        # To billionths first: 1/128 is 7812.5 millionths, and the last bit of the division must not decide on it.
        key += (INDEX[symbol], round(round(amounts[symbol] / total * 1e9) / 1e3))
    return tuple(key)


def canonical(amounts: Amounts) -> str:
    """The formula with its elements from the least to the most electronegative; whole amounts reduced."""
    ordered = {symbol: amounts[symbol] for symbol in sorted(amounts, key=WRITING_RANK.__getitem__)}
    if all(float(amount).is_integer() for amount in ordered.values()):
        divisor = math.gcd(*(int(amount) for amount in ordered.values()))
        ordered = {symbol: amount / divisor for symbol, amount in ordered.items()}
    return write(ordered)


def compositions(rows: Sequence[Amounts]) -> tuple[list[str], list[str]]:
    """One canonical formula and one chemical system ("As-La-Ni-O") a row. Rows of one composition get one formula,
    of those that it was given in the shortest, the first in the alphabet among equals, whatever the order of the rows.
    """
    keys = [composition_key(row) for row in rows]
    formulas: dict[CompositionKey, str] = {}
    for key, formula in zip(keys, map(canonical, rows), strict=True):
        formulas[key] = min(formulas.get(key, formula), formula, key=lambda text: (len(text), text))
    return [formulas[key] for key in keys], ["-".join(sorted(row)) for row in rows]


def merged(rows: Sequence[tuple[Any, ...]], names: Sequence[str], dtype: str = "float64") -> pd.DataFrame:
    """One row a composition, sorted by formula, of rows (amounts, *values).

    Columns: `formula`, the least of the values by their `names`, how many rows it has (`n_merged`), `chemical_system`.
    """
    formulas, systems = compositions([amounts for amounts, *_ in rows])
    table = pd.DataFrame({"formula": pd.Series(formulas, dtype="str")})
    for at, name in enumerate(names, start=1):
        table[name] = pd.Series([row[at] for row in rows], dtype=dtype)
    table["n_merged"] = table.groupby("formula")["formula"].transform("size").astype("int64")
    table["chemical_system"] = pd.Series(systems, dtype="str")
    # Equal first values are ordered by the next, so that the order of the rows decides nothing.
    return table.sort_values(["formula", *names]).drop_duplicates("formula").reset_index(drop=True)


def elements_held(fractions: csr_matrix, above: float = 0.0) -> NDArray[np.bool_]:
    """(118, N): whether each element has more than the share `above` of each of fractions (N, 118)."""
    return np.ascontiguousarray((fractions > above).toarray().T)


def nearest(fractions: Floats, known: Floats) -> tuple[Ints, Floats]:
    """The row of `known` (N, k) nearest to each of `fractions` (M, k): index (M,), L1 distance (M,) rounded to 1e-12.

    Of equally near rows it is the first. Raises ValueError for other shapes, N = 0 and values that are not finite.
    """
    queries, points = _checked(fractions, known)
    index, distance = np.empty(len(queries), dtype=np.int64), np.empty(len(queries))
    block = max(1, MAX_BLOCK_BYTES // (8 * len(points)))
    for start in range(0, len(queries), block):
        part = slice(start, start + block)
        distances = np.round(cdist(queries[part], points, metric="cityblock"), DECIMALS)
        index[part], distance[part] = distances.argmin(axis=1), distances.min(axis=1)  # the first of equals
    return index, distance


def _checked(fractions: Floats, known: Floats) -> tuple[Floats, Floats]:
    queries, points = np.asarray(fractions, dtype=np.float64), np.asarray(known, dtype=np.float64)
    if queries.ndim != 2 or points.ndim != 2 or queries.shape[1] != points.shape[1]:
        raise ValueError(f"shapes {queries.shape} and {points.shape} don't fit; give (M, 118) and (N, 118)")
    if not len(points):
        raise ValueError("there is no known composition to compare with; give at least one row")
    if not (np.isfinite(queries).all() and np.isfinite(points).all()):
        raise ValueError("the fractions hold values that are not finite; leave those rows out")
    return queries, points


def _summing_to_one(rows: Floats) -> Floats:
    rows = np.asarray(rows, dtype=np.float64)
    if not np.allclose(rows.sum(axis=-1), 1, atol=1e-9):
        raise ValueError("compositions are atomic fractions; every row must sum to 1")
    return rows


class CompositionIndex:
    """Compositions (N, 118) to look through often: 2 − 2 Σ min(x, y) needs a row's own elements. Raises ValueError."""

    def __init__(self, known: Floats) -> None:
        self.by_element = np.ascontiguousarray(_summing_to_one(known).T)

    def nearest(self, fractions: Floats) -> tuple[Ints, Floats]:
        """As `nearest` of `fractions` (M, 118). Raises ValueError as that does, and for rows that don't sum to 1."""
        queries, _ = _checked(_summing_to_one(fractions), self.by_element.T)
        index, distance = np.empty(len(queries), dtype=np.int64), np.empty(len(queries))
        for row, x in enumerate(queries):
            distances = self._distances(x, slice(None))
            index[row] = distances.argmin()  # the first of equals
            distance[row] = max(distances[index[row]], 0.0)
        return index, distance

    def within(self, fractions: Floats, radius: float) -> Iterator[Ints]:
        """For each of `fractions` (M, 118), which sum to 1, the rows within an L1 distance, ascending."""
        # An element of more than half the radius must be shared: the rarest such one leaves few rows to compare with.
        counts = np.count_nonzero(self.by_element, axis=1)
        for x in _summing_to_one(fractions):
            needed = np.flatnonzero(x > radius / 2 + _SLACK)
            rows = np.arange(self.by_element.shape[1])
            if len(needed):
                rows = np.flatnonzero(self.by_element[needed[counts[needed].argmin()]])
            yield rows[self._distances(x, rows) <= radius]

    def _distances(self, x: Floats, rows: Ints | slice) -> Floats:
        held = np.flatnonzero(x)
        by_element = self.by_element[held] if isinstance(rows, slice) else self.by_element[np.ix_(held, rows)]
        shared = np.minimum(by_element, x[held, None]).sum(axis=0)
        return np.asarray(np.round(2 - 2 * shared, DECIMALS))


@dataclass(frozen=True)
class KnownCompositions:
    """m compositions to find the same ones in. names: what `same_as` says of each. fractions: (m, 118), sparse, rows
    summing to 1; those of the elements beside oxygen where any_oxygen (m,) holds (SuperCon's YBa2Cu3OZ).
    """

    names: tuple[str, ...]
    fractions: csr_matrix
    any_oxygen: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        formulas: Sequence[str],
        *,
        names: Sequence[str] | None = None,
        any_oxygen: NDArray[np.bool_] | None = None,
    ) -> KnownCompositions:
        """Of formulas as `sparse_fractions` reads them, by default each its own name, with Oz where oxygen is any."""
        marks = np.zeros(len(formulas), dtype=np.bool_) if any_oxygen is None else any_oxygen
        texts = names or [text + "Oz" * mark for text, mark in zip(formulas, marks.tolist(), strict=True)]
        return cls(tuple(texts), sparse_fractions(formulas), marks)

    @cached_property
    def held(self) -> NDArray[np.bool_]:
        """(118, m): which elements each has, but for traces."""
        return elements_held(self.fractions, TRACE + _SLACK)

    def nearest_same(self, fractions: Floats) -> Ints:
        """(n,): the index of the nearest composition that is the same as each of fractions (n, 118), -1 for none. One
        of determined oxygen goes before one of any. Raises ValueError for rows that don't sum to 1.
        """
        queries = _summing_to_one(fractions)
        found = self._nearest(queries, ~self.any_oxygen)
        oxygen = queries[:, INDEX["O"]]
        asked = np.flatnonzero((found < 0) & (oxygen > 0) & (oxygen < 1 - _SLACK))
        if len(asked) and self.any_oxygen.any():
            others = queries[asked]
            others[:, INDEX["O"]] = 0
            found[asked] = self._nearest(others / others.sum(axis=1, keepdims=True), self.any_oxygen)
        return found

    def same_as(self, fractions: Floats) -> list[str | None]:
        """The names of those that `nearest_same` finds, None where there is none."""
        return [self.names[at] if at >= 0 else None for at in self.nearest_same(fractions).tolist()]

    def _nearest(self, queries: Floats, among: NDArray[np.bool_]) -> Ints:
        """(n,): as `nearest_same`. Only rows of just the elements of a query are compared with it."""
        found = np.full(len(queries), -1, dtype=np.int64)
        elements, which = np.unique(queries > TRACE + _SLACK, axis=0, return_inverse=True)
        counts = self.held.sum(axis=0)
        for number, own in enumerate(elements):
            places = np.flatnonzero(self.held[own].all(axis=0) & (counts == own.sum()) & among)
            if len(places):
                rows = np.flatnonzero(which == number)
                near, distance = nearest(queries[rows], self.fractions[places].toarray())
                found[rows] = np.where(distance <= SAME_TOLERANCE + _SLACK, places[near], -1)
        return found


_LINES = (
    "He Ne Ar Kr Xe Rn Fr Cs Rb K Na Li Ra Ba Sr Ca",
    "Eu Yb Lu Tm Y Er Ho Dy Tb Gd Sm Pm Nd Pr Ce La Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Sc",
    "Zr Hf Ti Ta Nb V Cr Mo W Re Tc Os Ru Ir Rh Pt Pd Au Ag Cu Ni Co Fe Mn Mg Zn Cd Hg Be",
    "Al Ga In Tl Pb Sn Ge Si B C N P As Sb Bi Po Te Se S O At I Br Cl F H",
)
SCALE: tuple[str, ...] = tuple(symbol for line in _LINES for symbol in line.split())
"""The modified Pettifor scale: He, the 1st, to H, the 103rd. The 15 elements after Lr are not on it."""

_PERIOD = 32  # from an element of the seventh period to its homologue above
_GROUP = 9  # places of the scale that are looked at together first
_EMD_SLACK = 1e-6


def cumulative(fractions: Floats) -> Floats:
    """How much of fractions (N, 118) lies up to each place of the scale, (N, 103); beyond Lr homologues count."""
    on_scale = np.array(fractions, dtype=np.float64)
    beyond = slice(len(SCALE), N_ELEMENTS)
    homologues = slice(len(SCALE) - _PERIOD, N_ELEMENTS - _PERIOD)
    on_scale[:, homologues] += on_scale[:, beyond]
    return np.cumsum(on_scale[:, [INDEX[symbol] for symbol in SCALE]], axis=1)


def nearest_emd(fractions: Floats, known: Floats) -> tuple[Ints, Floats]:
    """The row of `known` (N, 118) nearest to each of `fractions` (M, 118) by element mover's distance, the first of
    equals: index (M,), distance (M,) in places of the scale. Raises ValueError as `nearest` does.
    """
    queries, points = (cumulative(each) for each in _checked(fractions, known))
    # What lies at several places together differs by no more than what lies at each: a bound that spares most looks.
    groups = np.arange(0, len(SCALE), _GROUP)
    coarse = np.add.reduceat(points, groups, axis=1).T.copy()
    index, distance = np.empty(len(queries), dtype=np.int64), np.empty(len(queries))
    for row, query in enumerate(queries):
        bounds = np.abs(coarse - np.add.reduceat(query, groups)[:, None]).sum(axis=0)
        most = np.abs(points[bounds.argmin()] - query).sum() + _EMD_SLACK
        left = np.flatnonzero(bounds <= most)
        distances = np.round(np.abs(points[left] - query).sum(axis=1), DECIMALS)
        at = distances.argmin()  # the first of equals
        index[row], distance[row] = left[at], distances[at]
    return index, distance


def held_out(keys: Iterable[str], *, share: float, salt: str) -> NDArray[np.bool_]:
    """(N,) True where a key is held out: about `share` of all distinct keys, equal keys together. Raises ValueError
    for a share that isn't above 0 and below 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"the share that is held out is {share}; it must be between 0 and 1")
    return np.array([_hash(f"{salt}:{key}") < int(share * 2**64) for key in keys], dtype=np.bool_)


def folds(keys: Iterable[str], count: int, *, salt: str) -> NDArray[np.int64]:
    """(N,) which of `count` folds each key falls into, equal keys together."""
    return np.array([_hash(f"{salt}:{key}") % count for key in keys], dtype=np.int64)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
