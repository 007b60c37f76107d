"""Every known family once, as the bases of a campaign: `bases: literature`.

Of each known superconductor a family's chemical system is told from its sites: elements with fractional amounts that
are known to replace one another share one (`search.family.sites_of`), and of these the one with most of it counts. So
La1.85Sr0.15CuO4, La2CuO4 and La1.9Ba0.1CuO3.98 are of the family of La, Cu and O; LaFeAsO0.9F0.1 is of LaFeAsO's,
while SmFeAsO, whose place nobody shares by half, is of one of its own, as are MgB2 and NbSe2. Where all elements would
share one site it is an alloy, of which all but traces count: Nb0.78Sn0.22 and Nb3Sn are of one family.

For a family stands the composition with the most reports among those with at least half of its highest T_c. That
isn't the highest T_c itself: of a thousand compositions one or two are always misprints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from kiago_ray.chemistry.elements import SYMBOLS
from kiago_ray.chemistry.formula import parse
from kiago_ray.screening.known import KnownMaterials
from kiago_ray.search.family import Substitutions, sites_of
from kiago_ray.search.sections import Section, SpecError, Symbol

LITERATURE = "literature"
MAX_FAMILIES = 10_000
_TRACE = 0.05  # share of an alloy's atoms below which an element doesn't tell
_WELL_BELOW = 0.5  # of a family's highest T_c, from which a composition may stand for it


class LiteratureSpec(Section):
    """Which of the known families a campaign searches around."""

    min_tc_k: float = Field(
        default=0.0,
        ge=0,
        le=1000,
        description="Least T_c in K of the composition that stands for the family.",
    )
    since: int | None = Field(
        default=None, ge=1900, le=2200, description="Year from which its first superconductor was reported."
    )
    until: int | None = Field(default=None, ge=1900, le=2200, description="Last such year.")
    elements: tuple[Symbol, ...] = Field(
        default=(), max_length=20, description="Elements that all have to be in it."
    )
    without: tuple[Symbol, ...] = Field(
        default=(), max_length=118, description="Elements of which none may be in it."
    )
    most: int | None = Field(
        default=None,
        ge=1,
        le=MAX_FAMILIES,
        description="So many families, those with the most known compositions; null for all.",
    )


@dataclass(frozen=True)
class KnownFamily:
    """base: the composition that stands for it, with its T_c in K, few reports weighed down (`improvement`), and its
    reports. system: the family's elements. compositions: how many are known. year: of the first, None where unknown.
    """

    base: str
    tc_k: float
    reports: int
    system: frozenset[str]
    compositions: int
    year: int | None


def known_families(materials: KnownMaterials, substitutions: Substitutions) -> list[KnownFamily]:
    """The families of the known superconductors at ambient pressure, those with the most compositions first.

    substitutions: which elements replace one another at all, whatever stands beside them.
    """
    members: dict[frozenset[str], list[int]] = {}
    for at in np.flatnonzero(materials.weighed_tc_k > 0).tolist():
        system = family_system(materials.formulas[at], substitutions)
        members.setdefault(system, []).append(at)
    families = [_family(system, rows, materials) for system, rows in members.items()]
    return sorted(families, key=lambda each: (-each.compositions, -each.reports, each.base))


def family_system(formula: str, substitutions: Substitutions) -> frozenset[str]:
    """The elements of a composition's family: of each site the one with most of it. Raises FormulaError."""
    amounts = parse(formula)
    sites = sites_of(amounts, substitutions)
    if len(sites) == 1:
        least = _TRACE * sum(amounts.values())
        return frozenset(symbol for symbol, amount in amounts.items() if amount >= least)
    return frozenset(SYMBOLS[site.own[0]] for site in sites)


def chosen_families(spec: LiteratureSpec, families: Sequence[KnownFamily]) -> list[KnownFamily]:
    """Those that the specification asks for, in their order. Raises SpecError where there are none."""
    found = [family for family in families if _asked_for(spec, family)][: spec.most]
    if not found:
        raise SpecError(
            f"bases: none of {len(families):,} known families is what literature asks for; ask for less"
        )
    return found


def _asked_for(spec: LiteratureSpec, family: KnownFamily) -> bool:
    held = set(parse(family.base))
    if family.tc_k < spec.min_tc_k or not held >= set(spec.elements) or held & set(spec.without):
        return False
    if spec.since is None and spec.until is None:
        return True
    return family.year is not None and (spec.since or 0) <= family.year <= (spec.until or family.year)


def _family(system: frozenset[str], rows: Sequence[int], materials: KnownMaterials) -> KnownFamily:
    tc_k, reports = materials.weighed_tc_k, materials.reports
    highest = max(tc_k[at] for at in rows)
    standing = [at for at in rows if tc_k[at] >= _WELL_BELOW * highest]
    best = min(standing, key=lambda at: (-reports[at], -tc_k[at], materials.formulas[at]))
    years = [year for at in rows if (year := materials.year[at]) is not None]
    return KnownFamily(
        base=materials.formulas[best],
        tc_k=float(tc_k[best]),
        reports=int(reports[best]),
        system=system,
        compositions=len(rows),
        year=min(years, default=None),
    )
