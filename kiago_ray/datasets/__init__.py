"""Public raw files → tidy tables, one row a composition, with an account of what was dropped and why.

The public names load on first use, so that reading a specification doesn't wait for pandas and SciPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kiago_ray.lazy import loader

if TYPE_CHECKING:
    from kiago_ray.datasets.cod import load_cod
    from kiago_ray.datasets.emd import nearest_emd
    from kiago_ray.datasets.files import DataError
    from kiago_ray.datasets.formation_energies import load_materials_project, load_oqmd
    from kiago_ray.datasets.formats import KINDS, detect, load
    from kiago_ray.datasets.landmarks import load_landmarks
    from kiago_ray.datasets.neighbours import nearest
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
    "load_landmarks",
    "load_materials_project",
    "load_oqmd",
    "load_supercon",
    "nearest",
    "nearest_emd",
]

__getattr__ = loader(
    __name__,
    {
        "KINDS": "formats",
        "DataError": "files",
        "ElementCounts": "statistics",
        "LoadReport": "report",
        "detect": "formats",
        "element_counts": "statistics",
        "fractions": "table",
        "load": "formats",
        "load_cod": "cod",
        "load_element_counts": "statistics",
        "load_landmarks": "landmarks",
        "load_materials_project": "formation_energies",
        "load_oqmd": "formation_energies",
        "load_supercon": "supercon",
        "nearest": "neighbours",
        "nearest_emd": "emd",
    },
)
