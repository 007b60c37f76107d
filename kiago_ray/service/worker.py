"""The worker that runs the searches of a store, one by one and shard by shard, from where another has left off."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from kiago_ray.models import Models
from kiago_ray.runs.lease import Lease, LeaseError
from kiago_ray.runs.plan import PlannedSearch, Shard
from kiago_ray.runs.results import finish_search
from kiago_ray.runs.shards import Manifest, StoppedError, check_shard, compute_shard
from kiago_ray.search.sections import SpecError
from kiago_ray.search.spec import SearchSpec
from kiago_ray.search.stages import Progress
from kiago_ray.service.jobs import Job, JobStore, now
from kiago_ray.storage.location import Location, StorageError
from kiago_ray.storage.run_directory import DamagedError

MOST_BEGUN = 3  # times that a worker may die over one shard of a search before that is given up
TELL_S = 1.0  # between two looks at storage

log = logging.getLogger("kiago_ray.service")


@dataclass
class Runner:
    """What a worker does: takes the jobs of a store that nobody runs. closing: whether this worker shall stop."""

    store: JobStore
    models: Models
    closing: Callable[[], bool] = lambda: False

    def run_next(self) -> bool:
        """Run one job to its end; False where there is none to run, or this worker shall stop."""
        if self.closing():
            return False
        jobs = self.store.readable(self.store.waiting())
        # The queued ones first: to see that another worker lives takes seconds.
        order = sorted(jobs, key=lambda job: job.status.state != "queued")
        return any(self._ran(job.request.id) for job in order)

    def _ran(self, job_id: str) -> bool:
        """Run a job, unless another does. False also where it was left for a later worker."""
        try:
            with Lease(self.store.folder(job_id)) as lease:
                job = self.store.get(job_id)
                if job is None or job.ended:  # a worker was lost right before it said so
                    self.store.forget(job_id)
                    return True
                if (end := self._outcome(job, lease)) is None:
                    return False
                self.store.finish(job_id, **end)
                log.info("search %s: %s", job_id, end["state"])
                return True
        except LeaseError:
            return False

    def _outcome(self, job: Job, lease: Lease) -> dict[str, Any] | None:
        """How it ended, as `JobStore.finish` takes it; None where it has to go on elsewhere."""
        store, job_id, begun = self.store, job.request.id, job.status.begun
        if store.cancelled(job_id):
            return {"state": "cancelled"}
        if begun >= MOST_BEGUN:
            why = f"its worker was lost {begun} times; ask for a smaller search"
            return {"state": "failed", "error": why}
        started_at = job.status.started_at or now()
        job = store.update(job, state="running", started_at=started_at, begun=begun + 1)
        try:
            return self._run(job, lease)
        except StoppedError:
            if store.cancelled(job_id):
                return {"state": "cancelled"}
            if (stopped := store.get(job_id)) is not None:  # an orderly stop doesn't count
                store.update(stopped, begun=max(stopped.status.begun - 1, 0))
            return None
        except SpecError as error:
            why = str(error)
        except StorageError as error:
            log.error("search %s: %s", job_id, error)
            why = "the service's storage could not be used; submit it again"
        except Exception:
            log.exception("search %s failed", job_id)
            why = "the search failed inside; tell the service's operator its id"
        return {"state": "failed", "error": why}

    def _run(self, job: Job, lease: Lease) -> dict[str, Any]:
        """Run the shards that aren't there yet, and write the results. Raises StoppedError, StorageError and what the
        search raises.
        """
        store = self.store
        models = replace(self.models, hull=None)  # only the best of all rows are held against the hull
        planned = PlannedSearch.of(SearchSpec.model_validate(job.request.spec), job.request.rows_per_shard)
        result = store.result(job.request.id)
        result.make_directory()
        shards, steps = planned.shards, sum(planned.spec.steps)
        done: list[Manifest] = []
        looked_at, stop = 0.0, False

        def tell(step: int, **changes: Any) -> None:
            nonlocal job
            at = {"done": len(done) * steps + step, "total": len(shards) * steps, "phase": "searching"}
            job = store.update(job, **{**at, **changes})

        def asked_to_stop() -> bool:
            return self.closing() or lease.lost or store.cancelled(job.request.id)

        def look(at: Progress) -> None:  # at storage, but not at every step
            nonlocal looked_at, stop
            if time.monotonic() - looked_at >= TELL_S:
                looked_at = time.monotonic()
                tell(at.step)
                stop = asked_to_stop()

        for shard in shards:
            manifest, changes = _whole(result, shard, models.version), {}
            if manifest is None:
                if asked_to_stop():
                    raise StoppedError(shard.name)
                how: dict[str, Any] = {"made": {"models": models.version}, "progress": look}
                manifest = compute_shard(planned, shard, result, models, should_stop=lambda: stop, **how)
                changes = {"begun": 0}
            done.append(manifest)
            tell(0, **changes)
        tell(0, phase="merging")
        title = f"around {planned.base}" if planned.base else "from random starts"
        record = {**models.identity, "preset": job.request.preset}
        found = finish_search(result, planned, done, folder=result, record=record, title=title)
        return {"state": "done", "summary": found.summary.to_dict()}


def _whole(result: Location, shard: Shard, models: str) -> Manifest | None:
    """What is known of a shard that is there, whole and by these models."""
    try:
        manifest = check_shard(result, shard)
        if manifest is None or manifest.made.get("models") == models:
            return manifest
        problem = f"{manifest.shard} was made by other models"
    except DamagedError as error:
        problem = str(error)
    log.warning("%s; it is made again", problem)
    return None
