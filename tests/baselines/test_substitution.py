"""C-ES: atoms, states and neutrality stay, the rest of the base too; the same rows from the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from kiago_ray.baselines.substitution import base_states, exchange
from kiago_ray.chemistry import neutrality, oxidation
from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS, SYMBOLS
from kiago_ray.chemistry.formula import parse_amounts
from kiago_ray.chemistry.oxidation import OxidationSet
from kiago_ray.errors import InputError

EVERYTHING = np.ones(N_ELEMENTS, dtype=np.bool_)
BASES = ("LaNiAsO", "SrFe1.88Ni0.12As2", "HgBa2Ca2Cu3O8", "LaPt2B2C", "TlSr2CaCu2O7")


def symbols(row: np.ndarray) -> set[str]:
    return {SYMBOLS[z] for z in np.flatnonzero(row)}


@pytest.mark.parametrize("base", BASES)
def test_whole_elements_give_way_to_others_of_their_state(base: str) -> None:
    amounts, states = parse_amounts(base), base_states(base, OxidationSet.SMACT14)
    known = oxidation.states(OxidationSet.SMACT14)
    rows = exchange(base, EVERYTHING).rows(64, seed=1)
    assert np.allclose(rows.sum(axis=1), amounts.sum(), rtol=0, atol=1e-12)
    for row in rows:
        # The multiset of amounts is the base's: each element is exchanged whole.
        assert sorted(row[row > 0]) == sorted(amounts[amounts > 0])
        gone = [z for z in np.flatnonzero(amounts) if row[z] == 0]
        assert gone, "a row exchanges something"
        assert all(row[z] == amounts[z] for z in np.flatnonzero(amounts) if z not in gone)
        come = [z for z in np.flatnonzero(row) if amounts[z] == 0]
        assert len(come) == len(gone)
        # Each newcomer has the state of one whose amount it took.
        for z in come:
            places = [g for g in gone if amounts[g] == row[z]]
            assert any(set(states[g]) <= set(known[z]) for g in places)


@pytest.mark.parametrize("base", BASES)
def test_what_is_neutral_stays_neutral(base: str) -> None:
    rows = exchange(base, EVERYTHING).rows(64, seed=0)
    whole = np.rint(np.vstack([parse_amounts(base), rows]) * 100).astype(np.int64)
    assert neutrality.check(whole, OxidationSet.SMACT14).neutral.all()


def test_one_site_alone() -> None:
    base = parse_amounts("CeFeAsF0.2O0.8")
    found = exchange("CeFeAsF0.2O0.8", EVERYTHING, sites={"Ce": 3})
    assert set(found.partners) == {INDEX["Ce"]}
    trivalent = oxidation.mask(3, OxidationSet.SMACT14)
    for row in found.rows(40, seed=3):
        (new,) = np.flatnonzero((row > 0) & (base == 0))
        assert trivalent[new]
        assert row[new] == 1
        assert all(row[INDEX[each]] == base[INDEX[each]] for each in ("Fe", "As", "F", "O"))


def test_kept_elements_stay_and_atoms_may_differ_in_state() -> None:
    # LaH10 is neutral by atoms alone: La 2+, H 1- six times, H 1+ four times.
    assert base_states("LaH10", OxidationSet.SMACT14) == {INDEX["H"]: (-1, 1), INDEX["La"]: (2,)}
    rows = exchange("LaH10", EVERYTHING, keep=["H"]).rows(20, seed=0)
    assert (rows[:, INDEX["H"]] == 10).all()
    assert (rows[:, INDEX["La"]] == 0).all()


def test_partners_are_supported_and_not_of_the_base() -> None:
    supported = np.zeros(N_ELEMENTS, dtype=np.bool_)
    supported[[INDEX[each] for each in ("La", "Ni", "As", "O", "Al", "Mg", "F")]] = True
    found = exchange(
        "LaNiAsO", supported
    )  # La+3 Ni+2 As-3 O-2; aluminium has +3 too, magnesium +2, nobody -3 or -2
    assert {INDEX["La"], INDEX["Ni"]} == set(found.partners)
    assert found.partners[INDEX["La"]] == (INDEX["Al"],)
    assert INDEX["Mg"] in found.partners[INDEX["Ni"]]


def test_two_that_share_their_only_partner_dont_both_get_it() -> None:
    supported = np.zeros(N_ELEMENTS, dtype=np.bool_)
    supported[INDEX["Mg"]] = True
    rows = exchange("HgBa2Ca2Cu3O8", supported).rows(30, seed=0)
    assert ((rows > 0).sum(axis=1) == 5).all()
    assert all(len(symbols(row) - {"Hg", "Ba", "Ca", "Cu", "O"}) == 1 for row in rows)


def test_a_row_is_its_seed_and_number() -> None:
    found = exchange("LaNiAsO", EVERYTHING)
    rows = found.rows(16, seed=5)
    assert np.array_equal(rows, found.rows(16, seed=5))
    assert np.array_equal(rows[:4], found.rows(4, seed=5))
    assert not np.array_equal(rows, found.rows(16, seed=6))
    # However the base is written.
    doubled = exchange("La2Ni2As2O2", EVERYTHING).rows(16, seed=5)
    assert np.array_equal(doubled, 2 * rows)


@pytest.mark.parametrize(
    ("base", "options", "message"),
    [
        ("LaNiAsO", {"sites": {"Fe": 2}}, "Fe is not in LaNiAsO; name one of La, Ni, As, O"),
        ("LaNiAsO", {"keep": ["o"]}, "o is not in LaNiAsO; name one of La, Ni, As, O"),
        ("LaNiAsO", {"keep": ["La", "Ni", "As", "O"]}, "no element of LaNiAsO has another"),
        ("Li3Ba", {}, "has no oxidation states in icsd24"),
    ],
)
def test_what_cant_be_exchanged(base: str, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        exchange(base, EVERYTHING, OxidationSet.ICSD24, **options)
