"""Runs cells: what each method proposes from a base, judged by the same code as a search's rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kiago_ray.baselines.substitution import exchange
from kiago_ray.baselines.superdiff import Guidance, Samples, SuperDiff, load_superdiff, sample
from kiago_ray.baselines.superdiff.sampling import BATCH_ROWS, SCALE_FACTORS
from kiago_ray.baselines.superdiff.schedule import STEPS
from kiago_ray.chemistry.formula import parse, parse_amounts, parse_fractions
from kiago_ray.judging import judged_formulas
from kiago_ray.models import Models
from kiago_ray.paper.cells import Cell, Figures, Store
from kiago_ray.paper.sizes import Size
from kiago_ray.paper.tables import Found
from kiago_ray.paper.tasks import METHODS, SEARCHES, Family, Method, Task, tasks_of
from kiago_ray.paper.verdicts import CRITERIA, figures
from kiago_ray.predictors.base import predict
from kiago_ray.search import run_search

if TYPE_CHECKING:
    from kiago_ray.predictors import Predictors
    from kiago_ray.predictors.oracle.trees import Oracle
    from kiago_ray.search import SearchSpec

GUIDANCE_ALPHA, GUIDANCE_WEIGHT = 4.0, 1e-3  # section 3.1
# The paper doesn't say what its weight multiplies. With the gradient of the loss's mean over so many rows, Table 4's
# changes of T_c come out of the paper's size; with each row's own gradient they are some hundred times larger.
GUIDANCE_ROWS = 256
DEVICE_BATCH_ROWS = 4096  # samples at a time on a GPU, which fewer don't fill

Floats = NDArray[np.float64]


@dataclass
class Lab:
    """What experiments are run with. models: with an oracle, and with the hull of the competing phases that a user
    gave. diffusion: SuperDiff, None for the shipped one. tell: called with a line before each cell that has to be
    computed. failures: cause by cell, filled as cells fail.
    """

    models: Models
    store: Store
    size: Size
    device: str = "cpu"
    diffusion: SuperDiff | None = None
    tell: Callable[[str], None] = lambda line: None
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

    def get(self, cell: Callable[[], Cell], compute: Callable[[], Figures], name: str) -> Figures | None:
        """What a cell found, computed if it wasn't kept; None where it fails, which is recorded and told."""

        def timed() -> Figures:
            self.tell(name)
            began = time.perf_counter()
            found = compute()
            return {**found, "seconds": round(time.perf_counter() - began, 2)}

        try:
            return self.store.get(cell(), timed)
        except Exception as error:  # one cell that can't be run must not lose the others
            self.failures[name] = f"{type(error).__name__}: {error}"
            self.tell(f"failed: {name}: {error}")
            return None

    def family(
        self,
        family: Family,
        *,
        bases: Sequence[str] | None = None,
        methods: Sequence[Method] = METHODS,
        seeds: Sequence[int] | None = None,
    ) -> Found:
        """Every cell of a family, or of some of its bases: bases × methods × seeds."""
        found: dict[tuple[str, str, int], Figures] = {}
        for task in tasks_of(family):
            for method in methods if bases is None or task.base in bases else ():
                for seed in self.size.seeds if seeds is None else seeds:
                    one = self.one(task, method, seed)
                    if one is not None:
                        found[task.base, method, seed] = one
        return found

    def one(self, task: Task, method: Method, seed: int) -> Figures | None:
        """One cell of a family."""
        judge = task.judge()

        def cell() -> Cell:
            about = {
                "judge": judge.model_dump(mode="json"),
                **({"criteria": CRITERIA[task.family]} if CRITERIA[task.family] > 1 else {}),
                **self._about(task, method, seed),
            }
            return Cell(task.family, task.base, method, seed, about)

        def compute() -> Figures:
            base = self.models.base(judge)
            assert base is not None
            amounts = self._proposed(task, method, seed)
            judging = replace(self.models, known=None, hull=None, prospects=None)
            rows = judged_formulas(amounts, judge, judging, name=method)
            return figures(rows, task, base)

        return self.get(cell, compute, f"{task.family}-{task.base}-{method}-{seed}")

    def _about(self, task: Task, method: Method, seed: int) -> Mapping[str, Any]:
        """What decides what a method proposes."""
        if method in SEARCHES:
            return {"search": self._spec(task, method, seed).model_dump(mode="json")}
        count = self.size.candidates[task.family]
        if method == "substitution":
            return {"exchange": {"sites": task.sites, "keep": list(task.kept), "count": count}}
        return self.diffusion_about(count, _weight(method), self.size.diffusion_steps)

    def _proposed(self, task: Task, method: Method, seed: int) -> Floats:
        """The formulas of a method, (n, 118) in atoms."""
        count = self.size.candidates[task.family]
        if method in SEARCHES:
            return self.searched(self._spec(task, method, seed))
        if method == "substitution":
            supported = self.predictors.supported.cpu().numpy()
            states = task.judge().oxidation_set
            sites = exchange(task.base, supported, states, sites=task.sites or None, keep=task.kept)
            return sites.rows(count, seed)
        return self.diffused(task.base, count, _weight(method), seed, self.size.diffusion_steps).amounts

    def _spec(self, task: Task, method: Method, seed: int) -> SearchSpec:
        steps = self.size.steps if method == "kiago" else self.size.ours_steps
        changes = {"candidates": self.size.candidates[task.family], "steps": steps, "seed": seed}
        return task.search(method, changes)

    def searched(self, spec: SearchSpec) -> Floats:
        """The formulas of a search, (rows, 118) in atoms; zeros where a row has none."""
        result = run_search(
            spec, self.predictors, self.models.frequencies, device=self.device, trajectory_rows=0
        )
        return result.amounts

    def diffusion_about(self, count: int, weight: float, steps: int = STEPS) -> Mapping[str, Any]:
        """What decides the outcome of `diffused`. Raises WeightsError where there is no model."""
        guided = {"alpha": GUIDANCE_ALPHA, "weight": weight, "rows": GUIDANCE_ROWS} if weight else {}
        return {
            "superdiff": {
                "sha256": self.superdiff.card["sha256"],
                "count": count,
                "scales": list(SCALE_FACTORS),
                "steps": steps,
                **guided,
            }
        }

    def diffused(
        self, base: str, count: int, weight: float, seed: int, steps: int = STEPS, *, account: bool = False
    ) -> Samples:
        """SuperDiff's samples around a base by ILVR, guided where `weight` isn't 0, with an account of T_c if asked.

        weight: of guidance, in the paper's unit (see GUIDANCE_ROWS), in a step of 1,000; with fewer steps each weighs
        as many times more, so that the whole of it stays.
        """
        follow = self.predictors.following("resnet18")
        a_step = weight / GUIDANCE_ROWS * STEPS / steps
        guidance = Guidance(follow.tc, follow.ef, alpha=GUIDANCE_ALPHA, weight=a_step)
        return sample(
            self.superdiff,
            count,
            base=parse_amounts(base),
            guidance=guidance if weight else None,
            seed=seed,
            steps=steps,
            batch_rows=BATCH_ROWS if self.device == "cpu" else DEVICE_BATCH_ROWS,
            device=self.device,
            account=follow.tc if account else None,
        )

    def predicted(self, formulas: Collection[str]) -> dict[str, dict[str, float]]:
        """Of each formula T_c by the search's model and by the oracle, E_f and, where phases were given, ΔE_hull.

        A formula with an element that the predictors don't know is left out.
        """
        foreign = self.predictors.unknown_elements()
        texts = [text for text in dict.fromkeys(formulas) if not set(parse(text)) & set(foreign)]
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


def _weight(method: Method) -> float:
    return GUIDANCE_WEIGHT if method == "superdiff_cg" else 0.0
