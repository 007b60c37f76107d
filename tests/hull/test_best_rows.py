from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from kiago_ray.hull import EnergyHull
from kiago_ray.hull.energy_hull import with_e_hull
from kiago_ray.screening.candidates import collect
from kiago_ray.search.result import SearchResult

MakeHull = Callable[[Mapping[str, float]], EnergyHull]
MakeResult = Callable[[Sequence[tuple[str | None, float, float]]], SearchResult]
ROWS: list[tuple[str | None, float, float]] = [
    ("Ti3O5", 10.0, -2.5),
    ("TiO", 30.0, -2.0),
    ("Ti2O3", 50.0, -2.9),  # fails another screen
    ("TiO", 30.0, -2.0),
    (None, 0.0, 0.0),
    ("TiO2", 20.0, -3.0),
]


def test_the_best_that_pass_have_a_distance_and_the_rest_none(
    make_hull: MakeHull, make_result: MakeResult
) -> None:
    hull, result = make_hull({"TiO2": -3.0, "Ti2O3": -2.9}), make_result(ROWS)
    passed = np.array([True, True, False, True, False, True])
    every = with_e_hull(collect(result), result.amounts, passed, hull).e_hull_ev_per_atom
    assert every is not None
    tio = -2 + 2.9 * 5 / 6
    np.testing.assert_allclose(every, [0.4375, tio, np.nan, tio, np.nan, 0], atol=1e-6)
    two = with_e_hull(collect(result), result.amounts, passed, hull, most=2).e_hull_ev_per_atom
    np.testing.assert_allclose(two, [np.nan, tio, np.nan, tio, np.nan, 0], atol=1e-6)
    none = with_e_hull(collect(result), result.amounts, np.zeros(6, dtype=bool), hull).e_hull_ev_per_atom
    assert none is not None
    assert np.isnan(none).all()
