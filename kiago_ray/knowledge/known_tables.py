"""Which table of known compositions a search is held against: the shipped one, a file, the landmarks, none."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from itertools import islice
from pathlib import Path

import pandas as pd

from kiago_ray.chemistry.formula import FormulaError, parse
from kiago_ray.datasets.files import DataError, fail, read_columns, read_lines, sha256
from kiago_ray.datasets.landmarks import landmarks_file, load_landmarks
from kiago_ray.datasets.supercon import COLUMNS as SUPERCON_COLUMNS
from kiago_ray.datasets.supercon import HEADER_LINE
from kiago_ray.datasets.table import canonical, finite
from kiago_ray.knowledge.choices import LANDMARKS, NONE, SUPERCON
from kiago_ray.knowledge.references import written_reference
from kiago_ray.knowledge.supercon_table import merged_superconductors
from kiago_ray.knowledge.tables import SUPERCONDUCTORS, sha256_of, superconductors

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
