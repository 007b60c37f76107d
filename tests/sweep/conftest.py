"""Made-up sweeps and trials, as a search for T_c might give them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from kiago_ray.search.sections import validated
from kiago_ray.sweep.metrics import Difference, Score, difference
from kiago_ray.sweep.spec import SweepSpec
from kiago_ray.sweep.trials import Status, Trial

METRIC = "trusted_delta_tc_k"
BASES = ("LaNiAsO", "LaPt2B2C", "Bi2Sr2CuO6")
SPACE: dict[str, Any] = {
    "alpha": {"loguniform": [0.5, 100]},
    "beta.start": {"loguniform": [0.1, 100]},
    "beta.end": {"loguniform": [1, 10000]},
    "learning_rate": {"loguniform": [0.003, 0.3]},
    "preset": {"choice": ["default", "paper"]},
    "kappa": {"uniform": [0, 3], "when": {"preset": "default"}},
}


def made_point(sweep: SweepSpec, random: np.random.Generator) -> dict[str, Any]:
    """A point as a random searcher draws it."""
    point: dict[str, Any] = {}
    for name, parameter in sweep.space.items():
        if not parameter.applies(point):
            continue
        if parameter.listed:
            point[name] = parameter.values[random.integers(len(parameter.values))]
            continue
        low, high = parameter.values
        if parameter.kind == "loguniform":
            point[name] = math.exp(random.uniform(math.log(low), math.log(high)))
        else:
            point[name] = random.uniform(low, high)
    return point


def made_value(point: Mapping[str, Any]) -> float:
    """What alpha decides, and preset and kappa a little."""
    height = 24 - 1.6 * (math.log(point["alpha"] / 12)) ** 2
    return height + (4 * math.exp(-((point["kappa"] - 1.2) ** 2)) if "kappa" in point else -2)


def made_score(value: float, base: str, seed: int, random: np.random.Generator) -> Score:
    values = {
        METRIC: value,
        "improvement": max(value, 0.0) / 4,
        "raw_delta_tc_k": value + random.normal(12, 2),
        "pass_rate": float(np.clip(0.5 - value / 80 + random.normal(0, 0.04), 0, 1)),
        "gap_k": 0.3 * value + random.normal(0, 2),
        "diversity": float(np.clip(random.normal(0.6, 0.15), 0, 1).round(1)),
    }
    return Score(base, seed, values, 64 * 200, 3.5)


@pytest.fixture
def sweep() -> SweepSpec:
    return validated(
        SweepSpec,
        {
            "name": "alpha-beta",
            "description": "How steep the climb may be.",
            "bases": list(BASES),
            "seeds": [0, 1, 2],
            "search": {"preset": "default", "candidates": 64, "steps": [100, 100]},
            "space": SPACE,
            "metrics": METRIC,
            "trials": 24,
            "compare": {
                "bases": ["SrFe1.88Ni0.12As2", "CeBi2O3"],
                "against": {"default": {}, "paper": {"preset": "paper"}},
            },
        },
    )


MakeTrials = Callable[..., list[Trial]]


@pytest.fixture
def make_trials() -> MakeTrials:
    return made_trials


def made_trials(
    sweep: SweepSpec,
    count: int = 24,
    value: Callable[[Mapping[str, Any]], float] = made_value,
    noise: float = 1.0,
) -> list[Trial]:
    """The better half is finished, the others are stopped after one seed."""
    random = np.random.default_rng(0)
    points = [made_point(sweep, random) for _ in range(count)]
    values = [value(point) for point in points]
    middle = sorted(values)[len(values) // 2] if values else 0.0
    offsets = dict(zip(BASES, (-6.0, 0.0, 7.0), strict=True))
    trials = []
    for number, (point, height) in enumerate(zip(points, values, strict=True)):
        status: Status = "finished" if height >= middle else "stopped"
        scores = tuple(
            made_score(height + offsets[base] + random.normal(0, noise), base, seed, random)
            for seed in sweep.seeds[: None if status == "finished" else 1]
            for base in BASES
        )
        trials.append(Trial(number, status, point, scores))
    return trials


@pytest.fixture
def trials(sweep: SweepSpec) -> list[Trial]:
    return made_trials(sweep)


def made_difference(name: str, by: float, spread: float = 1.5, metric: str = METRIC) -> Difference:
    """Of searches on two bases with four seeds; `by` is the best's gain."""
    random = np.random.default_rng(len(name))
    pairs = [(base, seed) for base in ("SrFe1.88Ni0.12As2", "CeBi2O3") for seed in range(1000, 1004)]
    other = [made_score(15.0, base, seed, random) for base, seed in pairs]
    best = [made_score(15.0 + by + random.normal(0, spread), base, seed, random) for base, seed in pairs]
    return difference(best, other, metric, name)


@pytest.fixture
def make_difference() -> Callable[..., Difference]:
    return made_difference
