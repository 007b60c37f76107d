"""What relatives say: counted by hand, without the composition's own system, with a slope."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kiago_ray.chemistry.elements import INDEX
from kiago_ray.plausibility.relatives import LEAST, RELATIVE_NAMES, Relatives
from kiago_ray.plausibility.shipped import Prospects

from .conftest import MakeLiterature, mask, presence

NOT_OWN, OWN = torch.zeros(1), torch.ones(1)
SQUARE = ("LaO", "YO", "LaF")


def columns(values: torch.Tensor) -> dict[str, float]:
    return dict(zip(RELATIVE_NAMES, values[0].tolist(), strict=True))


def test_the_missing_corner_of_a_square_has_two_relatives_by_a_swap(make_literature: MakeLiterature) -> None:
    known = make_literature(SQUARE)
    found = columns(Relatives(known)(presence("Y F"), NOT_OWN))
    odds = 1 / np.sqrt((2 + 5) * (1 + 5))  # of La and Y beside O, and of O and F beside La
    weight = 0.2 * np.log(2)
    assert found["swap_count"] == pytest.approx(np.log(3))
    assert found["swap_odds"] == pytest.approx(odds)
    assert found["swap_sum"] == pytest.approx(np.log(2 * weight * odds + LEAST))
    assert found["added_count"] == 0
    assert found["swap_beside_most"] == 0  # La and Y were never seen to change beside F
    assert found["swap_hot"] == pytest.approx(np.log(LEAST))


def test_an_element_more_is_one_that_shares_a_site(make_literature: MakeLiterature) -> None:
    found = columns(Relatives(make_literature(SQUARE, tc_k=[5, 30, 5]))(presence("La Y O"), NOT_OWN))
    assert found["added_count"] == pytest.approx(np.log(3))  # Y to La-O, La to O-Y
    assert found["added_odds"] == pytest.approx(1 / np.sqrt((2 + 5) * (1 + 5)))
    assert found["added_hot"] > np.log(LEAST) + 0.1
    assert found["parts"] == pytest.approx(np.log(3))
    assert found["swap_count"] == 0


def test_nothing_known_is_told_as_least(make_literature: MakeLiterature) -> None:
    found = columns(Relatives(make_literature(SQUARE))(presence("Mg B"), NOT_OWN))
    assert found["swap_sum"] == found["added_sum"] == found["larger"] == pytest.approx(np.log(LEAST))
    assert found["swap_most"] == pytest.approx(np.log(LEAST))
    assert found["swap_count"] == found["swap_odds"] == 0


def test_the_own_system_leaves_the_features_as_they_are(prospects: Prospects) -> None:
    known = prospects.literature
    for at in np.random.default_rng(0).integers(len(known.systems), size=3).tolist():
        row = torch.tensor(known.systems[at : at + 1], dtype=torch.float32)
        without = known.only(known.system != at, known.year)
        torch.testing.assert_close(Relatives(known)(row, OWN), Relatives(without)(row, NOT_OWN))


def test_linear_in_how_far_an_element_is_present(make_literature: MakeLiterature) -> None:
    relatives = Relatives(make_literature(SQUARE))
    sums = [
        np.exp(columns(relatives(presence("Y F", [1.0, share]), NOT_OWN))["swap_sum"]) - LEAST
        for share in (1.0, 0.75, 0.5)
    ]
    assert sums[0] > sums[1] > sums[2] >= 0
    row = presence("Y F", [1.0, 0.5]).requires_grad_()
    relatives(row, NOT_OWN)[0, 0].backward()
    assert row.grad is not None
    assert row.grad[0, INDEX["F"]] > 0


def test_near_keeps_every_relative_by_one_element(prospects: Prospects) -> None:
    relatives = Relatives(prospects.literature)
    near = relatives.near(mask("La Fe As O F Co Ce"))
    rows = torch.cat([presence("La Fe As O"), presence("La Fe As O F"), presence("Ce Fe Co As O")])
    own = torch.tensor([1.0, 1.0, 0.0])
    same = [at for at, name in enumerate(RELATIVE_NAMES) if name != "larger"]
    torch.testing.assert_close(near(rows, own)[:, same], relatives(rows, own)[:, same])
    assert len(near.systems) < len(relatives.systems) / 5
