"""A sweep from its specification to its files, on a Ray cluster: trials, the comparison, results.

Scores are on the sweep's storage before this process knows of them, so it may die at any moment and the same call goes
on: trials that ended are told to searcher and scheduler, those that had begun go on from their last seed.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from kiago_ray import __version__
from kiago_ray.distributed.cluster import Demand, capacity, connected, refusal
from kiago_ray.distributed.sweep_watcher import SweepWatcher
from kiago_ray.distributed.worker import WorkerSetup, WorkerSetupError
from kiago_ray.errors import InputError
from kiago_ray.predictors.weights import WeightsError
from kiago_ray.runs.lease import Lease, LeaseError
from kiago_ray.storage.location import Location, StorageError, Where
from kiago_ray.storage.run_directory import RunDirectory, find_run, open_run
from kiago_ray.sweep.ledger import Ledger, read_scores
from kiago_ray.sweep.metrics import METRICS
from kiago_ray.sweep.results import SweepResults, compare_units, gather, write_results
from kiago_ray.sweep.spec import SweepSpec
from kiago_ray.sweep.trials import Trial, best_trial
from kiago_ray.tracking import LiveRecord, TrackingReport, TrackingTarget, record, recorded_whole

if TYPE_CHECKING:
    from kiago_ray.distributed.trial import TrialJob


@dataclass(frozen=True)
class SweepRequest:
    """What a sweep is run with, beside its specification. wait: for nodes that an autoscaler adds."""

    where: Where
    identity: Mapping[str, Any]
    about: Mapping[str, Any]
    setup: WorkerSetup
    address: str | None = None
    wait: bool = False
    tracking: TrackingTarget | None = None
    model_notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SweepOutcome:
    """How a sweep ended. tracking: what MLflow has of it. stopped: by request. found: it was done before."""

    directory: RunDirectory
    results: SweepResults
    tracking: TrackingReport | None = None
    stopped: bool = False
    found: bool = False

    @property
    def failures(self) -> dict[str, str]:
        """Trial, or what was compared, → cause."""
        failed = {f"trial {trial.number}": trial.cause or "?" for trial in self.results.failed}
        return failed | {
            f"comparison with {name}": why for name, why in self.results.compare_failures.items()
        }


def run_sweep(
    sweep: SweepSpec,
    request: SweepRequest,
    *,
    watcher: SweepWatcher | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> SweepOutcome:
    """Run what is missing of a sweep, compare its best, write what came of it. Call it from the main thread.

    Raises RunDirectoryError where the place holds another run, LeaseError where another driver has it, InputError
    where no trial can run, WorkerSetupError, StorageError where the storage is gone; what was done is kept.
    """
    watcher = watcher or SweepWatcher()
    found = find_run(request.where, request.identity)
    if found is not None and found.finished:
        report = None
        if request.tracking is not None and not recorded_whole(found.location):
            report = record(found, sweep, request.tracking)
        return SweepOutcome(found, gather(found.location, sweep), report, found=True)
    location = Location.of(request.where)
    location.make_directory()
    with Lease(location) as lease:
        sweep_id = uuid.uuid4().hex if found is None else found.record.get("sweep_id", uuid.uuid4().hex)
        about = {"sweep_id": sweep_id, **request.about}
        directory = open_run(request.where, request.identity, about)
        live = None
        if request.tracking is not None:
            live = LiveRecord(directory, sweep, request.tracking)
            live.done()
        run = _Run(sweep, request, location, watcher, live, lambda: should_stop() or lease.lost)
        try:
            run.go()
            if lease.lost:
                raise LeaseError(f"{location.text} was taken over by another driver; this one has stopped")
            results = gather(location, sweep, run.compare_failures)
            outputs = write_results(results, location, model_notes=request.model_notes)
        except BaseException:
            if live is not None:
                live.end(patience_s=10)
            raise
        report = None
        if live is not None:  # before it counts as finished, so that a kill in between leaves no gap
            report = live.end()
        if results.complete:
            directory = directory.finish(outputs)
        return SweepOutcome(directory, results, report, stopped=should_stop())


class _Run:
    """One process's share of a sweep."""

    def __init__(
        self,
        sweep: SweepSpec,
        request: SweepRequest,
        location: Location,
        watcher: SweepWatcher,
        live: LiveRecord | None,
        should_stop: Callable[[], bool],
    ) -> None:
        self.sweep, self.request, self.location = sweep, request, location
        self.watcher, self.live, self._asked = watcher, live, should_stop
        self.ledger = Ledger(location, sweep)
        self.problem: BaseException | None = None
        self.compare_failures: dict[str, str] = {}

    def go(self) -> None:
        """Trials, then the comparison; no cluster where nothing is left to run."""
        before = self.ledger.trials()
        self.watcher.begun(self.sweep, before)
        left = self.sweep.points - sum(trial.ended for trial in before)
        if not left and not self._left_to_compare(before):
            return
        with connected(self.request.address):
            demand = Demand.of(self.sweep.resources)
            held = capacity(demand)
            if not held and not self.request.wait:
                raise InputError(refusal(demand))
            # An autoscaler adds nodes for what waits.
            at_once = self.sweep.concurrency or (self.sweep.points if self.request.wait else held)
            if left:
                self._trials(before, at_once)
            trials = self.ledger.trials()  # what failed keeps the others from nothing
            if not self.should_stop() and all(trial.status != "unfinished" for trial in trials):
                self._compare(self._left_to_compare(trials), at_once)

    def should_stop(self) -> bool:
        """Whether to stop: asked to, or something went wrong that will go wrong again."""
        return self.problem is not None or self._asked()

    def _trials(self, before: Sequence[Trial], at_once: int) -> None:
        from kiago_ray.distributed.points import Points, asha
        from kiago_ray.distributed.tune_run import Hearer, run_trials

        points = Points(
            self.sweep,
            self.ledger,
            before,
            began=self.watcher.trial_began,
            ended=self._ended,
            problem=self._give_up,
        )

        def result(config: Mapping[str, Any], result: Mapping[str, Any]) -> None:
            values = {name: float(result[name]) for name in METRICS}
            self.watcher.seed_done(int(config["number"]), int(result["seeds"]), values)

        def error(config: Mapping[str, Any], cause: str, raised: BaseException | None) -> None:
            points.failed(int(config["number"]), cause)
            if isinstance(raised, WorkerSetupError | WeightsError | StorageError):
                self._give_up(raised)

        run_trials(
            self._job(tuning=True),
            points,
            asha(self.sweep, [trial for trial in before if trial.ended]),
            Hearer(result=result, error=error, recovered=self._recovered, should_stop=self.should_stop),
            trials=points.left,
            at_once=at_once,
        )
        self._raise_problem()

    def _left_to_compare(self, trials: Sequence[Trial]) -> list[dict[str, Any]]:
        """What is to be searched still for the comparison: a unit for each that is compared, on each base."""
        units = compare_units(self.sweep, best_trial(trials, self.sweep.metrics[0]))
        seeds = self.sweep.compare.seeds
        return [unit for unit in units if len(read_scores(self.location, unit["folder"], seeds)) < len(seeds)]

    def _compare(self, units: Sequence[dict[str, Any]], at_once: int) -> None:
        from kiago_ray.distributed.points import Units
        from kiago_ray.distributed.tune_run import Hearer, run_trials

        if not units:
            return
        done, total = 0, len(units) * len(self.sweep.compare.seeds)

        def result(config: Mapping[str, Any], result: Mapping[str, Any]) -> None:
            nonlocal done
            done += 1
            self.watcher.comparing(done, total)

        def error(config: Mapping[str, Any], cause: str, raised: BaseException | None) -> None:
            self.compare_failures[str(config["name"])] = cause
            if isinstance(raised, WorkerSetupError | WeightsError | StorageError):
                self._give_up(raised)

        self.watcher.comparing(0, total)
        run_trials(
            self._job(tuning=False),
            Units(units),
            None,
            Hearer(result=result, error=error, recovered=self._recovered, should_stop=self.should_stop),
            trials=len(units),
            at_once=at_once,
        )
        self._raise_problem()

    def _job(self, *, tuning: bool) -> TrialJob:
        from kiago_ray.distributed.trial import TrialJob

        seeds = self.sweep.seeds if tuning else self.sweep.compare.seeds
        return TrialJob(self.sweep, self.request.setup, seeds, tuning)

    def _recovered(self, config: Mapping[str, Any]) -> None:
        self.watcher.note(f"the worker of {config['folder']} was lost or failed; it is tried again")

    def _ended(self, trial: Trial) -> None:
        self.watcher.trial_ended(trial)
        if self.live is not None:
            self.live.done(trial.id)

    def _give_up(self, problem: BaseException) -> None:
        self.problem = self.problem or problem

    def _raise_problem(self) -> None:
        if self.problem is not None:
            raise self.problem


def sweep_identity(sweep: SweepSpec, weights: Mapping[str, str], known: str | None) -> dict[str, Any]:
    """What makes a sweep's results the same. weights: the tuning oracle's too. known: the SHA-256 of that file."""
    return {
        "sweep": sweep.defining(),
        "shared": sweep.judge().model_dump(mode="json"),
        "weights": dict(weights),
        "known": known,
        "made_by": {"kiago_ray": __version__, "torch": version("torch")},
    }
