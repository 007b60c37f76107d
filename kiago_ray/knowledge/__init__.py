"""What is known and ships with the package: superconductors, competing phases, compounds that exist, what was tried.

The public names load on first use, so that reading a specification doesn't wait for pandas and SciPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kiago_ray.lazy import loader

if TYPE_CHECKING:
    from kiago_ray.knowledge.existing import made_compounds
    from kiago_ray.knowledge.identity import SAME_TOLERANCE, KnownCompositions
    from kiago_ray.knowledge.known_tables import KnownTable, known_table
    from kiago_ray.knowledge.tables import made, phases, superconductors, tried

__all__ = [
    "SAME_TOLERANCE",
    "KnownCompositions",
    "KnownTable",
    "known_table",
    "made",
    "made_compounds",
    "phases",
    "superconductors",
    "tried",
]

__getattr__ = loader(
    __name__,
    {
        "SAME_TOLERANCE": "identity",
        "KnownCompositions": "identity",
        "KnownTable": "known_tables",
        "known_table": "known_tables",
        "made": "tables",
        "made_compounds": "existing",
        "phases": "tables",
        "superconductors": "tables",
        "tried": "tables",
    },
)
