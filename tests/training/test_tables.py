"""Splits that stay as they are; made-up rows of the promised kinds, whose labels come from trees; random ones."""

from __future__ import annotations

import numpy as np
import pytest

from kiago_ray.chemistry.elements import ELEMNET_INDEX
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.data.compositions import folds, held_out
from kiago_ray.training.recipes import FOLD_SALT, FOLDS
from kiago_ray.training.tables import MadeUp, random_compositions, tree_labels

NONE = {"small_jitter": 0, "large_jitter": 0, "mixed": 0, "substituted": 0, "enriched": 0}
KNOWN = parse_fractions(["YBa2Cu3O7", "MgB2", "FeSe", "LaNiAsO", "Nb3Sn", "La1.85Sr0.15CuO4"]).astype(
    np.float32
)


def make(**counts: int) -> np.ndarray:
    return MadeUp(**{**NONE, **counts}).rows(KNOWN, np.random.default_rng(2))


def systems(rows: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(np.flatnonzero(row).tolist()) for row in rows}


def test_every_row_is_a_composition() -> None:
    rows = make(small_jitter=50, large_jitter=50, mixed=50, substituted=50, enriched=50)
    assert rows.shape == (250, 118)
    assert (rows >= 0).all()
    np.testing.assert_allclose(rows.sum(1), 1, rtol=1e-5)


def test_jitter_keeps_the_elements_and_is_as_wide_as_said() -> None:
    rows = make(small_jitter=3000)
    assert systems(rows) == systems(KNOWN)
    mgb2 = rows[(rows[:, 11] > 0) & (rows[:, 4] > 0)]
    assert np.log(mgb2[:, 11] / mgb2[:, 4] * 2).std() == pytest.approx(0.03 * 2**0.5, rel=0.1)


def test_a_substitution_changes_one_element_at_most() -> None:
    known = systems(KNOWN)
    for system in systems(make(substituted=200)):
        assert min(len(set(system) ^ set(k)) for k in known) <= 2


def test_enriching_adds_and_never_removes() -> None:
    known = systems(KNOWN)
    for system in systems(make(enriched=200)):
        assert any(set(system) >= set(k) and len(set(system) - set(k)) <= 3 for k in known)


def test_mixing_joins_two_rows() -> None:
    known = systems(KNOWN)
    for system in systems(make(mixed=200)):
        assert any(set(system) == set(a) | set(b) for a in known for b in known)


def test_the_same_seed_makes_the_same_rows() -> None:
    np.testing.assert_array_equal(
        make(mixed=20, substituted=20, enriched=20), make(mixed=20, substituted=20, enriched=20)
    )


def test_labels_are_the_trees() -> None:
    values = np.array([92, 39, 8, 3, 18, 38], dtype=np.float32)
    np.testing.assert_allclose(tree_labels(KNOWN, values, KNOWN, seed=0, trees=200), values, rtol=1e-5)
    near = tree_labels(KNOWN, values, make(small_jitter=100), seed=0, trees=200)
    assert (near >= 3).all()
    assert (near <= 92).all()


def test_a_system_lies_in_one_fold_and_folds_are_about_equal() -> None:
    systems = [f"A-{n}" for n in range(4000)]
    fold = folds([*systems, *systems], FOLDS, salt=FOLD_SALT)
    assert (fold[:4000] == fold[4000:]).all()
    assert np.bincount(fold, minlength=FOLDS).min() > 300


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
        held_out(["a"], share=share, salt="x")


def test_random_compositions_are_compositions_and_repeatable() -> None:
    rows = random_compositions(300, seed=5)
    np.testing.assert_allclose(rows.sum(1), 1, atol=1e-6)
    held = (rows > 0).sum(1)
    assert held.min() >= 2
    assert held.max() == 7
    assert np.array_equal(rows, random_compositions(300, seed=5))
    some = random_compositions(400, ELEMNET_INDEX, seed=0)
    assert not np.delete(some, ELEMNET_INDEX, axis=1).any()
