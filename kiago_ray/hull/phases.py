"""Competing phases with an energy each, predicted by ElemNet or their source's own, of the package or of a file.

What a file gives is kept in the cache. It is bound to the file's SHA-256, that of ElemNet's weights and the version
that read it, so that a change of any is another entry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from kiago_ray import __version__
from kiago_ray.chemistry.elements import SYMBOLS
from kiago_ray.data import sources, tables
from kiago_ray.data.compositions import sparse_fractions
from kiago_ray.data.files import LoadReport, PathLike, sha256
from kiago_ray.hull import phase_cache
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
    Raises DataError for a file that can't be used (see data.sources).
    """
    path = Path(path)
    name = _name(sha256(path), ef_sha256 if ef is not None else "file")
    found = phase_cache.read(name)
    if found is not None:
        formulas, fractions, energies, report = found
        return Phases(formulas, fractions, energies, replace(report, file=path.name))
    known = None if ef is None else [s for s, ok in zip(SYMBOLS, ef.supported.tolist(), strict=True) if ok]
    table, report = sources.load_phases(path, energies=ef is None, elements=known)
    formulas = tuple(table["formula"].tolist())
    fractions = sparse_fractions(formulas)
    energies = table["ef_ev_per_atom"].to_numpy() if ef is None else _predicted(ef, fractions)
    phases = Phases(formulas, fractions, energies, report)
    phase_cache.write(name, formulas, fractions, energies, report)
    return phases


def shipped_phases(ef: Predictor | None = None, ef_sha256: str = "") -> Phases:
    """The compounds of the package's own table, as `load_phases` has them of a file.

    The energies that the shipped ElemNet predicts are in the table; those of other weights are computed, and kept.
    """
    digest = tables.sha256_of(tables.PHASES)
    if ef is not None and ef_sha256 != tables.phases_ef_sha256():
        found = phase_cache.read(_name(digest, ef_sha256))
        if found is not None:
            return Phases(*found)
    table = tables.phases()
    formulas = table["formula"].tolist()
    fractions = sparse_fractions(formulas)
    compound = np.diff(fractions.indptr) > 1
    known = compound if ef is None else compound & _supported(ef, fractions)
    report = LoadReport(
        kind=sources.PHASES_KIND,
        file="the Materials Project's ground states, as shipped",
        sha256=digest,
        rows_read=len(table),
        dropped={
            reason: count
            for reason, count in (
                (sources.AN_ELEMENT, int((~compound).sum())),
                (sources.FOREIGN, int((compound & ~known).sum())),
            )
            if count
        },
        examples={},
        duplicates_merged=0,
        rows_kept=int(known.sum()),
    )
    kept_formulas = tuple(np.array(formulas, dtype=object)[known].tolist())
    fractions = fractions[known]
    if ef is None or ef_sha256 == tables.phases_ef_sha256():
        column = "ef_ev_per_atom" if ef is None else "ef_predicted_ev_per_atom"
        return Phases(kept_formulas, fractions, table[column].to_numpy(dtype=np.float64)[known], report)
    energies = _predicted(ef, fractions)
    phase_cache.write(_name(digest, ef_sha256), kept_formulas, fractions, energies, report)
    return Phases(kept_formulas, fractions, energies, report)


def predicted_energies(ef: Predictor, formulas: Sequence[str]) -> Floats:
    """E_f in eV/atom of canonical formulas, (n,); NaN where `ef` doesn't know an element."""
    fractions = sparse_fractions(formulas)
    energies = np.full(len(formulas), np.nan)
    known = _supported(ef, fractions)
    energies[known] = _predicted(ef, fractions[known])
    return energies


def _supported(ef: Predictor, fractions: csr_matrix) -> NDArray[np.bool_]:
    """Whether the predictor knows all elements of each of fractions (n, 118), (n,)."""
    foreign = ~np.asarray(ef.supported.cpu().numpy(), dtype=np.bool_)
    return np.asarray(fractions @ foreign.astype(np.float64) == 0)


def _name(file_sha256: str, energies: str) -> str:
    return hashlib.sha256(f"{__version__} {file_sha256} {energies}".encode()).hexdigest()[:32]


def _predicted(ef: Predictor, fractions: csr_matrix) -> Floats:
    parts = [
        predict(ef, fractions[start : start + BATCH].toarray().astype(np.float32))
        for start in range(0, fractions.shape[0], BATCH)
    ]
    return np.concatenate(parts)
