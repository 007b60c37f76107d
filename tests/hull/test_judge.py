from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from kiago_ray.hull import EnergyHull, judge

MakeHull = Callable[[Mapping[str, float]], EnergyHull]


def test_bad_formulas_keep_their_places_and_given_energies_count(make_hull: MakeHull) -> None:
    hull = make_hull({"TiO2": -3.0, "Ti2O3": -2.9})
    formulas: list[object] = ["Ti2O4", "Xx", None, "Ti3O5", "Ti3O5", "Ti4O6", "Fe"]
    scores = judge(hull, formulas, np.array([np.nan, -1, -1, np.nan, -2.0, -2.5, np.nan]))
    assert [place is None for place in scores.places] == [False, True, True, True, False, False, False]
    assert [error is None for error in scores.errors] == [place is not None for place in scores.places]
    assert "unknown element" in str(scores.errors[1])
    assert "not among the phases" in str(scores.errors[3])
    np.testing.assert_array_equal(scores.ef_ev_per_atom, [-3, np.nan, np.nan, np.nan, -2, -2.5, 0])
    assert scores.places[0] is not None
    assert scores.places[0].e_hull_ev_per_atom == 0
    assert scores.places[5] is not None
    assert scores.places[5].e_hull_ev_per_atom == pytest.approx(0.4)


def test_no_formulas(make_hull: MakeHull) -> None:
    assert judge(make_hull({"TiO2": -3.0}), []).places == ()
