"""Phases kept between commands: Parquet files in the user's cache, whole or not at all, with checksums.

A file that is damaged, or that can't be written, only costs time: the phases are worked out again.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.data.files import LoadReport

ENVIRONMENT_VARIABLE = "KIAGO_CACHE"
FOLDER = "hull"
MAX_KEPT = 32  # files; the oldest give way
_REPORT = b"report"

Floats = NDArray[np.float64]
Kept = tuple[tuple[str, ...], csr_matrix, Floats, LoadReport]


def read(name: str) -> Kept | None:
    """What is kept under this name; None where nothing is, or nothing that can be read."""
    path = _path(name)
    try:
        with path.open("rb") as file:
            table = pq.read_table(file, page_checksum_verification=True)
        report = _report(json.loads(table.schema.metadata[_REPORT]))
        rows = table["elements"].combine_chunks()
        fractions = csr_matrix(
            (
                table["fractions"].combine_chunks().values.to_numpy(),
                rows.values.to_numpy().astype(np.int32),
                rows.offsets.to_numpy(),
            ),
            shape=(len(table), N_ELEMENTS),
        )
        return (
            tuple(table["formula"].to_pylist()),
            fractions,
            table["ef_ev_per_atom"].to_numpy(),
            report,
        )
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError):
        return None


def write(
    name: str, formulas: tuple[str, ...], fractions: csr_matrix, ef_ev_per_atom: Floats, report: LoadReport
) -> None:
    """Keep phases under this name; where the cache can't be written, nothing is kept."""
    offsets = pa.array(fractions.indptr, pa.int32())
    table = pa.table(
        {
            "formula": pa.array(formulas, pa.string()),
            "elements": pa.ListArray.from_arrays(offsets, pa.array(fractions.indices, pa.uint8())),
            "fractions": pa.ListArray.from_arrays(offsets, pa.array(fractions.data, pa.float64())),
            "ef_ev_per_atom": pa.array(ef_ev_per_atom, pa.float64()),
        }
    ).replace_schema_metadata({_REPORT: json.dumps(report.to_dict()).encode()})
    path = _path(name)
    draft: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".draft", delete=False) as file:
            draft = Path(file.name)
            pq.write_table(table, file, compression="zstd", write_page_checksum=True)
        os.replace(draft, path)
        kept = sorted(path.parent.glob("*.parquet"), key=lambda each: each.stat().st_mtime)
        for old in kept[:-MAX_KEPT]:
            old.unlink()
    except OSError:
        if draft is not None:
            draft.unlink(missing_ok=True)


def cache_directory() -> Path:
    """KIAGO_CACHE, or `kiago-ray` in the place that the platform has for caches. It need not exist."""
    own = os.environ.get(ENVIRONMENT_VARIABLE)
    if own:
        return Path(own).expanduser()
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return Path(local or Path.home() / "AppData" / "Local") / "kiago-ray" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "kiago-ray"
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "kiago-ray"


def _path(name: str) -> Path:
    return cache_directory() / FOLDER / f"{name}.parquet"


def _report(plain: dict[str, Any]) -> LoadReport:
    examples = {reason: tuple(texts) for reason, texts in plain["examples"].items()}
    return LoadReport(**{**plain, "examples": examples, "warnings": tuple(plain["warnings"])})
