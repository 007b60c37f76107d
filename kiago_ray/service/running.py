"""Running the jobs of a store, one after another: what a worker does, wherever it runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from kiago_ray.models import Models
from kiago_ray.runs.lease import Lease, LeaseError
from kiago_ray.runs.plan import Shard
from kiago_ray.runs.results import finish_search
from kiago_ray.runs.shards import DamagedError, Manifest, StoppedError, check_shard, compute_shard
from kiago_ray.search.sections import SpecError
from kiago_ray.search.stages import Progress
from kiago_ray.service.jobs import End, Job, JobStore, now
from kiago_ray.service.models import without_phases
from kiago_ray.storage.location import Location, StorageError

MOST_BEGUN = 3  # times that a worker may die over one shard of a search before that is given up
TELL_S = 1.0  # between two looks at storage

log = logging.getLogger("kiago_ray.service")


@dataclass
class Runner:
    """Takes the jobs of a store that nobody runs. closing: asked in between, whether this worker shall stop."""

    store: JobStore
    models: Models
    closing: Callable[[], bool] = lambda: False

    def drain(self) -> int:
        """Run jobs until none is left that isn't run by another; how many it ran."""
        ran = 0
        while self.run_next():
            ran += 1
        return ran

    def run_next(self) -> bool:
        """Run one job to its end; False where there is none to run, or this worker shall stop."""
        return not self.closing() and next(filter(self._ran, self._takeable()), None) is not None

    def _takeable(self) -> list[str]:
        """Those that wait, the ones first that nobody has started: to see that another lives takes seconds."""
        jobs = [(job_id, self.store.readable(job_id)) for job_id in self.store.waiting()]
        there = [(job_id, job) for job_id, job in jobs if job is not None]
        return [job_id for job_id, _ in sorted(there, key=lambda each: each[1].started_at is not None)]

    def _ran(self, job_id: str) -> bool:
        """Run a job, unless another does. False also where it was left for a later worker."""
        folder = self.store.folder(job_id)
        try:
            with Lease(folder) as lease:
                job = self.store.get(job_id)
                if job is None or job.end is not None:  # a worker was lost right before it said so
                    self.store.forget(job_id)
                    return True
                end = self._outcome(job, lease)
                if end is None:
                    return False
                self.store.finish(job_id, end)
                log.info("search %s: %s", job_id, end.state)
                return True
        except LeaseError:
            return False

    def _outcome(self, job: Job, lease: Lease) -> End | None:
        """How it ended; None where it has to go on elsewhere."""
        job_id = job.request.id
        if job.cancelled:
            return End("cancelled", now())
        if job.begun >= MOST_BEGUN:
            return End("failed", now(), f"its worker was lost {job.begun} times; ask for a smaller search")
        job = self.store.begin(job)
        try:
            return self._run(job, lease)
        except StoppedError:
            if self.store.cancelled(job_id):
                return End("cancelled", now())
            self.store.start_over(job, job.begun - 1)
            return None
        except SpecError as error:
            return End("failed", now(), str(error))
        except StorageError as error:
            log.error("search %s: %s", job_id, error)
            return End("failed", now(), "the service's storage could not be used; submit it again")
        except Exception:
            log.exception("search %s failed", job_id)
            return End("failed", now(), "the search failed inside; tell the service's operator its id")

    def _run(self, job: Job, lease: Lease) -> End:
        store, job_id, planned = self.store, job.request.id, job.planned
        result, models = store.result(job_id), without_phases(self.models)
        result.make_directory()
        shards, steps = planned.shards, sum(planned.spec.steps)
        done: list[Manifest] = []
        last = 0.0
        stop = False

        def asked() -> bool:
            return self.closing() or lease.lost or store.cancelled(job_id)

        def stopped() -> bool:
            nonlocal last, stop
            if not stop and time.monotonic() - last >= TELL_S:
                last = time.monotonic()
                stop = asked()
            return stop

        def tell(step: int, phase: str = "searching") -> None:
            store.tell(job_id, {"done": step, "total": len(shards) * steps, "unit": "steps", "phase": phase})

        told = 0.0
        for number, shard in enumerate(shards):
            manifest = _whole(result, shard, models.version)

            def progress(at: Progress, before: int = number * steps) -> None:
                nonlocal told
                if time.monotonic() - told >= TELL_S:
                    told = time.monotonic()
                    tell(before + at.step)

            if manifest is None:
                if asked():
                    raise StoppedError(shard.name)
                manifest = compute_shard(
                    planned,
                    shard,
                    result,
                    models,
                    made={"models": models.version},
                    progress=progress,
                    should_stop=stopped,
                )
                if job.begun:
                    self.store.start_over(job, 0)
                    job = replace(job, begun=0)
            done.append(manifest)
            tell((number + 1) * steps)
        tell(len(shards) * steps, "merging")
        title = f"around {planned.base}" if planned.base else "from random starts"
        record = {**models.identity, "preset": job.request.preset}
        found = finish_search(result, planned, done, folder=result, record=record, title=title)
        return End("done", now(), summary=found.summary.to_dict())


def _whole(result: Location, shard: Shard, models: str) -> Manifest | None:
    """What is known of a shard that is there, whole and by these models."""
    try:
        manifest = check_shard(result, shard)
    except DamagedError as error:
        log.warning("%s; it is made again", error)
        return None
    if manifest is not None and manifest.made.get("models") != models:
        log.warning("%s was made by other models; it is made again", manifest.shard)
        return None
    return manifest
