"""The runs of a campaign in MLflow: one for the campaign, and below it one for each search.

What was logged before is found again, and a point of a search has the time at which its run began, so that logging
it again doubles nothing.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa

from kiago_ray.campaign.curves import CURVES, read_curves
from kiago_ray.campaign.plan import Plan, PlannedSearch
from kiago_ray.campaign.summaries import (
    SEARCHES,
    SUMMARY,
    SearchResults,
    read_campaign_results,
    read_search_results,
    search_folder,
)
from kiago_ray.distributed.tracking.content import (
    CAMPAIGN_FILES,
    SEARCH_FILES,
    campaign_facts,
    campaign_points,
    search_facts,
    search_points,
    spec_text,
)
from kiago_ray.distributed.tracking.store import Attempt, Store, StoredRun
from kiago_ray.distributed.tracking.target import TrackingTarget, artifact_root
from kiago_ray.storage.location import Location, StorageError, reason
from kiago_ray.storage.run_directory import SPEC

CAMPAIGN_ID, KIND, SEARCH, SOURCES = "kiago.campaign_id", "kiago.kind", "kiago.search", "kiago.sources"
_CHUNK = 1 << 20


class CampaignRuns:
    """The runs of one campaign. Use it within `mlflow_at_hand`.

    Raises what Store raises, TrackingError where the store can't take a campaign, StorageError and DamagedError
    where the campaign's files can't be read.
    """

    def __init__(
        self,
        campaign: Location,
        record: Mapping[str, Any],
        plan: Plan,
        target: TrackingTarget,
        attempt: Attempt,
    ) -> None:
        self._campaign, self._record, self._plan = campaign, record, plan
        self._target, self._attempt = target, attempt
        self._identity = {CAMPAIGN_ID: str(record["campaign_id"])}
        self._opened: tuple[Store, StoredRun] | None = None
        self.run_id: str | None = None

    def open(self) -> tuple[Store, StoredRun]:
        """The store and the campaign's run, found or made, and set RUNNING."""
        if self._opened is None:
            store = Store(self._target, artifact_root(self._target, self._campaign), self._attempt)
            tags = {**self._identity, KIND: "campaign"}
            parent = store.take(self._plan.campaign.name, tags, start_ms=int(time.time() * 1000))
            self.run_id = parent.id
            store.begin(parent)
            facts = campaign_facts(self._campaign, self._record, self._plan)
            store.describe(parent, facts.params, facts.tags)
            self._opened = store, parent
        return self._opened

    def forget(self) -> None:
        """Look at the store anew with the next call."""
        self._opened = None

    def there(self) -> list[str]:
        """The searches that have results."""
        there = set((self._campaign / SEARCHES).entries())
        return [
            search.name
            for search in self._plan.searches
            if search.name in there
            and (search_folder(self._campaign, search.name) / SUMMARY).kind() == "file"
        ]

    def log(self, name: str) -> None:
        """Log what came of a search, unless just that is logged already."""
        search = self._plan.search(name)
        results = read_search_results(self._campaign, search.name)
        folder = search_folder(self._campaign, search.name)
        if results is None:
            raise StorageError(f"{folder.text} holds no results yet; run the campaign again")
        # FINISHED and FAILED are set last, so that they vouch for the rest.
        status = "FINISHED" if results.complete else "FAILED"
        store, _ = self.open()
        run = self._child(search, results)
        if run.status == status:
            return
        facts = search_facts(self._record, search)
        store.describe(run, facts.params, facts.tags)
        store.measure(run, search_points(results, read_curves(folder / CURVES)), run.start_ms)
        with tempfile.TemporaryDirectory(prefix="kiago-") as scratch:
            spec = Path(scratch, SPEC)
            spec.write_text(spec_text(search), encoding="utf-8")
            store.attach(run, spec)
        self._attach(run, folder, SEARCH_FILES)
        store.end(run, status, int(results.finished_at * 1000))

    def close(self, status: str) -> None:
        """Log what came of the campaign; end its run, and any of a search that wasn't logged whole."""
        store, parent = self.open()
        try:
            results = read_campaign_results(self._campaign)
            if results is not None:
                points = campaign_points(results)
                changed = [point for point in points if parent.metrics.get(point.key) != point.value]
                store.measure(parent, changed, int(time.time() * 1000))
            self._attach(parent, self._campaign, CAMPAIGN_FILES)
        finally:
            for child in store.find({**self._identity, KIND: "search"}, "RUNNING"):
                store.end(child, "KILLED")
            store.end(parent, status)

    def _child(self, search: PlannedSearch, results: SearchResults) -> StoredRun:
        """The run of these results; one of other results, which points can't be taken from, goes."""
        store, parent = self.open()
        tags = {**self._identity, KIND: "search", SEARCH: search.name}
        for run in store.find(tags):
            if run.tags.get(SOURCES) != results.sources:
                store.discard(run)
        tags[SOURCES] = results.sources
        start_ms = int((results.finished_at - results.wall_s) * 1000)
        return store.take(search.name, tags, start_ms=start_ms, parent=parent.id)

    def _attach(self, run: StoredRun, folder: Location, names: Iterable[str]) -> None:
        """Those of the files that there are, and the plots. Remote ones come by way of this machine, one by one."""
        store, _ = self.open()
        there = folder.entries()
        for name in [name for name in there if name in names or name.endswith(".png")]:
            with ExitStack() as stack:
                place = folder / name
                file = Path(place.path)
                if place.filesystem.type_name != "local":
                    file = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kiago-")), name)
                    download(place, file)
                store.attach(run, file)


def download(place: Location, file: Path) -> None:
    """Copy a file here in pieces. Raises StorageError."""
    try:
        with place.filesystem.open_input_stream(place.path) as stream, file.open("wb") as copy:
            while piece := stream.read(_CHUNK):
                copy.write(piece)
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"can't copy {place.text} to {file.parent}: {reason(error)}") from error
