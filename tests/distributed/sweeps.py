"""Sweeps small enough to run many times, and what is heard of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kiago_ray import __version__
from kiago_ray.distributed.dispatch import RunRequest, WorkerSetup
from kiago_ray.distributed.drivers import run_identity
from kiago_ray.predictors.weights import weights_hashes
from kiago_ray.search.sections import validated
from kiago_ray.sweep.spec import SweepSpec
from kiago_ray.sweep.trials import SweepWatcher, Trial


@dataclass
class Heard(SweepWatcher):
    """Keeps what a watcher hears."""

    before: list[Trial] = field(default_factory=list)
    began: list[Trial] = field(default_factory=list)
    seeds: list[tuple[int, int]] = field(default_factory=list)
    ended: list[Trial] = field(default_factory=list)
    compared: list[tuple[int, int]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def begun(self, sweep: SweepSpec, before: Sequence[Trial]) -> None:
        self.before = list(before)

    def trial_began(self, trial: Trial) -> None:
        self.began.append(trial)

    def seed_done(self, number: int, seeds: int, values: Mapping[str, float]) -> None:
        self.seeds.append((number, seeds))

    def trial_ended(self, trial: Trial) -> None:
        self.ended.append(trial)

    def comparing(self, done: int, total: int) -> None:
        self.compared.append((done, total))

    def note(self, text: str) -> None:
        self.notes.append(text)


def small_sweep(**changes: Any) -> SweepSpec:
    """Four short trials of one base; keywords go over the file's keys."""
    values: dict[str, Any] = {
        "name": "small",
        "bases": ["MgB2"],
        "seeds": [0, 1],
        "search": {"preset": "open", "candidates": 8, "steps": [3, 3]},
        "space": {"alpha": {"loguniform": [0.5, 100]}, "learning_rate": {"loguniform": [0.003, 0.3]}},
        "metrics": "trusted_delta_tc_k",
        "trials": 4,
        "top": 3,
        "scheduler": {"kind": "none"},
        "searcher": {"kind": "random"},
        "compare": {"seeds": [10, 11]},
        "resources": {
            "label_selector": {"market": "!in(spot, other)"}
        },  # which every node is without the label
        "concurrency": 1,  # a worker takes seconds to start
    }
    return validated(SweepSpec, {**values, **changes})


def request_for(sweep: SweepSpec, folder: Path, **changes: Any) -> RunRequest:
    """A request of the shipped weights, without known compositions."""
    weights = weights_hashes()
    setup = WorkerSetup(
        run=str(folder),
        device=sweep.resources.torch_device,
        threads=1,
        weights=weights,
        weight_files={},
        known=None,
    )
    values: dict[str, Any] = {
        "where": folder,
        "identity": run_identity(sweep, {"weights": weights, "known": None}),
        "about": {"kiago_ray": __version__},
        "setup": setup,
    }
    return RunRequest(**{**values, **changes})
