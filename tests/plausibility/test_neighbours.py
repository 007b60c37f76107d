"""Systems one element away from known ones."""

from __future__ import annotations

import numpy as np
import pytest

from kiago_ray.chemistry.elements import INDEX
from kiago_ray.plausibility.literature import element_sets, elements_at_hand
from kiago_ray.plausibility.neighbours import added_systems, swapped_systems

from .conftest import MakeLiterature


def test_a_square_with_a_corner_missing_is_closed_by_a_swap(make_literature: MakeLiterature) -> None:
    known = make_literature(["LaO", "YO", "LaF"])
    found = swapped_systems(known, elements_at_hand(), 10)
    assert (found.systems == element_sets(["F-Y"])).all()
    la_y, o_f = 1 / np.sqrt((2 + 5) * (1 + 5)), 1 / np.sqrt((2 + 5) * (1 + 5))
    assert found.support[0] == pytest.approx(known.weights[0] * (la_y + o_f))
    assert not found.added.any()
    assert {int(found.lost[0]), int(found.new[0])} in ({INDEX["La"], INDEX["Y"]}, {INDEX["O"], INDEX["F"]})


def test_an_addition_shares_a_known_site(make_literature: MakeLiterature) -> None:
    known = make_literature(["LaO", "YO"])
    found = added_systems(known, elements_at_hand(), 10)
    assert (found.systems == element_sets(["La-O-Y"])).all()
    assert found.added.all()
    assert {int(found.lost[0]), int(found.new[0])} == {INDEX["La"], INDEX["Y"]}


def test_the_best_supported_come_first_and_none_is_known(make_literature: MakeLiterature) -> None:
    known = make_literature(["LaO", "YO", "LaF", "CeO", "CeN", "LaN", "LaNi"])
    found = swapped_systems(known, elements_at_hand(), 100)
    assert (np.diff(found.support) <= 0).all()
    sets = {row.tobytes() for row in known.systems}
    assert not any(row.tobytes() in sets for row in found.systems)
    assert len(swapped_systems(known, elements_at_hand(), 2).systems) == 2


def test_what_is_not_at_hand_never_comes_in(make_literature: MakeLiterature) -> None:
    known = make_literature(["LaO", "YO", "LaF"])
    without = elements_at_hand()
    without[[INDEX["F"], INDEX["Y"]]] = False
    assert len(swapped_systems(known, without, 10).systems) == 0
    added = added_systems(known, without, 10)
    assert set(added.new.tolist()) == {INDEX["La"], INDEX["O"]}  # La beside Y, O beside F
