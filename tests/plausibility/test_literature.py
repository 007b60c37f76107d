"""What was known when, counted on a literature made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from kiago_ray.chemistry.elements import INDEX
from kiago_ray.plausibility.literature import element_sets

from .conftest import YEAR, MakeLiterature

FORMULAS = ("LaO", "La2O3", "YO", "YF", "MgB2")


def test_systems_and_what_they_hold(make_literature: MakeLiterature) -> None:
    known = make_literature(FORMULAS, tc_k=[1, 12, 3, 4, 39], years=[1990, 2006, 2005, 2004, np.nan])
    names = ["B-Mg", "F-Y", "La-O", "O-Y"]
    assert (known.systems == element_sets(names)).all()
    assert known.system.tolist() == [2, 2, 3, 1, 0]
    assert known.compositions.tolist() == [1, 1, 2, 1]
    assert known.recent.tolist() == [0, 0, 1, 1]  # of the five years before 2010; 2004 is one too early
    assert known.highest_tc_k.tolist() == [39, 4, 12, 3]
    np.testing.assert_allclose(known.weights, np.log1p([0, 0, 1, 1]) + 0.2 * np.log1p([1, 1, 2, 1]))
    assert known.fractions[0, INDEX["O"]] == pytest.approx(0.5)
    np.testing.assert_allclose(known.fractions.sum(axis=1), 1)


def test_before_a_year_leaves_later_reports_out_and_keeps_undated_ones(
    make_literature: MakeLiterature,
) -> None:
    known = make_literature(FORMULAS, years=[1990, 2006, 2005, 2004, np.nan])
    then = known.before(2005)
    assert then.year == 2005
    assert then.first_year.tolist() == [1990, 2004, 0]
    assert (then.systems == element_sets(["B-Mg", "F-Y", "La-O"])).all()
    assert then.system.tolist() == [2, 1, 0]
    assert known.year == YEAR


def test_only_some_of_it_has_their_systems_alone(make_literature: MakeLiterature) -> None:
    known = make_literature(FORMULAS)
    some = known.only(known.fractions[:, INDEX["Y"]] > 0)
    assert (some.systems == element_sets(["F-Y", "O-Y"])).all()
    assert some.year == known.year
