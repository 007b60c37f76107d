"""Which tables of known and of tried compositions a search is held against: those that ship, a file, none.

`landmarks.csv` is our own compilation of superconductors of every family from the literature. One row a composition;
T_c is the value that is generally cited, at ambient pressure wherever the composition superconducts there; the year
and reference are those of that value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import islice
from pathlib import Path

import pandas as pd

from kiago_ray.chemistry.formula import FormulaError, parse
from kiago_ray.data import LANDMARKS, NONE, SHIPPED, SUPERCON
from kiago_ray.data.compositions import canonical, compositions, finite
from kiago_ray.data.files import DataError, PathLike, fail, read_columns, read_lines
from kiago_ray.data.supercon import COLUMNS as SUPERCON_COLUMNS
from kiago_ray.data.supercon import HEADER_LINE, MAX_TC_K, merged_superconductors, written_reference
from kiago_ray.data.tables import SUPERCONDUCTORS, TRIED, sha256_of, superconductors, tried

LANDMARKS_SOURCE = "landmark superconductors from the literature"
SHIPPED_SOURCE = "SuperCon v220808 and landmark superconductors, as shipped"
LANDMARKS_FILE = "landmarks.csv"
LANDMARK_COLUMNS = ("formula", "tc_k", "year", "pressure_gpa", "family", "reference")
MAX_ROWS = 100_000
_OPTIONAL = ("pressure_gpa", "reports", "year", "reference", "structure")


@dataclass(frozen=True)
class SourceTable:
    """A table, the SHA-256 of its file, and what it is, for a person.

    Columns: `formula` (canonical) and `tc_k`; of known compositions maybe `oxygen` (as in `tables.superconductors`),
    `pressure_gpa`, `reports`, `year`, `reference` and `structure`; of tried ones maybe `down_to_k`.
    """

    table: pd.DataFrame
    sha256: str
    source: str


def known_table(choice: str | None = None) -> SourceTable | None:
    """The table that `choice` names: a path of SuperCon's primary.tsv or of a CSV file, or one of `data.WORDS`; by
    default the shipped SuperCon with the landmarks that it lacks. None for "none".

    Raises DataError for a table that can't be used.
    """
    if choice == NONE:
        return None
    if choice == LANDMARKS:
        return SourceTable(_landmarks(), sha256_of(LANDMARKS_FILE), LANDMARKS_SOURCE)
    if choice is None or choice == SUPERCON:
        return _shipped()
    path = Path(choice)
    return _supercon(path) if _is_supercon(path) else _own(path)


def tried_table(choice: str | None) -> SourceTable | None:
    """The table that `choice` names: the path of a CSV file as `load_tried` reads it, or `data.SHIPPED`. None for None
    and "none": a search heeds nothing unless it is asked to.

    Raises DataError for a table that can't be used.
    """
    if choice is None or choice == NONE:
        return None
    if choice == SHIPPED:
        return SourceTable(tried(), sha256_of(TRIED), "a survey of 2009, as shipped")
    table, digest = load_tried(choice)
    return SourceTable(table, digest, choice)


def load_landmarks() -> pd.DataFrame:
    """One row a composition, sorted by formula.

    Columns: `formula` (canonical), `tc_k`, `year` (of that T_c), `chemical_system`, `pressure_gpa` (0 where it
    superconducts at ambient pressure), `family`, `reference`. Raises DataError where the installation is damaged.
    """
    with resources.as_file(resources.files(__package__) / LANDMARKS_FILE) as path:
        contents = read_columns(path, LANDMARK_COLUMNS)
    table = pd.DataFrame(contents.rows, columns=LANDMARK_COLUMNS, dtype="str")
    formulas, systems = compositions([parse(formula) for formula in table["formula"]])
    table = table.assign(formula=formulas).astype(
        {"formula": "str", "tc_k": "float64", "pressure_gpa": "float64", "year": "int64"}
    )
    table.insert(3, "chemical_system", pd.Series(systems, dtype="str"))
    return table.astype({"year": "Int64"}).sort_values("formula", ignore_index=True)


def _landmarks() -> pd.DataFrame:
    return load_landmarks().assign(reports=1, structure="")


def _shipped() -> SourceTable:
    """SuperCon, the pressures of the landmarks among its compositions, and the landmarks that it lacks."""
    table, landmarks = _cited(superconductors()), _landmarks()
    pressures = landmarks.set_index("formula")["pressure_gpa"]
    table["pressure_gpa"] = table["formula"].map(pressures[pressures > 0])
    missing = landmarks[~landmarks["formula"].isin(table["formula"])].assign(oxygen="stated")
    together = pd.concat([table, missing[table.columns]], ignore_index=True)
    digests = f"{sha256_of(SUPERCONDUCTORS)} {sha256_of(LANDMARKS_FILE)}"
    return SourceTable(together, hashlib.sha256(digests.encode()).hexdigest(), SHIPPED_SOURCE)


def _cited(table: pd.DataFrame) -> pd.DataFrame:
    """Of a table of superconductors, what a search's rows are held against; the reference is the first report's."""
    cited = table[["formula", "tc_k", "oxygen", "reports", "structure"]].copy()
    cited["year"] = table["year_first"].astype("Int64")
    cited["reference"] = table["journal_first"].map(written_reference)
    return cited


def _is_supercon(path: Path) -> bool:
    head = list(islice(read_lines(path), HEADER_LINE))
    return len(head) == HEADER_LINE and set(head[-1].rstrip("\r\n").split("\t")) >= set(SUPERCON_COLUMNS)


def _supercon(path: Path) -> SourceTable:
    table, report = merged_superconductors(path)
    if table.empty:
        raise DataError(f"{path}: it holds no composition that can be read; see `kiago data check`")
    return SourceTable(_cited(table), report.sha256, f"SuperCon ({report.rows_read:,} rows, {path})")


def _own(path: Path) -> SourceTable:
    """Known compositions in a CSV file of one's own, one a row."""
    advice = "name a file of SuperCon's form, or a CSV file with the columns formula and tc_k"
    digest, own = _rows(path, _OPTIONAL, advice)
    rows = []
    for line, formula, (tc, pressure, reports, year, reference, structure) in own:
        tc_k = _number(path, line, "tc_k", tc)
        if tc_k is None:
            fail(path, line, "tc_k is missing", "give the T_c in K, 0 where none was found")
        pressure_gpa = _number(path, line, "pressure_gpa", pressure)
        count, first = _number(path, line, "reports", reports), _number(path, line, "year", year)
        rows.append((formula, tc_k, pressure_gpa, count or 1, first, reference, structure))
    table = pd.DataFrame(rows, columns=["formula", "tc_k", *_OPTIONAL])
    table = table.astype({"pressure_gpa": "float64", "reports": "int64", "year": "Int64"})
    return SourceTable(table, digest, f"{path} ({len(table):,} compositions)")


def load_tried(path: PathLike) -> tuple[pd.DataFrame, str]:
    """What somebody made and measured, one row a sample in the file's order, and the file's SHA-256.

    Columns: `formula` (canonical), `tc_k`, 0 where none was found, and `down_to_k`, the temperature down to which it
    was measured (NaN where not given). Raises DataError, naming line and value, for a file that can't be used: one
    without the columns, with more than 100,000 rows, a formula that can't be read, a temperature that is none, a
    negative one, or a T_c above 260 K.
    """
    digest, own = _rows(path, ("down_to_k",), "correct it")
    rows = []
    for line, formula, (tc, down_to) in own:
        tc_k = finite(tc)
        if tc_k is None or not 0 <= tc_k <= MAX_TC_K:
            advice = f"give a T_c from 0, where none was found, to {MAX_TC_K:g} K"
            fail(path, line, f"tc_k is {tc[:40]!r}", advice)
        lowest = finite(down_to) if down_to else float("nan")
        if lowest is None or lowest < 0:
            advice = "give a temperature in K, or leave the field empty"
            fail(path, line, f"down_to_k is {down_to[:40]!r}", advice)
        rows.append((formula, tc_k, lowest))
    return pd.DataFrame(rows, columns=["formula", "tc_k", "down_to_k"]), digest


def _rows(
    path: PathLike, optional: Sequence[str], advice: str
) -> tuple[str, list[tuple[int, str, list[str]]]]:
    """The SHA-256 of a CSV file of one's own, and of each row its line, its formula (canonical), and the texts of
    `tc_k` and the optional columns.
    """
    contents = read_columns(path, ("formula", "tc_k"), optional)
    if len(contents.rows) > MAX_ROWS:
        fail(path, None, f"more than {MAX_ROWS:,} rows", "leave out those that don't matter")
    rows = []
    for line, (text, *fields) in contents:
        try:
            rows.append((line, canonical(parse(text)), fields))
        except FormulaError as error:
            fail(path, line, f"the formula {text[:80]!r} can't be read ({error.reason})", advice)
    return contents.sha256, rows


def _number(path: Path, line: int, name: str, text: str) -> float | None:
    """A number that isn't negative, whole where it counts something; None for an empty field."""
    if not text:
        return None
    value = finite(text)
    if value is None or value < 0 or (name in ("reports", "year") and not value.is_integer()):
        fail(path, line, f"{name} is {text[:40]!r}", "give a number, not negative, or leave the field empty")
    return value
