"""A sweep from its specification to its files, on a Ray cluster: trials, the comparison, results.

Scores are on the sweep's storage before this process knows of them, so it may die at any moment and the same call goes
on: searcher and scheduler learn of the trials that ended, those that had begun go on from their last seed.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from kiago_ray import __version__
from kiago_ray.distributed.cluster import Demand, capacity, connected, refusal
from kiago_ray.distributed.worker import WorkerSetup
from kiago_ray.errors import InputError
from kiago_ray.runs.lease import Lease, LeaseError
from kiago_ray.storage.location import Location, Where
from kiago_ray.storage.run_directory import RunDirectory, find_run, open_run
from kiago_ray.sweep.results import SweepResults, gather, write_results
from kiago_ray.sweep.spec import SweepSpec
from kiago_ray.sweep.trials import (
    Ledger,
    SweepWatcher,
    Trial,
    Unit,
    best_trial,
    compare_units,
    read_scores,
)
from kiago_ray.tracking import LiveRecord, TrackingReport, TrackingTarget, record, recorded_whole


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
    """Run what is missing of a sweep, compare its best, write what came of it.

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

        def ended(trial: Trial) -> None:
            if live is not None:
                live.done(trial.id)

        try:
            failures = _go(sweep, request, location, watcher, lambda: should_stop() or lease.lost, ended)
            if lease.lost:
                raise LeaseError(f"{location.text} was taken over by another driver; this one has stopped")
            results = gather(location, sweep, failures)
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


def _go(
    sweep: SweepSpec,
    request: SweepRequest,
    location: Location,
    watcher: SweepWatcher,
    should_stop: Callable[[], bool],
    ended: Callable[[Trial], None],
) -> dict[str, str]:
    """Trials, then the comparison, as far as they aren't done; what couldn't be compared → cause."""
    ledger = Ledger(location, sweep)
    before = ledger.trials()
    watcher.begun(sweep, before)
    left = sweep.points - sum(trial.ended for trial in before)
    if not left and not _left_to_compare(sweep, location, before):
        return {}
    with connected(request.address):
        # It loads ray, which a sweep that is done doesn't need.
        from kiago_ray.distributed.tune import Experiment

        demand = Demand.of(sweep.resources)
        held = capacity(demand)
        if not held and not request.wait:
            raise InputError(refusal(demand))
        # An autoscaler adds nodes for what waits.
        at_once = sweep.concurrency or (sweep.points if request.wait else held)
        experiment = Experiment(sweep, request.setup, at_once, watcher, should_stop=should_stop, ended=ended)
        if left:
            experiment.run_trials(before)
        trials = ledger.trials()  # what failed keeps the others from nothing
        units = _left_to_compare(sweep, location, trials)
        if units and not should_stop() and all(trial.status != "unfinished" for trial in trials):
            experiment.compare(units)
        return experiment.failures


def _left_to_compare(sweep: SweepSpec, location: Location, trials: Sequence[Trial]) -> list[Unit]:
    """What is to be searched still for the comparison: a unit for each that is compared, on each base."""
    seeds = sweep.compare.seeds
    units = compare_units(sweep, best_trial(trials, sweep.metrics[0]))
    return [unit for unit in units if len(read_scores(location, unit.folder, seeds)) < len(seeds)]


def sweep_identity(sweep: SweepSpec, weights: Mapping[str, str], known: str | None) -> dict[str, Any]:
    """What makes a sweep's results the same. weights: the tuning oracle's too. known: the SHA-256 of that file."""
    return {
        "sweep": sweep.defining(),
        "shared": sweep.spec({}).model_dump(mode="json"),
        "weights": dict(weights),
        "known": known,
        "made_by": {"kiago_ray": __version__, "torch": version("torch")},
    }
