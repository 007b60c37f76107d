"""Competing phases with an energy each, predicted by ElemNet or the file's own, kept in the cache.

What is kept is bound to the file's SHA-256, that of ElemNet's weights and the version that read it, so that a change
of any is another entry.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from kiago_ray import __version__
from kiago_ray.chemistry.elements import N_ELEMENTS, SYMBOLS
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.datasets import phases as phase_files
from kiago_ray.datasets.files import PathLike, sha256
from kiago_ray.datasets.report import LoadReport
from kiago_ray.hull import kept
from kiago_ray.predictors.base import predict

if TYPE_CHECKING:
    from kiago_ray.predictors import Predictor

Energies = Literal["elemnet", "file"]
ENERGIES: tuple[Energies, ...] = ("elemnet", "file")
BATCH = 16_384  # phases whose fractions are dense at a time

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Phases:
    """p compounds, one a composition. formulas: p texts. fractions: (p, 118) atomic fractions, sparse by rows.
    ef_ev_per_atom: (p,). report: what became of the file's rows.
    """

    formulas: tuple[str, ...]
    fractions: csr_matrix
    ef_ev_per_atom: Floats
    report: LoadReport


def load_phases(path: PathLike, ef: Predictor | None = None, ef_sha256: str = "") -> Phases:
    """The compounds of a file with ElemNet's energies, from the cache where they were computed before.

    ef: the predictor of the energies, and ef_sha256 that of its weights; without it the file's own energies count.
    Raises DataError for a file that can't be used (see datasets.phases).
    """
    path = Path(path)
    name = _name(sha256(path), ef_sha256 if ef is not None else "file")
    found = kept.read(name)
    if found is not None:
        formulas, fractions, energies, report = found
        return Phases(formulas, fractions, energies, replace(report, file=path.name))
    known = None if ef is None else [s for s, ok in zip(SYMBOLS, ef.supported.tolist(), strict=True) if ok]
    table, report = phase_files.load_phases(path, energies=ef is None, elements=known)
    formulas = tuple(table["formula"].tolist())
    fractions = _sparse(formulas)
    energies = table["ef_ev_per_atom"].to_numpy() if ef is None else _predicted(ef, fractions)
    phases = Phases(formulas, fractions, energies, report)
    kept.write(name, formulas, fractions, energies, report)
    return phases


def _name(file_sha256: str, energies: str) -> str:
    return hashlib.sha256(f"{__version__} {file_sha256} {energies}".encode()).hexdigest()[:32]


def _sparse(formulas: tuple[str, ...]) -> csr_matrix:
    indptr, columns, values = [0], [], []
    for start in range(0, len(formulas), BATCH):
        rows = csr_matrix(parse_fractions(formulas[start : start + BATCH]))
        columns.append(rows.indices)
        values.append(rows.data)
        indptr.extend((rows.indptr[1:] + indptr[-1]).tolist())
    return csr_matrix(
        (np.concatenate(values), np.concatenate(columns), np.array(indptr)), shape=(len(formulas), N_ELEMENTS)
    )


def _predicted(ef: Predictor, fractions: csr_matrix) -> Floats:
    parts = [
        predict(ef, fractions[start : start + BATCH].toarray().astype(np.float32))
        for start in range(0, fractions.shape[0], BATCH)
    ]
    return np.concatenate(parts)
