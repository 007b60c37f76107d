"""Public raw files → tidy tables, one row a composition, with an account of what was dropped and why."""

from __future__ import annotations

from kiago_ray.datasets.cod import load_cod
from kiago_ray.datasets.files import DataError
from kiago_ray.datasets.formation_energies import load_materials_project, load_oqmd
from kiago_ray.datasets.formats import KINDS, detect, load
from kiago_ray.datasets.neighbours import nearest
from kiago_ray.datasets.non_superconductors import non_superconductors
from kiago_ray.datasets.report import LoadReport
from kiago_ray.datasets.statistics import ElementCounts, element_counts, load_element_counts
from kiago_ray.datasets.supercon import load_supercon
from kiago_ray.datasets.table import fractions

__all__ = [
    "KINDS",
    "DataError",
    "ElementCounts",
    "LoadReport",
    "detect",
    "element_counts",
    "fractions",
    "load",
    "load_cod",
    "load_element_counts",
    "load_materials_project",
    "load_oqmd",
    "load_supercon",
    "nearest",
    "non_superconductors",
]
