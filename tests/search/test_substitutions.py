from __future__ import annotations

import numpy as np
import pytest

from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.search.family import Substitutions

ODDS = np.zeros((N_ELEMENTS, N_ELEMENTS))
NONE = np.zeros(N_ELEMENTS, dtype=np.bool_)


def test_arrays_of_another_shape_and_odds_that_are_none_are_refused() -> None:
    assert Substitutions(ODDS, NONE).made.shape == (0, N_ELEMENTS)
    with pytest.raises(ValueError, match=r"odds have the shape \(3, 3\); give \(118, 118\)"):
        Substitutions(np.zeros((3, 3)), NONE)
    with pytest.raises(ValueError, match="vacancies have the shape"):
        Substitutions(ODDS, NONE[:5])
    with pytest.raises(ValueError, match="made has the shape"):
        Substitutions(ODDS, NONE, np.zeros((4, 5)))
    for wrong in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match="odds lie between 0 and 1"):
            Substitutions(np.full_like(ODDS, wrong), NONE)
