"""Which element gave way to which, and how far; how alike elements are; and sentences on both."""

from __future__ import annotations

import numpy as np
import pytest

from kiago_ray.chemistry.elements import INDEX
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.plausibility.substitution import (
    Reasons,
    doping_counts,
    known_vacancies,
    largest_share,
    likeness,
    site_odds,
)

from .conftest import MakeLiterature

LA, SR, OX, F, CU = (INDEX[symbol] for symbol in ("La", "Sr", "O", "F", "Cu"))
SERIES = ("La2CuO4", "La1.9Sr0.1CuO4", "La1.85Sr0.15CuO4", "LaFeAsO", "LaFeAsO0.9F0.1")


def test_strontium_gave_way_for_lanthanum_and_fluorine_for_oxygen(make_literature: MakeLiterature) -> None:
    counts = doping_counts(make_literature(SERIES))
    assert counts[LA, SR] == counts[OX, F] == 1
    assert counts.sum() == 2


def test_odds_of_sites_heed_likeness(make_literature: MakeLiterature) -> None:
    odds = site_odds(make_literature(SERIES))
    assert odds[LA, SR] > 0
    assert odds[OX, F] > 0
    assert odds[LA, F] == odds[CU, SR] == 0
    assert not odds.diagonal().any()
    assert 0 <= odds.min() <= odds.max() <= 1


def test_vacancies_are_oxygens_where_three_compositions_show_them(make_literature: MakeLiterature) -> None:
    base = parse_fractions(["YBa2Cu3O7"])[0]
    series = ["YBa2Cu3O7", "YBa2Cu3O6.9", "YBa2Cu3O6.8", "YBa2Cu3O6.7"]
    assert np.flatnonzero(known_vacancies(make_literature(series), base)).tolist() == [OX]
    assert not known_vacancies(make_literature(series[:3]), base).any()
    others = ["YBa2Cu3O7", "YBa1.9Cu3O6.9", "YBa1.8Cu3O6.8", "YBa1.7Cu3O6.7"]  # barium differs as well
    assert not known_vacancies(make_literature(others), base).any()


def test_largest_share_of_a_site(make_literature: MakeLiterature) -> None:
    known = make_literature(SERIES)
    assert largest_share(known, LA, SR) == pytest.approx(0.15 / 2)
    assert largest_share(known, CU, SR) == pytest.approx(0.15 / 1.15)
    assert largest_share(known, SR, F) == 0


def test_metals_stand_for_metals_and_anions_for_anions() -> None:
    alike = likeness()
    of = {
        name: alike[INDEX[name.split("-")[0]], INDEX[name.split("-")[1]]]
        for name in ("La-Ce", "La-Cu", "O-F", "La-O")
    }
    assert of["La-Ce"] > 0.9 > of["La-Cu"] > 0
    assert 0 < of["O-F"] < 1
    assert of["La-O"] == 0
    assert alike[INDEX["As"], INDEX["Sb"]] > 0
    np.testing.assert_array_equal(alike, alike.T)
    assert (alike.diagonal() == 1).all()
    assert alike.min() == 0


def test_hydrogen_stands_for_anions_alone() -> None:
    hydrogen = likeness()[INDEX["H"]]
    assert hydrogen[INDEX["F"]] == 0.5  # of the same valence
    assert hydrogen[INDEX["La"]] == hydrogen[INDEX["Fe"]] == 0
    assert hydrogen[INDEX["O"]] == pytest.approx(0.5 * np.exp(-((1 / 1.5) ** 4)))


def test_anions_of_other_valence_stand_for_one_another_less() -> None:
    oxygen = likeness()[INDEX["O"]]
    assert oxygen[INDEX["F"]] > 0.3
    assert oxygen[INDEX["C"]] == likeness()[INDEX["Se"], INDEX["C"]] == 0
    assert likeness()[INDEX["Se"], INDEX["S"]] > 0.9


def test_anions_of_another_size_do_not_stand_for_one_another() -> None:
    alike = likeness()
    of = {
        name: alike[INDEX[name.split("-")[0]], INDEX[name.split("-")[1]]]
        for name in ("B-C", "B-Te", "O-Te", "O-S")
    }
    assert of["B-Te"] == of["O-Te"] == 0
    assert of["B-C"] > 0.3
    assert of["O-S"] > 0


KNOWN = ("LaFeAsO", "LaNiAsO", "LaFeAsO0.8F0.2", "CeFeAsO", "CeNiAsO", "LaFePO", "MgB2")


@pytest.mark.parametrize(
    ("formula", "base", "told"),
    [
        ("CeFePO", "CeFeAsO", "P replaced As wholly in 1 known relative"),
        ("LaFe0.5Ni0.5AsO", "LaFeAsO", "Ni replaced Fe wholly in 2 known relatives"),
        ("LaFeAsO0.5", "LaFeAsO", "other amounts of a known system"),
        ("LaFeAs", "LaFeAsO", "a part of a known system"),
        ("LaFeAsOXe", "LaFeAsO", "Xe replaced none of its elements in a known relative"),
        ("CeNiPO", None, "P replaced As wholly in 1 known relative"),
        ("NaCl", None, "no known system is one element away"),
    ],
)
def test_what_is_said(make_literature: MakeLiterature, formula: str, base: str | None, told: str) -> None:
    row = parse_fractions([formula])[0]
    origin = None if base is None else parse_fractions([base])[0]
    assert Reasons(make_literature(KNOWN)).of(row, origin) == told


def test_what_happened_elsewhere_is_told_with_the_largest_part(make_literature: MakeLiterature) -> None:
    row, base = parse_fractions(["CeFeAsO0.9F0.1", "CeFeAsO"])
    elsewhere = (*KNOWN, "SrO", "SrF2", "CaO", "CaF2")
    sentence = Reasons(make_literature(elsewhere)).of(row, base)
    assert sentence == "F replaced O elsewhere (2 times), never beside these; in part up to 20 %"


def test_several_new_elements_are_told_one_by_one(make_literature: MakeLiterature) -> None:
    row, base = parse_fractions(["CeNiAsO", "LaFeAsO"])
    sentence = Reasons(make_literature(KNOWN)).of(row, base)
    assert sentence.split("; ")[0].startswith("Ni replaced Fe")
    assert sentence.split("; ")[1].startswith("Ce replaced La")
