"""A campaign or a sweep from its specification to its files, on a Ray cluster: resume, run, results, record.

Everything that must not be lost is on the run's storage before this process knows of it, so the process may die at any
moment and the same call goes on.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any, Generic, TypeVar

from kiago_ray import __version__
from kiago_ray.distributed.cluster import capacity, connected, refusal
from kiago_ray.distributed.dispatch import Dispatch, RunRequest, Watcher
from kiago_ray.distributed.pace import Pace
from kiago_ray.distributed.pool import Pool
from kiago_ray.errors import InputError
from kiago_ray.runs.lease import Lease, LeaseError
from kiago_ray.runs.plan import Plan, Shard
from kiago_ray.runs.results import finish_campaign, finish_search
from kiago_ray.runs.shards import MANIFEST, SHARDS, STEPS, TABLE, Manifest, write_manifest
from kiago_ray.runs.state import Seen, machines_of, remove_leftovers, stamps_of, state_of
from kiago_ray.runs.verification import CAMPAIGN_ID, done_before, rebuilt_record, remember_results
from kiago_ray.storage.location import TEMPORARY, Location, StorageError
from kiago_ray.storage.machines import SHARDS_OF
from kiago_ray.storage.patience import Got, patiently
from kiago_ray.storage.run_directory import (
    IDENTITY,
    SPEC,
    CampaignResults,
    RunDirectory,
    SearchResults,
    find_run,
    open_run,
)
from kiago_ray.sweep.results import SweepResults, gather, write_results
from kiago_ray.sweep.spec import SweepSpec
from kiago_ray.sweep.trials import Ledger, SweepWatcher, Trial
from kiago_ray.tracking.entries import sweep_progress
from kiago_ray.tracking.record import LiveRecord, TrackingReport, record, recorded_whole

_PROBE_BYTES = 1 << 20
ShouldStop = Callable[[], bool]
R = TypeVar("R", CampaignResults, SweepResults)


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """How a campaign or sweep ended. tracking: what MLflow has of it. failures: shard, trial or what was compared →
    cause. damaged: shard → what was wrong. stopped: by request, before its end. found: it was done before.
    """

    directory: RunDirectory
    results: R
    tracking: TrackingReport | None
    failures: Mapping[str, str]
    damaged: Mapping[str, str] = field(default_factory=dict)
    stopped: bool = False
    found: bool = False


@dataclass
class _Drive:
    """A run that this process drives. live: its record while it goes on. asked: whether it was asked to stop."""

    directory: RunDirectory
    lease: Lease
    live: LiveRecord
    asked: ShouldStop

    def should_stop(self) -> bool:
        """Whether to stop: asked to, or another driver has taken over."""
        return self.asked() or self.lease.lost

    def check_lease(self) -> None:
        """Raise LeaseError where another driver has taken over."""
        if self.lease.lost:
            place = self.directory.location.text
            raise LeaseError(f"{place} was taken over by another driver; this one has stopped")

    def end(self, results: R, outputs: Sequence[str], failures: Mapping[str, str]) -> Outcome[R]:
        """Close the record, and then the directory of a complete run, so that a kill in between leaves no gap."""
        report = self.live.end()
        directory = self.directory.finish(outputs) if results.complete else self.directory
        stopped = self.asked() and not results.complete
        return Outcome(directory, results, report, failures, stopped=stopped)


@contextmanager
def _driving(request: RunRequest, what: Plan | SweepSpec, name: str, asked: ShouldStop) -> Iterator[_Drive]:
    """The run under a lease. name: of the key with its id in spec.yaml. Raises StorageError."""
    location = Location.of(request.where)
    location.make_directory()
    with Lease(location) as lease:
        found = find_run(request.where, request.identity)
        run_id = (found.record if found else {}).get(name, uuid.uuid4().hex)
        directory = open_run(request.where, request.identity, {name: run_id, **request.about})
        live = LiveRecord(directory, what, request.tracking)
        try:
            yield _Drive(directory, lease, live, asked)
        except BaseException:
            live.end(patience_s=10)
            raise


def _found(found: RunDirectory, results: R, what: Plan | SweepSpec, request: RunRequest) -> Outcome[R]:
    """The outcome of a run that was done before, once its record has what it lacks."""
    target, report = request.tracking, None
    if target is not None and not recorded_whole(found.location):
        report = record(found, what, target)
    return Outcome(found, results, report, {}, found=True)


def run_campaign(
    plan: Plan,
    request: RunRequest,
    *,
    watcher: Watcher | None = None,
    should_stop: ShouldStop = lambda: False,
) -> Outcome[CampaignResults]:
    """Run what is missing of a campaign, merge and rank what there is, record it.

    Raises RunDirectoryError where the place holds another run, LeaseError where another driver has it, InputError
    where no worker can be had, StorageError where the storage is gone, ClusterLostError where Ray is; what was done
    until then is kept and the same call goes on from there.
    """
    watcher = watcher or Watcher()
    if rebuilt_record(request.where, plan, request.identity, request.about):
        watcher.note(
            f"{SPEC} was damaged; it was written anew, since all finished shards are of this campaign"
        )
    found = find_run(request.where, request.identity)
    if found is not None and (results := done_before(found, plan)) is not None:
        return _found(found, results, plan, request)
    # Merging, plotting and MLflow's record in a thread of its own: workers don't wait for it.
    finisher = ThreadPoolExecutor(1, thread_name_prefix="finish")
    with _driving(request, plan, CAMPAIGN_ID, should_stop) as drive:
        try:
            return _Campaign(plan, request, drive, watcher, finisher).run()
        finally:
            finisher.shutdown(wait=True, cancel_futures=True)


class _Campaign:
    """A campaign's searches, as its driver knows them. done: the finished shards of each."""

    def __init__(
        self, plan: Plan, request: RunRequest, drive: _Drive, watcher: Watcher, finisher: ThreadPoolExecutor
    ) -> None:
        self.plan, self.request, self.drive, self.watcher = plan, request, drive, watcher
        self.location, self.finisher = drive.directory.location, finisher
        self.searches = {search.name: search for search in plan.searches}
        self.done: defaultdict[str, list[Manifest]] = defaultdict(list)
        self.results: dict[str, Future[SearchResults]] = {}
        self.merging: deque[Future[SearchResults]] = deque()
        self.indexing: Future[None] = Future()
        self.indexing.set_result(None)
        self.leaving, self.told_at = threading.Event(), float("-inf")

    def run(self) -> Outcome[CampaignResults]:
        """Run it to its end, or as far as it goes."""
        plan, drive = self.plan, self.drive
        self.finisher.submit(drive.live.done)
        self.state = state = state_of(self.location, plan)
        remove_leftovers(self.location, state)
        self.watcher.begun(plan, list(state.manifests.values()), list(state.damaged.values()))
        if state.behind():
            self._write_index()
        for name, manifests in state.by_search().items():
            self.done[name] += manifests
            self._finish(name)
        failures: Mapping[str, str] = {}
        if (left := state.left(plan)) and not drive.should_stop():  # else it needs no cluster
            with connected(self.request.address):
                pool = Pool(self.request.worker_class, self.request.setup, plan.campaign.resources)
                failures = self._run_shards(left, pool)
        drive.check_lease()
        self.watcher.waits_for(["the tables of searches to be merged"])
        if state.indexed < len(state.manifests):
            self._write_index()
        for name in self.done:
            self._finish(name, partly=True)  # a part is better than nothing
        results = finish_campaign(
            self.location,
            plan,
            [self.results[name].result() for name in self.searches if name in self.results],
            failures=failures,
            damaged=list(state.damaged.values()),
            model_notes=self.request.model_notes,
        )
        outcome = drive.end(results, results.files, failures)
        if results.complete:
            remember_results(self.location, results)
        return replace(outcome, damaged=state.damaged)

    def _run_shards(self, shards: Sequence[Shard], pool: Pool) -> Mapping[str, str]:
        """Run shards on a pool's workers, until all are done or given up; shard → why it was given up."""
        pace = Pace(self.plan, self.state.manifests.values())
        made_on = machines_of(self.state.manifests.values())
        usual = next((kind for kind in made_on if kind.keys() - {SHARDS_OF}), {})
        hooks = (self._look, self._take, self._probe, self.drive.should_stop)
        work = Dispatch(self.plan, self.request, self.watcher, *hooks, pace, pool, usual)
        with ThreadPoolExecutor(1, "index") as self.clerk:
            try:
                work.run(shards)
            finally:
                self.leaving.set()  # those that look for shards still
        return work.failures

    def _look(self, shard: Shard, manifest: Manifest) -> Seen:
        """A shard that is done: once this process sees its tables where the worker wrote them, it writes the manifest.
        None but the driver does, so that no worker that was given up replaces a shard. Raises StorageError.
        """
        record, place = self.drive.directory.record, self.location / SHARDS
        belongs = {key: record[key] for key in (IDENTITY, CAMPAIGN_ID)}
        vouching = replace(manifest, made={**manifest.made, **belongs})

        def look() -> Seen:
            there = place.files([manifest.file(TABLE), manifest.file(STEPS)])
            if [size for size, _ in stamps_of(there, manifest)] != [manifest.bytes, manifest.steps_bytes]:
                raise StorageError(
                    f"the worker on {manifest.made.get('host')} has written {shard.name}, but this process doesn't "
                    f"see it in {self.location.text}; give a storage that every node sees, such as s3:// or a shared "
                    "directory"
                )
            write_manifest(self.location, vouching)
            there |= place.files([manifest.file(MANIFEST)])
            return Seen(vouching, stamps_of(there, vouching))

        return self._patiently(look)

    def _take(self, seen: Seen) -> None:
        """Take a shard as done. Raises StorageError where merging has failed."""
        name = seen.manifest.search
        self.state.add(seen)
        if self.state.behind() and self.indexing.done():
            self.indexing = self.clerk.submit(self._write_index)
        self.done[name].append(seen.manifest)
        if points := self.drive.live.progress(self.done.values()):
            self.finisher.submit(self.drive.live.move, points)
        self._finish(name)
        while self.merging and self.merging[0].done():  # one thread merges, so that they end in their order
            self.merging.popleft().result()  # one that failed ends the campaign now, not after the last shard

    def _write_index(self) -> None:
        with suppress(StorageError):  # a memory, without which the next driver takes longer
            self.state.write_index(self.location)

    def _finish(self, name: str, *, partly: bool = False) -> None:
        """Have a search merged and recorded, once all its shards are there or `partly`."""
        search, manifests, drive = self.searches[name], self.done[name], self.drive
        if name in self.results or (len(manifests) < search.shard_count and not partly):
            return

        def finished() -> SearchResults:
            results = finish_search(self.location, search, manifests, record=drive.directory.record)
            drive.live.done(name)
            return results

        self.results[name] = self.finisher.submit(finished)
        self.merging.append(self.results[name])

    def _probe(self) -> None:
        """Find out whether the storage takes files at all. Raises StorageError where it doesn't."""
        place = self.location / f".probe-{uuid.uuid4().hex}{TEMPORARY}"
        self._patiently(lambda: place.write_bytes(bytes(_PROBE_BYTES)))
        self._patiently(place.delete)

    def _patiently(self, attempt: Callable[[], Got]) -> Got:
        """What `attempt` gives, of any thread. Raises StorageError."""

        def note(pause_s: float, error: StorageError) -> None:
            now = time.monotonic()
            if now >= self.told_at + pause_s / 2:  # one tells for all threads that wait
                self.told_at = now
                self.watcher.note(f"trying again in {pause_s:g} s: {error}")

        def wait(pause_s: float) -> bool:
            return self.drive.should_stop() or self.leaving.wait(pause_s)

        return patiently(attempt, self.request.storage_patience_s, wait=wait, note=note)


def run_sweep(
    sweep: SweepSpec,
    request: RunRequest,
    *,
    watcher: SweepWatcher | None = None,
    should_stop: ShouldStop = lambda: False,
) -> Outcome[SweepResults]:
    """Run what is missing of a sweep, compare its best, write what came of it. The searcher and the scheduler learn of
    the trials that ended, and those that had begun go on from their last seed.

    Raises as `run_campaign` does, and KiagoError where no trial can run; what was done is kept.
    """
    found = find_run(request.where, request.identity)
    if found is not None and found.finished:
        return _found(found, gather(found.location, sweep), sweep, request)
    with _driving(request, sweep, "sweep_id", should_stop) as drive:
        location = drive.directory.location
        drive.live.done()
        compare_failures = _search(sweep, request, drive, watcher or SweepWatcher())
        drive.check_lease()
        results = gather(location, sweep, compare_failures)
        outputs = write_results(results, location, model_notes=request.model_notes)
        failures = {f"trial {number}": why for number, why in results.failures.items()}
        failures |= {f"comparison with {name}": why for name, why in results.compare_failures.items()}
        return drive.end(results, outputs, failures)


def _search(sweep: SweepSpec, request: RunRequest, drive: _Drive, watcher: SweepWatcher) -> dict[str, str]:
    """Trials, then the comparison, as far as they aren't done; what couldn't be compared → cause."""
    ledger = Ledger(drive.directory.location, sweep)
    before = ledger.trials()
    watcher.begun(sweep, before)
    left = sweep.points - sum(trial.ended for trial in before)
    if not left and not ledger.left_to_compare(before):
        return {}
    with connected(request.address):
        # It loads ray, which has to come after the environment of an embedded cluster.
        from kiago_ray.distributed.tune import Experiment

        held, wait = capacity(sweep.resources), request.wait_s > 0
        if not held and not wait:
            raise InputError(refusal(sweep.resources))
        # An autoscaler adds nodes for what waits.
        at_once = sweep.concurrency or (sweep.points if wait else held)
        over = [trial for trial in before if trial.ended]

        def ended(trial: Trial) -> None:
            over.append(trial)
            drive.live.done(trial.id)
            drive.live.move(sweep_progress(sweep, over))

        experiment = Experiment(sweep, request.setup, at_once, watcher, drive.should_stop, ended)
        if left:
            experiment.run_trials(before)
        trials = ledger.trials()  # what failed keeps the others from nothing
        units = ledger.left_to_compare(trials)
        if units and not drive.should_stop() and all(trial.status != "unfinished" for trial in trials):
            experiment.compare(units)
        return experiment.failures


def run_identity(what: Plan | SweepSpec, models: Mapping[str, Any]) -> dict[str, Any]:
    """What makes the results of a campaign or sweep the same: with the whole specifications of its searches, also what
    a preset says today. models: `Models.identity`; the weights of a sweep are also the tuning oracle's.
    """
    families: dict[str, Any] = {}
    if isinstance(what, SweepSpec):
        own: dict[str, Any] = {"sweep": what.defining(), "shared": what.spec({}).model_dump(mode="json")}
    else:
        specs = [[search.name, search.spec.model_dump(mode="json")] for search in what.searches]
        digest = hashlib.sha256(json.dumps(specs, sort_keys=True).encode()).hexdigest()
        own = {"campaign": what.campaign.defining(), "searches": digest}
        families = {"families": list(what.families)} if what.families else {}
    made_by = {"kiago_ray": __version__, "torch": version("torch")}
    return {**own, **models, **families, "made_by": made_by}
