"""Oxidation states of the elements, how likely each is, and Pauling electronegativities, as SMACT 4 tabulates them.

The paper screened with SMACT 2.5.5, whose states are today's `smact14`; the package's default is `icsd24`, the default
of SMACT's `Element` since 3.0. SMACT knows Z = 1 to 103; everything above has no state here.
`oxidation_states.csv` and `anion_shares.csv` hold what SMACT 4.0.2 has (github.com/WMD-group/SMACT, MIT licence).

**State costs.** What stands beside an element matters as much as how often the ICSD has its state anywhere: copper is
2+ in oxides and 1+ in sulfides. So the likelihood in `state_costs` is the mean of SMACT's share of the ICSD and of its
share beside such anions (Davies et al., Mater. Horiz. 5, 1199, 2018), where it has one. `state_costs.csv` overrules it
where that misleads, with the reason. An element's usual state costs less than 0.6 nats there, `inf` is for states that
superconductors don't hold (La4+), 8 for a last resort (O1−). What doping changes lies between, in the order in which
elements take up charge: the transition metal first (Cu2+ to Cu3+ for 1.2), then Pb, Tl, Bi, Ce and Pr.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS, SYMBOLS, Floats

SURROUNDINGS = ("oxide", "other", "pnictogen_rich")
_ANIONS = {"oxide": ("O-2",), "other": ("S-2", "Se-2", "Te-2")}
_POLYANIONS = {INDEX[symbol]: {-1: 0.3, -3: 2.0} for symbol in ("P", "As")}  # rings and chains (LaRu4P12)

_NUMBERS = np.arange(1, N_ELEMENTS + 1)
D_BLOCK = np.isin(_NUMBERS, [*range(21, 31), *range(39, 49), *range(72, 81)])
"""Groups 3 to 12 without the lanthanides and actinides, (118,)."""
TRANSITION_METALS = np.isin(_NUMBERS, [*range(22, 30), *range(40, 48), *range(72, 80)])
"""Groups 4 to 11, those whose valence doping changes, (118,)."""

# Pauling's scale puts Pd, Pt and Ru (2.2) above Te (2.1) and As (2.18), though PdTe2 and BaRu2As2 hold anions of
# these. Transition metals are therefore placed no higher than this, below Si (1.9), Sb, B and all that follow.
D_BLOCK_HIGHEST = 1.85


class OxidationSet(StrEnum):
    """Which of SMACT's tables of oxidation states; the values are SMACT's own names, but for the last."""

    SMACT14 = "smact14"
    """The paper's: SMACT 2.5.5's default."""
    ICSD16 = "icsd16"
    ICSD24 = "icsd24"
    """States seen often enough in the ICSD of 2024; the default."""
    PYMATGEN_SP = "pymatgen_sp"
    WIKI = "wiki"
    """Wikipedia's; the only one that holds the state 0. SMACT itself advises against it."""
    ICSD24_FILTER = "icsd24_filter"
    """What `smact_validity` takes when no set is named: seen 3 times in the ICSD. Wider than `icsd24`."""

    @classmethod
    def _missing_(cls, value: object) -> OxidationSet:
        names = ", ".join(member.value for member in cls)
        raise ValueError(f"there is no oxidation-state set {value!r}; choose one of {names}")


def _rows(name: str) -> Iterator[dict[str, str]]:
    """The rows of a table of this folder."""
    text = resources.files("kiago_ray.chemistry").joinpath(name).read_text(encoding="utf-8")
    return csv.DictReader(text.splitlines())


@cache
def _elements() -> dict[str, dict[str, str]]:
    """What SMACT tabulates of each element that it knows. It ships as a table, so that a release of SMACT can't change
    what a search finds.
    """
    return {row["symbol"]: row for row in _rows("oxidation_states.csv")}


@cache
def states(oxidation_set: OxidationSet = OxidationSet.ICSD24) -> tuple[tuple[int, ...], ...]:
    """The states of each of the 118 elements, ascending; empty where the set knows none."""
    name = OxidationSet(oxidation_set).value
    known = {symbol: tuple(map(int, row[name].split())) for symbol, row in _elements().items()}
    return tuple(known.get(symbol, ()) for symbol in SYMBOLS)


@cache
def _occurrences() -> dict[tuple[str, int], int]:
    """How often SMACT counted each element in each state in the ICSD."""
    seen = {}
    for symbol, row in _elements().items():
        for pair in row["icsd_counts"].split():
            state, _, count = pair.partition(":")
            seen[symbol, int(state)] = int(count)
    return seen


@cache
def state_shares(oxidation_set: OxidationSet = OxidationSet.ICSD24) -> tuple[dict[int, float], ...]:
    """How likely each of an element's `states` is: its share of the element's counts in the ICSD, each raised by 1 so
    that a state never seen is unlikely, not impossible. Most frequent first; of those never seen the smallest.
    """
    seen = _occurrences()
    shares = []
    for symbol, known in zip(SYMBOLS, states(oxidation_set), strict=True):
        counts = {state: seen.get((symbol, state), 0) + 1 for state in known}
        total = sum(counts.values())
        ordered = sorted(counts, key=lambda state: (-counts[state], abs(state), state))
        shares.append({state: counts[state] / total for state in ordered})
    return tuple(shares)


@cache
def state_nats(oxidation_set: OxidationSet = OxidationSet.ICSD24) -> tuple[dict[int, float], ...]:
    """What each state of each element costs, most frequent first: −ln of its share, in nats an atom."""
    return tuple({s: float(-np.log(p)) for s, p in shares.items()} for shares in state_shares(oxidation_set))


@cache
def electronegativities() -> tuple[float | None, ...]:
    """Pauling's electronegativity of the 118 elements in SMACT's table, None where it has none."""
    texts = [_elements().get(symbol, {}).get("electronegativity_pauling") for symbol in SYMBOLS]
    return tuple(float(text) if text else None for text in texts)


def metals() -> NDArray[np.bool_]:
    """The elements that SMACT calls metals, (118,). Ge and Sb are among them; Pm and Lr are not."""
    return np.array([_elements().get(symbol, {}).get("metal") == "yes" for symbol in SYMBOLS])


def mask(state: int, oxidation_set: OxidationSet = OxidationSet.ICSD24) -> NDArray[np.bool_]:
    """The elements that have this oxidation state, (118,): the paper's masks of sections 2.4 and 3.5."""
    return np.array([state in known for known in states(oxidation_set)], dtype=np.bool_)


@dataclass(frozen=True)
class StateCosts:
    """What each state costs, in nats an atom: −ln of how likely it is. nats: for each of SURROUNDINGS and each element
    its states' nats. scale: (118,) electronegativities for the cut between cations and anions, NaN without one.
    """

    nats: tuple[tuple[dict[int, float], ...], ...]
    scale: Floats


@cache
def state_costs(oxidation_set: OxidationSet = OxidationSet.ICSD24) -> StateCosts:
    """The costs of the states of `oxidation_set`, and of those that `state_costs.csv` adds."""
    nats: list[list[dict[int, float]]] = []
    for surroundings, anions in _ANIONS.items():
        shares_beside, overruled = _shares_beside(anions), _overruled(surroundings)
        elements: list[dict[int, float]] = []
        for z, shares in enumerate(state_shares(oxidation_set)):
            beside = shares_beside.get(z)
            likely = {
                state: (share + beside.get(state, 0.0)) / 2 if beside else share
                for state, share in shares.items()
                if state >= 0 or not D_BLOCK[z]  # a transition metal is no anion
            }
            costs = {state: float(-np.log(p)) for state, p in likely.items()}
            costs |= overruled.get(z, {})
            costs = {state: cost for state, cost in costs.items() if np.isfinite(cost)}
            elements.append(_with_states_between(costs) if TRANSITION_METALS[z] else costs)
        nats.append(elements)
    nats.append([costs | _POLYANIONS.get(z, {}) for z, costs in enumerate(nats[1])])
    scale = np.array(electronegativities(), dtype=np.float64)
    scale[INDEX["Pm"]] = 1.13  # as its neighbours; SMACT has none
    scale[D_BLOCK] = np.minimum(scale[D_BLOCK], D_BLOCK_HIGHEST)
    return StateCosts(tuple(map(tuple, nats)), scale)


def _with_states_between(costs: Mapping[int, float]) -> dict[int, float]:
    """The costs (state → nats) with every state between the lowest and the highest, none dearer than a mixture of
    those around it: a transition metal of 3.5+ is 3+ and 4+, whatever is frequent.
    """
    between = dict(costs)
    for state in range(min(costs), max(costs) + 1) if costs else ():
        chords = [
            costs[a] + (costs[b] - costs[a]) * (state - a) / (b - a)
            for a in sorted(costs)
            for b in sorted(costs)
            if a < state < b
        ]
        between[state] = min([*chords, costs.get(state, np.inf)])
    return between


def _shares_beside(anions: Collection[str]) -> dict[int, dict[int, float]]:
    """By element, the share of each state beside these anions, where SMACT has one."""
    sums: dict[int, dict[int, float]] = {}
    for row in _rows("anion_shares.csv"):
        if row["anion"] in anions:
            of_element, state = sums.setdefault(INDEX[row["symbol"]], {}), int(row["state"])
            of_element[state] = of_element.get(state, 0.0) + float(row["share"])
    totals = {z: sum(shares.values()) for z, shares in sums.items()}
    return {
        z: {state: share / totals[z] for state, share in shares.items()}
        for z, shares in sums.items()
        if totals[z] > 0
    }


def _overruled(surroundings: str) -> dict[int, dict[int, float]]:
    """The nats that `state_costs.csv` gives in these surroundings, by element and state."""
    found: dict[int, dict[int, float]] = {}
    for row in _rows("state_costs.csv"):
        nats = float(row[f"{surroundings}_nats"])
        found.setdefault(INDEX[row["symbol"]], {}).update(
            dict.fromkeys(map(int, row["states"].split()), nats)
        )
    return found
