"""How often one element takes the place of another in what is known, and how alike two elements are on a site.

p(a, c) = times that a and c complete the same rest of a chemical system, over √((n_a + 5)(n_c + 5)), n_a being the
systems that hold a. Beside b: the same counts among the systems that hold b, with 3 for 5.

Likeness: metals stand for metals, and anions for anions, of like pull: exp(−(Δχ/0.6)²) in Pauling's electronegativity
χ; 0 between metals and non-metals. The half-metals B, Si, Ge, As, Sb, Te and Bi stand for non-metals and for metals of
the p block, not for those of the s, d and f blocks. Hydrogen stands for oxygen and fluorine as hydride, which its χ
does not tell. Anions of other valence stand for one another less, exp(−(Δq/1.5)⁴): fluorine for oxygen, and hardly
carbon; anions whose radii differ by more than 0.5 Å do not at all: tellurium does not stand for boron. Less than 0.05
counts as nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry.element_properties import properties
from kiago_ray.chemistry.elements import ELECTRONEGATIVITY, INDEX, N_ELEMENTS, position
from kiago_ray.chemistry.oxidation import metals

PRIOR, PRIOR_BESIDE = 5.0, 3.0  # systems; what is seen once or twice says little

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Ints = NDArray[np.int64]


def swap_odds(systems: Mask) -> Floats:
    """p(a, c) of chemical systems (s, 118) as sets of elements: (118, 118), symmetric, 0 on its diagonal."""
    counts = np.zeros((N_ELEMENTS, N_ELEMENTS))
    for together, _ in completions(systems):
        counts[np.ix_(together, together)] += 1
    np.fill_diagonal(counts, 0)
    return per_system(counts, systems.sum(axis=0))


def per_system(counts: Floats, held: NDArray[Any]) -> Floats:
    """Counts of pairs (118, 118) over √((n_a + 5)(n_c + 5)), held (118,) being how many systems hold each element."""
    return np.asarray(counts / np.sqrt((held[:, None] + PRIOR) * (held + PRIOR)))


def completion_counts(systems: Mask) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """How often a and c complete the same rest of the systems (s, 118): (118, 118); and how often one that holds b,
    [a, c, b], (118, 118, 118).
    """
    counts = np.zeros((N_ELEMENTS, N_ELEMENTS), dtype=np.float32)
    beside = np.zeros((N_ELEMENTS,) * 3, dtype=np.float32)  # (b, a, c)
    for together, rest in completions(systems):
        grid = np.ix_(together, together)
        counts[grid] += 1
        for b in rest:
            beside[b][grid] += 1
    z = np.arange(N_ELEMENTS)
    counts[z, z] = 0
    beside[:, z, z] = 0
    return counts, np.ascontiguousarray(beside.transpose(1, 2, 0))


def completions(systems: Mask) -> Iterable[tuple[Ints, tuple[int, ...]]]:
    """Each rest that two or more elements complete to one of the systems (s, 118): those elements, and the rest."""
    by_rest: dict[tuple[int, ...], list[int]] = {}
    for row in systems:
        held = np.flatnonzero(row).tolist()
        for a in held:
            by_rest.setdefault(tuple(z for z in held if z != a), []).append(a)
    return [(np.array(found), rest) for rest, found in by_rest.items() if len(found) > 1]


_WIDTH = 0.6
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


def likeness() -> Floats:
    """(118, 118), symmetric, from 0 to 1, 1 on the diagonal."""
    pull = np.array([value if np.isfinite(value) else 4.5 for value in ELECTRONEGATIVITY])
    alike = np.exp(-(((pull[:, None] - pull) / _WIDTH) ** 2))
    either = np.zeros(N_ELEMENTS, dtype=np.bool_)
    either[[INDEX[symbol] for symbol in _EITHER]] = True
    of_p_block = np.array([position(z + 1)[0] == "p" for z in range(N_ELEMENTS)])
    metal = metals() & ~either
    like_non_metals = either | ~metal | of_p_block
    alike *= (
        (metal[:, None] == metal) | (either[:, None] & like_non_metals) | (like_non_metals[:, None] & either)
    )
    hydrogen = INDEX["H"]
    alike[hydrogen, :] = alike[:, hydrogen] = 0.0
    for symbol in _ANIONS:
        alike[hydrogen, INDEX[symbol]] = alike[INDEX[symbol], hydrogen] = _HYDRIDE
    valence = np.full(N_ELEMENTS, np.nan)
    for charge, symbols in _ANION_VALENCES.items():
        valence[[INDEX[symbol] for symbol in symbols]] = charge
    factor = np.exp(-(((valence[:, None] - valence) / _VALENCE_WIDTH) ** 4))
    alike *= np.nan_to_num(factor, nan=1.0)  # where one of the two is no anion, nothing
    of_site = properties()
    radius = of_site.values[:, of_site.names.index("atomic_radius_angstrom")]
    sized = ~np.isnan(valence) & (np.arange(N_ELEMENTS) != hydrogen)
    alike[(np.abs(radius[:, None] - radius) > _MOST_RADIUS) & sized[:, None] & sized] = 0.0
    alike[alike < _NOTHING] = 0.0
    np.fill_diagonal(alike, 1.0)
    return np.asarray(alike)
