"""A specification turned into what a search optimises over: x_const, M_elem, the limits (sections 2.4 to 2.6); and of
a base whose structure is kept the family: its sites, what may take the place of what on them and how much of it, and
the proposals that no gradient makes: whole swaps, known compounds beside the base, one element more, each list in an
order that depends on the family and what is known alone.

Every element of the base is a site with its amount. Elements with fractional amounts that are known to replace one
another, and that together make a whole number of atoms or come nearer to one, share a site: La and Sr in
La1.85Sr0.15CuO4. Of one element alone, the next whole number is the site's amount where its vacancies are known and at
most half an atom is missing: O in YBa2Cu3O6.93 stands on seven places.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations

import numpy as np

from kiago_ray.chemistry import oxidation
from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS, SYMBOLS, Floats, Mask
from kiago_ray.chemistry.formula import amounts_row, fractions, parse
from kiago_ray.search.sections import FamilySpec, SourcesSpec, SpecError
from kiago_ray.search.spec import SearchSpec

MIN_TOTAL = 1e-6  # of ReLU(x_base): below this a row has nothing left to normalise
VACANCY = N_ELEMENTS  # the index of a place that stays empty, beside those of the elements
SHARING_ODDS = 0.01  # from which two elements are known to replace one another
MOST_ON_SITE = 4  # elements of a base that share a site
HALF = 0.5  # of a site that substitutes take at most, but on sites that may be replaced wholly
MOST_VACANT = 0.3  # share of a site that stays empty, and at most one atom of it
PORTIONS = (0.5, 0.25)  # of a site that "plus one" gives to a foreign element
SAME_ATOMS = 0.01  # atoms by which an amount may differ and count as the same
CYCLE = 20  # rows after which the pattern of sources repeats
_WHOLE = 1e-6  # atoms
_MORE = 1e-9
_KEY_DECIMALS = 4  # of fractions that are the same composition

Occupation = tuple[dict[int, float], ...]
"""For each site its elements (indices) with their atoms."""


@dataclass(frozen=True)
class Substitutions:
    """What is known about which element takes the place of which: data that a family search is given.

    odds: (118, 118), odds[a, c] from 0 to 1: how often c takes the place of a. vacancies: (118,) the elements whose
    places are known to stay empty in part. made: (m, 118) fractions of compounds that exist and were never tested.
    partly: (118, 118) ln P in nats of the base with c in the place of a part of its a, -inf where nothing is known;
    None where the odds have to stand for it.
    """

    odds: Floats
    vacancies: Mask
    made: Floats = field(default_factory=lambda: np.zeros((0, N_ELEMENTS)))
    partly: Floats | None = None


@dataclass(frozen=True)
class Site:
    """A site of a base: its own elements (indices) with their amounts, largest first, and its whole amount, of which
    they may leave a part vacant.

    substitutes: what may come in, VACANCY among it, with the odds of each. low, high: share of the site that
    substitutes take where there are any. held: the site stays as it is. leaves: its own elements are forbidden, so
    that substitutes take all. restricted: nothing else than `substitutes` may come in.
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

    def takes(self, share: float) -> bool:
        """Whether substitutes may take this share of the site."""
        return self.low - _MORE <= share <= self.high + _MORE


@dataclass(frozen=True)
class Family:
    """The sites of a base in the order in which it is written, and the limits of stage 2.

    allowed: (118,) elements that may come in somewhere. lists: by source the proposals that no gradient makes.
    """

    sites: tuple[Site, ...]
    allowed: Mask
    limits: FamilySpec
    lists: Mapping[str, Sequence[Occupation]] = field(default_factory=dict)

    @cached_property
    def occupation(self) -> Occupation:
        """The base itself, its vacancies left out."""
        return tuple(dict(zip(site.own, site.amounts, strict=True)) for site in self.sites)

    @cached_property
    def width(self) -> int:
        """Slots of a site for its own elements."""
        return max(len(site.own) for site in self.sites)

    @cached_property
    def slots(self) -> int:
        """Slots of a site, for its own elements and for what may come in."""
        most = max(len(site.substitutes) for site in self.sites)
        return self.width + max(self.limits.max_foreign_per_site, most)

    @property
    def open_sites(self) -> list[tuple[int, Site]]:
        """The sites that may change, with their places; where a site has to be left, that one alone."""
        free = [(at, site) for at, site in enumerate(self.sites) if not site.held]
        return [(at, site) for at, site in free if site.leaves] or free

    def with_site(self, at: int, held: dict[int, float]) -> Occupation:
        """The base with other atoms on one site."""
        return (*self.occupation[:at], held, *self.occupation[at + 1 :])

    def may_replace(self, site: Site, own: int, odds: Floats) -> list[int]:
        """Elements that may take the place of `own` on a site, by odds (118, 118) above 0; of a site that is named for
        doping only those named.
        """
        if site.restricted:
            return [z for z in site.substitutes if z != VACANCY]
        return [z for z in np.flatnonzero((odds[own] > 0) & self.allowed).tolist() if z != own]


@dataclass(frozen=True)
class Problem:
    """What a search optimises over.

    base: (118,) fractions of the base material, or None. atoms: the base formula's total as written, with its
    substitutes where sites are substituted (1 without a base). const: (118,) fractions, x_const. allowed: (118,)
    M_elem of the optimised part. totals: atoms that an integer formula may have. limit: elements that may be optimised
    at once in stage 2, besides fixed ones. family: the base's sites, None for a search that doesn't keep them.
    """

    spec: SearchSpec
    base: Floats | None
    atoms: float
    const: Floats
    allowed: Mask
    totals: tuple[int, ...]
    limit: int
    family: Family | None = None

    @property
    def fixed(self) -> Mask:
        """Where x_const holds something, (118,)."""
        return self.const > 0

    def generator(self, row: int) -> np.random.Generator:
        """What a row draws from: by the seed, the base and its number alone, whatever ran before, and where."""
        return row_generator(self.spec.seed, self.base_text, row)

    @cached_property
    def base_text(self) -> str:
        """The base as `row_generator` takes it."""
        return canonical_text(self.base)


def resolve(spec: SearchSpec, supported: Mask, substitutions: Substitutions | None = None) -> Problem:
    """Check what needs the predictors' supported elements (118,) and the data, and build the arrays.

    Raises SpecError where the base is missing, fixed elements are unknown to the predictors, the mask leaves nothing
    or no number of atoms fits, and for a family without `substitutions` or without anything that may change.
    """
    if spec.base is None and (spec.start.kind == "perturb" or spec.substitute is not None):
        raise SpecError("base: this search starts from a base material; give a formula such as 'LaNiAsO'")
    amounts = parse(spec.base) if spec.base is not None else {}
    const, atoms = amounts_row(spec.fixed), sum(amounts.values()) or 1.0  # eq. 3
    if spec.substitute is not None:
        const, atoms = spec.substituted()
    own = [INDEX[symbol] for symbol in amounts] if spec.family.enabled else []
    for name, held, advice in (
        ("fixed", np.flatnonzero(const), "fix elements that they support"),
        ("base", own, "choose another base"),
    ):
        if unknown := [SYMBOLS[z] for z in held if not supported[z]]:
            raise SpecError(f"{name}: the predictors don't know {', '.join(unknown)}; {advice}")
    allowed, family = _allowed(spec, supported, const), None
    if spec.family.enabled:
        if substitutions is None:
            raise SpecError(
                "family.enabled: a search that keeps its base's sites has to be given which elements replace one "
                "another; give substitutions, or choose the preset 'open'"
            )
        family = family_of(spec, allowed, substitutions)
    base = fractions(amounts) if amounts else None
    totals, limit = spec.totals(const), spec.free_elements(int((const > 0).sum()))
    return Problem(spec, base, atoms, const, allowed, totals, limit, family)


def _allowed(spec: SearchSpec, supported: Mask, const: Floats) -> Mask:
    """M_elem, (118,): what predictors support, the specification allows, has the state and is not fixed exactly."""
    allowed: Mask = supported & ~np.isin(SYMBOLS, spec.elements.forbid)
    if spec.elements.allow is not None:
        allowed &= np.isin(SYMBOLS, spec.elements.allow)
    state = spec.oxidation_state if spec.substitute is None else spec.substitute_state
    if state is not None:
        has_state = oxidation.mask(state, spec.oxidation_set)
        if not has_state.any():
            every = sorted({one for known in oxidation.states(spec.oxidation_set) for one in known})
            span = f"{every[0]:+d} to {every[-1]:+d}"
            key = "oxidation_state" if spec.substitute is None else "substitute"
            raise SpecError(
                f"{key}: no element has the state {state:+d} in {spec.oxidation_set}; its states are {span}"
            )
        allowed &= has_state
    if not spec.fixed_may_grow:
        allowed &= const <= 0
    if not allowed.any():
        reason = "" if state is None else f" (with oxidation state {state:+d} in {spec.oxidation_set})"
        raise SpecError(f"elements: the mask leaves no element to optimise{reason}; allow more or fix fewer")
    return allowed


def canonical_text(base: Floats | None) -> str:
    """One text for every way to write a composition (118,), by atomic number; "" for none."""
    if base is None:
        return ""
    return " ".join(f"{SYMBOLS[z]}{base[z]:.9f}" for z in np.flatnonzero(base))


def row_generator(seed: int, base_text: str, row: int) -> np.random.Generator:
    """The generator of one row, the same in every process and on every machine."""
    words = np.frombuffer(hashlib.sha256(base_text.encode()).digest(), dtype=">u4")
    return np.random.default_rng(np.random.SeedSequence([seed, row, *words.tolist()]))


def family_of(spec: SearchSpec, allowed: Mask, substitutions: Substitutions) -> Family:
    """The family of spec.base with its proposals; allowed: (118,) elements that may come in. An own element of the
    base stays unless spec.elements.forbid names it; then its site is replaced wholly.

    Raises SpecError where nothing may change, or a site that has to be left mustn't be.
    """
    base, swaps = spec.base or "", spec.family.whole_swaps
    bare = sites_of(parse(base), substitutions)
    sites = tuple(_filled(site, spec, allowed, substitutions) for site in bare)
    left = [SYMBOLS[site.own[0]] for site in sites if site.leaves]
    if len(left) > swaps:
        raise SpecError(
            f"elements.forbid: {', '.join(left)} of {base} would have to go, but {swaps} site(s) may be replaced; "
            "allow it or choose another base"
        )
    if all(site.held or (not site.substitutes and len(site.own) == 1) for site in sites):
        raise SpecError(
            f"family: nothing is known to take the place of an element of {base} under these constraints; allow more "
            "elements, name some under family.dope, or choose the preset 'open'"
        )
    family = Family(sites, allowed, spec.family)
    return replace(family, lists=proposed(family, substitutions))


def sites_of(amounts: Mapping[str, float], substitutions: Substitutions) -> tuple[Site, ...]:
    """The sites of these amounts, in their order, with nothing that may come in."""
    groups: dict[str, tuple[str, ...]] = {symbol: (symbol,) for symbol in amounts}
    fractional = [symbol for symbol, amount in amounts.items() if _from_whole(amount) > _WHOLE]
    while found := _best_group(fractional, amounts, substitutions.odds):
        groups |= dict.fromkeys(found, found)
        fractional = [symbol for symbol in fractional if symbol not in found]
    sites = []
    for group in dict.fromkeys(groups.values()):
        largest = sorted(group, key=lambda each: -amounts[each])
        total = sum(amounts[each] for each in group)
        if _from_whole(total) < _WHOLE:
            total = float(round(total))
        elif len(group) == 1 and substitutions.vacancies[INDEX[group[0]]] and np.ceil(total) - total <= 0.5:
            total = float(np.ceil(total))
        sites.append(Site(tuple(INDEX[e] for e in largest), tuple(amounts[e] for e in largest), total))
    return tuple(sites)


def _from_whole(amount: float) -> float:
    return abs(amount - round(amount))


def _best_group(among: Sequence[str], amounts: Mapping[str, float], odds: Floats) -> tuple[str, ...]:
    """The elements that share a site most certainly: those that make a whole number first, then those whose weakest
    link is strongest, by the odds (118, 118) with which one replaces another; () where none do.
    """
    best: tuple[tuple[bool, float, int], tuple[str, ...]] = ((False, 0.0, 0), ())
    either = np.maximum(odds, odds.T)
    for size in range(2, min(len(among), MOST_ON_SITE) + 1):
        for group in combinations(among, size):
            gap = _from_whole(sum(amounts[each] for each in group))
            if gap >= min(_from_whole(amounts[each]) for each in group) - _WHOLE:
                continue
            index = [INDEX[symbol] for symbol in group]
            links = either[np.ix_(index, index)]
            np.fill_diagonal(links, 0)
            weakest = float(links.max(axis=1).min())
            certainty = (gap < _WHOLE, weakest, -size)
            if weakest >= SHARING_ODDS and certainty > best[0]:
                best = (certainty, group)
    return best[1]


def _filled(site: Site, spec: SearchSpec, allowed: Mask, substitutions: Substitutions) -> Site:
    """The site with what may come in and how much."""
    family, base = spec.family, spec.base
    symbols = {SYMBOLS[z] for z in site.own}
    kept, named = symbols & set(family.keep), symbols & set(family.dope)
    if kept and named:
        raise SpecError(
            f"family.dope: {min(named)} shares its site with {min(kept)}, which is to be kept; remove one of the two"
        )
    gone = [SYMBOLS[z] for z in site.own if SYMBOLS[z] in spec.elements.forbid]
    if kept or (family.dope and not named):
        if gone:
            raise SpecError(
                f"elements.forbid: {gone[0]} is on a site of {base} that is to stay; remove one of the two"
            )
        return replace(site, total=sum(site.amounts), held=True)
    dopants = {symbol for name in named for symbol in family.dope[name]}
    ordered, odds = _substitutes(site, spec, allowed, {INDEX[symbol] for symbol in dopants}, substitutions)
    if named and not ordered:
        raise SpecError(
            f"family.dope: nothing named for {min(named)} may come in; name elements that are allowed"
        )
    low, high = family.range
    high = high if family.whole_swaps else min(high, HALF)
    # What is to be doped with is foreign, whatever the base holds.
    stays = [at for at, z in enumerate(site.own) if SYMBOLS[z] not in {*gone, *dopants}]
    site = replace(site, substitutes=ordered, odds=odds, restricted=bool(named))
    if not stays:
        if high < 1 or not ordered:
            raise SpecError(
                f"elements.forbid: nothing may take the whole place of {SYMBOLS[site.own[0]]} in {base}; allow it or "
                "choose another base"
            )
        return replace(site, low=1.0, leaves=True)
    if site.vacant or (not named and substitutions.vacancies[list(site.own)].any()):
        mean = float(np.mean(odds)) if odds else 1.0
        site = replace(site, substitutes=(*ordered, VACANCY), odds=(*odds, mean))
    scale = sum(site.amounts) / sum(site.amounts[at] for at in stays)
    own, amounts = zip(*((site.own[at], site.amounts[at] * scale) for at in stays), strict=True)
    return replace(site, own=own, amounts=amounts, low=low, high=high)


def _substitutes(
    site: Site, spec: SearchSpec, allowed: Mask, named: set[int], substitutions: Substitutions
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The elements that may come in on a site and their odds, falling: those named for it, or else those known to
    replace its own. What the base holds on another site stays there: antisites are defects, no design.
    """
    odds = np.average(substitutions.odds[list(site.own)], axis=0, weights=site.amounts)
    among = named or set(np.flatnonzero(odds > 0)) - {INDEX[symbol] for symbol in parse(spec.base or "")}
    ordered = sorted((int(z) for z in among if allowed[z]), key=lambda z: (-odds[z], z))
    ordered = ordered[: spec.family.substitutes]
    return tuple(ordered), tuple(float(odds[z]) or SHARING_ODDS for z in ordered)


def atoms_of(occupation: Occupation) -> Floats:
    """Atoms of each element, (118,), of all sites together."""
    row = np.zeros(N_ELEMENTS)
    for site in occupation:
        for z, amount in site.items():
            row[z] += amount
    return row


def proposed(family: Family, substitutions: Substitutions) -> dict[str, list[Occupation]]:
    """The lists of proposals by source; what exists is not among the swaps."""

    def key(occupation: Occupation) -> bytes:
        atoms = atoms_of(occupation)
        return bytes(np.round(atoms / atoms.sum(), _KEY_DECIMALS).tobytes())

    existing = made(family, substitutions)
    keys = {key(each) for each in existing}
    swapped = [each for each in swaps(family, substitutions) if key(each) not in keys]
    return {"swap": swapped, "made": existing, "plus one": plus_one(family, substitutions)}


def swaps(family: Family, substitutions: Substitutions) -> list[Occupation]:
    """One own element of a site replaced wholly by another element, by falling odds."""
    base, odds, found = family.occupation, substitutions.odds, []
    for at, site in family.open_sites:
        for own, amount in zip(site.own, site.amounts, strict=True):
            for z in family.may_replace(site, own, odds):
                if z not in base[at] and site.takes(amount / site.total):
                    changed = {z if each == own else each: atoms for each, atoms in base[at].items()}
                    found.append((-odds[own, z], at, own, z, family.with_site(at, changed)))
    return [each[-1] for each in sorted(found, key=lambda each: each[:-1])]


def plus_one(family: Family, substitutions: Substitutions) -> list[Occupation]:
    """One foreign element on a part of a site in the place of its main one: that which makes the most plausible
    composition first, the others by falling odds. What fits a base may be rare elsewhere, as fluorine on oxygen is.
    """
    base, grid, odds, partly = family.occupation, family.limits.grid, substitutions.odds, substitutions.partly
    found: list[tuple[int, int, int, int, Occupation]] = []
    for at, site in family.open_sites:
        main, amount = site.own[0], site.amounts[0]
        units = (max(round(portion * site.total * grid), 1) for portion in PORTIONS)
        doped = [unit / grid for unit in dict.fromkeys(units)]
        for z in family.may_replace(site, main, odds):
            for place, atoms in enumerate(doped):
                if atoms <= amount - _MORE and site.takes(atoms / site.total):
                    changed = {**base[at], main: amount - atoms}
                    changed[z] = changed.get(z, 0.0) + atoms
                    found.append((main, z, place, at, family.with_site(at, changed)))
    likely = sorted(found, key=lambda each: (-odds[each[:2]], each[2], each[3], each[1]))
    if partly is not None and found:
        best = max(found, key=lambda each: float(partly[each[:2]]))[:2]
        likely.sort(key=lambda each: each[:2] != best)
    return [each[-1] for each in likely]


def made(family: Family, substitutions: Substitutions) -> list[Occupation]:
    """Compounds of `substitutions.made` that are the base but for one site, where up to max_foreign_per_site foreign
    elements stand in any amounts; those with the likelier substitutes first.
    """
    base, odds = family.occupation, substitutions.odds
    total, own = sum(site.total for site in family.sites), atoms_of(base)
    most = min(family.limits.max_foreign_per_site, family.limits.max_foreign)
    found = []
    for at, site in family.open_sites:
        rest = own - atoms_of((base[at],))
        likely = np.flatnonzero((substitutions.made[:, rest > SAME_ATOMS] > 0).all(axis=1))
        there = substitutions.made[likely] * total - rest
        for row in np.flatnonzero((there > -SAME_ATOMS).all(axis=1)).tolist():
            on_site = {int(z): float(there[row, z]) for z in np.flatnonzero(there[row] > SAME_ATOMS)}
            foreign = {z: amount for z, amount in on_site.items() if z not in site.own}
            filled = abs(sum(on_site.values()) - site.total) <= SAME_ATOMS
            # The base's elements stay on their own sites.
            allowed = all(family.allowed[z] and rest[z] <= SAME_ATOMS for z in foreign)
            share = sum(foreign.values()) / site.total
            if 0 < len(foreign) <= most and filled and allowed and site.takes(share):
                likelihood = sum(odds[site.own[0], z] * amount for z, amount in foreign.items())
                found.append((-likelihood, at, int(likely[row]), family.with_site(at, on_site)))
    return [each[-1] for each in sorted(found, key=lambda each: each[:-1])]


def sources_of(shares: SourcesSpec, rows: Sequence[int]) -> list[tuple[str, int]]:
    """The source of each row, by the row's number and the shares alone, and how many rows before it have the same. In
    every CYCLE rows that source is next which is furthest behind its share.
    """
    given = {source.replace("_", " "): share for source, share in shares}
    total, behind, pattern = sum(given.values()), dict.fromkeys(given, 0.0), list[str]()
    for _ in range(CYCLE):
        behind = {label: value + given[label] / total for label, value in behind.items()}
        pattern.append(max(behind, key=lambda label: round(behind[label], 9)))
        behind[pattern[-1]] -= 1
    found = []
    for cycle, place in (divmod(row, CYCLE) for row in rows):
        label = pattern[place]
        found.append((label, cycle * pattern.count(label) + pattern[:place].count(label)))
    return found
