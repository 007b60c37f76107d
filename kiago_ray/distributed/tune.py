"""A sweep's experiments on Ray Tune: an actor that takes one trial after another, and what is heard of the trials.

Tune's own books go to a temporary directory and are thrown away: what must last is on the sweep's storage, and from
there a sweep goes on. `Tuner.restore` can't do that (ray 2.60): it forgets what came after Tune's last snapshot, draws
those points again under other names, and unpickles files of the storage.
"""

from __future__ import annotations

import logging
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from optuna.storages import InMemoryStorage
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from kiago_ray.api import judged_rows
from kiago_ray.distributed.cluster import one_line, reserved
from kiago_ray.distributed.dispatch import SearchWorker, WorkerSetup
from kiago_ray.errors import KiagoError
from kiago_ray.models import Models
from kiago_ray.predictors.oracle import load_oracle
from kiago_ray.predictors.weights import TUNING_ORACLE
from kiago_ray.storage.location import Location, StorageError
from kiago_ray.storage.machines import MACHINE, Kind, differences
from kiago_ray.sweep.metrics import METRICS, Score, mean_over, measured
from kiago_ray.sweep.spec import SweepSpec
from kiago_ray.sweep.trials import (
    Ledger,
    Status,
    SweepWatcher,
    Trial,
    Unit,
    draw,
    make_study,
    trial_name,
)

RETRIES = 2  # of a trial whose actor died
_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that can't run reports its cause and no metric
    "TUNE_MAX_PENDING_TRIALS_PG": "1",  # a point is drawn when there is room, knowing what was found until then
}
UNIT, SEEDS, FAILED, UNABLE, OVER, HOST = "unit", "seeds", "failed", "unable", "done", "host"


def score_search(
    sweep: SweepSpec, point: Mapping[str, Any], base: str | None, seed: int, models: Models
) -> Score:
    """Search at a point and score it by the oracle of `models`. Raises SpecError where that can't be run."""
    began = time.perf_counter()
    spec = sweep.spec(point, base, seed)
    rows = judged_rows(spec, models, shard_rows=spec.row_count, trajectory_rows=1, judge=sweep.spec({}))
    return Score(
        base=base or "random",
        seed=seed,
        values=measured(rows, rows.base, sweep.top),
        row_steps=spec.row_count * sum(spec.steps),
        seconds=time.perf_counter() - began,
    )


class SweepTrial(tune.Trainable):
    """One trial: a step is one seed on all bases. Scores go to the sweep's storage at once, and what is there already
    is taken from there, so that no search is run twice. Its config holds the `unit` that it searches for.
    """

    def setup(self, config: Mapping[str, Any], sweep: SweepSpec, given: WorkerSetup) -> None:  # type: ignore[override]
        """Take the first trial. Nothing is loaded yet: Ray would drop the cause of what is raised here."""
        self.sweep, self.given = sweep, given
        self.models: Models | None = None
        self.reset_config(config)

    def reset_config(self, new_config: Mapping[str, Any]) -> bool:
        """Take the next trial; the models stay."""
        self.results = self._results(new_config[UNIT])
        return True

    def step(self) -> dict[str, Any]:
        """The next seed: how many are done, and the means of every metric over them. What can't be searched ends the
        trial with its cause (FAILED), what no worker could load the sweep (UNABLE). All else is raised, StorageError
        too: Tune tries in another actor.
        """
        return next(self.results)

    def _results(self, unit: Unit) -> Iterator[dict[str, Any]]:
        """What each step gives. What is stored of the trial counts as done up to its last seed, which is reported
        again: a rung that it has passed must not judge it anew. Raises StorageError.
        """
        try:
            models = self._loaded(unit)
        except KiagoError as error:
            yield {SEEDS: 0, UNABLE: str(error), OVER: True}
            return
        ledger = Ledger(Location.of(self.given.run), self.sweep)
        if unit.number is not None:
            ledger.begin(unit.number, unit.point)
        stored = ledger.scores(unit.folder, unit.seeds)
        there = {seed: scores for seed, scores in stored.items() if len(scores) == len(unit.bases)}
        reported = list(takewhile(there.__contains__, unit.seeds))[:-1]
        scores: list[Score] = []
        for done, seed in enumerate(unit.seeds, 1):
            if seed not in there:
                try:
                    there[seed] = tuple(
                        score_search(self.sweep, unit.point, base, seed, models) for base in unit.bases
                    )
                except ValueError as error:
                    yield {SEEDS: done - 1, FAILED: one_line(error), OVER: True}
                    return
                ledger.keep(unit.folder, seed, there[seed])
            scores += there[seed]
            means = {name: mean_over(scores, name).value for name in METRICS}
            unknown = [name for name in self.sweep.metrics if math.isnan(means[name])]
            if seed in reported:
                continue
            if unknown and unit.number is not None:
                cause = f"{unknown[0]} can't be told: nothing passed the screens in any search of this trial"
                yield {SEEDS: done, FAILED: cause, OVER: True}
                return
            made = {HOST: self.worker.info.host, MACHINE: dict(self.worker.info.machine)}
            yield {SEEDS: done, OVER: done == len(unit.seeds), **made, **means}

    def _loaded(self, unit: Unit) -> Models:
        """The models: the tuning oracle judges trials, the reporting one the comparison. Raises KiagoError."""
        if self.models is None:
            self.worker = SearchWorker(self.given)
            self.worker.start()
            self.models = self.worker.models
            if unit.number is not None:
                self.models = replace(self.models, oracle=load_oracle(kind=TUNING_ORACLE))
        return self.models


@dataclass(eq=False)
class Experiment(tune.Callback, tune.Stopper):
    """Runs a sweep's trials and its comparison on Tune, hears of them, and stops without ending trials when asked to.
    ended: called with each trial that ends. failures: what couldn't be compared → cause. problem: what ended all.
    """

    sweep: SweepSpec
    workers: WorkerSetup
    at_once: int
    watcher: SweepWatcher
    should_stop: Callable[[], bool]
    ended: Callable[[Trial], None]
    failures: dict[str, str] = field(default_factory=dict)
    problem: KiagoError | None = None
    begun: set[int] = field(default_factory=set)
    compared: int = 0
    to_compare: int = 0
    machine: Kind = field(default_factory=dict)
    unlike: set[str] = field(default_factory=set)

    def run_trials(self, before: Sequence[Trial]) -> None:
        """Run trials that had begun, then new ones. before: all of earlier processes. Raises KiagoError."""
        sweep, storage = self.sweep, InMemoryStorage()
        study = make_study(sweep, before, storage)
        search = OptunaSearch(
            partial(_suggest, sweep),
            metric=list(sweep.metrics),
            mode=[METRICS[name].mode for name in sweep.metrics],
            sampler=study.sampler,
            study_name=study.study_name,
            storage=storage,
        )
        done = [trial for trial in before if trial.ended]
        self._fit({}, num_samples=sweep.points - len(done), search_alg=search, scheduler=asha(sweep, done))

    def compare(self, units: Sequence[Unit]) -> None:
        """Search for what isn't there of these. Raises KiagoError."""
        self.compared, self.to_compare = 0, len(units) * len(self.sweep.compare.seeds)
        self.watcher.comparing(0, self.to_compare)
        self._fit({UNIT: tune.grid_search(list(units))})

    def _fit(self, space: dict[str, Any], **config: Any) -> None:
        resources = self.sweep.resources
        labels = [resources.label_selector] if resources.label_selector else None
        trainable = tune.with_resources(
            tune.with_parameters(SweepTrial, sweep=self.sweep, given=self.workers),
            tune.PlacementGroupFactory([reserved(resources)], bundle_label_selector=labels),
        )
        with _quiet_tune() as scratch:
            run_config = tune.RunConfig(
                name="trials",
                storage_path=scratch,
                callbacks=[self],
                stop=self,
                failure_config=tune.FailureConfig(max_failures=RETRIES),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
            )
            tune_config = tune.TuneConfig(max_concurrent_trials=self.at_once, reuse_actors=True, **config)
            tune.Tuner(trainable, param_space=space, tune_config=tune_config, run_config=run_config).fit()
        if self.problem is not None:
            raise self.problem

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tuner keeps a copy of it for Tuner.restore alone."""
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial is stopped for what it reports; that is the scheduler's."""
        return False

    def stop_all(self) -> bool:
        """Whether to stop: asked to, or something went wrong that will go wrong again."""
        return self.problem is not None or self.should_stop()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has an actor, perhaps not its first one."""
        unit = trial.config[UNIT]
        if unit.number is not None and unit.number not in self.begun:
            self.begun.add(unit.number)
            self.watcher.trial_began(Trial(unit.number, "unfinished", unit.point, ()))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A seed's scores are on storage, or the trial can't go on."""
        unit = trial.config[UNIT]
        self._look_at_machine(result)
        if UNABLE in result:
            self.problem = self.problem or KiagoError(result[UNABLE])
        elif FAILED in result:
            self._end(unit, "failed", str(result[FAILED]))
        elif unit.number is not None:
            values = {name: float(result[name]) for name in METRICS}
            self.watcher.seed_done(unit.number, int(result[SEEDS]), values)
        else:
            self.compared += 1
            self.watcher.comparing(self.compared, self.to_compare)

    def _look_at_machine(self, result: Mapping[str, Any]) -> None:
        """Tell of a machine that computes otherwise than the first one did, once a kind."""
        kind = result.get(MACHINE, {})
        self.machine = self.machine or kind
        what = differences(kind, self.machine)
        if what and what not in self.unlike:
            self.unlike.add(what)
            text = f"mixed machines: scores from {result[HOST]} may differ by rounding ({what})"
            self.watcher.note(f"{text}; resources.label_selector picks machines that are alike")

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial's actor died, and it will go on in another one."""
        folder = trial.config[UNIT].folder
        self.watcher.note(f"the worker of {folder} was lost or failed; it is tried again")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has failed for good. Tune's text of it ends with the last exception's type and message."""
        text = Path(trial.error_file).read_text(encoding="utf-8").strip() if trial.error_file else ""
        last = f", last: {text.splitlines()[-1].strip()[:400]}" if text else ""
        self._end(trial.config[UNIT], "failed", f"lost its worker {RETRIES + 1} times{last}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has done all its seeds, or its scheduler has stopped it."""
        unit, result = trial.config[UNIT], trial.last_result
        if FAILED not in result and UNABLE not in result:
            self._end(unit, "finished" if result[SEEDS] == len(unit.seeds) else "stopped")

    def _end(self, unit: Unit, status: Status, cause: str = "") -> None:
        """Keep how a trial ended, or why what is compared couldn't be searched."""
        if unit.number is None:
            self.failures |= {unit.name: cause} if cause else {}
            return
        ledger = Ledger(Location.of(self.workers.run), self.sweep)
        try:
            ledger.end(unit.number, status, cause or None)
            trial = ledger.trial(unit.number)
        except StorageError as error:  # Tune would wrap what a callback raises
            self.problem = self.problem or error
            return
        if trial is not None and trial.status == status:
            self.watcher.trial_ended(trial)
            self.ended(trial)


def _suggest(sweep: SweepSpec, trial: Any) -> dict[str, Any]:
    """What a trial of the study gives to Tune, which pickles this."""
    number, point = trial.number, draw(sweep.space, trial)
    unit = Unit(f"trial {number}", trial_name(number), point, sweep.trial_bases, sweep.seeds, number)
    return {UNIT: unit}


def asha(sweep: SweepSpec, ended: Sequence[Trial]) -> ASHAScheduler | None:
    """The sweep's scheduler, with what earlier trials had at each rung; None for none."""
    if sweep.scheduler.kind == "none":
        return None
    metric = sweep.metrics[0]
    scheduler = ASHAScheduler(
        time_attr=SEEDS,
        metric=metric,
        mode=METRICS[metric].mode,
        max_t=len(sweep.seeds),
        grace_period=sweep.scheduler.first,
        reduction_factor=sweep.scheduler.reduction,
    )
    for trial in ended:
        earlier: Any = SimpleNamespace(trial_id=trial.id)
        scheduler.on_trial_add(None, earlier)  # type: ignore[arg-type]
        for seeds in range(1, trial.seeds + 1):
            result = {SEEDS: seeds, metric: trial.mean(metric, seeds).value}
            scheduler.on_trial_result(None, earlier, result)  # type: ignore[arg-type]
    return scheduler


@contextmanager
def _quiet_tune() -> Iterator[str]:
    """A directory for Tune's books, its settings, and no word from it: what goes wrong is heard of elsewhere."""
    ours = {name: value for name, value in _SETTINGS.items() if name not in os.environ}
    logger = logging.getLogger("ray.tune")
    level = logger.level
    os.environ.update(ours)
    logger.setLevel(logging.CRITICAL)
    try:
        with tempfile.TemporaryDirectory(prefix="kiago-tune-") as scratch:
            yield scratch
    finally:
        logger.setLevel(level)
        for name in ours:
            del os.environ[name]
