"""Reactions and masses: worked out by hand, by pymatgen's calculator, and as balances of hundreds of compounds."""

from __future__ import annotations

import re

import pytest
from pymatgen.analysis.reaction_calculator import Reaction
from pymatgen.core import Composition

from kiago_ray.chemistry.formula import as_chemists_write, parse
from kiago_ray.chemistry.synthesis import (
    Batch,
    NoReactionError,
    Precursor,
    Recipe,
    hazards_of,
    molar_mass,
    recipe_of,
)
from kiago_ray.data.precursors import load_hazards, load_precursors
from kiago_ray.data.tables import landmarks
from kiago_ray.errors import InputError

SHIPPED = load_precursors()


def made(formula: str, grams: float = 5.0) -> Recipe:
    return recipe_of(formula, Batch(grams), SHIPPED)


def masses(recipe: Recipe) -> dict[str, float]:
    return {each.precursor.formula: each.grams for each in recipe.weighed}


# Masses by hand, from the atomic weights La 138.90547, Sr 87.62, Cu 63.546, O 15.9994, C 12.0107, F 18.9984,
# Fe 55.845, As 74.9216, Mg 24.305, B 10.811, Y 88.90585, Ba 137.327: n(precursor) · M(precursor) · 5 g / M(compound).
@pytest.mark.parametrize(
    ("formula", "grams", "reaction"),
    [
        (
            "La1.85Sr0.15CuO4",  # 397.6617 g/mol of 0.925 × 325.8091, 0.15 × 147.6289 and 79.5454
            {"La2O3": 3.7893, "SrCO3": 0.2784, "CuO": 1.0002},
            "0.925 La2O3 + 0.15 SrCO3 + CuO + 0.0375 O2 → La1.85Sr0.15CuO4 + 0.15 CO2",
        ),
        (
            "LaFeAsO0.9F0.1",  # 285.9714: 0.3 × 325.8091, 195.9006 / 30, 11/30 × 138.9055, 55.845, 74.9216
            {"La2O3": 1.7090, "LaF3": 0.1142, "La": 0.8905, "Fe": 0.9764, "As": 1.3100},
            "9 La2O3 + LaF3 + 11 La + 30 Fe + 30 As → 30 LaFeAsO0.9F0.1",
        ),
        ("MgB2", {"Mg": 2.6460, "B": 2.3540}, "Mg + 2 B → MgB2"),  # 45.927
        (
            "YBa2Cu3O7",  # 666.1936: 112.9049, 2 × 197.3359, 3 × 79.5454
            {"Y2O3": 0.8474, "BaCO3": 2.9621, "CuO": 1.7910},
            "2 Y2O3 + 8 BaCO3 + 12 CuO + O2 → 4 YBa2Cu3O7 + 8 CO2",
        ),
    ],
)
def test_what_five_grams_take_is_what_a_hand_works_out(
    formula: str, grams: dict[str, float], reaction: str
) -> None:
    recipe = made(formula)
    assert masses(recipe) == pytest.approx(grams, abs=6e-5)
    assert list(masses(recipe)) == list(grams)
    assert recipe.reaction == reaction


def test_pymatgen_balances_it_the_same_way() -> None:
    whole = [Composition(text) for text in ("La2O3", "SrCO3", "CuO", "O2")]
    product = Composition("La1.85Sr0.15CuO4")
    reaction = Reaction(whole, [product, Composition("CO2")])
    scale = reaction.get_coeff(product)
    moles = {each.precursor.formula: each.moles for each in made("La1.85Sr0.15CuO4").weighed}
    found = {name: -reaction.get_coeff(Composition(name)) / scale for name in moles}
    assert moles == pytest.approx(found)
    assert molar_mass("La1.85Sr0.15CuO4") == pytest.approx(float(product.weight), rel=1e-5)


def test_every_reaction_of_the_landmarks_balances() -> None:
    """Read back from the text, all atoms that go in come out."""
    written = 0
    for formula in landmarks()["formula"]:
        try:
            recipe = made(formula)
        except NoReactionError:
            continue
        written += 1
        sides = []
        for side in recipe.reaction.split(" → "):
            atoms: dict[str, float] = {}
            for term in side.split(" + "):
                number, name = re.fullmatch(r"(?:([0-9.]+) )?(\S+)", term).groups()  # type: ignore[union-attr]
                for symbol, n in parse(name).items():
                    atoms[symbol] = atoms.get(symbol, 0.0) + float(number or 1) * n
            sides.append(atoms)
        assert sides[0] == pytest.approx(sides[1], rel=2e-3), recipe.reaction
        assert all(each.grams > 0 for each in recipe.weighed)
    assert written > 0.95 * len(landmarks())


@pytest.mark.parametrize(
    ("formula", "route", "precursors"),
    [
        ("Sr2RuO4", "air", {"SrCO3", "RuO2"}),
        ("Ba0.6K0.4Fe2As2", "closed", {"Ba", "K", "Fe", "As"}),
        ("LiTi2O4", "closed", {"Li2O", "TiO2", "Ti"}),  # titanium is reduced, which no oxide does in air
        ("Nd1.85Ce0.15CuO4", "air", {"Nd2O3", "CeO2", "CuO"}),  # a little oxygen leaves in argon
        ("LaO0.5F0.5BiS2", "closed", {"La2O3", "LaF3", "La", "Bi", "S"}),
        ("Sr2CuO2F2", "air", {"SrCO3", "SrF2", "CuO"}),
        ("LaH10", "closed", {"La"}),
        ("NbN", "closed", {"Nb"}),
    ],
)
def test_an_oxide_is_fired_in_air_and_the_rest_in_a_closed_vessel(
    formula: str, route: str, precursors: set[str]
) -> None:
    recipe = made(formula)
    assert (recipe.route, set(masses(recipe))) == (route, precursors)


def test_what_gases_do_is_said() -> None:
    assert "takes up oxygen" in made("La1.85Sr0.15CuO4").remark
    assert "oxygen has to leave" in made("YBa2Cu3O6").remark
    assert "hydrogen, under pressure" in made("LaH10").remark
    assert made("Bi2Sr2CaCu2O8").remark == made("MgB2").remark == ""


def test_what_has_no_precursor_says_so() -> None:
    with pytest.raises(NoReactionError, match="no precursor of Pu in the table"):
        made("PuCoGa5")
    fluoride = [each for each in SHIPPED if each.formula in ("LaF3", "CuO")]
    with pytest.raises(NoReactionError, match="no mixture"):
        recipe_of("LaCuOF", Batch(1), fluoride)


def test_the_lower_rank_is_weighed_first() -> None:
    own = [Precursor("MgB4", "", "any", 1), Precursor("Mg", "", "any", 1), Precursor("B", "", "any", 9)]
    assert set(masses(recipe_of("MgB2", Batch(1), own))) == {"MgB4", "Mg"}


@pytest.mark.parametrize(
    ("text", "grams"), [("5g", 5), ("500 mg", 0.5), ("1kg", 1000), ("0.1mol", 4.5927), ("2mmol", 0.091854)]
)
def test_a_batch_is_grams_or_moles(text: str, grams: float) -> None:
    assert Batch.read(text).grams(molar_mass("MgB2")) == pytest.approx(grams)


@pytest.mark.parametrize("text", ["", "5", "g", "-1g", "0g", "5 lb", "1e3g", "nan g"])
def test_no_amount_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--batch"):
        Batch.read(text)


def test_hazards_are_those_of_the_compound_and_of_what_is_weighed() -> None:
    hazards = load_hazards()

    def warned(formula: str) -> str:
        return " ".join(hazards_of(formula, made(formula), hazards))

    assert "burns with water" in warned("K3C60")
    assert "burns with water" not in warned("K0.3CoO2")  # of the carbonate
    assert "Arsenic" in warned("LaFeAsO")
    assert "OsO4" in warned("KOs2O6")
    assert "Hydrogen explodes" in warned("LaH10")
    assert any("Radioactive" in text for text in hazards_of("PuCoGa5", None, hazards))
    assert warned("Nb3Sn") == ""


@pytest.mark.parametrize(
    ("formula", "base", "nearest", "written"),
    [
        ("La37Sr3Cu20O80", "La2CuO4", "Sr0.15La1.85CuO4", "La1.85Sr0.15CuO4"),
        ("La10Fe10As10O9F", "LaFeAsO", None, "LaFeAsO0.9F0.1"),
        ("Ba6K4Fe20As20", "BaFe2As2", None, "Ba0.6K0.4Fe2As2"),
        ("Ba2YCu3O7", "YBa2Cu3O7", None, "YBa2Cu3O7"),
        ("Mg19LiB40", "MgB2", None, "Mg0.95Li0.05B2"),
        (
            "Ca2La5FeCu2As2O10",
            "LaNiAsO",
            None,
            "La5Ca2FeCu2As2O10",
        ),  # too far from its base to be of its size
        ("HgBa2Ca2Cu3O8", None, None, "HgBa2Ca2Cu3O8"),
        ("Sr0.15La1.85CuO4", "La1.85Sr0.15CuO4", None, "La1.85Sr0.15CuO4"),
    ],
)
def test_formulas_read_as_chemists_write_them(
    formula: str, base: str | None, nearest: str | None, written: str
) -> None:
    assert as_chemists_write(formula, base, nearest) == written
