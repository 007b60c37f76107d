"""The element tables against pymatgen's and SMACT's, and against what handbooks say.

`python -m tests.chemistry.test_elements` writes the shipped table of properties again: pymatgen's and SMACT's values,
with every gap filled by the rule of `_filled`. Valence electrons are those outside the noble-gas core, filled d and f
shells among them (Pb: 4f14 5d10 6s2 6p2), as in Ward et al., npj Comput. Mater. 2, 16028 (2016).
"""

from __future__ import annotations

import csv
import math
import re
import warnings
from collections.abc import Callable
from math import isfinite, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import smact
from numpy.typing import NDArray
from pymatgen.core.periodic_table import Element

from kiago_ray.chemistry.elements import (
    BLOCKS,
    ELECTRONEGATIVITY,
    ELEMNET_INDEX,
    ELEMNET_SYMBOLS,
    GROUPS,
    INDEX,
    N_ELEMENTS,
    PROPERTIES_FILE,
    SYMBOLS,
    WRITING_ORDER,
    ElementProperties,
    element_map,
    named_elements,
    position,
    properties,
)


def test_the_118_symbols_are_pymatgens_by_atomic_number() -> None:
    assert N_ELEMENTS == 118
    assert tuple(Element.from_Z(z).symbol for z in range(1, 119)) == SYMBOLS
    assert [INDEX[symbol] for symbol in SYMBOLS] == list(range(118))


def test_electronegativities_are_pymatgens() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns where it has none
        theirs = [Element(symbol).X for symbol in SYMBOLS]
    assert [math.inf if math.isnan(x) else x for x in theirs] == list(ELECTRONEGATIVITY)


def test_writing_order_starts_with_francium_and_ends_with_the_elements_without_a_value() -> None:
    assert sorted(WRITING_ORDER) == list(range(118))
    assert SYMBOLS[WRITING_ORDER[0]] == "Fr"
    assert [SYMBOLS[z] for z in WRITING_ORDER].index("F") == 118 - 15 - 3 - 1  # then He, Ne, Ar, Rf to Og
    # Cu and Si both have 1.9: the lighter one first.
    assert WRITING_ORDER.index(INDEX["Si"]) < WRITING_ORDER.index(INDEX["Cu"])


def test_elemnets_86_are_not_the_first_86() -> None:
    assert len(ELEMNET_SYMBOLS) == 86
    assert set(SYMBOLS[:83]) - set(ELEMNET_SYMBOLS) == {"He", "Ne", "Ar"}
    assert ELEMNET_SYMBOLS[-7:] == ("Bi", "Ac", "Th", "Pa", "U", "Np", "Pu")
    assert [SYMBOLS[index] for index in ELEMNET_INDEX] == list(ELEMNET_SYMBOLS)
    assert list(ELEMNET_INDEX) == sorted(ELEMNET_INDEX)


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        INDEX["H"] = 5  # type: ignore[index]


def test_every_word_stands_for_elements_by_atomic_number() -> None:
    for symbols in GROUPS.values():
        assert list(symbols) == sorted(set(symbols), key=INDEX.__getitem__)
        assert set(symbols) <= set(SYMBOLS)


def test_the_radioactive_are_those_without_a_stable_isotope() -> None:
    assert {"Tc", "Pm", "Po", "Ac", "Th", "U", "Pu", "Og"} <= set(GROUPS["radioactive"])
    assert not {"Bi", "Pb", "La", "Ru", "Sm"} & set(GROUPS["radioactive"])
    assert len(GROUPS["radioactive"]) == 2 + 118 - 83


def test_words_and_symbols_add_up() -> None:
    assert named_elements(["noble-gas", "O"]) == ["He", "O", "Ne", "Ar", "Kr", "Xe", "Rn", "Og"]
    assert named_elements(["arsenic", "As"]) == ["As"]
    assert named_elements([]) == []


def test_a_word_leaves_the_base_s_own_elements_and_a_symbol_does_not() -> None:
    thallium = frozenset(("Tl", "Ba", "Cu", "O"))
    assert "Tl" not in named_elements(["toxic", "rare"], thallium)
    assert "Hg" in named_elements(["toxic"], thallium)
    assert "Tl" in named_elements(["toxic", "Tl"], thallium)


def test_what_is_no_word_is_refused() -> None:
    with pytest.raises(ValueError, match="'smelly' is neither an element nor one of toxic, radioactive"):
        named_elements(["smelly"])


def test_one_flag_an_element_all_in_different_places() -> None:
    flags = element_map()
    assert flags.shape == (118, 4, 7, 32)
    assert flags.dtype == np.float32
    assert (flags.reshape(118, -1).sum(axis=1) == 1).all()
    assert set(np.unique(flags)) == {0, 1}
    assert len(set(flags.reshape(118, -1).argmax(axis=1).tolist())) == 118
    # Even without the channels no two elements share a cell.
    assert flags.sum(axis=(0, 1)).max() == 1


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_blocks_and_rows_are_pymatgens(symbol: str) -> None:
    element = Element(symbol)
    block, row, column = np.argwhere(element_map()[INDEX[symbol]])[0]
    # The one departure: pymatgen counts helium, 1s², to the p block.
    assert BLOCKS[block] == ("s" if symbol == "He" else element.block)
    assert row == element.row - 1
    if element.block == "f":
        assert 2 <= column <= 15
    elif symbol != "He":
        assert column == (element.group - 1 if element.group <= 2 else element.group + 13)


@pytest.mark.parametrize(
    ("symbol", "place"),
    [
        ("H", ("s", 1, 0)),
        ("He", ("s", 1, 31)),
        ("Be", ("s", 2, 1)),
        ("B", ("p", 2, 26)),
        ("Sc", ("d", 4, 16)),
        ("Zn", ("d", 4, 25)),
        ("La", ("f", 6, 2)),
        ("Yb", ("f", 6, 15)),
        ("Lu", ("d", 6, 16)),
        ("Ac", ("f", 7, 2)),
        ("No", ("f", 7, 15)),
        ("Lr", ("d", 7, 16)),
        ("Og", ("p", 7, 31)),
    ],
)
def test_known_places(symbol: str, place: tuple[str, int, int]) -> None:
    assert position(INDEX[symbol] + 1) == place


@pytest.mark.parametrize("z", [0, -1, 119])
def test_other_atomic_numbers_are_refused(z: int) -> None:
    with pytest.raises(ValueError, match=f"atomic number {z}"):
        position(z)


def of(symbol: str, name: str) -> float:
    table = properties()
    return float(table.values[INDEX[symbol], table.names.index(name)])


def test_the_shipped_table_is_what_the_sources_give() -> None:
    made = from_sources()
    assert made.names == properties().names
    np.testing.assert_array_equal(made.values, properties().values)


def test_it_is_whole_and_read_only() -> None:
    table = properties()
    assert table.values.shape == (N_ELEMENTS, len(table.names))
    assert len(set(table.names)) == len(table.names) == 28
    assert np.isfinite(table.values).all()
    np.testing.assert_array_equal(table.values[:, 0], np.arange(1, 119))
    assert not table.values.flags.writeable
    assert (table.values.std(axis=0) > 0).all()


@pytest.mark.parametrize(
    ("symbol", "name", "value", "tolerance"),
    [  # CRC Handbook of Chemistry and Physics
        ("Cu", "melting_point_k", 1357.8, 1),
        ("Fe", "density_kg_per_m3", 7874, 10),
        ("O", "electronegativity_pauling", 3.44, 0),
        ("Na", "ionisation_energy_1_ev", 5.139, 0.001),
        ("Cl", "electron_affinity_ev", 3.613, 0.001),
        ("La", "atomic_mass_u", 138.905, 0.01),
        ("Ag", "thermal_conductivity_w_per_m_k", 429, 2),
        ("Cs", "polarisability_au", 401, 2),
        ("Al", "bulk_modulus_gpa", 76, 1),
        ("Pb", "valence_electrons", 28, 0),
        ("Ni", "valence_d_electrons", 8, 0),
        ("Gd", "valence_f_electrons", 7, 0),
        ("O", "unfilled_valence_places", 2, 0),
        ("Y", "group", 3, 0),
    ],
)
def test_known_values(symbol: str, name: str, value: float, tolerance: float) -> None:
    assert of(symbol, name) == pytest.approx(value, abs=tolerance)


def test_valence_electrons_add_up() -> None:
    table = properties()
    shells = [table.names.index(f"valence_{kind}_electrons") for kind in "spdf"]
    total = table.values[:, table.names.index("valence_electrons")]
    np.testing.assert_array_equal(table.values[:, shells].sum(axis=1), total)


def test_gaps_are_filled_from_the_nearest_homologues() -> None:
    """pymatgen 2026.10.24 has no bulk modulus of Zr and Sr, and no solid density of H."""
    bulk = "bulk_modulus_gpa"
    assert of("Zr", bulk) == (of("Ti", bulk) + of("Hf", bulk)) / 2
    assert of("Sr", bulk) == pytest.approx((of("Ca", bulk) + of("Ba", bulk)) / 2)
    assert of("Os", bulk) == of("Ru", bulk)  # nothing is known below
    assert of("H", "density_kg_per_m3") == pytest.approx(1000 * 1.00794 / 11.42, rel=1e-5)
    assert of("O", "metallic_radius_angstrom") == of("O", "atomic_radius_angstrom")


def test_a_damaged_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = PROPERTIES_FILE.read_text(encoding="utf-8").splitlines()
    path = tmp_path / "t.csv"
    monkeypatch.setattr("kiago_ray.chemistry.elements.PROPERTIES_FILE", path)
    for damaged in (lines[:-1], [*lines[:-1], lines[-1].rpartition(",")[0] + ",nan"]):
        path.write_text("\n".join(damaged))
        properties.cache_clear()
        with pytest.raises(ValueError, match="numbers for all 118 elements"):
            properties()
    properties.cache_clear()


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
