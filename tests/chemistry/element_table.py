"""The shipped table of element properties from what it rests on: `python -m tests.chemistry.element_table` writes it.

The values are pymatgen's and SMACT's, with every gap filled by the rule of `_filled`. Valence electrons are those
outside the noble-gas core, filled d and f shells among them (Pb: 4f14 5d10 6s2 6p2), as in Ward et al., npj Comput.
Mater. 2, 16028 (2016).
"""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Callable
from math import isfinite, nan
from pathlib import Path
from typing import Any

import numpy as np
import smact
from numpy.typing import NDArray
from pymatgen.core.periodic_table import Element

from kiago_ray.chemistry.elements import (
    N_ELEMENTS,
    PROPERTIES_FILE,
    SYMBOLS,
    ElementProperties,
    position,
)

Row = NDArray[np.float64]
_PLACES = {"s": 2, "p": 6, "d": 10, "f": 14}


def from_sources() -> ElementProperties:
    """The table as the installed pymatgen and SMACT have it, to six digits, gaps filled."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns of every value that it lacks
        elements = [Element(symbol) for symbol in SYMBOLS]
        columns = {name: np.array([_number(read, e) for e in elements]) for name, read in _READERS.items()}
    known = smact.element_dictionary()
    dipoles = [known[s].dipol if s in known else None for s in SYMBOLS]
    columns["polarisability_au"] = np.array([nan if value is None else value for value in dipoles])

    # A gas has no "density of solid", and no non-metal a metallic radius: the nearest thing that is known.
    grams_per_cm3 = columns["atomic_mass_u"] / _filled(columns["molar_volume_cm3_per_mol"])
    density, metallic = columns["density_kg_per_m3"], columns["metallic_radius_angstrom"]
    columns["density_kg_per_m3"] = np.where(np.isnan(density), 1000 * grams_per_cm3, density)
    columns["metallic_radius_angstrom"] = np.where(
        np.isnan(metallic), columns["atomic_radius_angstrom"], metallic
    )
    values = np.stack([_filled(column) for column in columns.values()], axis=1)
    return ElementProperties(tuple(columns), np.array([[float(f"{v:.6g}") for v in row] for row in values]))


def write_table(path: Path = PROPERTIES_FILE) -> None:
    """Write `from_sources` as CSV: a row an element, its symbol first."""
    table = from_sources()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["symbol", *table.names])
        for symbol, row in zip(SYMBOLS, table.values, strict=True):
            writer.writerow([symbol, *(f"{value:g}" for value in row)])


def _filled(values: Row) -> Row:
    """(118,) with each NaN replaced by the mean of the nearest known homologues above and below it in its column of
    the long-form table, or, where the column knows none, of the nearest known atomic numbers.
    """
    known = np.isfinite(values)
    columns = np.array([position(z + 1)[2] for z in range(N_ELEMENTS)])
    found = values.copy()
    for z in np.flatnonzero(~known):
        near = np.flatnonzero(known & (columns == columns[z]))
        if len(near):
            picked = [*near[near < z][-1:], *near[near > z][:1]]
        else:
            far = np.abs(np.flatnonzero(known) - z)
            picked = list(np.flatnonzero(known)[far == far.min()])
        found[z] = values[picked].mean()
    return found


def _number(read: Callable[[Any], Any], element: Any) -> float:
    """What `read` gives, NaN where pymatgen knows nothing."""
    try:
        value = read(element)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return nan
    number = nan if value is None else float(value)
    return number if isfinite(number) else nan


def _valence(element: Any) -> dict[str, int]:
    """Electrons outside the noble-gas core by kind of shell; an absent shell is left out."""
    shells = re.findall(r"\d([spdf])(\d+)", element.electronic_structure)
    return {kind: sum(int(n) for k, n in shells if k == kind) for kind in {k for k, _ in shells}}


_READERS: dict[str, Callable[[Any], Any]] = {
    "atomic_number": lambda e: e.Z,
    "atomic_mass_u": lambda e: e.atomic_mass,
    "electronegativity_pauling": lambda e: e.X,
    "period": lambda e: e.row,
    "group": lambda e: e.group,
    "mendeleev_number": lambda e: e.mendeleev_no,
    "atomic_radius_angstrom": lambda e: e.atomic_radius,
    "calculated_radius_angstrom": lambda e: e.atomic_radius_calculated,
    "van_der_waals_radius_angstrom": lambda e: e.van_der_waals_radius,
    "metallic_radius_angstrom": lambda e: e.metallic_radius,
    "ionic_radius_angstrom": lambda e: e.average_ionic_radius or None,  # 0 where pymatgen has none
    "ionisation_energy_1_ev": lambda e: e.ionization_energies[0],
    "ionisation_energy_2_ev": lambda e: e.ionization_energies[1],
    "ionisation_energy_3_ev": lambda e: e.ionization_energies[2],
    "electron_affinity_ev": lambda e: e.electron_affinity,
    "melting_point_k": lambda e: e.melting_point,
    "boiling_point_k": lambda e: e.boiling_point,
    "molar_volume_cm3_per_mol": lambda e: e.molar_volume,
    "density_kg_per_m3": lambda e: e.density_of_solid,
    "thermal_conductivity_w_per_m_k": lambda e: e.thermal_conductivity,
    "bulk_modulus_gpa": lambda e: e.bulk_modulus,
    "valence_s_electrons": lambda e: _valence(e).get("s", 0),
    "valence_p_electrons": lambda e: _valence(e).get("p", 0),
    "valence_d_electrons": lambda e: _valence(e).get("d", 0),
    "valence_f_electrons": lambda e: _valence(e).get("f", 0),
    "valence_electrons": lambda e: sum(_valence(e).values()),
    "unfilled_valence_places": lambda e: sum(_PLACES[kind] - n for kind, n in _valence(e).items()),
}


if __name__ == "__main__":
    write_table()
