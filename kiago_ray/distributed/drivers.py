"""A campaign or a sweep from its specification to its files, on a Ray cluster: resume, run, results, record.

Everything that must not be lost is on the run's storage before this process knows of it, so the process may die at any
moment and the same call goes on.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from kiago_ray import __version__
from kiago_ray.distributed.cluster import SearchWorker, WorkerSetup, capacity, connected, refusal
from kiago_ray.distributed.dispatch import Dispatch, DispatchPolicy, Watcher
from kiago_ray.errors import InputError
from kiago_ray.runs.lease import Lease, LeaseError
from kiago_ray.runs.outcome import CampaignResults, SearchResults, whole_results
from kiago_ray.runs.plan import Plan, Shard
from kiago_ray.runs.results import CAMPAIGN_OUTPUTS, finish_campaign, finish_search
from kiago_ray.runs.shards import (
    Manifest,
    State,
    read_manifest,
    remove_leftovers,
    state_of,
)
from kiago_ray.storage.location import TEMPORARY, Location, StorageError, Where
from kiago_ray.storage.run_directory import DamagedError, RunDirectory, find_run, open_run
from kiago_ray.sweep.results import SweepResults, gather, write_results
from kiago_ray.sweep.spec import SweepSpec
from kiago_ray.sweep.trials import Ledger, SweepWatcher, Trial
from kiago_ray.tracking import LiveRecord, TrackingReport, TrackingTarget, record, recorded_whole

_PROBE_BYTES = 1 << 20
ShouldStop = Callable[[], bool]


@dataclass(frozen=True)
class RunRequest:
    """What a campaign or sweep is run with, beside its specification.

    identity: what makes results the same (`run_identity`, `sweep_identity`). about: versions and the like, for
    spec.yaml. address: of a Ray cluster, see `connected`. tracking: None for none. model_notes: on the predictors, for
    the page. storage_patience_s: for how long a campaign tries storage that fails again.
    """

    where: Where
    identity: Mapping[str, Any]
    about: Mapping[str, Any]
    setup: WorkerSetup
    address: str | None = None
    policy: DispatchPolicy = field(default_factory=DispatchPolicy)
    tracking: TrackingTarget | None = None
    model_notes: tuple[str, ...] = ()
    storage_patience_s: float = 120.0
    worker_class: type[SearchWorker] = SearchWorker


@dataclass(frozen=True)
class CampaignOutcome:
    """How a campaign ended. failures: shard → cause. results: None where it was found done. stopped: by request."""

    directory: RunDirectory
    failures: Mapping[str, str]
    damaged: Mapping[str, str]
    results: CampaignResults | None
    tracking: TrackingReport | None
    stopped: bool = False

    @property
    def found(self) -> bool:
        """Whether it was done before."""
        return self.results is None

    @property
    def complete(self) -> bool:
        """Whether every shard is done."""
        return self.results is None or self.results.complete


@dataclass(frozen=True)
class SweepOutcome:
    """How a sweep ended. tracking: what MLflow has of it. stopped: by request. found: it was done before."""

    directory: RunDirectory
    results: SweepResults
    tracking: TrackingReport | None
    stopped: bool = False
    found: bool = False

    @property
    def complete(self) -> bool:
        """Whether nothing is left to run."""
        return self.results.complete

    @property
    def failures(self) -> dict[str, str]:
        """Trial, or what was compared, → cause."""
        failed = {f"trial {number}": why for number, why in self.results.failures.items()}
        compared = self.results.compare_failures
        return failed | {f"comparison with {name}": why for name, why in compared.items()}


@dataclass
class _Drive:
    """A run that this process drives. live: its record while it goes on. asked: whether it was asked to stop."""

    directory: RunDirectory
    lease: Lease
    live: LiveRecord | None
    asked: ShouldStop

    def should_stop(self) -> bool:
        """Whether to stop: asked to, or another driver has taken over."""
        return self.asked() or self.lease.lost

    def check_lease(self) -> None:
        """Raise LeaseError where another driver has taken over."""
        if self.lease.lost:
            place = self.directory.location.text
            raise LeaseError(f"{place} was taken over by another driver; this one has stopped")

    def end_record(self) -> TrackingReport | None:
        """What MLflow has. Before the run counts as finished, so that a kill in between leaves no gap."""
        return None if self.live is None else self.live.end()


@contextmanager
def _driving(request: RunRequest, what: Plan | SweepSpec, name: str, asked: ShouldStop) -> Iterator[_Drive]:
    """The run under a lease. name: of the key with its id in spec.yaml. Raises RunDirectoryError, LeaseError,
    StorageError.
    """
    location = Location.of(request.where)
    location.make_directory()
    with Lease(location) as lease:
        found = find_run(request.where, request.identity)
        run_id = uuid.uuid4().hex if found is None else found.record.get(name, uuid.uuid4().hex)
        directory = open_run(request.where, request.identity, {name: run_id, **request.about})
        target = request.tracking
        live = None if target is None else LiveRecord(directory, what, target)
        try:
            yield _Drive(directory, lease, live, asked)
        except BaseException:
            if live is not None:
                live.end(patience_s=10)
            raise


def _recorded(found: RunDirectory, what: Plan | SweepSpec, request: RunRequest) -> TrackingReport | None:
    """Send what the record of a finished run lacks."""
    if request.tracking is None or recorded_whole(found.location):
        return None
    return record(found, what, request.tracking)


def run_campaign(
    plan: Plan,
    request: RunRequest,
    *,
    watcher: Watcher | None = None,
    should_stop: ShouldStop = lambda: False,
) -> CampaignOutcome:
    """Run what is missing of a campaign, merge and rank what there is, record it.

    Raises RunDirectoryError where the place holds another run, LeaseError where another driver has it, InputError
    where no worker can be had, StorageError where the storage is gone; what was done until then is kept and the
    same call goes on from there.
    """
    found = find_run(request.where, request.identity)
    if found is not None and whole_results(found, CampaignResults) is not None:
        return CampaignOutcome(found, {}, {}, None, _recorded(found, plan, request))
    # Merging, plotting and MLflow's record in a thread of its own: workers don't wait for it.
    finisher = ThreadPoolExecutor(1, thread_name_prefix="finish")
    with _driving(request, plan, "campaign_id", should_stop) as drive:
        try:
            return _Campaign(plan, request, drive, watcher or Watcher(), finisher).run()
        finally:
            finisher.shutdown(wait=True, cancel_futures=True)


class _Campaign:
    """A campaign's shards and searches, as its driver knows them."""

    def __init__(
        self, plan: Plan, request: RunRequest, drive: _Drive, watcher: Watcher, finisher: ThreadPoolExecutor
    ) -> None:
        self.plan, self.request, self.drive, self.watcher = plan, request, drive, watcher
        self.location = drive.directory.location
        self.searches = {search.name: search for search in plan.searches}
        self.shards = {shard.name: shard for shard in plan.shards}
        self.manifests: dict[str, dict[int, Manifest]] = {name: {} for name in self.searches}
        self.results: dict[str, SearchResults] = {}
        self.finishing: dict[str, Future[SearchResults]] = {}
        self.finisher = finisher

    def run(self) -> CampaignOutcome:
        """Run it to its end, or as far as it goes."""
        self._record()
        remove_leftovers(self.location, self.plan)
        state = state_of(self.location, self.plan)
        left = self._take_over(state)
        failures: dict[str, str] = {}
        run = bool(left) and not self.drive.should_stop()
        with connected(self.request.address) if run else nullcontext():  # nothing left needs no cluster
            if run:
                failures = self._dispatch(left)
        self.drive.check_lease()
        stopped = self.drive.asked()
        for name, done in self.manifests.items():
            if (
                done and name not in self.finishing and name not in self.results
            ):  # a part is better than nothing
                self._finish(name)
        self._collect(wait=True)
        self.finisher.shutdown()
        results = finish_campaign(
            self.location,
            self.plan,
            [self.results[name] for name in self.searches if name in self.results],
            failures=failures,
            damaged=list(state.damaged.values()),
            model_notes=self.request.model_notes,
        )
        report = self.drive.end_record()
        directory = self.drive.directory
        directory = directory.finish(CAMPAIGN_OUTPUTS) if results.complete else directory
        return CampaignOutcome(directory, failures, state.damaged, results, report, stopped)

    def _take_over(self, state: State) -> list[Shard]:
        """Begin from the shards that are done; return those that aren't."""
        for manifest in state.manifests.values():
            self.manifests[manifest.search][manifest.number] = manifest
        self.watcher.begun(self.plan, list(state.manifests.values()), list(state.damaged.values()))
        for name in self.searches:
            self._finish_if_done(name)
        return state.left(self.plan)

    def _dispatch(self, left: list[Shard]) -> dict[str, str]:
        dispatch = Dispatch(
            plan=self.plan,
            setup=self.request.setup,
            policy=self.request.policy,
            watcher=self.watcher,
            done=self._done,
            probe=self._probe,
            should_stop=self.drive.should_stop,
            worker_class=self.request.worker_class,
        )
        dispatch.run(left)
        return dispatch.failures

    def _done(self, manifest: Manifest) -> None:
        """Take a shard as done, once this process sees it where the worker says it is."""
        shard = self.shards[manifest.shard]

        def look() -> None:
            try:
                seen = read_manifest(self.location, shard)
            except DamagedError:
                seen = None
            if seen is None:
                raise StorageError(
                    f"the worker on {manifest.made.get('host')} has written {shard.name}, but this process doesn't "
                    f"see it in {self.location.text}; give a storage that every node sees, such as s3:// or a "
                    "shared directory"
                )

        self._patiently(look)
        self.manifests[shard.search][shard.number] = manifest
        self._finish_if_done(shard.search)
        self._collect(wait=False)

    def _finish_if_done(self, name: str) -> None:
        if len(self.manifests[name]) == self.searches[name].shard_count:
            self._finish(name)

    def _finish(self, name: str) -> None:
        manifests = [manifest for _, manifest in sorted(self.manifests[name].items())]
        record = self.drive.directory.record
        self.finishing[name] = self.finisher.submit(
            finish_search, self.location, self.searches[name], manifests, record=record
        )

    def _collect(self, *, wait: bool) -> None:
        """Take the results of searches that are merged by now. Raises StorageError."""
        merged = [name for name, future in self.finishing.items() if wait or future.done()]
        for name in merged:
            self.results[name] = self.finishing.pop(name).result()
            self.watcher.search_done(name)
        if merged:
            self._record(*merged)

    def _record(self, *names: str) -> None:
        """Have the record say that the campaign goes on, and what came of these searches."""
        if self.drive.live is not None:
            self.finisher.submit(self.drive.live.done, *names)

    def _probe(self) -> None:
        """Find out whether the storage takes files at all. Raises StorageError where it doesn't."""

        def write() -> None:
            place = self.location / f".probe-{uuid.uuid4().hex}{TEMPORARY}"
            place.write_bytes(bytes(_PROBE_BYTES))
            place.delete()

        self._patiently(write)

    def _patiently(self, attempt: Callable[[], None]) -> None:
        """Storage may be away for a while, and shared directories may be late to show what is there."""
        until, pause = time.monotonic() + self.request.storage_patience_s, 0.5
        while True:
            try:
                return attempt()
            except StorageError as error:
                if time.monotonic() + pause > until or self.drive.should_stop():
                    raise
                self.watcher.note(f"trying again in {pause:g} s: {error}")
                time.sleep(pause)
                pause = min(2 * pause, 15.0)


def run_sweep(
    sweep: SweepSpec,
    request: RunRequest,
    *,
    watcher: SweepWatcher | None = None,
    should_stop: ShouldStop = lambda: False,
) -> SweepOutcome:
    """Run what is missing of a sweep, compare its best, write what came of it. The searcher and the scheduler learn of
    the trials that ended, and those that had begun go on from their last seed.

    Raises RunDirectoryError where the place holds another run, LeaseError where another driver has it, InputError
    where no trial can run, WorkerSetupError, StorageError where the storage is gone; what was done is kept.
    """
    found = find_run(request.where, request.identity)
    if found is not None and found.finished:
        results = gather(found.location, sweep)
        return SweepOutcome(found, results, _recorded(found, sweep, request), found=True)
    with _driving(request, sweep, "sweep_id", should_stop) as drive:
        directory, live = drive.directory, drive.live
        if live is not None:
            live.done()
        failures = _search(sweep, request, drive, watcher or SweepWatcher())
        drive.check_lease()
        results = gather(directory.location, sweep, failures)
        outputs = write_results(results, directory.location, model_notes=request.model_notes)
        report = drive.end_record()
        if results.complete:
            directory = directory.finish(outputs)
        return SweepOutcome(directory, results, report, stopped=should_stop())


def _search(sweep: SweepSpec, request: RunRequest, drive: _Drive, watcher: SweepWatcher) -> dict[str, str]:
    """Trials, then the comparison, as far as they aren't done; what couldn't be compared → cause."""
    ledger = Ledger(drive.directory.location, sweep)
    before = ledger.trials()
    watcher.begun(sweep, before)
    left = sweep.points - sum(trial.ended for trial in before)
    if not left and not ledger.left_to_compare(before):
        return {}

    def ended(trial: Trial) -> None:
        if drive.live is not None:
            drive.live.done(trial.id)

    with connected(request.address):
        # It loads ray, which has to come after the environment of an embedded cluster.
        from kiago_ray.distributed.tune import Experiment

        held, wait = capacity(sweep.resources), request.policy.wait_s > 0
        if not held and not wait:
            raise InputError(refusal(sweep.resources))
        # An autoscaler adds nodes for what waits.
        at_once = sweep.concurrency or (sweep.points if wait else held)
        experiment = Experiment(sweep, request.setup, at_once, watcher, drive.should_stop, ended)
        if left:
            experiment.run_trials(before)
        trials = ledger.trials()  # what failed keeps the others from nothing
        units = ledger.left_to_compare(trials)
        if units and not drive.should_stop() and all(trial.status != "unfinished" for trial in trials):
            experiment.compare(units)
        return experiment.failures


def run_identity(plan: Plan, models: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a campaign's results the same: with `searches`, a hash over every search's whole specification, also
    what a preset says today. models: `Models.identity`.
    """
    specs = [[search.name, search.spec.model_dump(mode="json")] for search in plan.searches]
    return {
        "campaign": plan.campaign.defining(),
        "searches": hashlib.sha256(json.dumps(specs, sort_keys=True).encode()).hexdigest(),
        **models,
        **({"families": list(plan.families)} if plan.families else {}),
        "made_by": {"kiago_ray": __version__, "torch": version("torch")},
    }


def sweep_identity(sweep: SweepSpec, weights: Mapping[str, str], known: str | None) -> dict[str, Any]:
    """What makes a sweep's results the same. weights: the tuning oracle's too. known: the SHA-256 of that file."""
    return {
        "sweep": sweep.defining(),
        "shared": sweep.spec({}).model_dump(mode="json"),
        "weights": dict(weights),
        "known": known,
        "made_by": {"kiago_ray": __version__, "torch": version("torch")},
    }
