"""The benchmark of the screens: swaps are swaps, and each row is judged by a fit without its chemical system."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from kiago_ray.chemistry.elements import SYMBOLS
from kiago_ray.chemistry.formula import parse
from kiago_ray.data.tables import superconductors

from .conftest import benchmark_of


@pytest.fixture(scope="module")
def screens() -> ModuleType:
    return benchmark_of("screens")


def test_a_swap_replaces_one_or_two_elements_and_gives_no_known_system(screens: ModuleType) -> None:
    drawn = screens.draw(200, 1)
    known = {frozenset(parse(formula)) for formula in superconductors()["formula"]}
    assert (drawn.tc_k > 0).all()
    for real, swapped, system in zip(drawn.real, drawn.swapped, drawn.systems, strict=True):
        held, now = (frozenset(SYMBOLS[z] for z in np.flatnonzero(row)) for row in (real, swapped))
        assert held == system in known
        assert now not in known
        assert len(held - now) == len(now - held) in (1, 2)
        assert sorted(real[real > 0]) == sorted(swapped[swapped > 0])
    again = screens.draw(200, 1)
    np.testing.assert_array_equal(again.swapped, drawn.swapped)


def test_each_row_is_judged_without_its_own_system(screens: ModuleType) -> None:
    drawn = screens.draw(60, 2)
    left_out: list[frozenset[frozenset[str]]] = []

    def fit(systems: frozenset[frozenset[str]]) -> object:
        left_out.append(systems)
        return lambda fractions: np.full(len(fractions), -float(len(left_out)))

    real, swapped = screens.log_existence(drawn, fit, 0)
    assert len(left_out) == screens.FOLDS
    assert frozenset().union(*left_out) == set(drawn.systems)
    np.testing.assert_array_equal(real, swapped)
    for value, system in zip(real, drawn.systems, strict=True):
        assert system in left_out[int(-value) - 1]


def test_shares_are_counted_and_default_needs_what_it_requires(screens: ModuleType) -> None:
    drawn = screens.draw(40, 3)
    certain, doubted = np.zeros(40), np.full(40, -5.0)
    measured = screens.measure(drawn, (certain, doubted), 0)
    assert measured["screens"]["plausible"] == {"recall": 1.0, "recall_above_30_k": 1.0, "swaps": 0.0}
    assert measured["screens"]["few_elements"]["recall"] == 1.0
    assert "plausible" not in screens.measure(drawn, None, 0)["screens"]
    assert "| balanced |" in screens.table(measured)
