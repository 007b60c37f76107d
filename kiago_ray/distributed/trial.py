"""A trial on Ray Tune: an actor that loads the predictors once and then takes one trial after another."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from ray import tune

from kiago_ray.distributed.worker import SearchWorker, WorkerSetup
from kiago_ray.predictors.oracle.trees import TUNING_KIND, load_oracle
from kiago_ray.storage.location import Location
from kiago_ray.sweep.evaluate import score_search
from kiago_ray.sweep.ledger import read_scores, write_scores
from kiago_ray.sweep.metrics import METRICS, Score, mean_over
from kiago_ray.sweep.spec import SweepSpec

SEEDS, FAILED, OVER = "seeds", "failed", "done"


@dataclass(frozen=True)
class TrialJob:
    """What all trials of an experiment share. tuning: whether the tuning oracle judges, else the reporting one."""

    sweep: SweepSpec
    setup: WorkerSetup
    seeds: tuple[int, ...]
    tuning: bool


class SweepTrial(tune.Trainable):
    """One trial: a step is one seed on all bases. Scores go to the sweep's storage at once, and what is there already
    is taken from there, so that no search is run twice.

    config: `folder` below the sweep, `bases`, and `point`: what differs from the sweep's search.
    """

    worker: SearchWorker | None = None

    def setup(self, config: Mapping[str, Any], job: TrialJob) -> None:  # type: ignore[override]
        """Take the first trial. Nothing is loaded yet: what is raised here Ray would tell of without its cause."""
        self.job = job
        self.reset_config(config)

    def _load(self) -> None:
        """Load what an actor keeps. Raises WorkerSetupError, WeightsError."""
        worker = SearchWorker(self.job.setup)
        worker.start()
        assert worker.models is not None
        self.models = worker.models
        if self.job.tuning:
            self.models = replace(self.models, oracle=load_oracle(kind=TUNING_KIND))
        self.worker = worker

    def reset_config(self, new_config: Mapping[str, Any]) -> bool:
        """Take the next trial; the predictors stay. What is stored of it counts as done up to its last seed, which is
        reported again: a rung that it has passed must not judge it anew.
        """
        self.point, self.folder, self.bases = (new_config[key] for key in ("point", "folder", "bases"))
        self.place = Location.of(self.job.setup.campaign)
        self.there = read_scores(self.place, self.folder, self.job.seeds)
        self.scores: list[Score] = []
        self.finished = 0
        for seed, after in pairwise(self.job.seeds):
            if not (self._is_whole(seed) and self._is_whole(after)):
                break
            self.scores += self.there[seed]
            self.finished += 1
        return True

    def _is_whole(self, seed: int) -> bool:
        return len(self.there.get(seed, ())) == len(self.bases)

    def step(self) -> dict[str, Any]:
        """The next seed. What can't be searched would fail again, so that ends the trial with its cause; what a worker
        or the storage can't do is raised. Raises StorageError, WorkerSetupError, WeightsError.
        """
        if self.worker is None:
            self._load()
        job, seed = self.job, self.job.seeds[self.finished]
        scores = self.there.get(seed)
        if scores is None or len(scores) < len(self.bases):
            try:
                scores = tuple(self._search(base, seed) for base in self.bases)
            except ValueError as error:
                return {SEEDS: self.finished, FAILED: told(error), OVER: True}
            write_scores(self.place, self.folder, seed, scores)
        self.scores += scores
        self.finished += 1
        means = {name: mean_over(self.scores, name).value for name in METRICS}
        untold = [name for name in job.sweep.metrics if job.tuning and math.isnan(means[name])]
        if untold:
            cause = f"{untold[0]} can't be told: nothing passed the screens in any search of this trial"
            return {SEEDS: self.finished, FAILED: cause, OVER: True}
        return {SEEDS: self.finished, OVER: self.finished == len(job.seeds), **means}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: scores are on the sweep's storage."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing: scores are on the sweep's storage."""

    def _search(self, base: str | None, seed: int) -> Score:
        return score_search(self.job.sweep, self.point, base, seed, self.models)


def told(error: BaseException) -> str:
    """Why something failed, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    name = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    return f"{name}{lines[0][:400]}" if lines else type(error).__name__
