"""ΔE_hull: hulls worked by hand, pymatgen's phase diagrams on many systems, what scaling and order must not change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
import pytest
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Element

from kiago_ray.chemistry.formula import amounts_row, parse, parse_fractions
from kiago_ray.hull import EnergyHull, HullPlace, judge, lowest_mixtures, with_hull
from kiago_ray.screening.candidates import collect
from kiago_ray.search.result import SearchResult
from kiago_ray.search.spec import SearchSpec

MakeHull = Callable[[Mapping[str, float]], EnergyHull]
# Ti-O with invented energies: TiO2 and Ti2O3 on the hull, TiO above it.
TITANIUM = {"TiO2": -3.0, "Ti2O3": -2.9, "TiO": -2.0}


def place(hull: EnergyHull, formula: str, ef: float) -> HullPlace:
    return hull.places(parse_fractions([formula]), np.array([ef]))[0]


def test_a_binary_hull_by_hand(make_hull: MakeHull) -> None:
    hull = make_hull(TITANIUM)
    # Ti2O3, oxygen 0.6, among Ti (0) and TiO2 (2/3): 0.9 of the atoms in TiO2 → −2.7; it lies 0.2 below.
    stable = place(hull, "Ti2O3", -2.9)
    assert stable.e_hull_ev_per_atom == 0
    assert stable.e_decomposition_ev_per_atom == pytest.approx(-0.2, abs=1e-9)
    assert [name for name, _ in stable.decomposition] == ["TiO2", "Ti"]
    assert [share for _, share in stable.decomposition] == pytest.approx([0.9, 0.1], abs=1e-9)
    assert (stable.n_phases, stable.is_phase) == (4, True)  # TiO2, TiO, Ti, O
    # TiO, oxygen 0.5, between Ti and Ti2O3: 5/6 of −2.9.
    above = place(hull, "TiO", -2.0)
    assert above.e_hull_ev_per_atom == pytest.approx(2.9 * 5 / 6 - 2, abs=1e-9)
    assert above.e_decomposition_ev_per_atom == above.e_hull_ev_per_atom
    assert above.reaction("TiO") == "3 TiO → Ti2O3 + Ti"
    # A new composition below the hull is stable, and how far it lies below is told.
    new = place(hull, "Ti3O5", -3.5)
    assert (new.e_hull_ev_per_atom, new.is_phase) == (0, False)
    assert new.e_decomposition_ev_per_atom == pytest.approx(-3.5 + (2.9 * 0.625 + 3.0 * 0.375), abs=1e-9)


def test_a_higher_polymorph_lies_above_its_own_phase(make_hull: MakeHull) -> None:
    found = place(make_hull(TITANIUM), "Ti4O6", -2.85)
    assert found.e_hull_ev_per_atom == pytest.approx(0.05)
    assert found.e_decomposition_ev_per_atom == pytest.approx(-0.15)


def test_elements_are_at_zero_whatever_the_file_says(make_hull: MakeHull) -> None:
    hull = make_hull({**TITANIUM, "Ti": 0.3, "O2": -1.0})
    assert hull.phases.report.dropped == {"an element, at 0 eV/atom by definition": 2}
    assert hull.energies(parse_fractions(["Ti", "O", "TiO2"]))[0].tolist() == [0, 0, -3.0]
    found = place(hull, "Ti", 0.0)
    assert (found.e_hull_ev_per_atom, found.decomposition) == (0, (("Ti", 1.0),))
    assert place(hull, "TiO2", -3.0).e_decomposition_ev_per_atom == pytest.approx(-3 + 2.9 * 5 / 6, abs=1e-9)


def test_only_phases_within_the_chemical_system_count(make_hull: MakeHull) -> None:
    hull = make_hull({**TITANIUM, "SrTiO3": -3.6, "SrO": -3.0, "Og2U": -1.0})
    assert place(hull, "TiO2", -3.0).n_phases == 4
    assert place(hull, "SrTi2O5", -3.0).n_phases == 8
    alone = place(hull, "Og3U", 0.2)  # elements at the ends of the 118
    assert alone.decomposition[0][0] == "UOg2"
    assert place(hull, "NaCl", 0.25).e_hull_ev_per_atom == 0.25


def random_phases(elements: list[str], rng: np.random.Generator, count: int) -> dict[str, float]:
    phases: dict[str, float] = {}
    while len(phases) < count:
        chosen = rng.choice(elements, int(rng.integers(2, min(4, len(elements)) + 1)), replace=False)
        amounts = rng.integers(1, 6, len(chosen))
        name = Composition(dict(zip(chosen.tolist(), amounts.tolist(), strict=True))).reduced_formula
        phases.setdefault(name, float(rng.uniform(-2, 0.3)))
    return phases


@pytest.mark.parametrize(
    ("elements", "count"),
    [("Ti O", 8), ("La Ni O", 15), ("Y Ba Cu O", 25), ("La Fe As O F", 30), ("Hg Ba Ca Cu O S", 30)],
)
def test_it_is_pymatgens_hull(make_hull: MakeHull, elements: str, count: int) -> None:
    rng = np.random.default_rng(len(elements))
    symbols = elements.split()
    for _ in range(4):
        phases = random_phases(symbols, rng, count)
        entries = [PDEntry(c := Composition(name), ef * c.num_atoms) for name, ef in phases.items()]
        diagram = PhaseDiagram(
            [*entries, *(PDEntry(Composition(symbol), 0.0) for symbol in symbols)],
            elements=[Element(symbol) for symbol in symbols],
        )
        hull = make_hull(phases)
        for entry, (name, ef) in list(zip(entries, phases.items(), strict=True))[:8]:
            found = place(hull, name, ef)
            assert found.e_hull_ev_per_atom == pytest.approx(diagram.get_e_above_hull(entry), abs=1e-6)
            theirs = diagram.get_phase_separation_energy(entry)
            assert found.e_decomposition_ev_per_atom == pytest.approx(theirs, abs=1e-6)
        for _ in range(4):  # compositions that are no phases, with fractional amounts
            amounts = dict(zip(symbols, rng.uniform(0.05, 3, len(symbols)).round(3).tolist(), strict=True))
            composition = Composition(amounts)
            formula = "".join(f"{symbol}{amount}" for symbol, amount in amounts.items())
            new = place(hull, formula, 0.5)
            energy = diagram.get_hull_energy_per_atom(composition)
            assert new.e_decomposition_ev_per_atom == pytest.approx(0.5 - energy, abs=1e-6)
            mixed = parse_fractions([name for name, _ in new.decomposition])
            shares = np.array([share for _, share in new.decomposition])
            np.testing.assert_allclose(shares @ mixed, parse_fractions([formula])[0], atol=1e-8)
            theirs = {e.composition.reduced_formula for e in diagram.get_decomposition(composition)}
            assert len(new.decomposition) == len(theirs) <= len(symbols)


def test_scale_and_order_of_phases_and_formulas_change_nothing(make_hull: MakeHull) -> None:
    rng = np.random.default_rng(3)
    phases = random_phases(["Y", "Ba", "Cu", "O"], rng, 20)
    formulas = [*phases, "YBa2Cu3O6.93", "Y0.5Ba0.25CuO0.125"]
    x, ef = parse_fractions(formulas), rng.uniform(-2, 0, len(formulas))
    one = make_hull(phases).e_hull(x, ef)
    doubled = {
        Composition(name).formula.replace(" ", "") if at % 2 else f"({name})2": value
        for at, (name, value) in enumerate(reversed(phases.items()))
    }
    turned = rng.permutation(len(x))
    other = make_hull(doubled).e_hull(3 * x[turned], ef[turned])
    np.testing.assert_allclose(other, one[turned], atol=1e-9)
    # In other units of energy the distances are in those units.
    scaled = make_hull({name: 0.5 * value for name, value in phases.items()}).e_hull(x, 0.5 * ef)
    np.testing.assert_allclose(scaled, 0.5 * one, atol=1e-9)


def test_a_hull_with_more_phases_is_never_higher(make_hull: MakeHull) -> None:
    rng = np.random.default_rng(5)
    phases = random_phases(["La", "Fe", "As", "O"], rng, 24)
    x = parse_fractions(["LaFeAsO", "La3Fe2AsO7", "LaFe0.9As1.1O"])
    ef = np.full(3, -0.4)
    few = make_hull(dict(list(phases.items())[:12])).places(x, ef)
    many = make_hull(phases).places(x, ef)
    for a, b in zip(few, many, strict=True):
        assert b.e_decomposition_ev_per_atom >= a.e_decomposition_ev_per_atom - 1e-9


def test_reactions_are_balanced_in_whole_numbers(make_hull: MakeHull) -> None:
    hull = make_hull({"La2O3": -3.0, "FeAs": -0.3, "LaAs": -1.5, "LaOF": -3.2})
    formula = "LaFeAsO0.9F0.1"
    left, right = place(hull, formula, -1.0).reaction(formula).split(" → ")
    number, written = left.split(" ")
    assert written == formula
    sums = np.zeros(118)
    for part in right.split(" + "):
        many, name = part.split(" ") if " " in part else ("1", part)
        sums += int(many) * amounts_row(parse(name))
    np.testing.assert_allclose(sums, int(number) * amounts_row(parse(formula)), rtol=1e-9)


@pytest.mark.parametrize("formula", ["Ti1.000123O1.37", "Ti0.9999O1.0001"])
def test_what_needs_large_numbers_has_decimals(make_hull: MakeHull, formula: str) -> None:
    left, right = place(make_hull(TITANIUM), formula, -1.0).reaction(formula).split(" → ")
    assert left == formula
    sums = np.zeros(118)
    for part in right.split(" + "):
        many, name = part.split(" ") if " " in part else ("1", part)
        assert float(many) > 0
        sums += float(many) * amounts_row(parse(name))
    np.testing.assert_allclose(sums, amounts_row(parse(formula)), atol=0.01)
    assert "." in right


def test_unknown_energies_stay_unknown(make_hull: MakeHull) -> None:
    hull = make_hull(TITANIUM)
    assert np.isnan(hull.energies(parse_fractions(["Ti5O9"]))).all()
    assert np.isnan(hull.e_hull(parse_fractions(["TiO2"]), np.array([np.nan]))).all()
    assert hull.e_hull(np.zeros((0, 118)), np.zeros(0)).shape == (0,)


def test_the_lowest_of_all_mixtures_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    problems = []
    for _ in range(20):
        phases = np.concatenate([rng.dirichlet(np.ones(3), 6), np.eye(3)])
        energies = np.concatenate([rng.uniform(-1, 0.2, 6), np.zeros(3)])
        problems.append((rng.dirichlet(np.ones(3)), phases, energies))
    found = lowest_mixtures(problems)
    assert len(found) == len(problems)
    for (x, phases, energies), (energy, shares) in zip(problems, found, strict=True):
        best = np.inf
        for three in map(list, combinations(range(9), 3)):
            if abs(np.linalg.det(phases[three])) > 1e-9:
                parts = np.linalg.solve(phases[three].T, x)
                if (parts >= -1e-12).all():
                    best = min(best, float(parts @ energies[three]))
        assert energy == pytest.approx(best, abs=1e-9)
        assert (shares >= 0).all()
        assert (shares > 0).sum() <= 3
        np.testing.assert_allclose(shares @ phases, x, atol=1e-9)


def test_what_cannot_be_mixed_is_refused() -> None:
    mixed = (np.array([0.5, 0.5]), np.eye(2), np.zeros(2))
    with pytest.raises(ValueError, match="can't be mixed to one of 2 compositions"):
        lowest_mixtures([mixed, (np.array([0.5, 0.5]), np.array([[1.0, 0.0]]), np.array([-1.0]))])


def test_bad_formulas_keep_their_places_and_given_energies_count(make_hull: MakeHull) -> None:
    hull = make_hull({"TiO2": -3.0, "Ti2O3": -2.9})
    formulas: list[object] = ["Ti2O4", "Xx", None, "Ti3O5", "Ti3O5", "Ti4O6", "Fe"]
    given = np.array([np.nan, -1, -1, np.nan, -2.0, -2.5, np.nan])
    energies, spread, places, errors = zip(*judge(hull, formulas, given), strict=True)
    assert np.isnan(spread).all()  # none is predicted
    assert [place is None for place in places] == [False, True, True, True, False, False, False]
    assert [error is None for error in errors] == [place is not None for place in places]
    assert "unknown element" in str(errors[1])
    assert "not among the phases" in str(errors[3])
    np.testing.assert_array_equal(energies, [-3, np.nan, np.nan, np.nan, -2, -2.5, 0])
    assert places[0] is not None
    assert places[0].e_hull_ev_per_atom == 0
    assert places[5] is not None
    assert places[5].e_hull_ev_per_atom == pytest.approx(0.4)


def test_no_formulas(make_hull: MakeHull) -> None:
    assert judge(make_hull({"TiO2": -3.0}), []) == []


MakeResult = Callable[[Sequence[tuple[str | None, float, float]]], SearchResult]
ROWS: list[tuple[str | None, float, float]] = [
    ("Ti3O5", 10.0, -2.5),
    ("TiO", 30.0, -2.0),
    ("Ti2O3", 50.0, -2.9),  # fails another screen
    ("TiO", 30.0, -2.0),
    (None, 0.0, 0.0),
    ("TiO2", 20.0, -3.0),
]


def test_every_formula_has_its_distance_its_sigma_and_its_reaction(make_result: MakeResult) -> None:
    phases = EnergyHull.of()
    hull, result = EnergyHull(phases.phases, phases.ef), make_result(ROWS)
    table = with_hull(collect(result, SearchSpec()), result.amounts, hull).to_pylist()
    x = parse_fractions(["Ti3O5", "TiO"])
    (ti3o5, tio), (_, std) = hull.energies(x)
    assert std != std  # a phase's own energy
    assert table[0]["e_hull_ev_per_atom"] == pytest.approx(hull.e_hull(x, np.array([ti3o5, tio]))[0])
    assert table[1] == table[3] | {name: table[1][name] for name in ("row",)}
    assert table[4]["e_hull_ev_per_atom"] is table[4]["decomposition"] is None
    assert table[5]["e_hull_ev_per_atom"] == 0
    assert table[5]["decomposition"] is None  # it is stable
