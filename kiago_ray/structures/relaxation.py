"""Relaxed structures, their energies and their modes by CHGNet (Deng et al., Nat. Mach. Intell. 5, 1031, 2023).

CHGNet 0.3.0 learnt the Materials Project's energies with the corrections of MP2020 (Wang et al., Sci. Rep. 11, 15496,
2021), mixing of GGA and GGA+U included. The hull's phases have the Materials Project's corrections from before 2020
(Jain et al., Phys. Rev. B 84, 045115, 2011): a selenide differs by 0.47 eV an anion. So formation energies are against
the Materials Project's elements (`element_energies.csv`), less the one corrections and plus the others
(`corrections.csv`, as pymatgen has them; those of gases are there per atom of the compound).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kiago_ray.chemistry.elements import Floats
from kiago_ray.structures.orderings import charges_of, electronegativity
from kiago_ray.structures.prototypes import StructureError, counted, quiet, rows

if TYPE_CHECKING:
    from pymatgen.core.structure import Structure

WEIGHTS = "pretrained/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar"
FORCE_EV_PER_A = 0.05
STEPS = 200
MODES_ATOMS = 20
_DISPLACED_A = 0.01
_IMAGINARY_THZ = -0.5  # above it are numerical noise and the three translations
_THZ = 15.633302  # of the root of 1 eV/(Å² u), over 2π
_LEAST_PER_ATOM_A3, _MOST_PER_ATOM_A3 = 3.0, 150.0
_AT_ONCE = 16


@dataclass(frozen=True)
class Relaxed:
    """A structure after relaxation, its energy in eV/atom, and whether forces and stress came below the limit."""

    structure: Structure
    energy_ev_per_atom: float
    converged: bool
    steps: int


class Potential:
    """CHGNet as its package has it. identity: version and SHA-256 of its weights."""

    def __init__(self) -> None:
        """Raises StructureError where the package's weights can't be read."""
        from chgnet.model.dynamics import StructOptimizer
        from chgnet.model.model import CHGNet

        try:
            content = (resources.files("chgnet") / WEIGHTS).read_bytes()
            # The file is a torch archive: of it tensors and plain values are read, and no code.
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, ValueError) as error:
            raise StructureError(
                f"chgnet {version('chgnet')}: its weights can't be read ({str(error)[:80]}); install chgnet>=0.4.2"
            ) from error
        with contextlib.redirect_stdout(io.StringIO()):
            self.model = CHGNet.from_dict(state["model"], mlp_out_bias=False, version="0.3.0")
            self._optimizer = StructOptimizer(model=self.model, use_device="cpu")
        self.identity = {"chgnet": "0.3.0", "sha256": hashlib.sha256(content).hexdigest()}

    def energies(self, structures: Sequence[Structure]) -> Floats:
        """eV/atom of structures as they are, (n,)."""
        with quiet():
            found: Any = self.model.predict_structure([*structures], task="e", batch_size=_AT_ONCE)
        each = found if isinstance(found, list) else [found]
        return np.array([float(one["e"]) for one in each])

    def relaxed(self, structure: Structure, steps: int = STEPS) -> Relaxed:
        """Cell and places relaxed together. Raises StructureError where it flies apart or collapses."""
        try:
            with quiet():
                found: Any = self._optimizer.relax(
                    structure, fmax=FORCE_EV_PER_A, steps=steps, verbose=False, relax_cell=True
                )
        except (ValueError, RuntimeError, FloatingPointError, np.linalg.LinAlgError) as error:
            raise StructureError(f"its relaxation failed ({' '.join(str(error).split())[:80]})") from error
        path, final = found["trajectory"], found["final_structure"]
        per_atom = final.volume / len(final)
        if not _LEAST_PER_ATOM_A3 <= per_atom <= _MOST_PER_ATOM_A3 or not np.isfinite(path.energies[-1]):
            raise StructureError(f"it {'collapsed' if per_atom < 20 else 'flew apart'} in relaxation")
        number = len(path.energies)
        return Relaxed(final, float(path.energies[-1]) / len(final), number <= steps, number)

    def lowest_modes_thz(self, structure: Structure) -> Floats:
        """The frequencies at Γ of the cell in THz, rising, imaginary ones negative, by central differences of forces.
        A cell's own phonons alone: a mode that needs a larger cell isn't seen.
        """
        moved = []
        for atom in range(len(structure)):
            for axis in range(3):
                for sign in (1, -1):
                    one = structure.copy()
                    one.translate_sites(
                        [atom], np.eye(3)[axis] * sign * _DISPLACED_A, frac_coords=False, to_unit_cell=False
                    )
                    moved.append(one)
        with quiet():
            found: Any = self.model.predict_structure(moved, task="ef", batch_size=_AT_ONCE)
        forces = np.array([each["f"] for each in found]).reshape(len(structure) * 3, 2, -1)
        matrix = -(forces[:, 0] - forces[:, 1]) / (2 * _DISPLACED_A)
        mass = np.repeat([float(site.specie.atomic_mass) for site in structure], 3)
        matrix = (matrix + matrix.T) / 2 / np.sqrt(np.outer(mass, mass))
        squared = np.linalg.eigvalsh(matrix)
        frequencies: Floats = np.sign(squared) * np.sqrt(np.abs(squared)) * _THZ
        return frequencies

    @staticmethod
    def imaginary(frequencies_thz: Floats) -> int:
        """How many of the frequencies are imaginary beyond noise."""
        return int((frequencies_thz < _IMAGINARY_THZ).sum())


@cache
def element_energies() -> dict[str, float]:
    """The Materials Project's energy of each element in eV/atom."""
    return {row["element"]: float(row["energy_ev_per_atom"]) for row in rows("element_energies.csv")}


def formation_energy(structure: Structure, energy_ev_per_atom: float) -> float:
    """E_f in eV/atom on the scale of the hull's phases. Raises StructureError for an element without energy."""
    counts, elements = counted(structure), element_energies()
    if unknown := [symbol for symbol in counts if symbol not in elements]:
        raise StructureError(f"the Materials Project has no energy of {', '.join(unknown)}")
    total = sum(counts.values())
    reference = sum(number * elements[symbol] for symbol, number in counts.items())
    return energy_ev_per_atom + (change_of_corrections(counts) - reference) / total


@cache
def _corrections() -> dict[str, tuple[str, float]]:
    """Of each element anion or metal, and what its correction changes by, in eV an atom."""
    return {
        row["element"]: (row["kind"], float(row["legacy_ev"]) - float(row["mp2020_ev"]))
        for row in rows("corrections.csv")
    }


def change_of_corrections(counts: Mapping[str, int]) -> float:
    """The Materials Project's corrections from before 2020 less MP2020's, in eV of so many atoms: of anions, and of
    metals that are calculated with +U, where O or F is the most electronegative element.
    """
    if len(counts) < 2:
        return 0.0
    charges, change = charges_of({symbol: float(number) for symbol, number in counts.items()}), 0.0
    strongest = max(counts, key=electronegativity)
    ionic = any(charge > 0 for charge in charges.values())
    for symbol, (kind, by) in _corrections().items():
        if symbol not in counts:
            continue
        if (
            strongest in ("O", "F")
            if kind == "metal"
            else symbol == strongest or (ionic and charges[symbol] < 0)
        ):
            change += counts[symbol] * by
    return change
