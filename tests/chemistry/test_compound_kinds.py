""""""

from __future__ import annotations

import numpy as np
import pytest

from kiago_ray.chemistry.balance import likeliest_balance
from kiago_ray.chemistry.compound_kinds import cuprates, oxides, pnictogen_rich
from kiago_ray.chemistry.formula import parse_amounts


def amounts(formula: str) -> np.ndarray:
    return parse_amounts(formula)[None]


@pytest.mark.parametrize(
    "formula",
    [
        "Nb",
        "MgB2",
        "Nb3Sn",
        "LuNi2B2C",
        "CeCoIn5",
        "LaPt3Si",
        "MgCNi3",
        "CaC6",
        "V3Ga",
        "NbTi",
        "Ba8Si46",
        "K3C60",
        "LaH10",
        "H3S",
        "Mo3Sb7",
        "YNi2B2C",
        "LaRu3Si2",
        "CeCu2Si2",
        "UPt3",
        "NbC",
        "Nb5Ir3O",
        "LaS",
        "Mo3P",
        "ZrRuP",
    ],
)
def test_metals_need_no_balance(formula: str) -> None:
    found = likeliest_balance(amounts(formula))
    assert found.kinds == ("metallic",)
    assert found.balanced[0]


@pytest.mark.parametrize(
    "formula",
    [
        "BaFe2As2",
        "FeSe",
        "NbSe2",
        "LaFeAsO",
        "YBa2Cu3O7",
        "LaRu4As12",
        "BaPb0.75Bi0.25O3",
        "Li0.16ZrNCl",
        "PbMo6S8",
        "NaF2",
        "Ba3Cu5O2",
    ],
)
def test_compounds_of_strong_anions_are_ionic(formula: str) -> None:
    assert likeliest_balance(amounts(formula)).kinds == ("ionic",)


def test_a_tie_of_hard_and_soft_anions_is_no_oxide() -> None:
    assert [bool(oxides(amounts(f))[0]) for f in ("LaFeAsO", "La2O2S", "LaOBiS2", "CuCl", "MgB2")] == [
        False,
        True,
        False,
        True,
        False,
    ]


def test_much_arsenic_bonds_to_itself() -> None:
    assert [
        bool(pnictogen_rich(amounts(f))[0]) for f in ("CaFeAs2", "LaRu4P12", "BaFe2As2", "LaFeAsO", "NbSe2")
    ] == [
        True,
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("formula", "holes"),
    [
        ("La1.85Sr0.15CuO4", 0.15),
        ("Nd1.85Ce0.15CuO4", -0.15),
        ("Sr0.9La0.1CuO2", -0.1),
        ("YBa2Cu3O7", 1 / 3),
        ("YBa2Cu3O6.93", 0.86 / 3),
        ("YBa2Cu4O8", 0.25),
        ("PrBa2Cu3O7", 1 / 3),
        ("Bi2Sr2CaCu2O8.2", 0.2),
        ("Bi1.6Pb0.4Sr2Ca2Cu3O10", 0.4 / 3),
        ("HgBa2CuO4.1", 0.2),
        ("TlBa2CaCu2O7", 0.5),
        ("Ca1.82Na0.18CuO2Cl2", 0.18),
        ("RuSr2Gd1.4Ce0.6Cu2O10", 0.2),
        ("La1.85Sr0.15Cu0.99Zn0.01O4", 0.15 / 0.99),
    ],
)
def test_doped_cuprates(formula: str, holes: float) -> None:
    found = likeliest_balance(parse_amounts(formula)[None])
    assert found.holes_per_cu[0] == pytest.approx(holes)
    assert not found.undoped_parent[0]
    assert found.mean_valences[0]["Cu"] == pytest.approx(2 + holes)


@pytest.mark.parametrize(
    "formula",
    [
        "La2CuO4",
        "Nd2CuO4",
        "YBa2Cu3O6.5",
        "YBa2Cu3O6",
        "YBa2Cu3O6.3",
        "HgBa2Ca2Cu3O8",
        "Bi2Sr2CaCu2O8",
        "Tl2Ba2Ca2Cu3O10",
        "CaCuO2",
        "Sr2CuO2Cl2",
        "Sr2CuO2CO3",
        "La1.99Sr0.01CuO4",
        "Sr2CaCu2Bi2O8",
        "RuSr2GdCu2O8",
    ],
)
def test_cuprates_that_are_undoped_as_written(formula: str) -> None:
    found = likeliest_balance(parse_amounts(formula)[None])
    assert found.undoped_parent[0]
    assert found.balanced[0]


def test_what_is_no_cuprate_has_no_holes() -> None:
    formulas = [
        "LaFeAsO",
        "Cu",
        "CuO0.5",
        "Cu2O",
        "La3Ni2O7",
        "NaCo0.98Cu0.02O2",
        "LaCuSO",
        "CuCl2O",
        "LaNi0.9Cu0.1O3",
    ]
    rows = np.stack([parse_amounts(formula) for formula in formulas])
    assert not cuprates(rows).any()
    found = likeliest_balance(rows)
    assert np.isnan(found.holes_per_cu).all()
    assert not found.undoped_parent.any()


def test_the_tolerance_is_a_fiftieth_of_a_hole() -> None:
    rows = np.stack(
        [parse_amounts(f) for f in ("La1.981Sr0.019CuO4", "La1.98Sr0.02CuO4", "La1.981Ce0.019CuO4")]
    )
    assert likeliest_balance(rows).undoped_parent.tolist() == [True, False, True]
