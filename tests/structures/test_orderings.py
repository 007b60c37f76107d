"""What stands on which sites, and the ordered cells that come of it."""

from __future__ import annotations

from collections.abc import Collection
from itertools import combinations

import numpy as np
import pytest
from pymatgen.analysis.ewald import EwaldSummation

from kiago_ray.chemistry.formula import parse
from kiago_ray.structures.occupation import Occupation, occupations
from kiago_ray.structures.orderings import charges_of, orderings
from kiago_ray.structures.prototypes import StructureError, counted, shipped, symmetry


def on_sites(formula: str, odds: np.ndarray, base: str | None = None) -> Occupation:
    return occupations(parse(formula), shipped(), odds, parse(base) if base else None)[0]


@pytest.mark.parametrize(
    ("formula", "base", "prototype", "held"),
    [
        (
            "EuFeAsO0.7F0.3",
            "LaFeAsO",
            "LaFeAsO",
            {"La": {"Eu": 1}, "Fe": {"Fe": 1}, "As": {"As": 1}, "O": {"O": 0.7, "F": 0.3}},
        ),
        (
            "LaFeAsO0.65F0.15",
            "LaFeAsO",
            "LaFeAsO",
            {"La": {"La": 1}, "Fe": {"Fe": 1}, "As": {"As": 1}, "O": {"O": 0.65, "F": 0.15}},
        ),
        (
            "Ba0.6K0.4Fe2As2",
            None,
            "BaFe2As2",
            {"Ba": {"Ba": 0.6, "K": 0.4}, "Fe": {"Fe": 2}, "As": {"As": 2}},
        ),
        ("Mg0.9Al0.1B2", None, "MgB2", {"Mg": {"Mg": 0.9, "Al": 0.1}, "B": {"B": 2}}),
        (
            "La1.85Sr0.15CuO4",
            None,
            "La2CuO4",
            {"La": {"La": 1.85, "Sr": 0.15}, "Cu": {"Cu": 1}, "O": {"O": 4}},
        ),
    ],
)
def test_elements_stand_where_a_chemist_puts_them(
    formula: str, base: str | None, prototype: str, held: dict[str, dict[str, float]], odds: np.ndarray
) -> None:
    found = on_sites(formula, odds, base)
    assert found.prototype.name == prototype
    assert {site: dict(each) for site, each in found.held.items()} == {
        site: pytest.approx(each) for site, each in held.items()
    }


def test_a_compound_of_the_table_is_its_own_prototype_at_no_cost(odds: np.ndarray) -> None:
    for prototype in shipped()[::5]:
        best = occupations(parse(prototype.name), shipped(), odds)
        assert best[0].cost == pytest.approx(0, abs=1e-9)
        assert best[0].prototype.name == prototype.name


def test_what_resembles_nothing_has_no_prototype(odds: np.ndarray) -> None:
    assert occupations(parse("He2O"), shipped(), odds) == []


def test_an_ordered_cell_has_what_was_asked_within_a_few_per_cent(odds: np.ndarray) -> None:
    for formula in ("La1.85Sr0.15CuO4", "EuFeAsO0.7F0.3", "YBa2Cu3O6.5", "Mg0.9Al0.1B2"):
        amounts = parse(formula)
        found = orderings(on_sites(formula, odds), charges_of(amounts), few=3, seed=0)
        assert 1 <= len(found) <= 3
        energies = [each.ewald_ev_per_atom for each in found]
        assert energies == sorted(energies)
        for each in found:
            counts, total = counted(each.structure), sum(amounts.values())
            assert len(each.structure) <= 100
            assert set(counts) == set(amounts)
            shares = {symbol: number / len(each.structure) for symbol, number in counts.items()}
            assert all(abs(shares[symbol] - amount / total) < 0.02 for symbol, amount in amounts.items())


def test_of_few_arrangements_the_one_of_lowest_ewald_energy_is_first(odds: np.ndarray) -> None:
    """Three of four barium atoms replaced in BaFe2As2, against pymatgen's own sum for each arrangement."""
    amounts = parse("Ba0.25K0.75Fe2As2")
    occupation, charges = on_sites("Ba0.25K0.75Fe2As2", odds), charges_of(amounts)
    (best, *_) = orderings(occupation, charges, few=1, seed=0)
    cell = best.structure
    metal = [at for at, site in enumerate(cell) if site.specie.symbol in ("Ba", "K")]

    def energy(potassium: Collection[int]) -> float:
        other = cell.copy()
        for at in metal:
            other.replace(at, "K" if at in potassium else "Ba")
        other.add_oxidation_state_by_element(charges)
        return float(EwaldSummation(other).total_energy)

    ours = energy([at for at in metal if cell[at].specie.symbol == "K"])
    others = [energy(chosen) for chosen in combinations(metal, 3 * len(metal) // 4)]
    assert ours == pytest.approx(min(others), abs=1e-6)
    assert len(metal) > 1


def test_the_same_seed_gives_the_same_cells_and_large_ones_keep_their_amounts(odds: np.ndarray) -> None:
    formula = "La0.7Sr0.3Fe0.6Co0.4AsO0.8F0.2"
    occupation, charges = on_sites(formula, odds, "LaFeAsO"), charges_of(parse(formula))
    first, second = (orderings(occupation, charges, few=2, seed=3) for _ in range(2))
    assert [each.structure for each in first] == [each.structure for each in second]
    assert counted(first[0].structure) == counted(first[-1].structure)


def test_an_amount_that_no_cell_holds_is_told(odds: np.ndarray) -> None:
    occupation = on_sites("La0.999Ce0.001FeAsO", odds)
    with pytest.raises(StructureError, match="holds so small an amount"):
        orderings(occupation, charges_of(parse("La0.999Ce0.001FeAsO")), few=1, seed=0)


def test_a_compound_keeps_cell_and_symmetry_of_its_prototype(odds: np.ndarray) -> None:
    (found,) = orderings(on_sites("MgB2", odds), charges_of(parse("MgB2")), few=3, seed=0)
    assert symmetry(found.structure) == ("P6/mmm", 191)
    assert found.structure.lattice.a == pytest.approx(3.086)


def test_the_cell_grows_with_the_atoms_in_it(odds: np.ndarray) -> None:
    (cerium,) = orderings(on_sites("CeFeAsO", odds, "LaFeAsO"), charges_of(parse("CeFeAsO")), few=1, seed=0)
    (barium,) = orderings(on_sites("BaFeAsO", odds, "LaFeAsO"), charges_of(parse("BaFeAsO")), few=1, seed=0)
    assert (
        cerium.structure.volume
        < on_sites("LaFeAsO", odds).prototype.structure.volume
        < barium.structure.volume
    )
