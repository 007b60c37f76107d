"""What was known at a time, as plausibility reads it: which elements were reported together, how often, how lately;
the chemical systems, which are sets of elements, next to known ones; and which element takes the place of which,
wholly or in part, and up to how much: as odds, and in words.

A system counts by w = ln(1 + its compositions of the last five years) + 0.2 ln(1 + all of them): where much is
reported, more follows. p(a, c) = times that a and c complete the same rest of a chemical system, over √((n_a + 5)(n_c
+ 5)), n_a being the systems that hold a; beside b the same among the systems that hold b, with 3 for 5. What a
composition with one element more than a known one holds less of, by about as much, gave way to it.

Likeness is exp(−(Δχ/0.6)²) in Pauling's electronegativity χ between metals, and between anions; 0 between metals and
non-metals. The half-metals B, Si, Ge, As, Sb, Te and Bi stand for non-metals and for metals of the p block alone, and
hydrogen for oxygen and fluorine, as hydride. Anions of other valence stand for one another less, exp(−(Δq/1.5)⁴), and
not at all where their radii differ by more than 0.5 Å: tellurium does not stand for boron. Less than 0.05 is nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import (
    ELECTRONEGATIVITY,
    ELEMNET_SYMBOLS,
    INDEX,
    N_ELEMENTS,
    SYMBOLS,
    Floats,
    Ints,
    Mask,
    position,
    properties,
)
from kiago_ray.chemistry.formula import sparse_fractions
from kiago_ray.chemistry.oxidation import metals

RECENT_YEARS = 5
HOT_K = 10.0  # systems with a superconductor from here on draw more work than others
PRIOR, PRIOR_BESIDE = 5.0, 3.0  # systems; what is seen once or twice says little
_OLD_SHARE = 0.2  # of a system's weight that all its compositions have, beside the recent ones

_WIDTH = 0.6
_NO_PULL = 4.5  # of elements without an electronegativity, above all others
_HYDRIDE = 0.5
_EITHER = ("B", "Si", "Ge", "As", "Sb", "Te", "Bi")
_ANION_VALENCES = {
    4: ("C", "Si", "Ge"),
    3: ("B", "N", "P", "As", "Sb", "Bi"),
    2: ("O", "S", "Se", "Te"),
    1: ("H", "F", "Cl", "Br", "I"),
}
_VALENCE_WIDTH = 1.5
_MOST_RADIUS = 0.5 + 1e-9  # Å, of atomic radii (Slater)
_NOTHING = 0.05
_ANIONS = ("O", "F", "S", "Cl", "N", "C")
_MOST_COMPOSITIONS = 6  # of a system that are looked at
_AGREES = 0.35  # how far the amount that came may differ from the one that went, as a share of it
_VACANT = (0.7, 0.99)  # of oxygen's amount, relative to the others, that is left where places are empty
_SAME_RATIO = 0.01
_SEEN = 3  # compositions with vacancies from which they count as known
_OXYGEN = INDEX["O"]  # what of other elements looks like vacancies are mostly misprints and mixtures

Counts = NDArray[np.float32]
Changes = tuple[Ints, Ints, Floats]
"""(n,) each: the element of a system that is lost, or whose site is shared, the one that comes in, and the support."""


@dataclass(frozen=True)
class Literature:
    """Of m compositions of s chemical systems, known before the year `year`.

    fractions: (m, 118). tc_k, reports: (m,) median T_c and number of measurements. first_year: (m,) of the first
    report, 0 where it isn't known. system: (m,) the row of each in `systems` (s, 118), which are sets of elements.
    """

    year: int
    fractions: Floats
    tc_k: Floats
    reports: Floats
    first_year: Ints
    system: Ints
    systems: Mask

    @classmethod
    def of(cls, table: pd.DataFrame, year: int | None = None) -> Literature:
        """The superconductors of a table with `formula`, `tc_k`, `year_first` and `reports`; where it tells how oxygen
        is given, those of stated oxygen. year: by default after the last report. Raises ValueError without dates.
        """
        if "oxygen" in table:
            table = table[(table["oxygen"] == "stated") & (table["tc_k"] > 0)]
        years = table["year_first"]
        if years.isna().all():
            raise ValueError("there is no dated superconductor of stated oxygen among these")
        fractions = sparse_fractions(table["formula"].tolist()).toarray()
        systems, system = np.unique(fractions > 0, axis=0, return_inverse=True)
        names = system_names(systems)
        order = sorted(range(len(names)), key=names.__getitem__)
        return cls(
            year=int(years.max()) + 1 if year is None else year,
            fractions=fractions,
            tc_k=table["tc_k"].to_numpy(dtype=np.float64),
            reports=table["reports"].to_numpy(dtype=np.float64),
            first_year=years.fillna(0).to_numpy(dtype=np.int64),
            system=np.argsort(order)[system.reshape(-1)],
            systems=systems[order],
        )

    def before(self, year: int) -> Literature:
        """The part of it that was known before `year`; of what has no date all."""
        return replace(self.only(self.first_year < year), year=year)

    def only(self, kept: Mask) -> Literature:
        """The compositions where `kept` (m,) holds, and their systems."""
        there = np.unique(self.system[kept])
        rows = {name: getattr(self, name)[kept] for name in ("fractions", "tc_k", "reports", "first_year")}
        system = np.searchsorted(there, self.system[kept])
        return replace(self, **rows, system=system, systems=self.systems[there])

    def with_one_more(self, fractions: Floats) -> Literature:
        """The same and a composition (118,) of a chemical system that isn't among its own, without a T_c."""
        return Literature(
            self.year,
            np.vstack([self.fractions, fractions]),
            np.append(self.tc_k, 0.0),
            np.append(self.reports, 1.0),
            np.append(self.first_year, self.year - 1),
            np.append(self.system, len(self.systems)),
            np.vstack([self.systems, fractions > 0]),
        )

    def by_system(self, most: int, *, often_first: bool = False) -> list[Floats]:
        """Of each system the first `most` compositions (k, 118), or those that were reported most often."""
        keys = (-self.reports, self.system) if often_first else (self.system,)
        order = np.lexsort(keys)
        begins = np.searchsorted(self.system[order], np.arange(len(self.systems) + 1))
        return [self.fractions[order[begin:end][:most]] for begin, end in pairwise(begins.tolist())]

    @property
    def recent(self) -> Floats:
        """(s,): how many compositions of each system were first reported in the last RECENT_YEARS."""
        lately = self.first_year >= self.year - RECENT_YEARS
        return np.bincount(self.system[lately], minlength=len(self.systems)).astype(np.float64)

    @cached_property
    def weights(self) -> Floats:
        """(s,): how much each system counts."""
        compositions = np.bincount(self.system, minlength=len(self.systems))
        return np.asarray(np.log1p(self.recent) + _OLD_SHARE * np.log1p(compositions.astype(np.float64)))

    @property
    def highest_tc_k(self) -> Floats:
        """(s,): the highest median T_c of each system, in K."""
        highest = np.zeros(len(self.systems))
        np.maximum.at(highest, self.system, self.tc_k)
        return highest

    @cached_property
    def known(self) -> frozenset[bytes]:
        """The systems as bytes of (118,) bool, to look one up."""
        return frozenset(row.tobytes() for row in self.systems)

    @cached_property
    def swap_counts(self) -> tuple[Counts, Counts]:
        """How often a and c complete the same rest of a system, (118, 118), and one that holds b, [a, c, b]."""
        by_rest: dict[tuple[int, ...], list[int]] = {}
        for row in self.systems:
            held = np.flatnonzero(row).tolist()
            for a in held:
                by_rest.setdefault(tuple(z for z in held if z != a), []).append(a)
        counts = np.zeros((N_ELEMENTS, N_ELEMENTS), dtype=np.float32)
        beside = np.zeros((N_ELEMENTS,) * 3, dtype=np.float32)  # (b, a, c)
        for rest, found in by_rest.items():
            if len(found) > 1:
                grid = np.ix_(found, found)
                counts[grid] += 1
                for b in rest:
                    beside[b][grid] += 1
        z = np.arange(N_ELEMENTS)
        counts[z, z] = 0
        beside[:, z, z] = 0
        return counts, np.ascontiguousarray(beside.transpose(1, 2, 0))

    @cached_property
    def swap_odds(self) -> Floats:
        """p(a, c), (118, 118), symmetric, 0 on its diagonal."""
        return per_system(self.swap_counts[0].astype(np.float64), self.systems.sum(axis=0))


def per_system(counts: Floats, held: NDArray[Any]) -> Floats:
    """Counts of pairs (118, 118) over √((n_a + 5)(n_c + 5)), held (118,) being how many systems hold each element."""
    return np.asarray(counts / np.sqrt((held[:, None] + PRIOR) * (held + PRIOR)))


def system_names(systems: Mask) -> list[str]:
    """Chemical systems (n, 118) as texts such as "As-La-Ni-O"."""
    return ["-".join(sorted(SYMBOLS[z] for z in np.flatnonzero(row))) for row in systems]


def elements_at_hand() -> Mask:
    """(118,): those of ElemNet without Kr and Xe: to plutonium, without what nobody has in weighable amounts."""
    return np.isin(SYMBOLS, [symbol for symbol in ELEMNET_SYMBOLS if symbol not in ("Kr", "Xe")])


@dataclass(frozen=True)
class Neighbours:
    """n systems that aren't known, best supported first.

    systems: (n, 118) sets of elements. support: (n,) the sum over the known systems that they come from of weight ×
    odds. parent: (n,) the one that supports it most. lost, new: (n,) the element that gives way there (of one added:
    whose site it shares) and the one that comes in. added: whether it comes in beside the others.
    """

    systems: Mask
    support: Floats
    parent: Ints
    lost: Ints
    new: Ints
    added: bool


def swapped_systems(literature: Literature, elements: Mask, most: int) -> Neighbours:
    """Those that come from a known system by one swap, among `elements` (118,)."""
    odds = literature.swap_odds * elements

    def changes(row: Mask, weight: float) -> Changes:
        lost, new = np.nonzero((odds > 0) & row[:, None] & ~row)
        return lost, new, weight * odds[lost, new]

    return _next_to(literature, changes, most, added=False)


def added_systems(literature: Literature, elements: Mask, most: int) -> Neighbours:
    """Those that hold one element more than a known system, among `elements` (118,): Σ w·max over a of p(a, c), times
    the mean of ln(1 + systems) in which it stands beside the others.
    """
    odds = literature.swap_odds * elements
    one = literature.systems.astype(np.float64)
    together = np.log1p(one.T @ one)

    def changes(row: Mask, weight: float) -> Changes:
        held = np.flatnonzero(row)
        values = weight * odds[held].max(axis=0) * together[held].mean(axis=0)
        new = np.flatnonzero((values > 0) & ~row)
        return held[odds[np.ix_(held, new)].argmax(axis=0)], new, values[new]

    return _next_to(literature, changes, most, added=True)


def _next_to(
    literature: Literature, changes: Callable[[Mask, float], Changes], most: int, *, added: bool
) -> Neighbours:
    """The unknown systems that changes of a known system (118,) of some weight give, the best supported first."""
    found: dict[bytes, list[float]] = {}  # support, most of one parent, that parent, lost, new
    for at, (row, weight) in enumerate(zip(literature.systems, literature.weights, strict=True)):
        for lost, new, value in zip(*(each.tolist() for each in changes(row, weight)), strict=True):
            other = row.copy()
            other[lost], other[new] = added, True
            key = other.tobytes()
            if key in literature.known:
                continue
            entry = found.setdefault(key, [0.0, -1.0, 0, 0, 0])
            entry[0] += value
            if value > entry[1]:
                entry[1:] = [value, at, lost, new]
    keys = sorted(found, key=lambda key: -found[key][0])[:most]
    table = np.array([found[key] for key in keys]).reshape(-1, 5)
    systems = np.array([np.frombuffer(key, dtype=np.bool_) for key in keys], dtype=np.bool_)
    parent, lost_, new_ = (table[:, column].astype(np.int64) for column in (2, 3, 4))
    return Neighbours(systems.reshape(-1, N_ELEMENTS), table[:, 0], parent, lost_, new_, added)


def likeness() -> Floats:
    """(118, 118), symmetric, from 0 to 1, 1 on the diagonal."""
    pull = np.minimum(ELECTRONEGATIVITY, _NO_PULL)
    alike = np.exp(-(((pull[:, None] - pull) / _WIDTH) ** 2))
    either = np.isin(SYMBOLS, _EITHER)
    of_p_block = np.array([position(z + 1)[0] == "p" for z in range(N_ELEMENTS)])
    metal = metals() & ~either
    like_non_metals = either | ~metal | of_p_block
    alike *= (
        (metal[:, None] == metal) | (either[:, None] & like_non_metals) | (like_non_metals[:, None] & either)
    )
    hydrogen = INDEX["H"]
    alike[hydrogen] = alike[:, hydrogen] = _HYDRIDE * np.isin(SYMBOLS, _ANIONS)
    valence = np.full(N_ELEMENTS, np.nan)
    for charge, symbols in _ANION_VALENCES.items():
        valence[np.isin(SYMBOLS, symbols)] = charge
    factor = np.exp(-(((valence[:, None] - valence) / _VALENCE_WIDTH) ** 4))
    alike *= np.nan_to_num(factor, nan=1.0)  # where one of the two is no anion, nothing
    of_site = properties()
    radius = of_site.values[:, of_site.names.index("atomic_radius_angstrom")]
    sized = ~np.isnan(valence) & (np.arange(N_ELEMENTS) != hydrogen)
    alike[(np.abs(radius[:, None] - radius) > _MOST_RADIUS) & sized[:, None] & sized] = 0.0
    alike[alike < _NOTHING] = 0.0
    np.fill_diagonal(alike, 1.0)
    return np.asarray(alike)


def site_odds(literature: Literature) -> Floats:
    """odds[a, c] from 0 to 1: how often c takes a's place, wholly or in part, times their likeness, (118, 118)."""
    doped = per_system(doping_counts(literature), literature.systems.sum(axis=0))
    odds = np.clip(literature.swap_odds + doped, 0, 1) * likeness()
    np.fill_diagonal(odds, 0)
    return np.asarray(odds)


def doping_counts(literature: Literature) -> Floats:
    """How many systems show that c takes a part of a's site, [a, c], (118, 118)."""
    counts = np.zeros((N_ELEMENTS, N_ELEMENTS))
    compositions = literature.by_system(_MOST_COMPOSITIONS)
    places = {row.tobytes(): at for at, row in enumerate(literature.systems)}
    for row, doped in zip(literature.systems, compositions, strict=True):
        for new in np.flatnonzero(row).tolist():
            other = row.copy()
            other[new] = False
            parent = places.get(other.tobytes())
            site = None if parent is None else _gave_way(doped, compositions[parent], new)
            if site is not None:
                counts[site, new] += 1
    return counts


def _gave_way(doped: Floats, undoped: Floats, new: int) -> int | None:
    """The element that most clearly gave way to `new` between two sets of compositions, (m, 118) and (n, 118)."""
    change = undoped[None] - doped[:, None]  # (doped, undoped, 118)
    change[:, :, new] = 0
    pair = np.abs(change).sum(axis=2)
    m, n = np.unravel_index(int(pair.argmin()), pair.shape)
    site = int(change[m, n].argmax())
    came = float(doped[m, new])
    return site if abs(float(change[m, n, site]) - came) <= _AGREES * came else None


def known_vacancies(literature: Literature, base: Floats) -> Mask:
    """(118,): true for oxygen if known compositions of the system of the base (118,) hold less, all else alike."""
    found = np.zeros(N_ELEMENTS, dtype=np.bool_)
    others = base > 0
    rows = literature.fractions[((literature.fractions > 0) == others).all(axis=1)]
    if others[_OXYGEN] and others.sum() > 1:
        others[_OXYGEN] = False
        ratio = rows[:, others] / base[others]
        alike = ratio.max(axis=1) - ratio.min(axis=1) < _SAME_RATIO * ratio.mean(axis=1)
        left = rows[:, _OXYGEN] / base[_OXYGEN] / ratio.mean(axis=1)
        found[_OXYGEN] = (alike & (left > _VACANT[0]) & (left < _VACANT[1])).sum() >= _SEEN
    return found


def largest_share(literature: Literature, site: int, new: int) -> float:
    """The largest part that `new` has of what it and `site` hold together, among known compositions of both."""
    both = literature.fractions[(literature.fractions[:, site] > 0) & (literature.fractions[:, new] > 0)]
    return float((both[:, new] / (both[:, site] + both[:, new])).max(initial=0.0))


class Reasons:
    """Sentences on compositions: which element stands for which, in how many relatives, up to how much."""

    def __init__(self, literature: Literature) -> None:
        self.literature = literature
        self.swaps, self.beside = literature.swap_counts
        self.sizes = literature.systems.sum(axis=1)
        self.alike = likeness()
        self.support = self.swaps * self.alike
        self.held = np.asfortranarray(literature.fractions > 0)
        self.by_element = np.asfortranarray(literature.systems)  # columns are what is read

    def of(self, fractions: Floats, base: Floats | None = None) -> str:
        """One sentence on a composition (118,), by its difference to the base (118,) or its likeliest known origin."""
        there = fractions > 0
        origin = self._nearest_system(there) if base is None else base > 0
        if origin is None:
            return "no known system is one element away"
        new = np.flatnonzero(there & ~origin)
        if not len(new):
            known = there.tobytes() in self.literature.known
            return "other amounts of a known system" if known else "a part of a known system"
        sites = np.flatnonzero(origin)
        return "; ".join(self._replaced(int(z), sites, there) for z in new)

    def _replaced(self, new: int, sites: Ints, there: Mask) -> str:
        """How often `new` replaced the likeliest of these sites' elements beside the others that are there."""
        site = int(sites[int(self.support[sites, new].argmax())])
        if not self.support[site, new]:
            return self._in_part(new, sites)
        others = [b for b in np.flatnonzero(there) if b not in (site, new)]
        near = int(self.beside[site, new, others].max(initial=0))
        share = largest_share(self.literature, site, new)
        part = f"; in part up to {100 * share:.0f} %" if share else ""
        if near:
            relatives = "relative" if near == 1 else "relatives"
            return f"{SYMBOLS[new]} replaced {SYMBOLS[site]} wholly in {near} known {relatives}{part}"
        count = int(self.swaps[site, new])
        times = "once" if count == 1 else f"{count} times"
        return f"{SYMBOLS[new]} replaced {SYMBOLS[site]} elsewhere ({times}), never beside these{part}"

    def _in_part(self, new: int, sites: Ints) -> str:
        """Where `new` is known only beside the elements of these sites, never instead of one."""
        beside = (self.held[:, sites] & self.held[:, [new]]).sum(axis=0) * (self.alike[sites, new] > 0)
        at = int(beside.argmax())
        if not beside[at]:
            return f"{SYMBOLS[new]} replaced none of its elements in a known relative"
        share = largest_share(self.literature, int(sites[at]), new)
        known = f"{beside[at]} known compositions, up to {100 * share:.0f} %"
        return f"{SYMBOLS[new]} stands beside {SYMBOLS[sites[at]]} in {known}"

    def _nearest_system(self, there: Mask) -> Mask | None:
        """The known system one swap or one element away with the highest odds of that change, the first of equals."""
        systems, size = self.literature.systems, int(there.sum())
        shared = self.by_element[:, np.flatnonzero(there)].sum(axis=1)
        swapped = np.flatnonzero((shared == size - 1) & (self.sizes == size))
        added = np.flatnonzero((shared == self.sizes) & (self.sizes == size - 1))
        at = np.concatenate([swapped, added])
        if not len(at):
            return there if there.tobytes() in self.literature.known else None
        new = (there & ~systems[at]).argmax(axis=1)
        sites = np.concatenate([systems[swapped] & ~there, systems[added]])
        support = np.where(sites, self.support[:, new].T, -1.0).max(axis=1) * self.literature.weights[at]
        return np.asarray(systems[at[int(support.argmax())]])
