"""The shipped table of landmark superconductors: what every physicist would check first."""

from __future__ import annotations

import pandas as pd
import pytest

from kiago_ray.chemistry.formula import parse
from kiago_ray.data.compositions import canonical, chemical_system, composition_keys
from kiago_ray.data.known import load_landmarks


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return load_landmarks()


def test_columns_and_ranges(table: pd.DataFrame) -> None:
    assert list(table.columns) == [
        "formula",
        "tc_k",
        "year",
        "chemical_system",
        "pressure_gpa",
        "family",
        "reference",
    ]
    assert len(table) >= 250
    assert table["tc_k"].between(1e-4, 260).all()
    assert table["year"].between(1911, 2025).all()
    assert table["pressure_gpa"].between(0, 300).all()
    assert not table.isna().any(axis=None)
    assert table["formula"].is_monotonic_increasing
    assert (table["family"].str.len() > 0).all()


def test_each_composition_occurs_once_and_is_written_canonically(table: pd.DataFrame) -> None:
    keys = composition_keys(table)
    assert len(set(keys)) == len(keys)
    for formula, system in zip(table["formula"], table["chemical_system"], strict=True):
        assert canonical(parse(formula)) == formula
        assert chemical_system(parse(formula)) == system


def test_every_reference_names_the_year_that_the_row_gives(table: pd.DataFrame) -> None:
    for row in table.itertuples():
        assert f"({row.year})" in str(row.reference), row.formula


def test_every_family_of_superconductors_is_there(table: pd.DataFrame) -> None:
    families = table["family"].value_counts()
    for family, least in {
        "element": 25,
        "A15": 6,
        "Chevrel phase": 3,
        "borocarbide": 9,
        "heavy fermion": 20,
        "fulleride": 6,
        "cuprate": 25,
        "iron-based": 30,
        "nickelate": 6,
        "bismuthate": 3,
        "hydride": 10,
        "kagome": 4,
        "pyrochlore": 4,
        "ruthenate": 1,
    }.items():
        assert families[family] >= least, family


@pytest.mark.parametrize(
    ("formula", "tc_k", "year", "pressure_gpa"),
    [
        ("Hg", 4.15, 1911, 0),
        ("Pb", 7.19, 1913, 0),
        ("Nb", 9.25, 1930, 0),
        ("NbN", 16, 1941, 0),
        ("Nb3Sn", 18.3, 1954, 0),
        ("Nb3Ge", 23.2, 1974, 0),
        ("PbMo6S8", 15, 1972, 0),
        ("CeCu2Si2", 0.6, 1979, 0),
        ("La1.85Ba0.15CuO4", 30, 1986, 0),
        ("YBa2Cu3O7", 92, 1987, 0),
        ("Bi2Sr2Ca2Cu3O10", 110, 1988, 0),
        ("K3C60", 19.3, 1991, 0),
        ("HgBa2Ca2Cu3O8", 133, 1993, 0),
        ("YNi2B2C", 15.6, 1994, 0),
        ("MgB2", 39, 2001, 0),
        ("PuCoGa5", 18.5, 2002, 0),
        ("CaC6", 11.5, 2005, 0),
        ("LaFeAsO0.9F0.1", 26, 2008, 0),
        ("SmFeAsO0.9F0.1", 55, 2008, 0),
        ("H3S", 203, 2015, 155),
        ("LaH10", 250, 2019, 170),
        ("CsV3Sb5", 2.5, 2020, 0),
        ("La3Ni2O7", 80, 2023, 14),
    ],
)
def test_known_facts(table: pd.DataFrame, formula: str, tc_k: float, year: int, pressure_gpa: float) -> None:
    row = table.set_index("formula").loc[canonical(parse(formula))]
    assert row["tc_k"] == pytest.approx(tc_k, rel=0.02)
    assert (row["year"], row["pressure_gpa"]) == (year, pressure_gpa)
