"""What people write for a formula: names of families, wrong capitals, zeros for O, water after a point, isotopes."""

from __future__ import annotations

import csv

import pytest

from kiago_ray.chemistry.formula import FormulaError, parse
from kiago_ray.data import names
from kiago_ray.data.names import read
from kiago_ray.data.tables import content, landmarks, superconductors


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("YBCO", "YBa2Cu3O7"),
        ("ybco", "YBa2Cu3O7"),
        ("YBC0", "YBa2Cu3O7"),
        ("BSCCO", "Bi2Sr2CaCu2O8"),
        ("Bi-2212", "Bi2Sr2CaCu2O8"),
        ("Bi\u20112223", "Bi2Sr2Ca2Cu3O10"),
        ("Tl-2201", "Tl2Ba2CuO6"),
        ("Hg-1223", "HgBa2Ca2Cu3O8"),
        ("LSCO", "La1.85Sr0.15CuO4"),
        ("LBCO", "La1.875Ba0.125CuO4"),
        ("NCCO", "Nd1.85Ce0.15CuO4"),
        ("1111", "LaFeAsO0.9F0.1"),
        ("122", "Ba0.6K0.4Fe2As2"),
        ("11", "FeSe"),
        ("infinite layer", "Sr0.9La0.1CuO2"),
        ("SRO", "Sr2RuO4"),
    ],
)
def test_a_name_of_a_family_is_no_formula(text: str, meant: str) -> None:
    with pytest.raises(FormulaError) as caught:
        read(text)
    assert caught.value.reason == "name"
    assert str(caught.value).endswith(f"did you mean {meant}?")


@pytest.mark.parametrize(
    ("text", "reason", "meant"),
    [
        ("NBSE2", "unknown element", "did you mean NbSe2?"),
        ("MGB2", "unknown element", "did you mean MgB2?"),
        ("lanias", "unknown element", "did you mean LaNiAs?"),
        ("YBA2CU3O7", "unknown element", "did you mean YBa2Cu3O7?"),
        (
            "\u041cgB2",
            "unknown element",
            "Cyrillic capital letter em; type the letter of the Latin alphabet; did you",
        ),
        ("NBN", "ambiguous", "is read as 2 N, 1 B; did you mean NbN?"),
        ("NB3SN", "ambiguous", "did you mean Nb3Sn?"),
        ("SNO2", "ambiguous", "did you mean SnO2?"),
        ("BI2Sr2CaCu2O8", "ambiguous", "did you mean Bi2Sr2CaCu2O8?"),
        ("La2Cu04", "ambiguous", "did you mean La2CuO4?"),
        ("CuSO4.5H2O", "ambiguous", "write CuSO4·5H2O"),
        ("CuCl2.2H2O", "ambiguous", "write CuCl2·2H2O"),
        ("YBa2Cu307", "amount out of bounds", "has 307 atoms of Cu, and a formula at most 150"),
        ("YBa2Cu307", "amount out of bounds", "did you mean YBa2Cu3O7?"),
        ("Y1Ba2Cu3O6050", "amount out of bounds", "write smaller amounts in the same ratio"),
        ("2H-NbSe2", "syntax", "did you mean NbSe2?"),
        (
            "Fe2+",
            "charge",
            "'+' at position 4 of 'Fe2+'; a formula has neither charges nor open ends: leave it out",
        ),
        ("11B", "syntax", "an isotope is written [11B]"),
    ],
)
def test_what_would_mislead_is_refused_with_what_may_be_meant(text: str, reason: str, meant: str) -> None:
    with pytest.raises(FormulaError) as caught:
        read(text)
    assert caught.value.reason == reason
    assert meant in str(caught.value)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("CuSO4·5H2O", "CuSO4(H2O)5"),
        ("CuSO₄·5H₂O", "CuSO4(H2O)5"),
        ("CuSO4 * 5 H2O", "CuSO4(H2O)5"),
        ("CaSO4•.5H2O", "CaSO4(H2O).5"),
        ("Na0.35CoO2:1.3H2O", "Na0.35CoO2(H2O)1.3"),
        ("Na0.35CoO2·(H2O)1.3", "Na0.35CoO2(H2O)1.3"),
        ("NaCl·H2O", "NaClH2O"),
        ("PdD", "PdH"),
        ("PdT0.5", "PdH0.5"),
        ("Mg[11B]2", "MgB2"),
        ("Mg¹¹B₂", "MgB2"),
        ("[2H]2O", "H2O"),
        ("D2O", "H2O"),
    ],
)
def test_water_and_isotopes_are_read(text: str, plain: str) -> None:
    assert read(text) == parse(text) == parse(plain)


@pytest.mark.parametrize(
    "text",
    [
        *("YB6", "CO2", "CSH7", "SN", "KNO3", "CH3COOH", "K3C60", "C60K3", "C60", "LaH10", "SrO", "N1B1N1"),
        *("Y1B1C1O1", "Ba24Si100", "Cu0.5H2O", "Fe500Se500", "La2O2CO3", "Nb 3 Sn", "HF", "BI3"),
    ],
)
def test_what_is_meant_as_written_is_read(text: str) -> None:
    assert read(text) == parse(text)


@pytest.fixture(scope="module")
def tables() -> list[str]:
    every_fifth = superconductors()["formula"].tolist()[::5]
    return [*every_fifth, *landmarks()["formula"]]


def test_no_known_superconductor_is_refused(tables: list[str]) -> None:
    assert len(tables) > 3000
    for text in tables:
        assert read(text) == parse(text)


def test_every_name_stands_for_a_formula_and_for_no_known_one() -> None:
    rows = list(csv.DictReader(content("names.csv").decode().splitlines()))
    own = {row["name"] for row in rows}
    assert len(own) == len(rows) > 90
    assert not own & names._known()
    for row in rows:
        assert read(row["formula"])
        assert row["name"] == names._as_name(row["name"])


def test_other_readings_are_bounded() -> None:
    assert len(names._readings("CO" * 30, keep_small=False)) <= 200
    assert names._readings("CO" * 31, keep_small=False) == []
    with pytest.raises(FormulaError):
        read("SN" * 29 + "q")
