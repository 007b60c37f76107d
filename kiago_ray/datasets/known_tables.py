"""Which table of known compositions a search is held against: a file, the fetched SuperCon, or the landmarks."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import pandas as pd

from kiago_ray.datasets.choices import LANDMARKS, NONE, SUPERCON
from kiago_ray.datasets.fetch import cached_supercon
from kiago_ray.datasets.files import DataError, sha256
from kiago_ray.datasets.landmarks import landmarks_file, load_landmarks
from kiago_ray.datasets.supercon import load_supercon

LANDMARKS_SOURCE = "landmark superconductors from the literature"


@dataclass(frozen=True)
class KnownTable:
    """A table with at least `formula` and `tc_k`, the SHA-256 of its file, and what it is, for a person."""

    table: pd.DataFrame
    sha256: str
    source: str


def known_table(choice: str | None = None) -> KnownTable | None:
    """The table that `choice` names: a path of SuperCon's primary.tsv, or one of `choices.WORDS`; None for "none".

    Without a choice it is the fetched SuperCon, and where none was fetched the landmarks. Raises DataError for a
    table that can't be used.
    """
    if choice == NONE:
        return None
    if choice == LANDMARKS:
        return _landmarks()
    if choice is None or choice == SUPERCON:
        fetched = cached_supercon()
        if fetched is not None:
            return _supercon(fetched.path, f"fetched on {fetched.about.get('fetched_at', '?')[:10]}")
        if choice is None:
            return _landmarks()
        raise DataError("supercon: it was not fetched yet; `kiago data fetch supercon`, or name a file")
    return _supercon(Path(choice), choice)


def _landmarks() -> KnownTable:
    table = load_landmarks()
    with resources.as_file(landmarks_file()) as path:
        digest = sha256(path)
    return KnownTable(table, digest, LANDMARKS_SOURCE)


def _supercon(path: Path, where: str) -> KnownTable:
    table, report = load_supercon(path)
    if table.empty:
        raise DataError(f"{path}: it holds no composition that can be read; see `kiago data check`")
    return KnownTable(table, report.sha256, f"SuperCon ({report.rows_read:,} rows, {where})")
