"""Campaigns on disk and what MLflow has of them: for the tests of the record."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from kiago_ray.data import NONE
from kiago_ray.distributed.drivers import run_identity
from kiago_ray.models import load_models
from kiago_ray.runs.plan import Plan
from kiago_ray.runs.results import finish_campaign, finish_search
from kiago_ray.runs.shards import compute_shard, read_manifest
from kiago_ray.storage.location import Location
from kiago_ray.storage.run_directory import RunDirectory, open_run
from kiago_ray.tracking.record import TrackingReport, record
from kiago_ray.tracking.target import TrackingTarget, tracking_target

CAMPAIGN_ID = "0123456789abcdef"
WEIGHTS = {"tc": "aa" * 32, "ef": "bb" * 32}
ABOUT = {
    "campaign_id": CAMPAIGN_ID,
    "kiago_ray": "1.2.3",
    "python": "3.11.9",
    "packages": {"torch": "2.9.0", "ray": "2.60.0"},
    "git": "c0ffee",
}


@dataclass(frozen=True)
class Campaign:
    """A campaign in a folder."""

    plan: Plan
    folder: Path

    @property
    def location(self) -> Location:
        return Location.of(self.folder)

    @property
    def directory(self) -> RunDirectory:
        return open_run(self.folder, run_identity(self.plan, {"weights": WEIGHTS, "known": None}), ABOUT)

    @property
    def names(self) -> list[str]:
        return [search.name for search in self.plan.searches]

    def copied(self, folder: Path, database: Path) -> Campaign:
        """The same in another folder, beside a copy of a database."""
        shutil.copytree(self.folder, folder / "small")
        shutil.copy(database, folder / "mlflow.db")
        return Campaign(self.plan, folder / "small")

    def unmerge(self) -> None:
        """Leave of the campaign its shards alone."""
        shutil.rmtree(self.folder / "searches")
        for file in ("summary.json", "candidates.parquet", "top.csv", "report.html"):
            (self.folder / file).unlink()

    def finish_search(self, name: str, shards: int | None = None) -> None:
        """Make the results of a search from its first shards, all by default."""
        search = self.plan.search(name)
        found = [read_manifest(self.location, shard) for shard in search.shards[:shards]]
        finish_search(self.location, search, [each for each in found if each is not None])

    def finish(self, failures: Mapping[str, str] | None = None) -> None:
        """Make the results of the campaign from those of its searches."""
        results = []
        for search in self.plan.searches:
            found = [read_manifest(self.location, shard) for shard in search.shards]
            results.append(finish_search(self.location, search, [each for each in found if each is not None]))
        finish_campaign(
            self.location,
            self.plan,
            results,
            failures=failures or {},
            damaged=[],
            model_notes=[],
        )


def make_campaign(plan: Plan, folder: Path) -> Campaign:
    """Run a plan's shards in this process; nothing is merged yet."""
    campaign = Campaign(plan, folder)
    campaign.directory  # noqa: B018 - written by looking at it
    models = replace(load_models(known=NONE), prospects=None)
    for shard in plan.shards:
        compute_shard(plan.search(shard.search), shard, campaign.location, models)
    return campaign


def target_of(campaign: Campaign) -> TrackingTarget:
    """The database beside the campaign."""
    target = tracking_target(campaign.location, None, "small")
    assert target is not None
    return target


def track(campaign: Campaign, target: TrackingTarget | None = None, patience_s: float = 60) -> TrackingReport:
    """Record the campaign as it is, by default in the database beside it."""
    return record(campaign.directory, campaign.plan, target or target_of(campaign), patience_s=patience_s)


def name_of(run: Run) -> str:
    """A run's name without the time of its beginning, which those that stand alone have."""
    return re.sub(r" \d{4}-\d\d-\d\d \d\d:\d\d:\d\d$", "", run.info.run_name)


class Record:
    """What an MLflow store has of the campaign, through a client of its own."""

    def __init__(self, target: TrackingTarget) -> None:
        self.client = MlflowClient(tracking_uri=target.uri)
        experiment = self.client.get_experiment_by_name(target.experiment)
        self._experiments = [] if experiment is None else [experiment.experiment_id]
        self.artifact_location = None if experiment is None else experiment.artifact_location

    def runs(self) -> list[Run]:
        return list(self.client.search_runs(self._experiments)) if self._experiments else []

    def parent(self) -> Run:
        (parent,) = [run for run in self.runs() if "mlflow.parentRunId" not in run.data.tags]
        return parent

    def children(self) -> dict[str, Run]:
        """By the search's name; every one belongs to the parent and has no double."""
        parent = self.parent().info.run_id
        children = [run for run in self.runs() if "mlflow.parentRunId" in run.data.tags]
        assert {run.data.tags["mlflow.parentRunId"] for run in children} <= {parent}
        named = {name_of(run): run for run in children}
        assert len(named) == len(children)
        return named

    def statuses(self) -> dict[str, str]:
        return {name_of(run): run.info.status for run in self.runs()}

    def curve(self, run: Run, key: str) -> list[tuple[int, float]]:
        points = self.client.get_metric_history(run.info.run_id, key)
        return sorted((point.step, point.value) for point in points)

    def points(self) -> dict[str, list[tuple[str, int, int, float]]]:
        """Every point of every run, by run id."""
        return {
            run.info.run_id: sorted(
                (key, point.step, point.timestamp, point.value)
                for key in run.data.metrics
                for point in self.client.get_metric_history(run.info.run_id, key)
            )
            for run in self.runs()
        }

    def files(self, run: Run, folder: Path) -> dict[str, bytes]:
        """The run's files by name, fetched by MLflow."""
        folder.mkdir(parents=True, exist_ok=True)
        names = [file.path for file in self.client.list_artifacts(run.info.run_id)]
        return {
            name: Path(self.client.download_artifacts(run.info.run_id, name, str(folder))).read_bytes()
            for name in names
        }


@dataclass
class Server:
    """A server that isn't MLflow: it answers everything with `status`, or never."""

    status: int = 500
    hangs: bool = False
    paths: list[str] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    port: int = 0


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """The server on a free port of this machine."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            server.paths.append(self.path)
            server.authorizations.append(self.headers.get("Authorization"))
            if server.hangs:
                ended.wait(60)
                return
            body = b"<html>the database is away</html>"
            self.send_response(server.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = _answer

        def log_message(self, *args: object) -> None:
            """Nothing: tests look at stderr."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server.port = http.server_address[1]
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        ended.set()
        http.shutdown()
        http.server_close()
