"""The card's figures of quality, on compositions for which they can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from kiago_ray.baselines.superdiff import SuperDiff
from kiago_ray.baselines.superdiff_training import amounts_of, element_shares, likeness, sample_quality


def test_numbers_of_elements_are_counted() -> None:
    amounts = amounts_of(["Nb", "MgB2", "YBa2Cu3O7", "La1.85Sr0.15CuO4", "LaO0.97F0.03FeAs"])
    # F's 0.03 atoms count as none, so LaO0.97F0.03FeAs has four.
    assert element_shares(amounts).tolist() == pytest.approx([0.2, 0.2, 0, 0.6, 0, 0, 0, 0, 0, 0])
    assert element_shares(np.ones((3, 118)))[-1] == 1


def test_distances_are_to_the_nearest_training_composition() -> None:
    train = amounts_of(["MgB2", "Nb3Sn"])
    found = likeness(amounts_of(["Mg2B4", "Mg0.9Al0.1B2", "NbN"]), train)
    # As fractions: 0; 2 · 0.1/3; 1.0 (Nb 0.5 of 0.75, N 0.5, Sn 0.25).
    assert found["near_a_training_composition"] == pytest.approx(2 / 3, abs=1e-4)
    assert found["median_distance"] == pytest.approx(0.2 / 3, abs=1e-4)
    assert found["median_atoms"] == 3


def test_figures_of_an_untrained_model_are_consistent(untrained: SuperDiff) -> None:
    train, test = amounts_of(["MgB2", "Nb3Sn", "NbN"]), amounts_of(["MgB2"])
    figures = sample_quality(untrained, train, test, count=3, seed=0, steps=10, device="cpu")
    assert sum(figures["status"].values()) == figures["rows"] == 3
    assert 0 <= figures["unique"] <= figures["readable"] <= 1
    assert figures["held_out"]["median_distance"] == 0
