"""The shipped element properties: what their sources say, whole, in units that handbooks confirm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kiago_ray.chemistry import element_properties
from kiago_ray.chemistry.element_properties import from_sources, properties
from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS


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
    with pytest.raises(ValueError, match="read-only"):
        table.values[0, 0] = 2
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
    lines = element_properties.TABLE.read_text(encoding="utf-8").splitlines()
    properties.cache_clear()
    for text, complaint in [
        ("\n".join(lines[:-1]), "118 elements"),
        ("\n".join([*lines[:-1], lines[-1].rpartition(",")[0] + ",nan"]), "gaps"),
    ]:
        path = tmp_path / "t.csv"
        path.write_text(text)
        monkeypatch.setattr(element_properties, "TABLE", path)
        with pytest.raises(ValueError, match=complaint):
            properties()
    properties.cache_clear()
