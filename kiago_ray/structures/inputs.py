"""A relaxed structure as files for those who run DFT: CIF, POSCAR, inputs of VASP and Quantum ESPRESSO, no potentials.

VASP's are the Materials Project's relaxation set, so that energies compare with its phases. Quantum ESPRESSO's are a
beginning: cut-offs depend on the pseudopotentials that are chosen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kiago_ray.structures.prototypes import counted, quiet

if TYPE_CHECKING:
    from pymatgen.core.structure import Structure

PROGRAMS = ("vasp", "qe")  # folders of their inputs
CIF = "structure.cif"
_SYMPREC_A = 0.05
_K_SPACING = 0.25  # 1/Å, with 2π
_ECUT_RY, _ECUT_RHO_RY = 60, 480


def input_files(relaxed: Structure, start: Structure) -> dict[str, str]:
    """Name below the row's folder → text; and a file that says why, for a program whose inputs can't be made."""
    from pymatgen.io.cif import CifWriter
    from pymatgen.io.vasp.inputs import Poscar

    with quiet():
        files = {
            CIF: str(CifWriter(relaxed, symprec=_SYMPREC_A)),
            "start.cif": str(CifWriter(start)),
            "POSCAR": Poscar(relaxed.get_sorted_structure()).get_str(),
        }
        for folder, made in zip(PROGRAMS, (_vasp, _espresso), strict=True):
            try:
                files |= {f"{folder}/{name}": text for name, text in made(relaxed).items()}
            except (KeyError, ValueError, TypeError) as error:
                files[f"{folder}/MISSING.txt"] = f"pymatgen can't make these inputs: {error}\n"
    return files


def _vasp(structure: Structure) -> dict[str, str]:
    from pymatgen.io.vasp.sets import MPRelaxSet

    chosen = MPRelaxSet(structure).get_input_set(potcar_spec=True)
    names = {"POTCAR.spec" if name.startswith("POTCAR") else name: text for name, text in chosen.items()}
    return {name: f"{str(text).rstrip()}\n" for name, text in names.items()}


def _espresso(structure: Structure) -> dict[str, str]:
    from pymatgen.io.pwscf import PWInput

    plain: Any = structure.copy()
    plain.remove_site_property("magmom") if "magmom" in plain.site_properties else None
    grid = tuple(
        int(each)
        for each in np.maximum(np.ceil(np.array(plain.lattice.reciprocal_lattice.abc) / _K_SPACING), 1)
    )
    made = PWInput(
        plain,
        pseudo={symbol: f"{symbol}.UPF" for symbol in counted(plain)},
        control={"calculation": "vc-relax", "pseudo_dir": "./pseudo", "tprnfor": True, "tstress": True},
        system={
            "ecutwfc": _ECUT_RY,
            "ecutrho": _ECUT_RHO_RY,
            "occupations": "smearing",
            "smearing": "mv",
            "degauss": 0.01,
        },
        electrons={"conv_thr": 1e-8},
        ions={"ion_dynamics": "bfgs"},
        cell={"cell_dynamics": "bfgs"},
        kpoints_grid=grid,
    )
    return {"pw.in": f"{str(made).rstrip()}\n"}
