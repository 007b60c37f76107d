"""The table of prototypes, and structures of a person's own."""

from __future__ import annotations

import json

import pytest
from pymatgen.core import Composition, Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from kiago_ray.chemistry.formula import parse
from kiago_ray.structures import prototypes
from kiago_ray.structures.prototypes import Prototype, StructureError, read_structures, shortest_distance

NACL = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


@pytest.mark.parametrize("row", prototypes.rows(), ids=lambda row: f"{row['formula']} {row['family']}")
def test_a_line_of_the_table_is_the_compound_in_its_space_group(row: dict[str, str]) -> None:
    structure = prototypes.conventional(row)
    assert structure.composition.reduced_formula == Composition(row["formula"]).reduced_formula
    assert SpacegroupAnalyzer(structure, 0.01).get_space_group_number() == int(row["space_group"])
    assert prototypes.too_near(structure) is None
    assert row["source"]
    assert row["family"]


def test_the_table_has_the_landmark_families() -> None:
    families = {row["family"] for row in prototypes.rows()}
    asked = "1111 122 11 111 K2NiF4 infinite Y-123 Bi-2201 Bi-2212 Bi-2223 Hg-1201 Hg-1212 Hg-1223"
    asked += " Tl-2201 Tl-2212 Tl-2223 Tl-1212 Tl-1223 A15 AlB2 borocarbide"
    asked += " Ruddlesden-Popper kagome TMD Laves rocksalt perovskite"
    assert not [name for name in asked.split() if not any(name in family for family in families)]


def test_aflow_has_the_prototypes_of_everyday_compounds() -> None:
    found = {each.name for each in prototypes.aflow()}
    assert {"NaCl", "CaTiO3", "TiO2", "CsCl"} <= found
    assert len(prototypes.aflow()) > 250


def test_structures_come_from_cif_poscar_and_json() -> None:
    files = {
        "a.cif": NACL.to(fmt="cif"),
        "POSCAR": NACL.to(fmt="poscar"),
        "b.json": json.dumps(NACL.as_dict()),
        "mp.json": json.dumps([{"material_id": "mp-22862", "structure": NACL.as_dict()}] * 2),
    }
    for name, text in files.items():
        found = list(read_structures(name, text.encode()))
        assert len(found) == (2 if name == "mp.json" else 1)
        for each in found:
            assert isinstance(each, Prototype)
            assert each.amounts == {"Na": 1, "Cl": 1}
            assert each.source.startswith(name)


def test_a_site_of_two_elements_takes_the_main_one() -> None:
    mixed = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.64), [{"Na+": 0.7, "K+": 0.3}, "Cl-"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    (found,) = read_structures("mixed.json", json.dumps(mixed.as_dict()).encode())
    assert isinstance(found, Prototype)
    assert found.amounts == {"Na": 1, "Cl": 1}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("broken.cif", b"data_x\n_cell_length_a no", "no structure can be read"),
        ("binary.cif", b"\xff\xfe\x00", "no text of its kind"),
        ("odd.json", b'{"a": 1}', "no structure can be read"),
        ("list.json", b"[3]", "no structure can be read"),
        ("POSCAR", b"", "no structure can be read"),
    ],
)
def test_a_bad_file_is_a_line_that_names_it(name: str, content: bytes, told: str) -> None:
    (error,) = read_structures(name, content)
    assert isinstance(error, StructureError)
    assert str(error).startswith(name)
    assert told in str(error)
    assert "\n" not in str(error)


def test_atoms_that_are_too_near_are_told() -> None:
    near = Structure(Lattice.cubic(5), ["Fe", "As"], [[0, 0, 0], [0.2, 0, 0]])
    assert shortest_distance(near)[0] == pytest.approx(1.0)
    (error,) = read_structures("near.json", json.dumps(near.as_dict()).encode())
    assert "As-Fe 1.00 Å apart" in str(error)
    assert shortest_distance(NACL) == (pytest.approx(2.82), "")


def test_every_prototype_is_a_formula_that_the_package_reads() -> None:
    assert all(parse(each.name) for each in prototypes.shipped())
