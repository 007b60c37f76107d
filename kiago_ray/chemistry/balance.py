"""The likeliest oxidation states that add up to zero, for any amounts: charge as it is, mixed valence being the rule.

Each atom takes a state; the cost is Σ atoms·nats of its state (`state_costs`), the total charge must be 0, and cations
are less electronegative than anions (the Pauling rule, a cut over the scale as in `neutrality`). That is a linear
program with one constraint beside those that give each element its atoms, so of its optimum at most one element is
mixed, of two states: Cu²⁺ and Cu³⁺ in La1.85Sr0.15CuO4. `charge_sweep` solves it exactly.

Metals and intermetallics need no balance (see `bonding`), cuprates tell their doping by it (see `cuprates`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry.bonding import Kind, metallic
from kiago_ray.chemistry.charge_sweep import Shares, cheapest_states
from kiago_ray.chemistry.cuprates import holes_per_cu, undoped_parents
from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS, SYMBOLS, WRITING_ORDER
from kiago_ray.chemistry.oxidation import OxidationSet
from kiago_ray.chemistry.state_costs import TRANSITION_METALS

OXYGEN = INDEX["O"]
METALLIC = "metallic"  # the certificate of metals without likely states
UNLIKELY = 1.5  # nats an atom above which a compound of soft anions is taken for a metal, not for ions
_ROWS = 4_096  # worked out at once

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Balances:
    """n formulas.

    balanced: (n,) states add up to 0, or it is metallic. nats_per_atom: (n,) −ln of how likely the states are, a mean
    over atoms; inf where none balance. assignments: for each formula by element index its states and their atoms, as
    many as the formula is written with; {} where there are none to show. certificates: the same as text, "metallic"
    where a metal has none, "" where nothing balances. mean_valences: by symbol, of each transition metal. kinds: n.
    holes_per_cu: (n,) the mean valence of Cu less 2 in cuprates, NaN elsewhere. undoped_parent: (n,) a cuprate that is
    undoped as written.
    """

    balanced: Mask
    nats_per_atom: Floats
    assignments: tuple[Mapping[int, Shares], ...]
    certificates: tuple[str, ...]
    mean_valences: tuple[Mapping[str, float], ...]
    kinds: tuple[Kind, ...]
    holes_per_cu: Floats
    undoped_parent: Mask

    def spread(self, place: NDArray[np.int64]) -> Balances:
        """The formulas at each `place` (m,) as m rows; where that is n, a row of nothing, which isn't balanced."""
        at = place.tolist()
        return Balances(
            balanced=np.append(self.balanced, False)[place],
            nats_per_atom=np.append(self.nats_per_atom, np.inf)[place],
            assignments=tuple((*self.assignments, {})[i] for i in at),
            certificates=tuple((*self.certificates, "")[i] for i in at),
            mean_valences=tuple((*self.mean_valences, {})[i] for i in at),
            kinds=tuple((*self.kinds, "ionic")[i] for i in at),
            holes_per_cu=np.append(self.holes_per_cu, np.nan)[place],
            undoped_parent=np.append(self.undoped_parent, False)[place],
        )

    def likely(self, max_nats: float) -> Mask:
        """(n,) whether states of no more than `max_nats` an atom balance without oxygen at −1, which is no oxide but
        a peroxide, or it is metallic.
        """
        metallic_ones = np.array([kind == "metallic" for kind in self.kinds], dtype=np.bool_)
        oxides = np.array(
            [all(state < -1 for state, _ in each.get(OXYGEN, ())) for each in self.assignments],
            dtype=np.bool_,
        )
        return np.asarray(metallic_ones | ((self.nats_per_atom <= max_nats) & oxides))


def likeliest_balance(amounts: NDArray[Any], oxidation_set: OxidationSet = OxidationSet.ICSD24) -> Balances:
    """The likeliest states that balance each of the amounts (n, 118), fractional or not.

    Raises ValueError for another shape, and for amounts that are negative, not finite or all zero.
    """
    amounts = _checked(amounts)
    nats = np.full(len(amounts), np.inf)
    assignments: list[Mapping[int, Shares]] = []
    for start in range(0, len(amounts), _ROWS):
        at = slice(start, start + _ROWS)
        nats[at], found = cheapest_states(amounts[at], oxidation_set)
        assignments += found
    is_metallic = metallic(amounts, nats > UNLIKELY)
    shown = np.isfinite(nats) & (~is_metallic | (nats <= UNLIKELY))
    kept = tuple(
        each if show and not (metal and any(len(pairs) > 1 for pairs in each.values())) else {}
        for each, show, metal in zip(assignments, shown.tolist(), is_metallic.tolist(), strict=True)
    )
    means = tuple(_means(each) for each in kept)
    holes = holes_per_cu(amounts, np.array([each.get("Cu", np.nan) for each in means]))
    return Balances(
        balanced=np.isfinite(nats) | is_metallic,
        nats_per_atom=nats,
        assignments=kept,
        certificates=tuple(
            write_shares(each) or (METALLIC if metal else "")
            for each, metal in zip(kept, is_metallic.tolist(), strict=True)
        ),
        mean_valences=means,
        kinds=tuple("metallic" if each else "ionic" for each in is_metallic.tolist()),
        holes_per_cu=holes,
        undoped_parent=undoped_parents(amounts, holes),
    )


def write_shares(assignment: Mapping[int, Shares]) -> str:
    """As text, least electronegative first: "La+3 Sr+2 Cu+2*0.85 Cu+3*0.15 O-2"; atoms only where states differ."""
    words = []
    for z in WRITING_ORDER:
        pairs = assignment.get(int(z), ())
        words += [
            f"{SYMBOLS[z]}{s:+d}" + (f"*{_short(atoms)}" if len(pairs) > 1 else "") for s, atoms in pairs
        ]
    return " ".join(words)


def write_means(means: Mapping[str, float]) -> str:
    """As text: "Cu+2.15"; "" without any."""
    return " ".join(f"{symbol}{mean:+.3f}".rstrip("0").rstrip(".") for symbol, mean in means.items())


def _short(atoms: float) -> str:
    return f"{atoms:.4f}".rstrip("0").rstrip(".") if atoms >= 1e-4 else f"{atoms:.1g}"


def _checked(amounts: NDArray[Any]) -> Floats:
    amounts = np.asarray(amounts, dtype=np.float64)
    if amounts.ndim != 2 or amounts.shape[1] != N_ELEMENTS:
        raise ValueError(f"amounts have the shape {amounts.shape}; give (formulas, {N_ELEMENTS})")
    if not np.isfinite(amounts).all() or (amounts < 0).any():
        row = int(np.argmax((~np.isfinite(amounts) | (amounts < 0)).any(axis=1)))
        raise ValueError(f"amounts must be finite and not negative; row {row} has others")
    if not (amounts > 0).any(axis=1).all():
        raise ValueError(f"row {int(np.argmin((amounts > 0).any(axis=1)))} of the amounts holds no atoms")
    return amounts


def _means(assignment: Mapping[int, Shares]) -> dict[str, float]:
    """The mean valence of each transition metal, by symbol."""
    return {
        SYMBOLS[z]: sum(state * atoms for state, atoms in pairs) / sum(atoms for _, atoms in pairs)
        for z, pairs in assignment.items()
        if TRANSITION_METALS[z]
    }
