"""Oxidation states, electronegativities and masks against SMACT's own elements."""

from __future__ import annotations

import numpy as np
import pytest
import smact

from kiago_ray.chemistry.elements import INDEX, SYMBOLS
from kiago_ray.chemistry.oxidation import (
    OxidationSet,
    electronegativities,
    mask,
    metals,
    state_shares,
    states,
    states_by_frequency,
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
        ordered = states_by_frequency(oxidation_set)
        assert tuple(tuple(sorted(known)) for known in ordered) == states(oxidation_set)
        assert [ordered[INDEX[symbol]][0] for symbol in ("O", "Cu", "Fe", "As", "H")] == [-2, 2, 3, 5, 1]
    # Never seen in the ICSD: the smallest first.
    assert states_by_frequency(OxidationSet.SMACT14)[INDEX["O"]] == (-2, -1, 2, 1)


def test_shares_are_those_of_the_counts_raised_by_one() -> None:
    for oxidation_set in OxidationSet:
        for known, shares in zip(
            states_by_frequency(oxidation_set), state_shares(oxidation_set), strict=True
        ):
            assert len(shares) == len(known)
            assert list(shares) == sorted(shares, reverse=True)
            assert not shares or sum(shares) == pytest.approx(1)
    copper = dict(zip(states_by_frequency()[INDEX["Cu"]], state_shares()[INDEX["Cu"]], strict=True))
    counts = {2: 6180, 1: 4451, 3: 325}  # SMACT's, of the ICSD
    assert copper == {s: pytest.approx((n + 1) / (6180 + 4451 + 325 + 3)) for s, n in counts.items()}
    unseen = dict(
        zip(
            states_by_frequency(OxidationSet.SMACT14)[INDEX["O"]],
            state_shares(OxidationSet.SMACT14)[INDEX["O"]],
            strict=True,
        )
    )
    assert 0 < unseen[1] < 1e-4


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
    with pytest.raises(ValueError, match=r"state \+12 in icsd24; its states are -5 to \+8"):
        mask(12)
