"""Runs the cells of experiments and keeps what they found, so that nothing is computed twice.

A cell is one experiment × base × method × seed. Its file is named by these and by a digest of everything else that
decides its outcome, so that results of several sizes lie side by side; what they all rest on, such as weights, is the
directory's identity.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from kiago_ray.baselines.superdiff import SuperDiff, load_superdiff
from kiago_ray.chemistry.formula import parse, parse_fractions
from kiago_ray.models import Models
from kiago_ray.paper.declarations import Size
from kiago_ray.predictors.base import predict
from kiago_ray.storage.location import Location
from kiago_ray.storage.run_directory import open_run

if TYPE_CHECKING:
    from kiago_ray.predictors import Predictors
    from kiago_ray.predictors.oracle import Oracle

CELLS = "cells"
Figures = dict[str, Any]
"""What a cell found, as plain types."""
Found = Mapping[tuple[str, str, int], Figures]
"""What cells found, by base, method and seed; a cell that failed is missing."""


class Experiment(Protocol):
    """What is run for a base, a method and a seed."""

    @property
    def name(self) -> str:
        """The first part of its cells' names."""

    def pairs(self, size: Size) -> Sequence[tuple[str, str]]:
        """The bases and methods of its cells, in the order in which they run."""

    def about(self, lab: Lab, base: str, method: str, seed: int) -> Mapping[str, Any]:
        """What decides the outcome beside the cell's name and the directory's identity, as plain types."""

    def run(self, lab: Lab, base: str, method: str, seed: int) -> Figures:
        """The figures of one cell."""


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
        """What the cell found; None where it wasn't run, or its file is damaged or is about something else."""
        place = self.location / CELLS / cell.file
        if place.kind() != "file":
            return None
        try:
            content = json.loads(place.read_bytes())
        except ValueError:
            return None
        if not isinstance(content, dict) or content.get("about") != _plain(cell.about):
            return None
        found = content.get("found")
        return found if isinstance(found, dict) else None

    def get(self, cell: Cell, compute: Callable[[], Figures]) -> Figures:
        """What the cell found, computed and written if it wasn't yet."""
        found = self.read(cell)
        if found is None:
            found = _plain(compute())
            content = {"about": _plain(cell.about), "found": found}
            (self.location / CELLS / cell.file).write_bytes(json.dumps(content, indent=1).encode())
        return found


def _plain(values: Mapping[str, Any]) -> Figures:
    plain: Figures = json.loads(json.dumps(dict(values), allow_nan=False))
    return plain


@dataclass
class Lab:
    """What experiments are run with.

    models: with an oracle, and with the hull of the competing phases that a user gave. diffusion: SuperDiff, None for
    the shipped one. say: called with a line before each cell that has to be computed. failures: cause by cell,
    filled as cells fail.
    """

    models: Models
    store: Store
    size: Size
    device: str = "cpu"
    diffusion: SuperDiff | None = None
    say: Callable[[str], None] = lambda line: None
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def predictors(self) -> Predictors:
        """What the searches climb."""
        return self.models.predictors

    @property
    def oracle(self) -> Oracle:
        """What judges their outcome."""
        assert self.models.oracle is not None
        return self.models.oracle

    @property
    def superdiff(self) -> SuperDiff:
        """The diffusion model; the shipped one, loaded on first use, where none was given. Raises WeightsError."""
        if self.diffusion is None:
            self.diffusion = load_superdiff()
        return self.diffusion

    def cells(self, experiment: Experiment, pairs: Iterable[tuple[str, str]], seeds: Sequence[int]) -> Found:
        """The cells of these bases and methods with every seed, computed where they weren't yet."""
        asked = [(base, method, seed) for base, method in pairs for seed in seeds]
        found = {key: self.cell(experiment, *key) for key in asked}
        return {key: figures for key, figures in found.items() if figures is not None}

    def cell(self, experiment: Experiment, base: str, method: str, seed: int) -> Figures | None:
        """What one cell found; None where it fails, which is said and recorded in `failures`."""
        name = f"{experiment.name}-{base}-{method}-{seed}"

        def timed() -> Figures:
            self.say(name)
            began = time.perf_counter()
            found = experiment.run(self, base, method, seed)
            return {**found, "seconds": round(time.perf_counter() - began, 2)}

        try:
            about = experiment.about(self, base, method, seed)
            return self.store.get(Cell(experiment.name, base, method, seed, about), timed)
        except Exception as error:  # one cell that can't be run must not lose the others
            self.failures[name] = f"{type(error).__name__}: {error}"
            self.say(f"failed: {name}: {error}")
            return None

    def predicted(self, formulas: Collection[str]) -> dict[str, dict[str, float]]:
        """T_c of each formula in K by the search's model and by the oracle, E_f and, where phases were given, ΔE_hull
        in eV/atom. A formula with an element that the predictors don't know is left out.
        """
        texts = [text for text in dict.fromkeys(formulas) if not set(parse(text)) & self.models.foreign]
        if not texts:
            return {}
        x = parse_fractions(texts)
        follow = self.predictors.following("resnet18")
        ef = predict(follow.ef, x.astype(np.float32))
        columns = {
            "tc_k": np.clip(predict(follow.tc, x.astype(np.float32)), 0, None),
            "tc_oracle_k": self.oracle.predict(x)[0],
            "ef_ev_per_atom": ef,
        }
        if self.models.hull is not None:
            columns["e_hull_ev_per_atom"] = self.models.hull.e_hull(x, ef)
        return {
            text: {name: float(values[row]) for name, values in columns.items()}
            for row, text in enumerate(texts)
        }
