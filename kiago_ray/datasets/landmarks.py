"""Landmark superconductors of every family, from the literature: what is known when no larger table is at hand.

`landmarks.csv` is our own compilation. One row a composition; T_c is the value that is generally cited, at ambient
pressure wherever the composition superconducts there; the year and reference are those of that value.
"""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable

import pandas as pd

from kiago_ray.chemistry.formula import parse
from kiago_ray.datasets.files import read_columns
from kiago_ray.datasets.table import compositions

FILE = "landmarks.csv"
COLUMNS = ("formula", "tc_k", "year", "pressure_gpa", "family", "reference")
TABLE_COLUMNS = ["formula", "tc_k", "year", "chemical_system", "pressure_gpa", "family", "reference"]


def landmarks_file() -> Traversable:
    """The shipped table as a file."""
    return resources.files(__package__) / FILE


def load_landmarks() -> pd.DataFrame:
    """One row a composition, sorted by formula.

    Columns: `formula` (canonical), `tc_k`, `year` (of that T_c), `chemical_system`, `pressure_gpa` (0 where it
    superconducts at ambient pressure), `family`, `reference`. Raises DataError where the installation is damaged.
    """
    with resources.as_file(landmarks_file()) as path:
        contents = read_columns(path, COLUMNS)
    written, tc_k, year, pressure_gpa, family, reference = zip(*contents.rows, strict=True)
    formulas, systems = compositions([parse(formula) for formula in written])
    table = pd.DataFrame(
        {
            "formula": pd.Series(formulas, dtype="str"),
            "tc_k": pd.Series(list(map(float, tc_k)), dtype="float64"),
            "year": pd.Series(list(map(int, year)), dtype="Int64"),
            "chemical_system": pd.Series(systems, dtype="str"),
            "pressure_gpa": pd.Series(list(map(float, pressure_gpa)), dtype="float64"),
            "family": pd.Series(family, dtype="str"),
            "reference": pd.Series(reference, dtype="str"),
        }
    )
    return table.sort_values("formula", ignore_index=True)[TABLE_COLUMNS]
