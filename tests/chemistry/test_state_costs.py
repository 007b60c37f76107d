from __future__ import annotations

import csv
from importlib import resources

import numpy as np
import pytest

from kiago_ray.chemistry import oxidation
from kiago_ray.chemistry.elements import INDEX, SYMBOLS
from kiago_ray.chemistry.oxidation import OxidationSet
from kiago_ray.chemistry.state_costs import D_BLOCK, TRANSITION_METALS, state_costs

OXIDE, OTHER = 0, 1


def cost(symbol: str, state: int, surroundings: int) -> float:
    return state_costs().nats[surroundings][INDEX[symbol]].get(state, np.inf)


def test_the_table_names_known_elements_and_no_state_twice() -> None:
    text = resources.files("kiago_ray.chemistry").joinpath("state_costs.csv").read_text(encoding="utf-8")
    pairs = [
        (row["symbol"], state) for row in csv.DictReader(text.splitlines()) for state in row["states"].split()
    ]
    assert len(set(pairs)) == len(pairs) > 200
    assert {symbol for symbol, _ in pairs} <= set(SYMBOLS)


@pytest.mark.parametrize("species", ["La+4", "La+2", "Y+4", "Sr+4", "Nd+2", "Gd+2", "Zn+3", "N-5"])
def test_states_that_no_superconductor_holds_are_none(species: str) -> None:
    symbol, state = species[:-2], int(species[-2:])
    assert cost(symbol, state, OXIDE) == cost(symbol, state, OTHER) == np.inf


def test_a_hole_in_a_cuprate_goes_to_copper_before_anything_else() -> None:
    hole = cost("Cu", 3, OXIDE) - cost("Cu", 2, OXIDE)
    others = {"Pb": (2, 4), "Bi": (3, 5), "Pr": (3, 4), "O": (-2, -1), "Ag": (1, 3)}
    for symbol, (low, high) in others.items():
        assert hole < (cost(symbol, high, OXIDE) - cost(symbol, low, OXIDE)) / (high - low), symbol
    electron = cost("Cu", 1, OXIDE) - cost("Cu", 2, OXIDE)
    for symbol, low, high in (("Ce", 3, 4), ("Tl", 1, 3), ("Hg", 1, 2), ("Bi", 1, 3), ("Eu", 2, 3)):
        assert electron < (cost(symbol, low, OXIDE) - cost(symbol, high, OXIDE)) / (high - low), symbol


def test_surroundings_matter() -> None:
    for symbol, oxide, other in (("Tl", 3, 1), ("Eu", 3, 2), ("Ce", 4, 3), ("Fe", 3, 2), ("Cu", 2, 1)):
        assert cost(symbol, oxide, OXIDE) < cost(symbol, other, OXIDE), symbol
        assert cost(symbol, other, OTHER) < cost(symbol, oxide, OTHER), symbol


def test_what_the_table_leaves_alone_rests_on_smacts_shares() -> None:
    share = dict(
        zip(oxidation.states_by_frequency()[INDEX["Cd"]], oxidation.state_shares()[INDEX["Cd"]], strict=True)
    )
    assert cost("Cd", 2, OTHER) == pytest.approx(-np.log(share[2]))
    share = dict(
        zip(oxidation.states_by_frequency()[INDEX["Mn"]], oxidation.state_shares()[INDEX["Mn"]], strict=True)
    )
    assert cost("Mn", 3, OXIDE) >= -np.log((share[3] + 1) / 2)


def test_a_transition_metal_has_every_state_and_none_below_zero() -> None:
    for oxidation_set in (OxidationSet.ICSD24, OxidationSet.SMACT14):
        for elements in state_costs(oxidation_set).nats:
            for z in np.flatnonzero(TRANSITION_METALS).tolist():
                known = sorted(elements[z])
                assert known == list(range(known[0], known[-1] + 1))
                assert known[0] >= 0


def test_no_state_of_a_transition_metal_is_dearer_than_a_mixture_of_its_neighbours() -> None:
    for elements in state_costs().nats:
        for z in np.flatnonzero(TRANSITION_METALS).tolist():
            known = sorted(elements[z])
            nats = np.array([elements[z][state] for state in known])
            assert (nats[1:-1] <= (nats[:-2] + nats[2:]) / 2 + 1e-9).all(), SYMBOLS[z]


def test_transition_metals_lie_below_every_anion_former() -> None:
    scale = state_costs().scale
    lowest = min(
        scale[INDEX[s]] for s in ("Si", "Ge", "Sb", "Te", "As", "P", "H", "B", "C", "Se", "S", "N", "O")
    )
    assert scale[D_BLOCK].max() < lowest
    assert D_BLOCK.sum() == 29  # La and Lu's group 3 place aside
    assert {SYMBOLS[z] for z in np.flatnonzero(TRANSITION_METALS)} >= {"Ti", "Cu", "Ru", "Au"}
