"""The lowest energy that a mixture of phases reaches at one composition: an exact linear program.

minimise Σ w_i E_i over w ≥ 0 with Σ w_i c_i = x: w_i is the share of the atoms that phase i takes, c_i its atomic
fractions. The optimum is the convex hull's energy at x and its basis the phases that x decomposes into. Unlike a hull
by facets (qhull), whose cost grows steeply with elements, one composition costs milliseconds in any number of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

TOLERANCE = 1e-10  # the least that HiGHS takes
LEAST_SHARE = 1e-9  # of the atoms

Floats = NDArray[np.float64]


def lowest_mixture(composition: Floats, phases: Floats, ef_ev_per_atom: Floats) -> tuple[float, Floats]:
    """Energy (eV/atom) of the lowest mixture and every phase's share of the atoms, (p,).

    composition: (k,) atomic fractions. phases: (p, k) theirs. ef_ev_per_atom: (p,). Raises ValueError where the phases
    can't be mixed to the composition; with the k elements among them they always can.
    """
    tolerances = {"primal_feasibility_tolerance": TOLERANCE, "dual_feasibility_tolerance": TOLERANCE}
    found = linprog(ef_ev_per_atom, A_eq=phases.T, b_eq=composition, method="highs", options=tolerances)
    if found.x is None:
        raise ValueError(f"these {len(phases)} phases can't be mixed to the composition: {found.message}")
    shares = np.where(found.x > LEAST_SHARE, found.x, 0.0)
    return float(found.fun), shares
