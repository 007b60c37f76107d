"""What each oxidation state costs, in nats an atom: −ln of how likely it is, beside oxygen and beside anything else.

SMACT's shares of the ICSD tell how often an element has a state anywhere. What stands beside it matters as much:
copper is 2+ in oxides and 1+ in sulfides, thallium 3+ and 1+. SMACT's table of pairs (Davies et al., Mater. Horiz. 5,
1199, 2018; `oxidation_state_probability_table.json`) has the share of a metal's states beside each of eight anions.
The likelihood here is the mean of both shares, of the ICSD's alone where the pair isn't known. Transition metals have
every state between their lowest and their highest.

Where all that misleads, `state_costs.csv` overrules it: an element's states, their nats in oxides and elsewhere, and
what they are there for. Its values follow three rules. An element's usual state costs less than 0.6. `inf` is for
states that superconductors don't hold (La4+, Y2+), 8 nats for a last resort (O1−). What doping changes lies between,
in the order in which elements take up charge: the transition metal first (Cu2+ to Cu3+ for 1.2 nats in oxides), then
Pb, Tl, Bi, Ce and Pr.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry import oxidation
from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.chemistry.oxidation import OxidationSet

SURROUNDINGS = ("oxide", "other", "pnictogen_rich")
_ANIONS = {"oxide": ("O-2",), "other": ("S-2", "Se-2", "Te-2")}
_POLYANIONS = {INDEX[symbol]: {-1: 0.3, -3: 2.0} for symbol in ("P", "As")}  # rings and chains (LaRu4P12)

D_BLOCK = np.array([z + 1 in (*range(21, 31), *range(39, 49), *range(72, 81)) for z in range(N_ELEMENTS)])
"""Groups 3 to 12 without the lanthanides and actinides, (118,)."""

TRANSITION_METALS = np.array(
    [z + 1 in (*range(22, 30), *range(40, 48), *range(72, 80)) for z in range(N_ELEMENTS)]
)
"""Groups 4 to 11, those whose valence doping changes, (118,)."""

# Pauling's scale puts Pd, Pt and Ru (2.2) above Te (2.1) and As (2.18), though PdTe2 and BaRu2As2 hold anions of
# these. Transition metals are therefore placed no higher than this, below Si (1.9), Sb, B and all that follow.
D_BLOCK_HIGHEST = 1.85

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class StateCosts:
    """nats: for each of SURROUNDINGS, for each element its states with their nats. scale: (118,) the
    electronegativity that the cut between cations and anions goes by, NaN without one.
    """

    nats: tuple[tuple[dict[int, float], ...], ...]
    scale: Floats


@cache
def state_costs(oxidation_set: OxidationSet = OxidationSet.ICSD24) -> StateCosts:
    """The costs of the states of `oxidation_set`, and of those that `state_costs.csv` adds."""
    states, shares = oxidation.states_by_frequency(oxidation_set), oxidation.state_shares(oxidation_set)
    pairs = _shares_beside_anions()
    overruled = _overruled()
    nats: list[list[dict[int, float]]] = []
    for surroundings in _ANIONS:
        elements: list[dict[int, float]] = []
        for z, (known, share) in enumerate(zip(states, shares, strict=True)):
            beside = pairs[surroundings].get(z, {})
            likely = {
                state: (p + beside.get(state, 0.0)) / 2 if beside else p
                for state, p in zip(known, share, strict=True)
                if state >= 0 or not D_BLOCK[z]  # a transition metal is no anion
            }
            costs = {state: float(-np.log(p)) for state, p in likely.items()}
            costs = {s: c for s, c in (costs | overruled[surroundings].get(z, {})).items() if np.isfinite(c)}
            elements.append(_with_states_between(costs) if TRANSITION_METALS[z] else costs)
        nats.append(elements)
    nats.append([costs | _POLYANIONS.get(z, {}) for z, costs in enumerate(nats[1])])
    scale = np.array([np.nan if e is None else e for e in oxidation.electronegativities()])
    scale[INDEX["Pm"]] = 1.13  # as its neighbours; SMACT has none
    scale[D_BLOCK] = np.minimum(scale[D_BLOCK], D_BLOCK_HIGHEST)
    return StateCosts(tuple(map(tuple, nats)), scale)


def _with_states_between(costs: dict[int, float]) -> dict[int, float]:
    """The costs (state → nats) with every state between the lowest and the highest, none dearer than a mixture of
    those around it: a transition metal of 3.5+ is 3+ and 4+, whatever is frequent.
    """
    known = sorted(costs)
    between = dict(costs)
    for state in range(known[0], known[-1] + 1) if known else ():
        chords = [
            costs[a] + (costs[b] - costs[a]) * (state - a) / (b - a)
            for a in known
            for b in known
            if a < state < b
        ]
        between[state] = min([*chords, costs.get(state, np.inf)])
    return between


def _shares_beside_anions() -> dict[str, dict[int, dict[int, float]]]:
    """Beside oxygen and elsewhere, by element, the share of each state beside such anions, where SMACT has one."""
    text = resources.files("smact").joinpath("data", "oxidation_state_probability_table.json").read_text()
    found: dict[str, dict[int, dict[int, float]]] = {}
    for surroundings, anions in _ANIONS.items():
        sums: dict[int, dict[int, float]] = {}
        for anion, species, share in json.loads(text):
            if anion in anions:
                symbol = species.rstrip("0123456789")
                states = sums.setdefault(INDEX[symbol], {})
                state = int(species[len(symbol) :])
                states[state] = states.get(state, 0.0) + float(share)
        found[surroundings] = {
            z: {state: total / sum(states.values()) for state, total in states.items()}
            for z, states in sums.items()
            if sum(states.values()) > 0
        }
    return found


def _overruled() -> dict[str, dict[int, dict[int, float]]]:
    """The nats that the table of the package gives, beside oxygen and elsewhere, by element and state."""
    text = resources.files("kiago_ray.chemistry").joinpath("state_costs.csv").read_text(encoding="utf-8")
    found: dict[str, dict[int, dict[int, float]]] = {surroundings: {} for surroundings in _ANIONS}
    rows: list[dict[str, Any]] = list(csv.DictReader(text.splitlines()))
    for row in rows:
        for state in map(int, row["states"].split()):
            for surroundings in _ANIONS:
                states = found[surroundings].setdefault(INDEX[row["symbol"]], {})
                states[state] = float(row[f"{surroundings}_nats"])
    return found
