"""What this machine does: the cost of a step, the share of its arithmetic limit, a whole search phase by phase.

Times of steps are CPU seconds of one thread. Ways to take the same step take turns, so that a machine that drifts
favours none, and the median counts.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from kiago_ray.api import judged_rows
from kiago_ray.machine import peak_mb
from kiago_ray.models import Models, search_frequencies
from kiago_ray.predictors.base import Inference, Precision, Predictors, in_precision, step_precision
from kiago_ray.screening.rank import ranked
from kiago_ray.search.open_rows import open_space, starts
from kiago_ray.search.problem import Problem, resolve
from kiago_ray.search.run import search_stage
from kiago_ray.search.spec import SearchSpec, load_preset
from kiago_ray.search.stages import ProgressCallback, init, limit, pace, step

Arm = Callable[[], object]

BASE = "LaNiAsO"
_PEAK_SIZES = (1024, 2048, 4096)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for what torch computes, as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def interleaved(arms: Mapping[str, Arm], rounds: int) -> dict[str, float]:
    """Median CPU seconds of each arm, run in turns after a turn that doesn't count."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(rounds + 1):
        for name, arm in arms.items():
            began = time.process_time()
            arm()
            if turn:
                seconds[name].append(time.process_time() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def gemm_peak(dtype: torch.dtype, rounds: int = 5) -> float:
    """Multiply-adds a second of one thread in the best of some large square products."""
    best = 0.0
    with one_thread():
        for size in _PEAK_SIZES:
            a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
            best = max(best, size**3 / interleaved({"": lambda a=a, b=b: a @ b}, rounds)[""])  # type: ignore[misc]
    return best


@dataclass(frozen=True)
class Bench:
    """A search to be timed: the paper's, from one base, with `rows` rows."""

    predictors: Predictors
    problem: Problem
    x_start: torch.Tensor

    @property
    def allowed(self) -> torch.Tensor:
        """Elements that may occur, (118,) bool."""
        return torch.from_numpy(self.problem.allowed)

    @classmethod
    def of(cls, predictors: Predictors, rows: int, overrides: Mapping[str, Any] | None = None) -> Bench:
        """`rows` rows of the preset `paper` with `overrides`."""
        spec = load_preset("paper", {"base": BASE, "candidates": rows, **(overrides or {})})
        predictors = predictors.following(spec.tc_predictor)
        problem = resolve(spec, predictors.supported.numpy())
        x_start = torch.from_numpy(starts(problem, search_frequencies(), list(range(rows)))).float()
        return cls(predictors, problem, x_start)

    def step(self, stage: int, precision: Precision) -> Arm:
        """One step of stage 1 or 2 after another, in a precision."""
        space = open_space(self.problem, torch.device("cpu"))
        steering = in_precision(self.predictors, precision)
        settings = search_stage(self.problem, stage, torch.device("cpu"))
        rate, beta = settings.at(0)
        objective = replace(settings.objective, beta=beta)
        revive = self.problem.spec.revive != "none"
        state = init(self.x_start, self.allowed, self.problem.spec.revive, space)
        if stage == 2:
            state, _ = limit(state, space, reset=True)

        def advance() -> None:
            nonlocal state
            now = pace(state.adam_step + 1, rate)
            state, _ = step(state, space, steering, objective, now, revive=revive)

        return advance

    def gradients(self, precision: Precision) -> Arm:
        """Values and input gradients of both predictors."""
        steering = in_precision(self.predictors, precision)
        x = self.x_start / self.x_start.sum(1, keepdim=True)

        def both() -> None:
            for predictor in (steering.tc, steering.ef):
                assert isinstance(predictor, Inference)
                predictor.evaluate(x, gradients=True)

        return both


def products_needed(predictors: Predictors) -> int:
    """Multiply-adds that values and gradients of one row need: two for every weight of the networks that is
    not 0.
    """
    needed = 0
    for predictor in (predictors.tc, predictors.ef):
        assert isinstance(predictor, Inference)
        needed += 2 * predictor.needed
    return needed


def whole_search(
    models: Models, spec: SearchSpec, progress: ProgressCallback | None = None
) -> dict[str, Any]:
    """Run a search on the CPU with the threads that torch has, from start to ranked table, and take its time.

    seconds: wall clock by phase, `screens` with the table of all rows; their sum is `total_s`. after_share: what
    projection, screens and table take of it. peak_mb: the most memory of this process so far.
    """
    began = time.perf_counter()
    judged = judged_rows(spec, models, progress=progress)
    rows_judged = time.perf_counter()
    table = ranked(judged.table)
    result, ended = judged.result, time.perf_counter()
    seconds = dict(result.seconds)
    seconds["start"] += result.wall_s - sum(result.seconds.values())
    steps_s = seconds["start"] + seconds["stage_1"] + seconds["stage_2"]
    seconds |= {"screens": rows_judged - began - result.wall_s, "ranked table": ended - rows_judged}
    total_s = sum(seconds.values())
    return {
        "rows": spec.row_count,
        "steps": spec.steps,
        "threads": torch.get_num_threads(),
        "precision": step_precision(spec.precision, torch.device("cpu")),
        "seconds": seconds,
        "passed": int(np.asarray(table["passed"]).sum()),
        "peak_mb": peak_mb(),
        "total_s": total_s,
        "after_share": (total_s - steps_s) / total_s,
    }
