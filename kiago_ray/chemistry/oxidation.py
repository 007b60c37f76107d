"""Oxidation states and Pauling electronegativities, as SMACT 4 tabulates them, over the 118 elements.

The paper screened with SMACT 2.5.5, whose states are today's `smact14`; the package's default is `icsd24`,
the default of SMACT's `Element` since 3.0. SMACT knows Z = 1 to 103; everything above has no state here.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS, SYMBOLS


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


_ATTRIBUTES = {
    OxidationSet.SMACT14: "oxidation_states_smact14",
    OxidationSet.ICSD16: "oxidation_states_icsd16",
    OxidationSet.ICSD24: "oxidation_states_icsd24",
    OxidationSet.PYMATGEN_SP: "oxidation_states_sp",
    OxidationSet.WIKI: "oxidation_states_wiki",
}


@cache
def _smact_elements() -> dict[str, Any]:
    """SMACT's elements by symbol. Imported here because SMACT brings pandas along."""
    import smact

    return dict(smact.element_dictionary())


@cache
def states(oxidation_set: OxidationSet = OxidationSet.ICSD24) -> tuple[tuple[int, ...], ...]:
    """The states of each of the 118 elements, ascending; empty where the set knows none."""
    oxidation_set = OxidationSet(oxidation_set)
    if oxidation_set is OxidationSet.ICSD24_FILTER:
        from smact.utils.oxidation import ICSD24OxStatesFilter

        table = ICSD24OxStatesFilter().filter(consensus=3, include_zero=False, commonality="low")
        pairs = zip(table["element"], table["oxidation_state"], strict=True)
        known: dict[str, Iterable[int]] = {str(symbol): map(int, str(text).split()) for symbol, text in pairs}
    else:
        attribute = _ATTRIBUTES[oxidation_set]
        known = {symbol: getattr(element, attribute) or () for symbol, element in _smact_elements().items()}
    return tuple(tuple(sorted(set(known.get(symbol, ())))) for symbol in SYMBOLS)


@cache
def _occurrences() -> dict[tuple[str, int], int]:
    """How often SMACT counted each element in each state in the ICSD."""
    from smact.utils.oxidation import ICSD24OxStatesFilter

    seen: dict[tuple[str, int], int] = {}
    table = ICSD24OxStatesFilter().get_species_occurrences_df()
    for symbol, species, count in zip(
        table["element"], table["species"], table["results_count"], strict=True
    ):
        charge = str(species).removeprefix(str(symbol))  # "3+", "-"
        seen[str(symbol), int(charge[-1] + (charge[:-1] or "1"))] = int(count)
    return seen


@cache
def states_by_frequency(oxidation_set: OxidationSet = OxidationSet.ICSD24) -> tuple[tuple[int, ...], ...]:
    """`states`, those that SMACT counted most often in the ICSD first; those never seen last, small first."""
    seen = _occurrences()
    return tuple(
        tuple(sorted(known, key=lambda state: (-seen.get((symbol, state), 0), abs(state), state)))
        for symbol, known in zip(SYMBOLS, states(oxidation_set), strict=True)
    )


@cache
def state_shares(oxidation_set: OxidationSet = OxidationSet.ICSD24) -> tuple[tuple[float, ...], ...]:
    """How likely each of `states_by_frequency` is, in the same order: its share of the element's counts in the
    ICSD, each count raised by 1 so that a state that was never seen is unlikely, not impossible.
    """
    seen = _occurrences()
    counts = (
        [seen.get((symbol, state), 0) + 1 for state in known]
        for symbol, known in zip(SYMBOLS, states_by_frequency(oxidation_set), strict=True)
    )
    return tuple(tuple(count / sum(row) for count in row) for row in counts)


@cache
def state_nats(oxidation_set: OxidationSet = OxidationSet.ICSD24) -> tuple[dict[int, float], ...]:
    """What each state of each element costs, most frequent first: −ln of its share, in nats an atom."""
    both = zip(states_by_frequency(oxidation_set), state_shares(oxidation_set), strict=True)
    return tuple({s: float(-np.log(p)) for s, p in zip(*row, strict=True)} for row in both)


@cache
def electronegativities() -> tuple[float | None, ...]:
    """Pauling's electronegativity of the 118 elements in SMACT's table, None where it has none."""
    known = {symbol: element.pauling_eneg for symbol, element in _smact_elements().items()}
    return tuple(known.get(symbol) for symbol in SYMBOLS)


def metals() -> NDArray[np.bool_]:
    """The elements that SMACT calls metals, (118,). Ge and Sb are among them; Pm and Lr are not."""
    import smact

    row = np.zeros(N_ELEMENTS, dtype=np.bool_)
    row[[INDEX[symbol] for symbol in smact.metals]] = True
    return row


def mask(state: int, oxidation_set: OxidationSet = OxidationSet.ICSD24) -> NDArray[np.bool_]:
    """The elements that have this oxidation state, (118,): the paper's masks of sections 2.4 and 3.5.

    Raises ValueError where no element has it.
    """
    row = np.array([state in known for known in states(oxidation_set)], dtype=np.bool_)
    if not row.any():
        every = sorted({one for known in states(oxidation_set) for one in known})
        span = f"{every[0]:+d} to {every[-1]:+d}"
        raise ValueError(f"no element has the state {state:+d} in {oxidation_set}; its states are {span}")
    return row
