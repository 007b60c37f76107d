"""Which element of a composition stands on which sites of a prototype.

A search's rows were proposed site by site, but a table holds the composition alone. It is laid on the prototype's
sites by a linear program: atoms go where they cost least. An element costs nothing on its own sites; elsewhere it
costs the more, the less it is known to replace what stands there, and the more they differ in size and
electronegativity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

from kiago_ray.chemistry.elements import INDEX, Floats, properties
from kiago_ray.structures.prototypes import Prototype

VACANCY_COST = 0.35
MOST_VACANT = 0.2  # share of the sites of a prototype that may stay empty
MOST_COST = 0.35  # a site, above which a prototype is none for a composition
_LEAST_ODDS = 1e-6
_SAME = 1e-6


@dataclass(frozen=True)
class Occupation:
    """A composition on a prototype. held: of each of the prototype's own elements what stands on its sites, atoms of
    each element in its formula unit; what lacks is vacant. cost: a site.
    """

    prototype: Prototype
    held: Mapping[str, Mapping[str, float]]
    cost: float


def occupations(
    amounts: Mapping[str, float],
    prototypes: Sequence[Prototype],
    odds: Floats,
    base: Mapping[str, float] | None = None,
    *,
    most: int = 5,
) -> list[Occupation]:
    """At most so many prototypes that a composition fits, the best first, one of each family; where some have the
    composition of its base, these alone.

    odds: (118, 118) of one element taking another's place, as the plausibility knows them.
    """
    of_base = [each for each in prototypes if base is not None and _is(each, base)]
    promising: list[tuple[float, int, Prototype, float]] = []
    for prototype in of_base or prototypes:
        for scale in _scales(amounts, prototype, base):
            least = _least_cost(amounts, scale, prototype, odds)
            if least <= MOST_COST:
                promising.append((least, len(promising), prototype, scale))
    found = dict[str, Occupation]()  # by family
    for least, _, prototype, scale in sorted(promising, key=lambda each: each[:2]):
        worst = sorted(each.cost for each in found.values())[most - 1 :]
        if worst and least > worst[0]:
            break
        laid, key = _laid(amounts, scale, prototype, odds), prototype.family
        if laid is not None and laid.cost <= min(MOST_COST, found[key].cost if key in found else np.inf):
            found[key] = laid
    return sorted(found.values(), key=lambda each: round(each.cost, 6))[:most]


def _least_cost(amounts: Mapping[str, float], scale: float, prototype: Prototype, odds: Floats) -> float:
    """What laying the amounts costs at least, a site: as if the sites had room for all."""
    sites, atoms = sum(prototype.amounts.values()), scale * sum(amounts.values())
    cheapest = (
        amount * min(replacement_cost(symbol, site, odds) for site in prototype.amounts)
        for symbol, amount in amounts.items()
    )
    return float((scale * sum(cheapest) + VACANCY_COST * max(sites - atoms, 0)) / sites)


def _is(prototype: Prototype, amounts: Mapping[str, float]) -> bool:
    """Whether the prototype has this composition, to a tenth of each amount (the base may be doped)."""
    own, total = prototype.amounts, sum(amounts.values())
    if own.keys() != amounts.keys():
        return False
    scale = sum(own.values()) / total
    return all(abs(own[symbol] - scale * amount) <= 0.1 * own[symbol] for symbol, amount in amounts.items())


def _scales(
    amounts: Mapping[str, float], prototype: Prototype, base: Mapping[str, float] | None
) -> list[float]:
    """By what the amounts may be multiplied to fill the cell: all of it, or one element its sites."""
    sites, total = sum(prototype.amounts.values()), sum(amounts.values())
    if base is not None and _is(prototype, base):
        return [scale for scale in [sites / sum(base.values())] if scale * total <= sites + _SAME] or [
            sites / total
        ]
    scales = {sites / total}
    for amount in amounts.values():
        scales |= {number / amount for number in prototype.amounts.values()}
    return sorted(
        {round(scale, 9) for scale in scales if (1 - MOST_VACANT) * sites <= scale * total <= sites + _SAME}
    )


def _laid(
    amounts: Mapping[str, float], scale: float, prototype: Prototype, odds: Floats
) -> Occupation | None:
    """The cheapest way to lay scaled amounts on the sites; None where they don't fit."""
    own, symbols = list(prototype.amounts), list(amounts)
    room = np.array([prototype.amounts[symbol] for symbol in own], dtype=float)
    atoms = scale * np.array([amounts[symbol] for symbol in symbols])
    cost = np.array([[replacement_cost(symbol, site, odds) for site in own] for symbol in symbols])
    on_element = np.kron(np.eye(len(symbols)), np.ones(len(own)))
    on_site = np.tile(np.eye(len(own)), len(symbols))
    found = linprog(cost.ravel(), A_ub=on_site, b_ub=room + 1e-9, A_eq=on_element, b_eq=atoms, method="highs")
    if found.x is None:
        return None
    laid = found.x.reshape(cost.shape)
    vacant = max(room.sum() - atoms.sum(), 0.0)
    held = {
        site: {symbol: float(laid[i, j]) for i, symbol in enumerate(symbols) if laid[i, j] > 1e-4}
        for j, site in enumerate(own)
    }
    if not all(held.values()):  # a whole sublattice is empty
        return None
    return Occupation(prototype, held, float((found.fun + VACANCY_COST * vacant) / room.sum()))


def replacement_cost(symbol: str, site: str, odds: Floats) -> float:
    """What it costs that an element stands on another's site, from 0 to some 2."""
    if symbol == site:
        return 0.0
    a, b = INDEX[symbol], INDEX[site]
    known = max(odds[b, a], odds[a, b], _LEAST_ODDS)
    radius, chi = (_column(name) for name in ("atomic_radius_angstrom", "electronegativity_pauling"))
    size, polarity = abs(np.log(radius[a] / radius[b])), abs(chi[a] - chi[b])
    return float(-np.log10(known) / 12 + size / 2 + polarity / 4)


def _column(name: str) -> Floats:
    """A property of the 118 elements."""
    own = properties()
    column: Floats = own.values[:, own.names.index(name)]
    return column
