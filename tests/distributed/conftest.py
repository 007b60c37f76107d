"""Campaigns small enough to run many times, and what is heard of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kiago_ray.distributed.dispatch import Watcher, WorkerInfo, WorkerSetup
from kiago_ray.models import Models
from kiago_ray.predictors.weights import load_predictors, weights_hashes
from kiago_ray.runs.plan import Plan, Shard, make_plan
from kiago_ray.runs.shards import Manifest
from kiago_ray.runs.spec import CampaignSpec
from kiago_ray.search.sections import validated

if TYPE_CHECKING:
    from .tracked_campaigns import Campaign


@dataclass
class Heard(Watcher):
    """Keeps what a watcher hears."""

    workers: list[WorkerInfo] = field(default_factory=list)
    lost: list[tuple[str | None, str]] = field(default_factory=list)
    done: list[Manifest] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    resumed: int = 0
    damaged: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    waits: set[str] = field(default_factory=set)

    def begun(self, plan: Plan, finished: list[Manifest], damaged: list[str]) -> None:
        self.resumed, self.damaged = len(finished), damaged

    def worker_started(self, info: WorkerInfo) -> None:
        self.workers.append(info)

    def worker_lost(self, shard: Shard | None, cause: str) -> None:
        self.lost.append((shard and shard.name, cause))

    def shard_done(self, manifest: Manifest) -> None:
        self.done.append(manifest)

    def shard_failed(self, shard: Shard, cause: str) -> None:
        self.failed[shard.name] = cause

    def waits_for(self, what: Sequence[str]) -> None:
        self.waits |= set(what)

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def heard() -> Heard:
    return Heard()


MakePlan = Callable[..., Plan]


@pytest.fixture(scope="session")
def make_small_plan() -> MakePlan:
    """Two searches of three shards each, which take a fraction of a second; keywords go over the file's keys."""
    check = Models(load_predictors()).check

    def make(**values: Any) -> Plan:
        base = {
            "name": "small",
            "bases": ["LaNiAsO", "MgB2"],
            "search": {"preset": "open", "steps": [3, 3]},
            "candidates": 20,
            "shard_size": 8,
        }
        return make_plan(validated(CampaignSpec, {**base, **values}), check)

    return make


@pytest.fixture
def small_plan(make_small_plan: MakePlan) -> Plan:
    return make_small_plan()


@pytest.fixture
def make_setup() -> Callable[..., WorkerSetup]:
    """What workers get, for a campaign in a folder."""

    def make(folder: Path, **changes: Any) -> WorkerSetup:
        values: dict[str, Any] = {
            "run": str(folder),
            "device": "cpu",
            "threads": 1,
            "weights": weights_hashes(),
            "weight_files": {},
            "known": None,
        }
        return WorkerSetup(**{**values, **changes})

    return make


@pytest.fixture(scope="session")
def mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database of MLflow's, for tests to copy: setting one up takes seconds."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    SqlAlchemyStore(f"sqlite:///{file}", (file.parent / "artifacts").as_uri()).engine.dispose()
    return file


@pytest.fixture(scope="session")
def finished_campaign(make_small_plan: MakePlan, tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """A small campaign that is done, for tests to copy."""
    from .tracked_campaigns import make_campaign

    campaign = make_campaign(make_small_plan(), tmp_path_factory.mktemp("finished") / "small")
    campaign.finish()
    return campaign


@pytest.fixture
def campaign(finished_campaign: Campaign, mlflow_database: Path, tmp_path: Path) -> Campaign:
    """The same in a folder of the test, beside an empty database."""
    return finished_campaign.copied(tmp_path, mlflow_database)
