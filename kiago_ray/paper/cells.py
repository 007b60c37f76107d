"""Results of single experiments, kept in a directory: what was computed once isn't computed again.

A cell is one experiment × base × method × seed. Its file is named by these and by a digest of everything else that
decides its outcome, so that results of several sizes lie side by side; what they all rest on, such as weights, is the
directory's identity.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kiago_ray.storage.location import Location
from kiago_ray.storage.run_directory import open_run

CELLS = "cells"

Figures = dict[str, Any]
"""What a cell found, as plain types."""


@dataclass(frozen=True)
class Cell:
    """about: what decides the outcome beside these and the directory's identity, plain types alone."""

    experiment: str
    base: str
    method: str
    seed: int
    about: Mapping[str, Any]

    @property
    def file(self) -> str:
        """Such as materials-LaNiAsO-kiago-0-1a2b3c4d.json."""
        digest = hashlib.sha256(json.dumps(self.about, sort_keys=True).encode()).hexdigest()[:12]
        return f"{self.experiment}-{self.base}-{self.method}-{self.seed}-{digest}.json"


@dataclass(frozen=True)
class Store:
    """A directory of cells that rest on the same weights and data."""

    location: Location

    @classmethod
    def open(cls, where: str, identity: Mapping[str, Any]) -> Store:
        """The directory, made or found. Raises RunDirectoryError where it holds results that rest on something
        else.
        """
        run = open_run(where, {"paper": dict(identity)})
        (run.location / CELLS).make_directory()
        return cls(run.location)

    def read(self, cell: Cell) -> Figures | None:
        """What the cell found; None where it wasn't run, or its file is damaged or of something else."""
        place = self.location / CELLS / cell.file
        if place.kind() != "file":
            return None
        try:
            kept = json.loads(place.read_bytes())
        except ValueError:
            return None
        if not isinstance(kept, dict) or kept.get("about") != _plain(cell.about):
            return None
        found = kept.get("found")
        return found if isinstance(found, dict) else None

    def get(self, cell: Cell, compute: Callable[[], Figures]) -> Figures:
        """What the cell found, computed and kept if it wasn't yet."""
        found = self.read(cell)
        if found is None:
            found = _plain(compute())
            kept = {"about": _plain(cell.about), "found": found}
            (self.location / CELLS / cell.file).write_bytes(json.dumps(kept, indent=1).encode())
        return found


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(dict(values), allow_nan=False))
    return plain
