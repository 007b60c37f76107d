"""Which element takes the place of which, wholly or in part, and up to how much: as odds, and in words.

Likeness is exp(−(Δχ/0.6)²) in Pauling's electronegativity χ between metals, and between anions; 0 between metals and
non-metals. The half-metals B, Si, Ge, As, Sb, Te and Bi stand for non-metals and for metals of the p block alone, and
hydrogen for oxygen and fluorine, as hydride. Anions of other valence stand for one another less, exp(−(Δq/1.5)⁴), and
not at all where their radii differ by more than 0.5 Å: tellurium does not stand for boron. Less than 0.05 is nothing.

A composition with one element more than a known one tells where it went: the element that became less, by about as
much, gave way to it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from kiago_ray.chemistry.elements import (
    ELECTRONEGATIVITY,
    INDEX,
    N_ELEMENTS,
    SYMBOLS,
    Floats,
    Ints,
    Mask,
    position,
    properties,
)
from kiago_ray.chemistry.oxidation import metals
from kiago_ray.plausibility.literature import Literature, per_system

_WIDTH = 0.6
_NO_PULL = 4.5  # of elements without an electronegativity
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


def likeness() -> Floats:
    """(118, 118), symmetric, from 0 to 1, 1 on the diagonal."""
    pull = np.array([value if np.isfinite(value) else _NO_PULL for value in ELECTRONEGATIVITY])
    alike = np.exp(-(((pull[:, None] - pull) / _WIDTH) ** 2))
    either = _set(_EITHER)
    of_p_block = np.array([position(z + 1)[0] == "p" for z in range(N_ELEMENTS)])
    metal = metals() & ~either
    like_non_metals = either | ~metal | of_p_block
    alike *= (
        (metal[:, None] == metal) | (either[:, None] & like_non_metals) | (like_non_metals[:, None] & either)
    )
    hydrogen = INDEX["H"]
    alike[hydrogen] = alike[:, hydrogen] = _HYDRIDE * _set(_ANIONS)
    valence = np.full(N_ELEMENTS, np.nan)
    for charge, symbols in _ANION_VALENCES.items():
        valence[_set(symbols)] = charge
    factor = np.exp(-(((valence[:, None] - valence) / _VALENCE_WIDTH) ** 4))
    alike *= np.nan_to_num(factor, nan=1.0)  # where one of the two is no anion, nothing
    of_site = properties()
    radius = of_site.values[:, of_site.names.index("atomic_radius_angstrom")]
    sized = ~np.isnan(valence) & (np.arange(N_ELEMENTS) != hydrogen)
    alike[(np.abs(radius[:, None] - radius) > _MOST_RADIUS) & sized[:, None] & sized] = 0.0
    alike[alike < _NOTHING] = 0.0
    np.fill_diagonal(alike, 1.0)
    return np.asarray(alike)


def _set(symbols: Iterable[str]) -> Mask:
    """(118,): these elements."""
    return np.isin(SYMBOLS, list(symbols))


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
        """One sentence on a composition (118,): by its difference to the base (118,), if there is one, else to the
        known system that it comes from most likely.
        """
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
