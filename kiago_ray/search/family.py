"""A base as a family: its sites, what may take the place of what on them, and how much of it.

Every element of the base is a site with its amount. Elements with fractional amounts that are known to replace one
another, and that together make a whole number of atoms or come nearer to one, share a site: La and Sr in
La1.85Sr0.15CuO4, O and F in LaFeAsO0.9F0.1. Of one element alone, the next whole number is the site's amount where its
vacancies are known and at most half an atom is missing: O in YBa2Cu3O6.93 stands on seven places.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS, SYMBOLS
from kiago_ray.chemistry.formula import parse
from kiago_ray.search.sections import SpecError
from kiago_ray.search.spec import SearchSpec

VACANCY = N_ELEMENTS  # the index of a place that stays empty, beside those of the elements
SHARING_ODDS = 0.01  # from which two elements are known to replace one another
MOST_ON_SITE = 4  # elements of a base that share a site
HALF = 0.5  # of a site that substitutes take at most, but on sites that may be replaced wholly
MOST_VACANT = 0.3  # share of a site that stays empty, and at most one atom of it
_WHOLE = 1e-6  # atoms

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Substitutions:
    """What is known about which element takes the place of which: data that a family search is given.

    odds: (118, 118), odds[a, c] from 0 to 1: how often c takes the place of a. vacancies: (118,) the elements whose
    places are known to stay empty in part. made: (m, 118) fractions of compounds that exist and were never tested.
    partly: (118, 118) ln P in nats of the base with c in the place of a part of its a, -inf where nothing is known;
    None where the odds have to stand for it.

    Raises ValueError for other shapes, and for odds that are not from 0 to 1.
    """

    odds: Floats
    vacancies: Mask
    made: Floats = field(default_factory=lambda: np.zeros((0, N_ELEMENTS)))
    partly: Floats | None = None

    def __post_init__(self) -> None:
        for name, shape in (("odds", (N_ELEMENTS, N_ELEMENTS)), ("vacancies", (N_ELEMENTS,))):
            found = getattr(self, name).shape
            if found != shape:
                raise ValueError(f"substitutions: {name} have the shape {found}; give {shape}")
        if self.partly is not None and self.partly.shape != self.odds.shape:
            raise ValueError(
                f"substitutions: partly has the shape {self.partly.shape}; give {self.odds.shape}"
            )
        if self.made.ndim != 2 or self.made.shape[1] != N_ELEMENTS:
            raise ValueError(f"substitutions: made has the shape {self.made.shape}; give (m, {N_ELEMENTS})")
        if not ((self.odds >= 0) & (self.odds <= 1)).all():
            raise ValueError("substitutions: odds lie between 0 and 1")


@dataclass(frozen=True)
class Site:
    """A site of a base: its own elements (indices) with their amounts, largest first, and its whole amount, of which
    they may leave a part vacant.

    substitutes: what may come in, VACANCY among it, with the odds of each. low, high: share of the site that
    substitutes take where there are any. held: the site stays as it is. leaves: its own elements are
    forbidden, so that substitutes take all. restricted: nothing else than `substitutes` may come in.
    """

    own: tuple[int, ...]
    amounts: tuple[float, ...]
    total: float
    substitutes: tuple[int, ...] = ()
    odds: tuple[float, ...] = ()
    low: float = 0.0
    high: float = 1.0
    held: bool = False
    leaves: bool = False
    restricted: bool = False

    @property
    def vacant(self) -> float:
        """Atoms that the base lacks on it."""
        return max(self.total - sum(self.amounts), 0.0)

    @property
    def most_vacant(self) -> float:
        """Share of the site that may stay empty: MOST_VACANT of it and one atom, or what the base lacks."""
        return max(min(MOST_VACANT, 1 / self.total), self.vacant / self.total)


@dataclass(frozen=True)
class Family:
    """The sites of a base in the order in which it is written, and the limits of stage 2 (see FamilySpec).

    allowed: (118,) elements that may come in somewhere.
    """

    base: str
    sites: tuple[Site, ...]
    allowed: Mask
    grid: int
    max_foreign: int
    max_foreign_per_site: int
    whole_swaps: int


def family_of(spec: SearchSpec, allowed: Mask, substitutions: Substitutions) -> Family:
    """The family of spec.base; allowed: (118,) elements that may come in. An own element of the base stays unless
    spec.elements.forbid names it; then its site is replaced wholly.

    Raises SpecError where nothing may change, or a site that has to be left mustn't be.
    """
    base, limits = spec.base or "", spec.family
    bare = sites_of(parse(base), substitutions)
    forbidden = {INDEX[symbol] for symbol in spec.elements.forbid}
    sites = tuple(_filled(site, spec, allowed, forbidden, substitutions) for site in bare)
    left = [site for site in sites if site.leaves]
    if len(left) > limits.whole_swaps:
        raise SpecError(
            f"elements.forbid: {', '.join(SYMBOLS[site.own[0]] for site in left)} of {base} would have to go, but "
            f"{limits.whole_swaps} site(s) may be replaced; allow it or choose another base"
        )
    if all(site.held or (not site.substitutes and len(site.own) == 1) for site in sites):
        raise SpecError(
            f"family: nothing is known to take the place of an element of {base} under these constraints; allow more "
            "elements, name some under family.dope, or choose the preset 'open'"
        )
    return Family(
        base=base,
        sites=sites,
        allowed=allowed,
        grid=limits.grid,
        max_foreign=limits.max_foreign,
        max_foreign_per_site=limits.max_foreign_per_site,
        whole_swaps=limits.whole_swaps,
    )


def sites_of(amounts: Mapping[str, float], substitutions: Substitutions) -> tuple[Site, ...]:
    """The sites of these amounts, in their order, with nothing that may come in."""
    fractional = [symbol for symbol, amount in amounts.items() if _from_whole(amount) > _WHOLE]
    groups: list[tuple[str, ...]] = []
    while found := _best_group(fractional, amounts, substitutions):
        groups.append(found)
        fractional = [symbol for symbol in fractional if symbol not in found]
    sites, seen = [], set()
    for symbol in amounts:
        if symbol in seen:
            continue
        group = next((group for group in groups if symbol in group), (symbol,))
        seen |= set(group)
        largest = sorted(group, key=lambda each: -amounts[each])
        total = sum(amounts[each] for each in group)
        if _from_whole(total) < _WHOLE:
            total = float(round(total))
        elif len(group) == 1 and substitutions.vacancies[INDEX[symbol]] and np.ceil(total) - total <= 0.5:
            total = float(np.ceil(total))
        sites.append(Site(tuple(INDEX[e] for e in largest), tuple(amounts[e] for e in largest), total))
    return tuple(sites)


def _from_whole(amount: float) -> float:
    return abs(amount - round(amount))


def _best_group(
    among: Iterable[str], amounts: Mapping[str, float], substitutions: Substitutions
) -> tuple[str, ...] | None:
    """The elements that share a site most certainly: those that make a whole number first, then those that replace
    one another most often; None where none do.
    """
    best, best_key = None, (False, 0.0, 0)
    among = list(among)
    for size in range(2, min(len(among), MOST_ON_SITE) + 1):
        for group in combinations(among, size):
            gap = _from_whole(sum(amounts[each] for each in group))
            odds = _weakest_link(group, substitutions)
            nearer = gap < min(_from_whole(amounts[each]) for each in group) - _WHOLE
            key = (gap < _WHOLE, odds, -size)
            if nearer and odds >= SHARING_ODDS and (best is None or key > best_key):
                best, best_key = group, key
    return best


def _weakest_link(group: tuple[str, ...], substitutions: Substitutions) -> float:
    """The least, over the elements of a group, of the odds with which another of them replaces the element."""
    index = [INDEX[symbol] for symbol in group]
    odds = substitutions.odds[np.ix_(index, index)]
    either = np.maximum(odds, odds.T)
    np.fill_diagonal(either, 0)
    return float(either.max(axis=1).min())


def _filled(
    site: Site, spec: SearchSpec, allowed: Mask, forbidden: set[int], substitutions: Substitutions
) -> Site:
    """The site with what may come in and how much."""
    family = spec.family
    symbols = {SYMBOLS[z] for z in site.own}
    kept, named = symbols & set(family.keep), symbols & set(family.dope)
    if kept and named:
        raise SpecError(
            f"family.dope: {min(named)} shares its site with {min(kept)}, which is to be kept; remove one of the two"
        )
    gone = [z for z in site.own if z in forbidden]
    if kept or (family.dope and not named):
        if gone:
            raise SpecError(
                f"elements.forbid: {SYMBOLS[gone[0]]} is on a site of {spec.base} that is to stay; remove one of the "
                "two"
            )
        return replace(site, total=sum(site.amounts), held=True)
    among = {INDEX[symbol] for name in named for symbol in family.dope[name]}
    # What is to be doped with is foreign, whatever the base holds.
    stays = tuple(z for z in site.own if z not in forbidden and z not in among)
    ordered, weights = _substitutes(site, spec, allowed, among, substitutions)
    if named and not ordered:
        raise SpecError(
            f"family.dope: nothing named for {min(named)} may come in; name elements that are allowed"
        )
    low, high = family.range
    high = high if family.whole_swaps else min(high, HALF)
    site = replace(site, restricted=bool(named))
    if not stays:
        if high < 1 or not ordered:
            raise SpecError(
                f"elements.forbid: nothing may take the whole place of {SYMBOLS[site.own[0]]} in {spec.base}; allow "
                "it or choose another base"
            )
        return replace(site, substitutes=ordered, odds=weights, low=1.0, leaves=True)
    if site.vacant or (not named and substitutions.vacancies[list(site.own)].any()):
        ordered = (*ordered, VACANCY)
        weights = (*weights, float(np.mean(weights)) if weights else 1.0)
    amounts = [amount for z, amount in zip(site.own, site.amounts, strict=True) if z in stays]
    scale = sum(site.amounts) / sum(amounts)
    amounts = [amount * scale for amount in amounts]
    return replace(
        site, own=stays, amounts=tuple(amounts), substitutes=ordered, odds=weights, low=low, high=high
    )


def _substitutes(
    site: Site, spec: SearchSpec, allowed: Mask, named: set[int], substitutions: Substitutions
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The elements that may come in on a site, by falling odds, and these: those named for it, or else those that are
    known to replace its own. What the base holds on another site stays there: antisites are defects, no design.
    """
    odds = np.average(substitutions.odds[list(site.own)], axis=0, weights=site.amounts)
    among = named
    if not among:
        among = {int(z) for z in np.flatnonzero(odds > 0)}
        among -= {INDEX[symbol] for symbol in parse(spec.base or "")}
    ordered = sorted((z for z in among if allowed[z]), key=lambda z: (-odds[z], z))
    ordered = ordered[: spec.family.substitutes]
    return tuple(ordered), tuple(float(odds[z]) or SHARING_ODDS for z in ordered)
