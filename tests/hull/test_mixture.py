from __future__ import annotations

import numpy as np
import pytest

from kiago_ray.hull.energy_hull import lowest_mixture


def test_the_lowest_of_all_mixtures_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        fractions = rng.dirichlet(np.ones(3), 6)
        phases = np.concatenate([fractions, np.eye(3)])
        energies = np.concatenate([rng.uniform(-1, 0.2, 6), np.zeros(3)])
        x = rng.dirichlet(np.ones(3))
        best = np.inf
        for a in range(9):
            for b in range(a):
                for c in range(b):
                    three = [a, b, c]
                    if abs(np.linalg.det(phases[three])) > 1e-9:
                        shares = np.linalg.solve(phases[three].T, x)
                        if (shares >= -1e-12).all():
                            best = min(best, float(shares @ energies[three]))
        energy, shares = lowest_mixture(x, phases, energies)
        assert energy == pytest.approx(best, abs=1e-9)
        assert (shares >= 0).all()
        assert (shares > 0).sum() <= 3
        np.testing.assert_allclose(shares @ phases, x, atol=1e-9)


def test_what_cannot_be_mixed_is_refused() -> None:
    with pytest.raises(ValueError, match="these 1 phases can't be mixed"):
        lowest_mixture(np.array([0.5, 0.5]), np.array([[1.0, 0.0]]), np.array([-1.0]))
