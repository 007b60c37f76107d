from __future__ import annotations

import numpy as np
import pytest

from kiago_ray.chemistry.balance import likeliest_balance
from kiago_ray.chemistry.compound_kinds import oxides, pnictogen_rich
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
