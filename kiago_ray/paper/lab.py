"""Runs cells: what each method proposes from a base, judged by the same code as a search's rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kiago_ray.api import base_material, judged_formulas, search_frequencies
from kiago_ray.baselines.substitution import exchange
from kiago_ray.baselines.superdiff import Guidance, SuperDiff, load_superdiff, sample
from kiago_ray.paper.cells import Cell, Figures, Store
from kiago_ray.paper.sizes import Size
from kiago_ray.paper.tables import Found
from kiago_ray.paper.tasks import METHODS, SEARCHES, Family, Method, Task, tasks_of
from kiago_ray.paper.verdicts import figures
from kiago_ray.search import run_search

if TYPE_CHECKING:
    from kiago_ray.hull import EnergyHull
    from kiago_ray.predictors import Predictors
    from kiago_ray.predictors.second_opinion import SecondOpinion
    from kiago_ray.screening import KnownMaterials
    from kiago_ray.search import SearchSpec

SCALES = (1, 2, 4, 6)  # of ILVR, a quarter of the samples each (section 3.1)
GUIDANCE_ALPHA, GUIDANCE_WEIGHT = 4.0, 1e-3

Floats = NDArray[np.float64]


@dataclass
class Lab:
    """What experiments are run with. hull: of the competing phases that a user gave, None without them. tell: called
    with a line before each cell that has to be computed. failures: cause by cell, filled as cells fail.
    """

    predictors: Predictors
    second: SecondOpinion
    store: Store
    size: Size
    device: str = "cpu"
    known: KnownMaterials | None = None
    hull: EnergyHull | None = None
    superdiff_folder: Path | None = None
    tell: Callable[[str], None] = lambda line: None
    failures: dict[str, str] = field(default_factory=dict)
    _superdiff: SuperDiff | None = None

    @property
    def superdiff(self) -> SuperDiff:
        """The diffusion model, loaded on first use. Raises WeightsError."""
        if self._superdiff is None:
            self._superdiff = load_superdiff(self.superdiff_folder, device=self.device)
        return self._superdiff

    def get(self, cell: Cell, compute: Callable[[], Figures]) -> Figures | None:
        """What a cell found, computed if it wasn't kept; None where it fails, which is recorded and told."""

        def timed() -> Figures:
            self.tell(f"{cell.experiment}: {cell.base}, {cell.method}, seed {cell.seed}")
            began = time.perf_counter()
            found = compute()
            return {**found, "seconds": round(time.perf_counter() - began, 2)}

        try:
            return self.store.get(cell, timed)
        except Exception as error:  # one cell that can't be run must not lose the others
            self.failures[cell.file] = f"{type(error).__name__}: {error}"
            self.tell(f"failed: {cell.base}, {cell.method}: {error}")
            return None

    def family(
        self, family: Family, *, methods: Sequence[Method] = METHODS, seeds: Sequence[int] | None = None
    ) -> Found:
        """Every cell of a family: its bases × methods × seeds."""
        found: dict[tuple[str, str, int], Figures] = {}
        for task in tasks_of(family):
            for method in methods:
                for seed in self.size.seeds if seeds is None else seeds:
                    one = self.one(task, method, seed)
                    if one is not None:
                        found[task.base, method, seed] = one
        return found

    def one(self, task: Task, method: Method, seed: int) -> Figures | None:
        """One cell of a family."""
        judge = task.judge()
        plan = self._plan(task, method, seed)
        about = {"judge": judge.model_dump(mode="json"), **plan.about}
        cell = Cell(task.family, task.base, method, seed, about)

        def compute() -> Figures:
            base = base_material(judge, self.predictors, self.known, self.second)
            assert base is not None
            rows = judged_formulas(
                plan.propose(), judge, self.predictors, base, second=self.second, name=method
            )
            return figures(rows, task, base)

        return self.get(cell, compute)

    def _plan(self, task: Task, method: Method, seed: int) -> _Plan:
        count = self.size.candidates[task.family]
        if method in SEARCHES:
            steps = self.size.steps if method == "kiago" else self.size.ours_steps
            spec = task.search(method, {"candidates": count, "steps": steps, "seed": seed})
            return _Plan({"search": spec.model_dump(mode="json")}, lambda: self.searched(spec))
        judge = task.judge()
        if method == "substitution":
            sites = None if task.site is None else dict([task.site])
            keep = ("H",) if task.family == "hydrides" else ()
            about = {"exchange": {"sites": sites, "keep": list(keep), "count": count}}
            supported = self.predictors.supported.cpu().numpy()
            return _Plan(
                about,
                lambda: exchange(
                    task.base, supported, judge.oxidation_set, sites=sites, keep=keep
                ).rows(count, seed),
            )
        guidance = GUIDANCE_WEIGHT if method == "superdiff_cg" else 0.0
        about = self.diffusion_about(count, guidance)
        return _Plan(about, lambda: self.diffused(task.base, count, guidance, seed).amounts)

    def searched(self, spec: SearchSpec) -> Floats:
        """The formulas of a search, (rows, 118) in atoms; zeros where a row has none."""
        result = run_search(
            spec, self.predictors, search_frequencies(), device=self.device, trajectory_rows=0
        )
        return result.amounts

    def diffusion_about(self, count: int, weight: float) -> Mapping[str, Any]:
        """What decides the outcome of `diffused`."""
        return {
            "superdiff": {
                "count": count,
                "scales": list(SCALES),
                "alpha": GUIDANCE_ALPHA,
                "weight": weight,
            }
        }

    def diffused(self, base: str, count: int, weight: float, seed: int) -> Any:
        """SuperDiff's samples around a base by ILVR, guided where `weight` isn't 0."""
        guidance = None
        if weight:
            follow = self.predictors.following("resnet18")
            guidance = Guidance(follow.tc, follow.ef, alpha=GUIDANCE_ALPHA, weight=weight)
        return sample(self.superdiff, count, base=base, scale_factors=SCALES, guidance=guidance, seed=seed)


@dataclass(frozen=True)
class _Plan:
    """What decides a cell's outcome, and how its formulas, (n, 118) in atoms, come about."""

    about: Mapping[str, Any]
    propose: Callable[[], Floats]
