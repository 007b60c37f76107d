"""Structures that a composition may take: known superconductors by hand, a person's own files, AFLOW's prototypes.

`prototypes.csv` is our compilation of facts: cell parameters in Å and degrees, and a site of each orbit, in the
setting of the International Tables (of two origins the one in which pymatgen builds it), with the source of each.
"""

from __future__ import annotations

import csv
import io
import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from kiago_ray.chemistry.elements import INDEX
from kiago_ray.chemistry.formula import parse
from kiago_ray.errors import InputError

if TYPE_CHECKING:
    from pymatgen.core.structure import Structure

MOST_ATOMS = 100  # of a cell
SYMPREC_A = 0.01
ENDINGS = (".cif", ".vasp", ".poscar", ".json")
_MOST_LISTED = 10_000  # structures of one file


class StructureError(InputError):
    """A structure that can't be read, filled or relaxed. The message is one line: which, why, and what to do."""


@dataclass(frozen=True)
class Prototype:
    """A structure with its own elements. amounts: atoms of each in a formula unit. build: makes the cell, in which
    every site is wholly one element's; symmetry takes a while, so only what is needed is built.
    """

    name: str
    family: str
    source: str
    amounts: Mapping[str, float]
    build: Callable[[], Structure]

    @cached_property
    def structure(self) -> Structure:
        """Its primitive cell."""
        with quiet():
            return self.build()

    @cached_property
    def sites(self) -> dict[str, tuple[int, ...]]:
        """The sites of the cell by the element that stands on them."""
        symbols = [site.specie.symbol for site in self.structure]
        return {
            symbol: tuple(at for at, each in enumerate(symbols) if each == symbol)
            for symbol in dict.fromkeys(symbols)
        }


def require_packages() -> None:
    """Raise StructureError where a package of the extra `structures` isn't installed."""
    missing = [name for name in ("pymatgen", "ase", "chgnet") if find_spec(name) is None]
    if missing:
        raise StructureError(
            f"structures need {', '.join(missing)}: pip install 'kiago-ray[structures]', with Python 3.11 or 3.12, "
            "for which chgnet has wheels"
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Without pymatgen's warnings, which nobody can act on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def rows(table: str = "prototypes.csv") -> list[dict[str, str]]:
    """The lines of a table of this package."""
    return list(csv.DictReader(io.StringIO((resources.files(__package__) / table).read_text("utf-8"))))


def conventional(row: Mapping[str, str]) -> Structure:
    """The conventional cell of a line of `prototypes.csv`."""
    from pymatgen.core.lattice import Lattice
    from pymatgen.core.structure import Structure

    sites = [site.split() for site in row["sites"].split(";")]
    lattice = Lattice.from_parameters(
        *(float(row[name]) for name in ("a", "b", "c", "alpha", "beta", "gamma"))
    )
    places = [[float(each) for each in xyz] for _, *xyz in sites]
    return Structure.from_spacegroup(int(row["space_group"]), lattice, [site[0] for site in sites], places)


@cache
def shipped() -> tuple[Prototype, ...]:
    """The prototypes of `prototypes.csv`."""
    return tuple(
        Prototype(
            row["formula"],
            row["family"],
            row["source"],
            parse(row["formula"]),
            lambda row=row: _primitive(conventional(row)),  # type: ignore[misc]
        )
        for row in rows()
    )


@cache
def aflow() -> tuple[Prototype, ...]:
    """AFLOW's prototypes (Mehl et al., Comput. Mater. Sci. 136, S1, 2017) as pymatgen carries them."""
    from pymatgen.analysis.prototypes._data import AFLOW_PROTOTYPE_LIBRARY

    found = []
    for entry in AFLOW_PROTOTYPE_LIBRARY:
        structure, tags = entry["snl"].structure.copy(), entry["tags"]
        if structure.is_ordered and len(structure) <= MOST_ATOMS and _known(structure):
            name = tags.get("mineral") or tags["strukturbericht"]
            structure.remove_oxidation_states()
            source = f"AFLOW {tags['aflow']} in pymatgen"
            found.append(_whole(str(name), source, structure))
    return tuple(found)


def read_structures(name: str, content: bytes) -> Iterator[Prototype | StructureError]:
    """The structures of a file: CIF, POSCAR, or JSON as pymatgen or the Materials Project writes it (an object, or a
    list of them, with the structure itself or under `structure`). One that can't be used comes as an error.
    """
    from pymatgen.core.structure import Structure

    try:
        text = content.decode("utf-8")
        entries: list[Any] = [text]
        if name.lower().endswith(".json"):
            value = json.loads(text)
            entries = (value if isinstance(value, list) else [value])[:_MOST_LISTED]
    except ValueError as error:
        yield StructureError(f"{name}: it is no text of its kind ({str(error)[:80]}); the others are used")
        return
    for at, entry in enumerate(entries):
        which = name if len(entries) == 1 else f"{name}, entry {at + 1}"
        try:
            with quiet():
                if isinstance(entry, str):
                    is_cif = name.lower().endswith(".cif")
                    structure = Structure.from_str(entry, fmt="cif" if is_cif else "poscar")
                else:
                    structure = Structure.from_dict(entry.get("structure", entry))
                yield _own(which, structure)
        except StructureError as error:
            yield error
        except Exception as error:  # parsers of foreign files raise whatever they like
            why = " ".join(str(error).split())[:80] or type(error).__name__
            yield StructureError(f"{which}: no structure can be read from it ({why}); the others are used")


def _own(name: str, structure: Structure) -> Prototype:
    """A person's structure, with the main element of each site on all of it. Raises StructureError."""
    for at, site in enumerate(structure):
        main = max(site.species.items(), key=lambda each: each[1])[0]
        structure.replace(at, getattr(main, "symbol", str(main)))
    structure.remove_oxidation_states()
    if not _known(structure):
        raise StructureError(f"{name}: it holds sites without an element; the others are used")
    primitive = _primitive(structure)
    if len(primitive) > MOST_ATOMS:
        raise StructureError(f"{name}: {len(primitive)} atoms in its cell, more than {MOST_ATOMS}")
    if (near := too_near(primitive)) is not None:
        raise StructureError(f"{name}: {near}; repair it, the others are used")
    return _whole(f"own structure {name}", name, primitive)


def _whole(family: str, source: str, structure: Structure) -> Prototype:
    """A prototype whose cell is at hand."""
    name = structure.composition.reduced_formula
    return Prototype(name, family, source, parse(name), lambda: structure)


def _known(structure: Structure) -> bool:
    return all(getattr(site.specie, "symbol", "") in INDEX for site in structure)


def _primitive(structure: Structure) -> Structure:
    """The primitive cell in the standard setting, or the cell itself where no symmetry can be found."""
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    found: Structure = SpacegroupAnalyzer(structure, SYMPREC_A).get_primitive_standard_structure()
    return found


def shortest_distance(structure: Structure) -> tuple[float, str]:
    """The shortest distance between two atoms in Å, and that distance over the sum of their radii, in words."""
    from ase.data import covalent_radii

    centres, points, _, distances = structure.get_neighbor_list(4.0, exclude_self=True)
    if not len(distances):
        return 4.0, ""
    numbers = np.array(structure.atomic_numbers)
    radii = covalent_radii[numbers[centres]] + covalent_radii[numbers[points]]
    worst = int(np.argmin(distances / radii))
    pair = "-".join(sorted(structure[int(at)].specie.symbol for at in (centres[worst], points[worst])))
    share = float(distances[worst] / radii[worst])
    return float(distances.min()), f"{pair} {distances[worst]:.2f} Å apart" if share < LEAST_SHARE else ""


LEAST_SHARE = 0.55  # of the sum of two covalent radii, below which atoms are too near


def too_near(structure: Structure) -> str | None:
    """Which atoms are nearer than any bond is, in words; None where none are."""
    return shortest_distance(structure)[1] or None


def symmetry(structure: Structure, symprec_a: float = 0.05) -> tuple[str, int]:
    """Symbol and number of the space group."""
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    with quiet():
        found = SpacegroupAnalyzer(structure, symprec_a)
        return found.get_space_group_symbol(), found.get_space_group_number()


def counted(structure: Structure) -> Counter[str]:
    """Atoms of each element in the cell."""
    return Counter(site.specie.symbol for site in structure)
