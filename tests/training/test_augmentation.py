"""Made-up rows are compositions of the promised kinds; their labels come from trees on the training rows."""

from __future__ import annotations

import numpy as np
import pytest

from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.training.augmentation import MadeUp, made_up, tree_labels

NONE = {"small_jitter": 0, "large_jitter": 0, "mixed": 0, "substituted": 0, "enriched": 0}
KNOWN = parse_fractions(["YBa2Cu3O7", "MgB2", "FeSe", "LaNiAsO", "Nb3Sn", "La1.85Sr0.15CuO4"]).astype(
    np.float32
)


def make(**counts: int) -> np.ndarray:
    return made_up(KNOWN, MadeUp(**{**NONE, **counts}), np.random.default_rng(2))


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
    np.testing.assert_allclose(tree_labels(KNOWN, values, KNOWN, seed=0), values, rtol=1e-5)
    near = tree_labels(KNOWN, values, make(small_jitter=100), seed=0)
    assert (near >= 3).all()
    assert (near <= 92).all()
