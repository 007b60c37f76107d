"""The shipped tables from the raw public files: `kiago data pack`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from kiago_ray.chemistry.formula import FormulaError, parse
from kiago_ray.data.cod import merged_made
from kiago_ray.data.compositions import canonical, finite
from kiago_ray.data.files import DataError, PathLike, fail, read_columns
from kiago_ray.data.phases import load_materials_project
from kiago_ray.data.supercon import merged_superconductors
from kiago_ray.data.tables import EF_SHA256, MADE, PHASES, SUPERCONDUCTORS, TRIED

LEVEL = 19  # of zstd: written once, read often
# Hosono et al.'s survey writes polytypes as it names them.
_POLYTYPE = "1T-"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PhaseEnergies:
    """E_f in eV/atom, (n,), of n formulas, NaN for those that the predictor doesn't know; SHA-256 of its weights."""

    of: Callable[[list[str]], Floats]
    sha256: str


@dataclass(frozen=True)
class RawFiles:
    """SuperCon's primary.tsv, the Materials Project's ground states, COD's formulas and those of 2007, the survey."""

    supercon: PathLike
    phases: PathLike
    made: PathLike
    made_2007: PathLike
    tried: PathLike


def pack(raw: RawFiles, folder: Path, energies: PhaseEnergies) -> dict[str, int]:
    """Write the four tables into `folder`, which must exist; the number of rows by file name. Raises DataError."""
    superconductors, _ = merged_superconductors(raw.supercon)
    tables = {
        SUPERCONDUCTORS: (superconductors, {}),
        PHASES: (_phases(raw.phases, energies), {EF_SHA256: energies.sha256.encode()}),
        MADE: (merged_made(raw.made, raw.made_2007), {}),
    }
    tried = _tried(raw.tried)
    try:
        for name, (table, about) in tables.items():
            _write(folder / name, table, about)
        tried.to_csv(folder / TRIED, index=False, lineterminator="\n")
    except OSError as error:
        raise DataError(f"{folder}: can't be written ({error.strerror}); choose another folder") from None
    return {**{name: len(table) for name, (table, _) in tables.items()}, TRIED: len(tried)}


def _phases(path: PathLike, energies: PhaseEnergies) -> pd.DataFrame:
    table, _ = load_materials_project(path)
    energy = ("ef_ev_per_atom", "decomposition_ev_per_atom", "ef_predicted_ev_per_atom")
    table = table.assign(ef_predicted_ev_per_atom=energies.of(table["formula"].tolist()))
    return table[["formula", *energy]].astype(dict.fromkeys(energy, "float32"))


def _tried(path: PathLike) -> pd.DataFrame:
    """The survey's rows in their order, formulas canonical; those that name no composition are left out."""
    rows: list[tuple[str, float]] = []
    for line, (text, tc) in read_columns(path, ("matter", "Tc")):
        value = finite(tc)
        if value is None or value < 0:
            fail(path, line, f"Tc {tc!r} is no temperature in K", "correct the row")
        try:
            rows.append((canonical(parse(text.removeprefix(_POLYTYPE))), value))
        except FormulaError:
            continue
    return pd.DataFrame(rows, columns=["formula", "tc_k"])


def _write(path: Path, table: pd.DataFrame, about: dict[bytes, bytes]) -> None:
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    plain = pa.schema(
        [
            pa.field(each.name, pa.string() if pa.types.is_large_string(each.type) else each.type)
            for each in arrow.schema
        ],
        metadata=about,
    )
    pq.write_table(
        arrow.cast(plain), path, compression="zstd", compression_level=LEVEL, write_page_checksum=True
    )
