"""Oxidation states, electronegativities and masks against SMACT's own elements; what states cost.

`python -m tests.chemistry.test_oxidation` writes the shipped tables again, as the installed SMACT has them.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import smact
from smact.utils.oxidation import ICSD24OxStatesFilter

from kiago_ray.chemistry import oxidation
from kiago_ray.chemistry.elements import INDEX, SYMBOLS
from kiago_ray.chemistry.oxidation import (
    D_BLOCK,
    TRANSITION_METALS,
    OxidationSet,
    electronegativities,
    mask,
    metals,
    state_costs,
    state_shares,
    states,
)


@pytest.mark.parametrize(
    ("oxidation_set", "attribute"),
    [
        (OxidationSet.SMACT14, "oxidation_states_smact14"),
        (OxidationSet.ICSD16, "oxidation_states_icsd16"),
        (OxidationSet.ICSD24, "oxidation_states"),  # SMACT's own default, without a suffix
        (OxidationSet.PYMATGEN_SP, "oxidation_states_sp"),
        (OxidationSet.WIKI, "oxidation_states_wiki"),
    ],
)
def test_every_state_is_smacts(oxidation_set: OxidationSet, attribute: str) -> None:
    table = states(oxidation_set)
    assert len(table) == 118
    for symbol, known in zip(SYMBOLS[:103], table, strict=False):
        assert list(known) == sorted(getattr(smact.Element(symbol), attribute) or [])
    assert table[103:] == ((),) * 15


def test_known_states() -> None:
    icsd24, smact14 = states(), states(OxidationSet.SMACT14)
    assert icsd24[INDEX["O"]] == (-2, -1)
    assert smact14[INDEX["O"]] == (-2, -1, 1, 2)
    assert icsd24[INDEX["Na"]] == (1,)
    assert -1 in icsd24[INDEX["B"]]
    assert smact14[INDEX["B"]] == (1, 2, 3)
    assert icsd24[INDEX["He"]] == ()


def test_the_most_frequent_state_comes_first() -> None:
    for oxidation_set in OxidationSet:
        ordered = [tuple(shares) for shares in state_shares(oxidation_set)]
        assert tuple(tuple(sorted(known)) for known in ordered) == states(oxidation_set)
        assert [ordered[INDEX[symbol]][0] for symbol in ("O", "Cu", "Fe", "As", "H")] == [-2, 2, 3, 5, 1]
    # Never seen in the ICSD: the smallest first.
    assert list(state_shares(OxidationSet.SMACT14)[INDEX["O"]]) == [-2, -1, 2, 1]


def test_shares_are_those_of_the_counts_raised_by_one() -> None:
    for oxidation_set in OxidationSet:
        for shares in state_shares(oxidation_set):
            assert list(shares.values()) == sorted(shares.values(), reverse=True)
            assert not shares or sum(shares.values()) == pytest.approx(1)
    counts = {2: 6180, 1: 4451, 3: 325}  # SMACT's, of the ICSD
    expected = {s: pytest.approx((n + 1) / (6180 + 4451 + 325 + 3)) for s, n in counts.items()}
    assert state_shares()[INDEX["Cu"]] == expected
    assert 0 < state_shares(OxidationSet.SMACT14)[INDEX["O"]][1] < 1e-4


def test_the_set_that_smact_validity_takes_by_default_is_wider() -> None:
    narrow, wide = states(OxidationSet.ICSD24), states(OxidationSet.ICSD24_FILTER)
    assert all(set(few) <= set(many) for few, many in zip(narrow, wide, strict=True))
    assert wide[INDEX["O"]] == (-2, -1, 2)


def test_only_wikipedias_set_holds_zero() -> None:
    assert [s for s in OxidationSet if any(0 in known for known in states(s))] == [OxidationSet.WIKI]


def test_an_unknown_set_is_named_with_the_choices() -> None:
    with pytest.raises(ValueError, match="no oxidation-state set 'icsd25'; choose one of smact14"):
        OxidationSet("icsd25")


def test_electronegativities_are_smacts() -> None:
    values = electronegativities()
    assert len(values) == 118
    assert [values[z] for z in range(103)] == [smact.Element(symbol).pauling_eneg for symbol in SYMBOLS[:103]]
    assert values[INDEX["F"]] == 3.98
    assert [symbol for symbol, value in zip(SYMBOLS[:103], values, strict=False) if value is None] == [
        *("He", "Ne", "Ar", "Pm", "Rn", "Lr")
    ]
    assert values[103:] == (None,) * 15


def test_metals_are_smacts() -> None:
    assert {SYMBOLS[z] for z in np.flatnonzero(metals())} == set(smact.metals)


def test_masks() -> None:
    trivalent = mask(3)
    assert trivalent.shape == (118,)
    assert trivalent[[INDEX[symbol] for symbol in ("Y", "La", "Al", "Ga")]].all()
    assert not trivalent[[INDEX[symbol] for symbol in ("Sr", "O", "He", "Og")]].any()
    assert mask(-1, OxidationSet.ICSD24)[INDEX["B"]]
    assert not mask(-1, OxidationSet.SMACT14)[INDEX["B"]]
    assert not mask(12).any()


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
    assert cost("Cd", 2, OTHER) == pytest.approx(-np.log(state_shares()[INDEX["Cd"]][2]))
    assert cost("Mn", 3, OXIDE) >= -np.log((state_shares()[INDEX["Mn"]][3] + 1) / 2)


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


FOLDER = Path(oxidation.__file__).parent


def test_the_shipped_tables_are_smacts(tmp_path: Path) -> None:
    write_tables(tmp_path)
    for written in tmp_path.iterdir():
        assert written.read_text() == (FOLDER / written.name).read_text()


def write_tables(folder: Path = FOLDER) -> None:
    """Write `oxidation_states.csv` and `anion_shares.csv` from the installed SMACT, numbers in full."""
    chosen = ICSD24OxStatesFilter().filter(consensus=3, include_zero=False, commonality="low")
    common = dict(zip(chosen["element"], chosen["oxidation_state"], strict=True))
    counts: dict[str, list[str]] = {}
    seen = ICSD24OxStatesFilter().get_species_occurrences_df()
    for symbol, species, count in zip(seen["element"], seen["species"], seen["results_count"], strict=True):
        charge = species.removeprefix(symbol)  # "3+", "-"
        counts.setdefault(symbol, []).append(f"{int(charge[-1] + (charge[:-1] or '1'))}:{int(count)}")
    names = [f"oxidation_states_{member.removeprefix('pymatgen_')}" for member in list(OxidationSet)[:-1]]
    rows = []
    for symbol, element in smact.element_dictionary().items():
        sets = [getattr(element, name) or () for name in names]
        sets.append(map(int, str(common.get(symbol, "")).split()))
        texts = [" ".join(map(str, sorted(set(known)))) for known in sets]
        scale = "" if element.pauling_eneg is None else element.pauling_eneg
        metal = "yes" if symbol in smact.metals else "no"
        rows.append([symbol, metal, scale, *texts, " ".join(counts.get(symbol, []))])
    first = ["symbol", "metal", "electronegativity_pauling"]
    _write(folder / "oxidation_states.csv", [*first, *OxidationSet, "icsd_counts"], rows)

    text = resources.files("smact").joinpath("data", "oxidation_state_probability_table.json").read_text()
    used = {anion for anions in oxidation._ANIONS.values() for anion in anions}
    split = [  # unseen states too: they settle the order of sums, and so their last bit
        (anion, *re.findall("[A-Za-z]+|[0-9]+", species), share)
        for anion, species, share in json.loads(text)
        if anion in used
    ]
    _write(folder / "anion_shares.csv", ["anion", "symbol", "state", "share"], split)


def _write(path: Path, header: list[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


if __name__ == "__main__":
    write_tables()
