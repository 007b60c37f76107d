"""Where fetched public files are kept, and the proof that they still are what was fetched.

`fetched.json` names the one table that counts; it is replaced in one step, after the table is in its place, so that a
fetch that ends anywhere leaves either the old state or the new.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

from kiago_ray.datasets.files import DataError, fail, sha256

ENVIRONMENT_VARIABLE = "KIAGO_CACHE"
RECORD = "fetched.json"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FOLDER_DIGITS = 16  # of the table's SHA-256, the name of its folder


@dataclass(frozen=True)
class CachedFile:
    """A fetched table and what is recorded of it: `url`, `fetched_at`, `licence` and more, all text."""

    path: Path
    sha256: str
    about: Mapping[str, str]


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


def find(folder: Path, name: str, again: str) -> CachedFile | None:
    """The table `name` that `folder` keeps, checked byte by byte; None where none was fetched.

    again: the command that fetches it again. Raises DataError for a table that is gone or no longer the recorded
    one, and for a record that can't be read.
    """
    record = folder / RECORD
    try:
        about = json.loads(record.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        fail(record, None, f"the record can't be read ({type(error).__name__})", f"`{again}`")
    plain = isinstance(about, dict) and all(isinstance(value, str) for value in about.values())
    if not plain or not _DIGEST.fullmatch(about.get("sha256", "")):
        fail(record, None, "this is no record of a fetched file", f"`{again}`")
    digest = about["sha256"]
    path = _place(folder, digest, name)
    try:
        found = sha256(path)
    except DataError as error:
        raise DataError(f"{error}, or `{again}`") from None
    if found != digest:
        fail(path, None, "the file has changed since it was fetched", f"`{again}`")
    return CachedFile(path, digest, MappingProxyType(about))


def store(folder: Path, table: Path, about: Mapping[str, str]) -> CachedFile:
    """Move `table`, a file on the same disk, into `folder` as the one that counts; what was there before goes.

    Raises DataError where it can't be written.
    """
    digest = sha256(table)
    path = _place(folder, digest, table.name)
    about = {**about, "sha256": digest}
    draft = table.with_name(RECORD)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(table, path)
        draft.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(draft, folder / RECORD)
    except OSError as error:
        unwritable(folder, error)
    for other in folder.glob("[0-9a-f]" * _FOLDER_DIGITS):
        if other != path.parent:
            shutil.rmtree(other, ignore_errors=True)  # in use elsewhere: it only takes space
    return CachedFile(path, digest, MappingProxyType(about))


def unwritable(place: Path, error: OSError) -> NoReturn:
    """Raise the DataError for a cache that can't be written."""
    problem = f"can't be written: {error.strerror or error}"
    fail(place, None, problem, f"make room there, or set {ENVIRONMENT_VARIABLE} to another folder")


def _place(folder: Path, digest: str, name: str) -> Path:
    return folder / digest[:_FOLDER_DIGITS] / name
