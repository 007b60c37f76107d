from __future__ import annotations

import numpy as np
import pytest

from kiago_ray.chemistry.formula import fractions, parse
from kiago_ray.data.known import load_landmarks
from kiago_ray.screening.known import KnownMaterials


def measured(known: KnownMaterials, formula: str) -> float | None:
    return known.measured_tc_k(fractions(parse(formula)))


def test_measured_tc_is_that_of_the_same_composition_alone() -> None:
    known = KnownMaterials.from_formulas(["MgB2", "La1.85Sr0.15CuO4"], [39.0, 36.0])
    assert measured(known, "La3.7Sr0.3Cu2O8") == 36.0
    assert measured(known, "La1.86Sr0.14CuO4") is None


def test_a_tc_under_pressure_is_not_that_of_the_material_on_the_bench() -> None:
    known = KnownMaterials.from_formulas(["H3S", "MgB2"], [203.0, 39.0], pressure_gpa=[155.0, 0.0])
    assert measured(known, "H3S") is None
    assert measured(known, "MgB2") == 39.0


def test_of_a_table_with_and_without_pressures() -> None:
    table = load_landmarks()
    known = KnownMaterials.from_table(table, "landmarks")
    assert (len(known.formulas), known.source) == (len(table), "landmarks")
    np.testing.assert_array_equal(known.pressure_gpa, table["pressure_gpa"])
    np.testing.assert_allclose(known.fractions.sum(axis=1), 1)
    assert measured(known, "YBa2Cu3O7") == 92.0
    untold = KnownMaterials.from_table(table.drop(columns="pressure_gpa"), "")
    assert np.isnan(untold.pressure_gpa).all()
    assert measured(untold, "H3S") == 203.0


def test_each_formula_needs_its_values() -> None:
    with pytest.raises(ValueError, match="2 formulas and 1 T_c"):
        KnownMaterials.from_formulas(["MgB2", "NbN"], [39.0])
    with pytest.raises(ValueError, match="2 formulas and 1 pressure"):
        KnownMaterials.from_formulas(["MgB2", "NbN"], [39.0, 16.0], pressure_gpa=[0.0])
