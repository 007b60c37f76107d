"""Sites of a base whose atoms give way to others of the same total charge (section 3.5).

One site and substitutes of its state is the paper's experiment. The paper also describes, and doesn't do, an exchange
of several: 2 Ti4+ and 1 O2- carry +6, as two atoms of +3 do, so Ti2O4 becomes X2O3. Here any parts of the base give
way to Σ nᵢ·qᵢ / q atoms with the state q; nothing else of the base changes, so its charge doesn't.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.chemistry.formula import parse

if TYPE_CHECKING:
    from kiago_ray.search.spec import SearchSpec


@dataclass(frozen=True)
class Substituted:
    """What is left of a base. preserved: (118,) atoms that stay. atoms: of all of it, the substitutes included."""

    preserved: NDArray[np.float64]
    atoms: float

    @property
    def fixed(self) -> NDArray[np.float64]:
        """x_const (eq. 3), (118,) fractions."""
        return self.preserved / self.atoms


def substituted(spec: SearchSpec) -> Substituted:
    """The base of `spec` without what its sites take out. Raises ValueError where the base doesn't have that, where
    nothing would stay, or where no number of substitutes carries the charge.
    """
    amounts = parse(spec.base or "")
    taken: dict[str, float] = {}
    for symbol, site in spec.sites.items():
        there = amounts.get(symbol)
        if there is None:
            raise ValueError(f"substitute: {symbol} is not in {spec.base}; name one of {', '.join(amounts)}")
        taken[symbol] = there if site.atoms is None else site.atoms
        if taken[symbol] > there:
            raise ValueError(f"substitute: {spec.base} has {there:g} of {symbol}, not {taken[symbol]:g}")
    left = {symbol: amount - taken.get(symbol, 0.0) for symbol, amount in amounts.items()}
    if not any(left.values()):
        raise ValueError(f"substitute: {spec.base} holds {', '.join(taken)} alone; nothing would stay fixed")
    preserved = np.zeros(N_ELEMENTS)
    for symbol, amount in left.items():
        preserved[INDEX[symbol]] = amount
    return Substituted(preserved, sum(amounts.values()) + _more_atoms(spec, taken))


def _more_atoms(spec: SearchSpec, taken: dict[str, float]) -> float:
    """How many atoms the substitutes are more than what they stand for."""
    state = spec.substitute_state
    if all(site.state == state for site in spec.sites.values()):
        return 0.0
    charge = sum(amount * spec.sites[symbol].state for symbol, amount in taken.items())
    if not state or charge * state <= 0:
        raise ValueError(
            f"substitute_by: no number of atoms with {state:+d} carries the charge {charge:+g} of the sites"
        )
    return charge / state - sum(taken.values())
