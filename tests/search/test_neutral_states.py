from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from kiago_ray.chemistry import oxidation
from kiago_ray.chemistry.elements import INDEX
from kiago_ray.chemistry.oxidation import OxidationSet
from kiago_ray.search.neutral_formulas import IMPOSSIBLE, likely_assignments

SET = OxidationSet.ICSD24


def columns(*symbols: str) -> np.ndarray:
    return np.sort(np.array([INDEX[symbol] for symbol in symbols]))


def every_pauling_assignment(elements: np.ndarray) -> dict[tuple[int, ...], np.ndarray]:
    """All states whose positive elements are all less electronegative than the negative ones, and their nats."""
    known, shares = oxidation.states_by_frequency(), oxidation.state_shares()
    scale = oxidation.electronegativities()
    found = {}
    for chosen in product(*(range(len(known[z])) for z in elements)):
        states = tuple(known[z][at] for z, at in zip(elements, chosen, strict=True))
        positive = [scale[z] for z, s in zip(elements, states, strict=True) if s > 0]
        negative = [scale[z] for z, s in zip(elements, states, strict=True) if s < 0]
        if not positive or not negative or max(positive) < min(negative):
            found[states] = np.array([-np.log(shares[z][at]) for z, at in zip(elements, chosen, strict=True)])
    return found


@pytest.mark.parametrize(
    "symbols", [("La", "Cu", "O"), ("Ba", "Fe", "As", "O"), ("La", "Pt", "B", "C"), ("Cu", "Bi", "Si", "O")]
)
def test_they_are_the_cheapest_of_all_that_keep_the_rule(symbols: tuple[str, ...]) -> None:
    elements = columns(*symbols)
    x = np.linspace(1, 2, len(elements)) / np.linspace(1, 2, len(elements)).sum()
    expected = every_pauling_assignment(elements)
    states_of, nats_of = likely_assignments(elements, x, SET, most=20_000)
    possible = (states_of != IMPOSSIBLE).all(axis=1)
    as_tuples = [tuple(row) for row in states_of[possible].tolist()]
    assert len(set(as_tuples)) == len(as_tuples)
    assert set(as_tuples) == set(expected)
    for states, nats in zip(as_tuples, nats_of[possible], strict=True):
        assert nats == pytest.approx(expected[states])
    cost = nats_of @ x
    assert (np.diff(cost) >= -1e-12).all()
    _, few = likely_assignments(elements, x, SET, most=7)
    assert few @ x == pytest.approx(cost[:7])


def test_the_first_is_what_a_chemist_would_write() -> None:
    elements = columns("La", "Cu", "O")
    states, _ = likely_assignments(elements, np.array([4, 1, 2]) / 7, SET)
    assert dict(zip(elements, states[0].tolist(), strict=True)) == {
        INDEX["O"]: -2,
        INDEX["Cu"]: 2,
        INDEX["La"]: 3,
    }


def test_an_element_without_a_state_on_its_side_is_impossible() -> None:
    states, _ = likely_assignments(columns("He", "O"), np.array([0.5, 0.5]), SET)
    assert (states[:, 0] == IMPOSSIBLE).all()
    assert states[0, 1] == -2
