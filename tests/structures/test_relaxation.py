"""CHGNet's energies, forces and modes, and rows as a whole."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from pymatgen.core import Lattice, Structure

from kiago_ray.hull import EnergyHull
from kiago_ray.structures import relaxation
from kiago_ray.structures.proposals import Request, Settings, structure_of
from kiago_ray.structures.prototypes import Prototype, StructureError, shipped
from kiago_ray.structures.relaxation import (
    Potential,
    change_of_corrections,
    element_energies,
    formation_energy,
)


def of(name: str) -> Structure:
    return next(each.structure for each in shipped() if each.name == name)


def test_the_weights_read_without_pickle_are_those_that_the_package_loads(potential: Potential) -> None:
    from chgnet.model import CHGNet

    whole = CHGNet.load(use_device="cpu", verbose=False).state_dict()
    ours = potential.model.state_dict()
    assert ours.keys() == whole.keys()
    assert all(torch.equal(ours[name], whole[name]) for name in whole)


def test_energies_are_the_packages_own(potential: Potential) -> None:
    from chgnet.model import CHGNet

    own = float(CHGNet.load(use_device="cpu", verbose=False).predict_structure(of("MgB2"), task="e")["e"])
    assert potential.energies([of("MgB2"), of("Nb")])[0] == pytest.approx(own, abs=1e-5)


@pytest.mark.parametrize("element", ["Nb", "Al", "V", "Pb"])
def test_an_element_has_the_materials_projects_energy(element: str, potential: Potential) -> None:
    relaxed = potential.relaxed(of(element))
    assert formation_energy(relaxed.structure, relaxed.energy_ev_per_atom) == pytest.approx(0, abs=0.1)
    assert relaxed.energy_ev_per_atom == pytest.approx(element_energies()[element], abs=0.1)


def test_a_relaxed_cell_has_the_measured_lattice(potential: Potential) -> None:
    strained = of("MgB2").copy()
    strained.scale_lattice(strained.volume * 1.15)
    found = potential.relaxed(strained)
    assert found.converged
    assert found.structure.lattice.abc == pytest.approx((3.086, 3.086, 3.524), rel=0.02)


def test_modes_of_magnesium_diboride(potential: Potential) -> None:
    """Three translations near 0, and the E2g mode of the boron layer well above, as measured at some 18 THz."""
    modes = potential.lowest_modes_thz(potential.relaxed(of("MgB2")).structure)
    assert len(modes) == 9
    assert np.abs(modes[:3]).max() < 0.5
    assert 12 < modes[-1] < 30
    assert potential.imaginary(modes) == 0


def test_a_chain_that_wants_to_break_has_an_imaginary_mode(potential: Potential) -> None:
    """Cubic BaTiO3, compressed by nothing, is unstable against its titanium's displacement when stretched."""
    cubic = Structure.from_spacegroup(
        "Pm-3m", Lattice.cubic(4.15), ["Ba", "Ti", "O"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]]
    )
    assert potential.imaginary(potential.lowest_modes_thz(cubic)) >= 3


def test_an_element_that_the_materials_project_lacks_is_told() -> None:
    with pytest.raises(StructureError, match="no energy of Po"):
        formation_energy(Structure(Lattice.cubic(3.3), ["Po"], [[0, 0, 0]]), -3.0)


def test_a_row_has_all_that_the_table_says(potential: Potential, hull: EnergyHull, odds: np.ndarray) -> None:
    found = structure_of(Request("Mg0.75Al0.25B2", "MgB2"), Settings(), potential, hull, odds)
    values = found.values
    assert values["error"] is None
    assert values["approximant"] == "Mg3AlB8"
    assert values["prototype"] == "MgB2"
    assert values["prototype_survived"] is True
    assert abs(values["volume_change"]) < 0.05
    assert 1.6 < values["shortest_distance_a"] < 1.9
    assert values["e_hull_chgnet_ev_per_atom"] >= 0
    assert values["ef_difference_ev_per_atom"] == pytest.approx(
        values["ef_chgnet_ev_per_atom"] - values["ef_composition_ev_per_atom"]
    )


def test_what_is_wrong_with_a_row_is_its_error(
    potential: Potential, hull: EnergyHull, odds: np.ndarray
) -> None:
    for formula, told in (("Xx2", "unknown element"), ("He2O", "no known prototype fits")):
        found = structure_of(Request(formula), Settings(prototypes=1), potential, hull, odds)
        assert told in found.values["error"]
        assert found.relaxed is None
        assert found.values["formula"] == formula


def test_a_persons_structure_comes_before_the_tables(
    potential: Potential, hull: EnergyHull, odds: np.ndarray
) -> None:
    larger = of("MgB2").copy()
    larger.scale_lattice(larger.volume * 1.05)
    mine = Prototype("MgB2", "own structure", "mine.cif", {"Mg": 1, "B": 2}, lambda: larger)
    found = structure_of(Request("MgB2"), Settings(own=(mine,), prototypes=1), potential, hull, odds)
    assert found.values["prototype_source"] == "mine.cif"
    assert found.values["volume_change"] == pytest.approx(-0.05, abs=0.02)
    assert found.values["spacegroup"] == "P6/mmm"


@pytest.mark.parametrize(
    ("counts", "ev"),
    [
        ({"Co": 1, "Cu": 2, "Sn": 1, "Se": 4}, 4 * 0.472),
        ({"Na": 1, "Cl": 1}, 0.614 - 0.59465),
        ({"Fe": 2, "O": 3}, 2 * (2.256 - 2.733) + 3 * (0.687 - 0.70229)),
        ({"La": 1, "Fe": 1, "As": 1, "O": 1}, 2.256 - 2.733 + 0.687 - 0.70229),
        ({"Fe": 1, "Al": 1}, 0.0),
        ({"Nb": 1}, 0.0),
    ],
)
def test_corrections_are_of_anions_and_of_metals_with_u(counts: dict[str, int], ev: float) -> None:
    assert change_of_corrections(counts) == pytest.approx(ev, abs=1e-9)


def test_corrections_are_those_that_pymatgen_has() -> None:
    import pymatgen.analysis.compatibility as compatibility

    folder = Path(compatibility.__file__).parent
    new, old = (
        yaml.safe_load((folder / name).read_text())
        for name in ("MP2020Compatibility.yaml", "MPCompatibility.yaml")
    )
    shipped_table = csv.DictReader((Path(relaxation.__file__).parent / "corrections.csv").open())
    gases = {f"{symbol}2": symbol for symbol in ("N", "F", "Cl", "H")}
    elements = old["Advanced"]["CompoundEnergies"].items()
    before = {gases[name]: element_energies()[gases[name]] - ev for name, ev in elements}
    before |= {"O": old["OxideCorrections"]["oxide"], "S": old["SulfideCorrections"]["sulfide"]}
    before |= old["Advanced"]["UCorrections"]["O"]
    after = {
        **new["Corrections"]["CompositionCorrections"],
        **new["Corrections"]["GGAUMixingCorrections"]["O"],
    }
    after["O"] = after["oxide"]
    for row in shipped_table:
        assert float(row["mp2020_ev"]) == pytest.approx(after[row["element"]], abs=1e-6)
        assert float(row["legacy_ev"]) == pytest.approx(before.get(row["element"], 0.0), abs=2e-4)
