"""Which table of known compositions a search is held against: the shipped one, a file, the landmarks, none."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from itertools import islice
from pathlib import Path

import pandas as pd

from kiago_ray.chemistry.formula import FormulaError, parse
from kiago_ray.data import LANDMARKS, NONE, SHIPPED, SUPERCON
from kiago_ray.data.compositions import canonical, compositions, finite
from kiago_ray.data.files import DataError, PathLike, fail, read_columns, read_lines, sha256
from kiago_ray.data.supercon import COLUMNS as SUPERCON_COLUMNS
from kiago_ray.data.supercon import HEADER_LINE, MAX_TC_K, merged_superconductors, written_reference
from kiago_ray.data.tables import SUPERCONDUCTORS, TRIED, sha256_of, superconductors, tried

LANDMARKS_SOURCE = "landmark superconductors from the literature"
SHIPPED_SOURCE = "SuperCon v220808 and landmark superconductors, as shipped"
MAX_ROWS = 100_000
_ADVICE = "name a file of SuperCon's form, or a CSV file with the columns formula and tc_k"
_OPTIONAL = ("pressure_gpa", "reports", "year", "reference", "structure")


@dataclass(frozen=True)
class KnownTable:
    """A table as `KnownMaterials.from_table` takes it, the SHA-256 of its file, and what it is, for a person.

    Columns: `formula` (canonical) and `tc_k`; maybe `oxygen` (as in `tables.superconductors`), `pressure_gpa`,
    `reports`, `year`, `reference` and `structure`.
    """

    table: pd.DataFrame
    sha256: str
    source: str


def known_table(choice: str | None = None) -> KnownTable | None:
    """The table that `choice` names: a path of SuperCon's primary.tsv or of a CSV file, or one of `choices.WORDS`; by
    default the shipped SuperCon with the landmarks that it lacks. None for "none".

    Raises DataError for a table that can't be used.
    """
    if choice == NONE:
        return None
    if choice == LANDMARKS:
        return KnownTable(_landmarks(), _landmarks_sha256(), LANDMARKS_SOURCE)
    if choice is None or choice == SUPERCON:
        return _shipped()
    path = Path(choice)
    return _supercon(path) if _is_supercon(path) else _listed(path)


def _landmarks() -> pd.DataFrame:
    return load_landmarks().assign(reports=1, structure="")


def _landmarks_sha256() -> str:
    with resources.as_file(landmarks_file()) as path:
        return sha256(path)


def _shipped() -> KnownTable:
    """SuperCon, the pressures of the landmarks among its compositions, and the landmarks that it lacks."""
    table, landmarks = _cited(superconductors()), _landmarks()
    pressures = landmarks.set_index("formula")["pressure_gpa"]
    under = pressures[pressures > 0]
    table["pressure_gpa"] = table["formula"].map(under)
    missing = landmarks[~landmarks["formula"].isin(table["formula"])].assign(oxygen="stated")
    together = pd.concat([table, missing[table.columns]], ignore_index=True)
    digest = hashlib.sha256(f"{sha256_of(SUPERCONDUCTORS)} {_landmarks_sha256()}".encode()).hexdigest()
    return KnownTable(together, digest, SHIPPED_SOURCE)


def _cited(table: pd.DataFrame) -> pd.DataFrame:
    """Of a table of superconductors, what a search's rows are held against; the reference is the first report's."""
    cited = table[["formula", "tc_k", "oxygen", "reports", "structure"]].copy()
    cited["year"] = table["year_first"].astype("Int64")
    cited["reference"] = table["journal_first"].map(written_reference)
    return cited


def _is_supercon(path: Path) -> bool:
    head = list(islice(read_lines(path), HEADER_LINE))
    return len(head) == HEADER_LINE and set(head[-1].rstrip("\r\n").split("\t")) >= set(SUPERCON_COLUMNS)


def _supercon(path: Path) -> KnownTable:
    table, report = merged_superconductors(path)
    if table.empty:
        raise DataError(f"{path}: it holds no composition that can be read; see `kiago data check`")
    return KnownTable(_cited(table), report.sha256, f"SuperCon ({report.rows_read:,} rows, {path})")


def _listed(path: Path) -> KnownTable:
    """A CSV file of one's own, one row a composition."""
    contents = read_columns(path, ("formula", "tc_k"), _OPTIONAL)
    if len(contents.rows) > MAX_ROWS:
        fail(path, None, f"more than {MAX_ROWS:,} rows", "leave out those that don't matter")
    rows = []
    for line, (text, tc, pressure, reports, year, reference, structure) in zip(
        contents.line_numbers, contents.rows, strict=True
    ):
        try:
            formula = canonical(parse(text))
        except FormulaError as error:
            fail(path, line, f"the formula {text[:80]!r} can't be read ({error.reason})", _ADVICE)
        tc_k = _number(path, line, "tc_k", tc)
        if tc_k is None:
            fail(path, line, "tc_k is missing", "give the T_c in K, 0 where none was found")
        values = [
            _number(path, line, name, value)
            for name, value in zip(_OPTIONAL[:3], (pressure, reports, year), strict=True)
        ]
        rows.append((formula, tc_k, values[0], values[1] or 1, values[2], reference, structure))
    table = pd.DataFrame(rows, columns=["formula", "tc_k", *_OPTIONAL])
    table = table.astype({"pressure_gpa": "float64", "reports": "int64", "year": "Int64"})
    return KnownTable(table, contents.sha256, f"{path} ({len(table):,} compositions)")


def _number(path: Path, line: int, name: str, text: str) -> float | None:
    """A number that isn't negative, whole where it counts something; None for an empty field."""
    if not text:
        return None
    value = finite(text)
    if value is None or value < 0 or (name in ("reports", "year") and not value.is_integer()):
        fail(path, line, f"{name} is {text[:40]!r}", "give a number, not negative, or leave the field empty")
    return value


LANDMARKS_FILE = "landmarks.csv"
LANDMARK_COLUMNS = ("formula", "tc_k", "year", "pressure_gpa", "family", "reference")
LANDMARK_TABLE = ["formula", "tc_k", "year", "chemical_system", "pressure_gpa", "family", "reference"]


def landmarks_file() -> Traversable:
    """The shipped table as a file."""
    return resources.files(__package__) / LANDMARKS_FILE


def load_landmarks() -> pd.DataFrame:
    """One row a composition, sorted by formula.

    Columns: `formula` (canonical), `tc_k`, `year` (of that T_c), `chemical_system`, `pressure_gpa` (0 where it
    superconducts at ambient pressure), `family`, `reference`. Raises DataError where the installation is damaged.
    """
    with resources.as_file(landmarks_file()) as path:
        contents = read_columns(path, LANDMARK_COLUMNS)
    written, tc_k, year, pressure_gpa, family, reference = zip(*contents.rows, strict=True)
    formulas, systems = compositions([parse(formula) for formula in written])
    table = pd.DataFrame(
        {
            "formula": pd.Series(formulas, dtype="str"),
            "tc_k": pd.Series(list(map(float, tc_k)), dtype="float64"),
            "year": pd.Series(list(map(int, year)), dtype="Int64"),
            "chemical_system": pd.Series(systems, dtype="str"),
            "pressure_gpa": pd.Series(list(map(float, pressure_gpa)), dtype="float64"),
            "family": pd.Series(family, dtype="str"),
            "reference": pd.Series(reference, dtype="str"),
        }
    )
    return table.sort_values("formula", ignore_index=True)[LANDMARK_TABLE]


MAX_ROWS = 100_000


def load_tried(path: PathLike) -> tuple[pd.DataFrame, str]:
    """One row a sample in the file's order, and the file's SHA-256.

    Columns: `formula` (canonical), `tc_k`, `down_to_k` (NaN where not given). Raises DataError, naming line and value,
    for a file that can't be used: one without the columns, with more than 100,000 rows, a formula that can't be
    read, a temperature that is none, a negative one, or a T_c above 260 K.
    """
    contents = read_columns(path, ("formula", "tc_k"), ("down_to_k",))
    if len(contents.rows) > MAX_ROWS:
        fail(path, None, f"more than {MAX_ROWS:,} rows", "leave out those that don't matter")
    rows: list[tuple[str, float, float]] = []
    for line, (text, tc, down_to) in zip(contents.line_numbers, contents.rows, strict=True):
        try:
            formula = canonical(parse(text))
        except FormulaError as error:
            fail(path, line, f"the formula {text[:80]!r} can't be read ({error.reason})", "correct it")
        tc_k = finite(tc)
        if tc_k is None or not 0 <= tc_k <= MAX_TC_K:
            fail(
                path,
                line,
                f"tc_k is {tc[:40]!r}",
                f"give a T_c from 0, where none was found, to {MAX_TC_K:g} K",
            )
        lowest = finite(down_to) if down_to else float("nan")
        if lowest is None or lowest < 0:
            fail(
                path,
                line,
                f"down_to_k is {down_to[:40]!r}",
                "give a temperature in K, or leave the field empty",
            )
        rows.append((formula, tc_k, lowest))
    return pd.DataFrame(rows, columns=["formula", "tc_k", "down_to_k"]), contents.sha256


@dataclass(frozen=True)
class TriedTable:
    """A table as `screening.TriedMaterials.from_table` takes it, the SHA-256 of its file, what it is, for a person."""

    table: pd.DataFrame
    sha256: str
    source: str


def tried_table(choice: str | None) -> TriedTable | None:
    """The table that `choice` names: the path of a CSV file as `load_tried` reads it, or `choices.SHIPPED`. None for
    None and "none": nothing is heeded unless asked for.

    Raises DataError for a table that can't be used.
    """
    if choice is None or choice == NONE:
        return None
    if choice == SHIPPED:
        return TriedTable(tried(), sha256_of(TRIED), "a survey of 2009, as shipped")
    table, digest = load_tried(choice)
    return TriedTable(table, digest, choice)
