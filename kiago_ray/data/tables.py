"""The tables that ship, and those that a search is held against: shipped ones, a file, none.

What each shipped table holds, from where and under which licence stands in SOURCES.md beside them. `landmarks.csv` is
our own compilation of superconductors of every family from the literature: one row a composition; T_c is the value
that is generally cited, at ambient pressure wherever the composition superconducts there; the year and reference are
those of that value. `element_counts.json` counts in how many known compositions each element is (the frequencies that
a search substitutes by, section 2.3); it holds no data of its sources.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from kiago_ray.chemistry.formula import FormulaError, amounts_row, parse
from kiago_ray.data import LANDMARKS, NONE, SHIPPED, SUPERCON
from kiago_ray.data.compositions import KnownCompositions, canonical, compositions
from kiago_ray.data.files import DataError, PathLike, fail, finite, read_columns, read_lines
from kiago_ray.data.supercon import HEADER_LINE, MAX_TC_K, is_header, load_supercon, written_reference

SUPERCONDUCTORS, PHASES, MADE, TRIED, LANDMARKS_FILE, ELEMENT_COUNTS = (
    *("superconductors.parquet", "phases.parquet", "made.parquet"),
    *("tried.csv", "landmarks.csv", "element_counts.json"),
)
EF_SHA256 = b"ef_sha256"  # in the metadata of PHASES: of the weights that predicted its energies
LANDMARKS_SOURCE = "landmark superconductors from the literature"
SHIPPED_SOURCE = "SuperCon v220808 and landmark superconductors, as shipped"
MATERIALS_PROJECT = "Materials Project"
MAX_ROWS = 100_000  # of a table of one's own
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
    return _parquet(SUPERCONDUCTORS)


def phases() -> pd.DataFrame:
    """The Materials Project's ground states, sorted by formula.

    Columns: `formula` (canonical), `ef_ev_per_atom`, `decomposition_ev_per_atom` (≤ 0: stable, see
    `sources.load_materials_project`) and `ef_predicted_ev_per_atom` by the shipped ElemNet, missing where it holds an
    element that ElemNet doesn't know. All float32.
    """
    return _parquet(PHASES)


def phases_ef_sha256() -> str:
    """SHA-256 of the weights that `ef_predicted_ev_per_atom` is by."""
    schema = pq.read_schema(io.BytesIO(content(PHASES)))
    return str((schema.metadata or {}).get(EF_SHA256, b"").decode())


def made() -> pd.DataFrame:
    """Inorganic compounds of the Crystallography Open Database, sorted by formula.

    Columns: `formula` (canonical), `code` (COD's number) and `spacegroup` (both missing where only the list of 2007
    has it), `in_2007`: whether COD held it in 2007.
    """
    return _parquet(MADE)


def tried() -> pd.DataFrame:
    """What one project made and measured up to 2009, one row a sample: `formula` and `tc_k`, 0 for none found."""
    return pd.read_csv(io.BytesIO(content(TRIED)))


def landmarks() -> pd.DataFrame:
    """One row a composition, sorted by formula.

    Columns: `formula` (canonical), `tc_k`, `year` (of that T_c), `pressure_gpa` (0 where it superconducts at ambient
    pressure), `family`, `reference`.
    """
    table = pd.read_csv(io.BytesIO(content(LANDMARKS_FILE)))
    formulas, _ = compositions([parse(formula) for formula in table["formula"]])
    table = table.assign(formula=formulas).astype({"pressure_gpa": "float64", "year": "Int64"})
    return table.sort_values("formula", ignore_index=True)


def sha256_of(name: str) -> str:
    """Of a shipped file. Raises DataError where the installation is damaged."""
    return hashlib.sha256(content(name)).hexdigest()


def content(name: str) -> bytes:
    """The bytes of a shipped file. Raises DataError where the installation is damaged."""
    try:
        return (resources.files(__package__) / name).read_bytes()
    except OSError as error:
        raise DataError(f"{name}: can't be read ({error}); reinstall kiago-ray") from error


def _parquet(name: str) -> pd.DataFrame:
    try:
        table = pq.read_table(io.BytesIO(content(name)), page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{name}: it is damaged ({str(error)[:100]}); reinstall kiago-ray") from error
    frame: pd.DataFrame = table.to_pandas(types_mapper=_NULLABLE.get)
    return frame


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


class SourceCounts(BaseModel):
    """Of one source's `compositions`, `counts` hold each element, by symbol; `file` is what was counted."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    source: str
    licence: str
    file: str
    sha256: str
    compositions: int
    counts: Mapping[str, int]

    def frequencies(self) -> NDArray[np.float64]:
        """The counts over the elements, (118,)."""
        return amounts_row(self.counts)


class ElementCounts(BaseModel):
    """The counts in SuperCon, and in the compositions that stand for non-superconductors."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    supercon: SourceCounts
    non_superconductors: SourceCounts


def shipped_element_counts() -> ElementCounts:
    """The counts that ship, which `sources.pack` wrote."""
    return ElementCounts.model_validate_json(content(ELEMENT_COUNTS))


@dataclass(frozen=True)
class SourceTable:
    """A table, the SHA-256 of its file, and what it is, for a person.

    Columns: `formula` (canonical) and `tc_k`; of known compositions maybe `oxygen` (as in `superconductors`),
    `pressure_gpa`, `reports`, `year`, `reference` and `structure`; of tried ones maybe `down_to_k`.
    """

    table: pd.DataFrame
    sha256: str
    source: str


def known_table(choice: str | None = None) -> SourceTable | None:
    """The table that `choice` names: a path of SuperCon's primary.tsv or of a CSV file with the columns formula and
    tc_k, or one of `data.WORDS`; by default the shipped SuperCon with the landmarks that it lacks. None for "none".

    Raises DataError for a table that can't be used.
    """
    if choice == NONE:
        return None
    if choice == LANDMARKS:
        return SourceTable(_landmarks(), sha256_of(LANDMARKS_FILE), LANDMARKS_SOURCE)
    if choice is None or choice == SUPERCON:
        return _shipped()
    if is_header(list(islice(read_lines(choice), HEADER_LINE))):
        table, report = load_supercon(choice, undetermined_oxygen=True)
        if table.empty:
            raise DataError(f"{choice}: it holds no composition that can be read; see `kiago data check`")
        return SourceTable(_cited(table), report.sha256, f"SuperCon ({report.rows_read:,} rows, {choice})")
    table, digest = _own(choice, ("pressure_gpa", "reports", "year", "reference", "structure"))
    table["reports"] = table["reports"].fillna(1).astype("int64")
    return SourceTable(table.astype({"year": "Int64"}), digest, f"{choice} ({len(table):,} compositions)")


def tried_table(choice: str | None) -> SourceTable | None:
    """The table that `choice` names: the path of a CSV file, one row a sample in the file's order, with the columns
    formula, tc_k, 0 where none was found, and maybe down_to_k, the temperature down to which it was measured; or
    `data.SHIPPED`. None for None and "none": a search heeds nothing unless it is asked to.

    Raises DataError for a table that can't be used.
    """
    if choice is None or choice == NONE:
        return None
    if choice == SHIPPED:
        return SourceTable(tried(), sha256_of(TRIED), "a survey of 2009, as shipped")
    table, digest = _own(choice, ("down_to_k",), highest_tc_k=MAX_TC_K)
    return SourceTable(table, digest, choice)


def _landmarks() -> pd.DataFrame:
    return landmarks().assign(reports=1, structure="")


def _shipped() -> SourceTable:
    """SuperCon, the pressures of the landmarks among its compositions, and the landmarks that it lacks."""
    table, cited = _cited(superconductors()), _landmarks()
    pressures = cited.set_index("formula")["pressure_gpa"]
    table["pressure_gpa"] = table["formula"].map(pressures[pressures > 0])
    missing = cited[~cited["formula"].isin(table["formula"])].assign(oxygen="stated")
    together = pd.concat([table, missing[table.columns]], ignore_index=True)
    digests = f"{sha256_of(SUPERCONDUCTORS)} {sha256_of(LANDMARKS_FILE)}"
    return SourceTable(together, hashlib.sha256(digests.encode()).hexdigest(), SHIPPED_SOURCE)


def _cited(table: pd.DataFrame) -> pd.DataFrame:
    """Of a table of superconductors, what a search's rows are held against; the reference is the first report's."""
    cited = table[["formula", "tc_k", "oxygen", "reports", "structure"]].copy()
    cited["year"] = table["year_first"].astype("Int64")
    cited["reference"] = table["journal_first"].map(written_reference)
    return cited


def _own(path: PathLike, optional: Sequence[str], highest_tc_k: float = np.inf) -> tuple[pd.DataFrame, str]:
    """A CSV file of one's own with the columns formula (canonical here), tc_k and some optional ones, one row each in
    the file's order, and its SHA-256. Numbers aren't negative, those that count are whole, NaN where not given.
    """
    contents = read_columns(path, ("formula", "tc_k"), optional)
    if len(contents.rows) > MAX_ROWS:
        fail(path, None, f"more than {MAX_ROWS:,} rows", "leave out those that don't matter")
    rows = []
    for line, (text, tc, *fields) in contents.rows:
        try:
            formula = canonical(parse(text))
        except FormulaError as error:
            advice = "correct it, or name a file of SuperCon's form"
            fail(path, line, f"the formula {text[:80]!r} can't be read ({error.reason})", advice)
        tc_k = finite(tc)
        if tc_k is None or not 0 <= tc_k <= highest_tc_k:
            limit = "" if np.isinf(highest_tc_k) else f" and no more than {highest_tc_k:g}"
            fail(path, line, f"tc_k is {tc[:40]!r}", f"give the T_c in K{limit}, 0 where none was found")
        values = [_value(path, line, *each) for each in zip(optional, fields, strict=True)]
        rows.append((formula, tc_k, *values))
    return pd.DataFrame(rows, columns=["formula", "tc_k", *optional]), contents.sha256


def _value(path: PathLike, line: int, name: str, text: str) -> Any:
    """A text, or a number that isn't negative, whole where it counts something; NaN for an empty one."""
    if name in ("reference", "structure"):
        return text
    value = finite(text) if text else np.nan
    if value is None or value < 0 or (name in ("reports", "year") and text and not value.is_integer()):
        fail(path, line, f"{name} is {text[:40]!r}", "give a number, not negative, or leave the field empty")
    return value
