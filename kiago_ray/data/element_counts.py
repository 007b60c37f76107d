"""How many known compositions hold each element (the frequencies that a search substitutes by, section 2.3), and the
compositions that stand for non-superconductors.

The shipped `element_counts.json` holds these counts and where they come from; it holds no data of the sources.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS, SYMBOLS
from kiago_ray.data.compositions import composition_keys
from kiago_ray.data.files import DataError, LoadReport, PathLike
from kiago_ray.data.phases import load_materials_project
from kiago_ray.data.supercon import TABLE_COLUMNS, load_supercon

SHIPPED_FILE = "element_counts.json"
SUPERCON_SOURCE = "SuperCon, NIMS Materials Data Repository"
MATERIALS_PROJECT_SOURCE = "Materials Project, ground states whose composition is not in SuperCon"
LICENCE = "CC BY 4.0"  # of both


@dataclass(frozen=True)
class SourceCounts:
    """Of one source's `compositions`, `counts` (118,) hold each element; `file` is what was counted."""

    source: str
    licence: str
    file: str
    sha256: str
    compositions: int
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, source: str, table: pd.DataFrame, report: LoadReport) -> SourceCounts:
        """The counts of a loader's table."""
        return cls(source, LICENCE, report.file, report.sha256, len(table), element_counts(table))

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> SourceCounts:
        """From what `to_dict` gave. Raises TypeError, AttributeError and KeyError for anything else."""
        counts = np.zeros(N_ELEMENTS, dtype=np.int64)
        for symbol, count in plain["counts"].items():
            counts[INDEX[symbol]] = count
        return cls(**{**plain, "counts": counts})

    def to_dict(self) -> dict[str, Any]:
        """The fields for JSON; counts by symbol, without those that are 0."""
        return {
            **vars(self),
            "counts": {SYMBOLS[z]: int(self.counts[z]) for z in np.flatnonzero(self.counts)},
        }


@dataclass(frozen=True)
class ElementCounts:
    """The counts in SuperCon, and in the compositions that stand for non-superconductors."""

    supercon: SourceCounts
    non_superconductors: SourceCounts


def element_counts(table: pd.DataFrame) -> NDArray[np.int64]:
    """How many of a table's compositions hold each element, (118,), by its `chemical_system` column."""
    counts = np.zeros(N_ELEMENTS, dtype=np.int64)
    held = Counter(symbol for system in table["chemical_system"] for symbol in system.split("-"))
    for symbol, count in held.items():
        counts[INDEX[symbol]] = count
    return counts


def write_element_counts(
    path: PathLike, supercon_file: PathLike, materials_project_file: PathLike
) -> ElementCounts:
    """Count both public files and write the counts as JSON. Raises DataError."""
    supercon, report = load_supercon(supercon_file)
    known, known_report = load_materials_project(materials_project_file)
    counts = ElementCounts(
        SourceCounts.of(SUPERCON_SOURCE, supercon, report),
        SourceCounts.of(MATERIALS_PROJECT_SOURCE, non_superconductors(known, supercon), known_report),
    )
    contents = {name: source.to_dict() for name, source in vars(counts).items()}
    Path(path).write_text(json.dumps(contents, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return counts


def load_element_counts(path: PathLike | None = None) -> ElementCounts:
    """The shipped counts, or those of another file that `write_element_counts` wrote. Raises DataError."""
    file: Traversable = resources.files(__package__) / SHIPPED_FILE if path is None else Path(path)
    try:
        contents = json.loads(file.read_text(encoding="utf-8"))
        sources = (contents["supercon"], contents["non_superconductors"])
        return ElementCounts(*map(SourceCounts.from_dict, sources))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise DataError(
            f"{file}: not a file of element counts ({problem}); write it again or reinstall"
        ) from error


def non_superconductors(
    known: pd.DataFrame, supercon: pd.DataFrame, by: Literal["composition", "chemical_system"] = "composition"
) -> pd.DataFrame:
    """Rows of `known` (Materials Project or COD) that are not in `supercon`: its columns, T_c = 0 K. They teach a
    model of T_c that most compositions do not superconduct. The label is an assumption: most of them were never
    cooled down, and a few are superconductors that SuperCon lacks.

    `by="chemical_system"` also leaves out every composition of a chemical system that SuperCon holds: fewer
    rows, and fewer wrong labels, since neighbours of superconductors are often superconductors. In the order
    of `known`; `year` is missing and `journal` empty. Raises ValueError for another `by`.
    """
    if by == "composition":
        measured = set(composition_keys(supercon))
        new = [key not in measured for key in composition_keys(known)]
        kept = known[new]
    elif by == "chemical_system":
        kept = known[~known["chemical_system"].isin(supercon["chemical_system"])]
    else:
        raise ValueError(f"by={by!r}; it is 'composition' or 'chemical_system'")
    rows = kept[["formula", "n_merged", "chemical_system"]].reset_index(drop=True)
    rows = rows.assign(
        tc_k=0.0,
        tc_min_k=0.0,
        tc_max_k=0.0,
        year=pd.Series(pd.NA, index=rows.index, dtype="Int64"),
        journal=pd.Series("", index=rows.index, dtype="str"),
    )
    return rows[TABLE_COLUMNS]
