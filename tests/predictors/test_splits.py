"""Held-out sets are hashes: stable, of the right size, and never split a key."""

from __future__ import annotations

import numpy as np
import pytest

from kiago_ray.training.evaluation import held_out


def test_a_row_stays_on_its_side_whatever_the_others_are() -> None:
    keys = [f"key {i}" for i in range(2000)]
    whole = dict(zip(keys, held_out(keys, share=0.1, salt="a"), strict=True))
    some = keys[1500:200:-3]
    assert [whole[k] for k in some] == held_out(some, share=0.1, salt="a").tolist()


def test_about_the_share_is_held_out_and_salts_differ() -> None:
    keys = [str(i) for i in range(20_000)]
    a, b = (held_out(keys, share=0.1, salt=salt) for salt in "ab")
    assert a.mean() == pytest.approx(0.1, abs=0.01)
    assert (a & b).mean() == pytest.approx(0.01, abs=0.004)


def test_equal_keys_go_together() -> None:
    out = held_out(["Cu-O", "Fe-Se"] * 50, share=0.5, salt="x")
    assert len(np.unique(out[::2])) == len(np.unique(out[1::2])) == 1


def test_known_values() -> None:
    """Splits of published cards must not move."""
    formulas = ["MgB2", "LaNiAsO", "Nb3Sn", "YBa2Cu3O7"]
    assert held_out(formulas, share=0.5, salt="kiago-ray 1 random").tolist() == [True, True, False, False]


@pytest.mark.parametrize("share", [0, 1, -0.5, 2])
def test_a_share_outside_0_and_1_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        held_out(["a"], share=share, salt="")
