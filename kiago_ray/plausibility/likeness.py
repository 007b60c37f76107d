"""How alike two elements are as a site sees them: metals stand for metals, and anions for anions, of like pull.

exp(−(Δχ/0.6)²) in Pauling's electronegativity χ; 0 between metals and non-metals. The half-metals B, Si, Ge, As, Sb,
Te and Bi stand for non-metals and for the metals of the p block, not for those of the s, d and f blocks. Hydrogen
stands for oxygen and fluorine as hydride, which its χ doesn't tell. Anions of other valence stand for one another
less, exp(−(Δq/1.5)⁴): fluorine for oxygen, and hardly carbon; those whose radii differ by more than 0.5 Å not at all:
tellurium doesn't stand for boron. Less than 0.05 counts as nothing.
"""

from __future__ import annotations

import numpy as np

from kiago_ray.chemistry.element_properties import properties
from kiago_ray.chemistry.elements import ELECTRONEGATIVITY, INDEX, N_ELEMENTS, position
from kiago_ray.chemistry.oxidation import metals
from kiago_ray.plausibility.literature import Floats

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
