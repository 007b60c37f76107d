"""The shipped tables. What each holds, from where and under which licence stands in SOURCES.md beside them."""

from __future__ import annotations

import hashlib
import io
from functools import cache
from importlib import resources
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from kiago_ray.data.files import DataError
from kiago_ray.data.identity import KnownCompositions

SUPERCONDUCTORS, PHASES, MADE, TRIED = (
    "superconductors.parquet",
    "phases.parquet",
    "made.parquet",
    "tried.csv",
)
EF_SHA256 = b"ef_sha256"  # in the metadata of PHASES: of the weights that predicted its energies
_NULLABLE = {
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.string(): pd.StringDtype(na_value=float("nan")),
}


def superconductors() -> pd.DataFrame:
    """SuperCon's compositions with their measured T_c, those of stated oxygen first, each part sorted by formula.

    Columns: `formula` (canonical), `oxygen`: stated; nominal where SuperCon writes O7-X and O7 is meant; any where it
    gives no amount, and `formula` is of the other elements. `tc_k`: median of `reports` measurements, 0 where none
    found superconductivity; `tc_min_k`, `tc_max_k`; `tc_spread_k`: their interquartile range. `year_first`,
    `journal_first` of the earliest report, `year_highest`, `journal_highest` of the one with the highest T_c; years
    may be missing. `structure`: the name that most reports give, "" for none. A composition may stand in a row of
    stated and in one of nominal oxygen.
    """
    return _frame(_parquet(SUPERCONDUCTORS))


def phases() -> pd.DataFrame:
    """The Materials Project's ground states, sorted by formula.

    Columns: `formula` (canonical), `ef_ev_per_atom`, `decomposition_ev_per_atom` (≤ 0: stable, see
    `datasets.load_materials_project`) and `ef_predicted_ev_per_atom` by the shipped ElemNet, missing where it holds an
    element that ElemNet doesn't know. All float32.
    """
    return _frame(_parquet(PHASES))


def phases_ef_sha256() -> str:
    """SHA-256 of the weights that `ef_predicted_ev_per_atom` is by."""
    schema = pq.read_schema(io.BytesIO(content(PHASES)))
    return str((schema.metadata or {}).get(EF_SHA256, b"").decode())


def made() -> pd.DataFrame:
    """Inorganic compounds of the Crystallography Open Database, sorted by formula.

    Columns: `formula` (canonical), `code` (COD's number) and `spacegroup` (both missing where only the list of 2007
    has it), `in_2007`: whether COD held it in 2007.
    """
    return _frame(_parquet(MADE))


def tried() -> pd.DataFrame:
    """What one project made and measured up to 2009, one row a sample: `formula` and `tc_k`, 0 for none found."""
    return _frame(pa_csv.read_csv(io.BytesIO(content(TRIED))))


def sha256_of(name: str) -> str:
    """Of a shipped file. Raises DataError where the installation is damaged."""
    return hashlib.sha256(content(name)).hexdigest()


def content(name: str) -> bytes:
    """The bytes of a shipped file. Raises DataError where the installation is damaged."""
    try:
        return (resources.files(__package__) / name).read_bytes()
    except OSError as error:
        raise DataError(f"{name}: can't be read ({error}); reinstall kiago-ray") from error


def _parquet(name: str) -> Any:
    try:
        return pq.read_table(io.BytesIO(content(name)), page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{name}: it is damaged ({str(error)[:100]}); reinstall kiago-ray") from error


def _frame(table: Any) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas(types_mapper=_NULLABLE.get)
    return frame


MATERIALS_PROJECT = "Materials Project"


@cache
def made_compounds() -> KnownCompositions:
    """The compounds by what a person looks them up by: "COD 2310018, space group 176", "COD" for those that only its
    list of 2007 has, "Materials Project" for those that are stable there. COD's come first.
    """
    cod = made()
    names = [
        "COD" if code is pd.NA else f"COD {code}" + ("" if group is pd.NA else f", space group {group}")
        for code, group in zip(cod["code"].tolist(), cod["spacegroup"].tolist(), strict=True)
    ]
    project = phases()
    stable = project["formula"][project["decomposition_ev_per_atom"] <= 0].tolist()
    return KnownCompositions.of(
        [*cod["formula"].tolist(), *stable], names=[*names, *[MATERIALS_PROJECT] * len(stable)]
    )
