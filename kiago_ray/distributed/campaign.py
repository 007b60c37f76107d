"""A campaign from its plan to its files, on a Ray cluster: resume, dispatch, results, record.

Everything that must not be lost is on the campaign's storage before this process knows of it, so the process may die
at any moment and the same call goes on.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from kiago_ray import __version__
from kiago_ray.distributed.cluster import Demand, connected
from kiago_ray.distributed.dispatch import Dispatch, DispatchPolicy, Watcher
from kiago_ray.distributed.worker import SearchWorker, WorkerSetup
from kiago_ray.runs.lease import Lease, LeaseError
from kiago_ray.runs.plan import Plan, Shard
from kiago_ray.runs.results import CAMPAIGN_OUTPUTS, finish_campaign, finish_search, whole_results
from kiago_ray.runs.shards import (
    DamagedError,
    Manifest,
    State,
    read_manifest,
    remove_leftovers,
    state_of,
)
from kiago_ray.runs.summaries import CampaignResults, SearchResults, read_campaign_results
from kiago_ray.storage.location import TEMPORARY, Location, StorageError, Where
from kiago_ray.storage.run_directory import RunDirectory, find_run, open_run
from kiago_ray.tracking import LiveRecord, TrackingReport, TrackingTarget, record, recorded_whole

_PROBE_BYTES = 1 << 20


@dataclass(frozen=True)
class CampaignRequest:
    """What a campaign is run with, beside its plan.

    identity: what makes results the same (see `run_identity`). about: versions and the like, for spec.yaml. address:
    of a Ray cluster, see `connected`. tracking: None for none. model_notes: on the predictors, for the page.
    storage_patience_s: for how long storage that fails is tried again.
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
    def complete(self) -> bool:
        """Whether every shard is done."""
        return self.results is None or self.results.complete


def run_campaign(
    plan: Plan,
    request: CampaignRequest,
    *,
    watcher: Watcher | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> CampaignOutcome:
    """Run what is missing of a campaign, merge and rank what there is, record it.

    Raises RunDirectoryError where the place holds another run, LeaseError where another driver has it, InputError
    where no worker can be had, StorageError where the storage is gone; what was done until then is kept and the
    same call goes on from there.
    """
    watcher = watcher or Watcher()
    done = _already_done(plan, request)
    if done is not None:
        return done
    location = Location.of(request.where)
    location.make_directory()
    with Lease(location) as lease:
        found = find_run(request.where, request.identity)
        campaign_id = uuid.uuid4().hex if found is None else found.record.get("campaign_id", uuid.uuid4().hex)
        about = {"campaign_id": campaign_id, **request.about}
        directory = open_run(request.where, request.identity, about)
        driver = _Driver(plan, request, directory, watcher, should_stop, lease)
        try:
            return driver.run()
        except BaseException:
            driver.abandon()
            raise


def _already_done(plan: Plan, request: CampaignRequest) -> CampaignOutcome | None:
    """The outcome of a campaign that was found finished and whole; what its record lacks is sent."""
    found = find_run(request.where, request.identity)
    if found is None or whole_results(found, read_campaign_results) is None:
        return None
    report = None
    if request.tracking is not None and not recorded_whole(found.location):
        report = record(found, plan, request.tracking)
    return CampaignOutcome(found, {}, {}, None, report)


class _Driver:
    """One run of a campaign under its lease."""

    def __init__(
        self,
        plan: Plan,
        request: CampaignRequest,
        directory: RunDirectory,
        watcher: Watcher,
        should_stop: Callable[[], bool],
        lease: Lease,
    ) -> None:
        self.plan, self.request, self.directory = plan, request, directory
        self.watcher, self.should_stop, self.lease = watcher, should_stop, lease
        self.location = directory.location
        self.searches = {search.name: search for search in plan.searches}
        self.shards = {shard.name: shard for shard in plan.shards}
        self.manifests: dict[str, dict[int, Manifest]] = {name: {} for name in self.searches}
        self.left: Counter[str] = Counter()
        self.results: dict[str, SearchResults] = {}
        self.finishing: dict[str, Future[SearchResults]] = {}
        # Merging, plotting and MLflow's record in a thread of its own: workers don't wait for it.
        self.finisher = ThreadPoolExecutor(1, thread_name_prefix="finish")
        self.live: LiveRecord | None = None
        if request.tracking is not None:
            self.live = LiveRecord(directory, plan, request.tracking)

    def run(self) -> CampaignOutcome:
        self._record()
        remove_leftovers(self.location, self.plan)
        state = state_of(self.location, self.plan)
        left = self._take_over(state)
        failures: dict[str, str] = {}
        # Nothing left to run needs no cluster.
        with connected(self.request.address) if left and not self.should_stop() else nullcontext():
            if left and not self.should_stop():
                failures = self._dispatch(left)
        if self.lease.lost:
            raise LeaseError(f"{self.location.text} was taken over by another driver; this one has stopped")
        stopped = self.should_stop()
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
        report = None
        if self.live is not None:  # before it counts as finished, so that a kill in between leaves no gap
            report = self.live.end()
        if results.complete:
            self.directory = self.directory.finish(CAMPAIGN_OUTPUTS)
        return CampaignOutcome(self.directory, failures, state.damaged, results, report, stopped)

    def abandon(self) -> None:
        """End what runs beside this thread, after an error."""
        self.finisher.shutdown(wait=True, cancel_futures=True)
        if self.live is not None:
            self.live.end(patience_s=10)

    def _take_over(self, state: State) -> list[Shard]:
        """Begin from the shards that are done; return those that aren't."""
        for manifest in state.manifests.values():
            self.manifests[manifest.search][manifest.number] = manifest
        left = state.left(self.plan)
        self.left.update(shard.search for shard in left)
        self.watcher.begun(self.plan, list(state.manifests.values()), list(state.damaged.values()))
        for name in self.searches:
            if not self.left[name]:
                self._finish(name)
        return left

    def _dispatch(self, left: list[Shard]) -> dict[str, str]:
        dispatch = Dispatch(
            plan=self.plan,
            setup=self.request.setup,
            demand=Demand.of(self.plan.campaign.resources),
            policy=self.request.policy,
            watcher=self.watcher,
            done=self._done,
            probe=self._probe,
            should_stop=lambda: self.should_stop() or self.lease.lost,
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
        self.left[shard.search] -= 1
        if not self.left[shard.search]:
            self._finish(shard.search)
        self._collect(wait=False)

    def _finish(self, name: str) -> None:
        done = self.manifests[name]
        manifests = [done[number] for number in sorted(done)]
        self.finishing[name] = self.finisher.submit(
            finish_search, self.location, self.searches[name], manifests, record=self.directory.record
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
        if self.live is not None:
            self.finisher.submit(self.live.done, *names)

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
                if time.monotonic() + pause > until or self.should_stop() or self.lease.lost:
                    raise
                self.watcher.note(f"trying again in {pause:g} s: {error}")
                time.sleep(pause)
                pause = min(2 * pause, 15.0)


def run_identity(plan: Plan, models: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a campaign's results the same: with `searches`, a hash over every search's whole specification, also
    what a preset says today. models: `Models.identity`. families: those of a campaign around the literature.
    """
    specs = [[search.name, search.spec.model_dump(mode="json")] for search in plan.searches]
    return {
        "campaign": plan.campaign.defining(),
        "searches": hashlib.sha256(json.dumps(specs, sort_keys=True).encode()).hexdigest(),
        **models,
        **({"families": list(plan.families)} if plan.families else {}),
        "made_by": {"kiago_ray": __version__, "torch": version("torch")},
    }
