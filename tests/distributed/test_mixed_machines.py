"""A campaign on machines of two kinds, from its first shard to its record: the real driver and real shards, whose
workers are in this process.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from kiago_ray.distributed import drivers
from kiago_ray.distributed.dispatch import RunRequest, WorkerSetup
from kiago_ray.distributed.drivers import Outcome, run_campaign, run_identity
from kiago_ray.distributed.pool import Answer
from kiago_ray.errors import InputError
from kiago_ray.models import Models
from kiago_ray.predictors.weights import load_predictors
from kiago_ray.runs.plan import Plan
from kiago_ray.runs.shards import compute_shard
from kiago_ray.runs.state import machines_of, state_of
from kiago_ray.storage.location import Location
from kiago_ray.storage.run_directory import read_run
from kiago_ray.tracking.entries import MACHINES, run_entry

from .conftest import Heard, MakePlan
from .stub_pool import StubPool, Worker

OLD, NEW = ({"name": name, "instructions": each} for name, each in (("old", "AVX2"), ("new", "AVX512")))


@dataclass
class Computing(StubPool):
    """Workers that compute their shards, at once."""

    where: Location | None = None
    models: Models | None = None

    def call(self, worker: Worker, method: str, *arguments: Any) -> int:
        ref = super().call(worker, method, *arguments)
        if method == "run":
            assert self.models is not None
            assert self.where is not None
            made = {"machine": self.machines[worker.node]} if self.machines[worker.node] else {}
            manifest = compute_shard(*arguments, self.where, self.models, made=made, vouch=False)
            at, _, _ = self.pending[ref]
            self.pending[ref] = at, Answer(manifest), worker
        return ref


@pytest.fixture
def run(
    tmp_path: Path, make_setup: Callable[..., WorkerSetup], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Outcome[Any], Heard]]:
    """A campaign on one node of this kind, until so many shards are done."""
    models = Models(load_predictors())

    def run(plan: Plan, machine: dict[str, str], most: int = 100) -> tuple[Outcome[Any], Heard]:
        pool = Computing(["n1"], machines={"n1": machine}, where=Location.of(tmp_path), models=models)
        monkeypatch.setattr(drivers, "connected", lambda address: nullcontext())
        monkeypatch.setattr(drivers, "Pool", lambda *what: pool)
        heard, setup = Heard(), make_setup(tmp_path)
        identity = run_identity(plan, {"weights": dict(setup.weights), "known": None})
        request = RunRequest(str(tmp_path), identity, {}, setup)
        return run_campaign(plan, request, watcher=heard, should_stop=lambda: len(heard.done) >= most), heard

    return run


def test_shards_of_another_kind_are_refused_or_told_and_counted(
    make_small_plan: MakePlan, run: Callable[..., tuple[Outcome[Any], Heard]], tmp_path: Path
) -> None:
    plan, place = make_small_plan(bases=["MgB2"], candidates=32), Location.of(tmp_path)
    outcome, _ = run(plan, {}, 1)  # by an older version, which doesn't say
    first = len(state_of(place, plan).manifests)
    outcome, heard = run(plan, OLD, 1)
    assert heard.notes == []
    assert outcome.stopped
    of_old = len(state_of(place, plan).manifests) - first
    assert min(first, of_old) > 0

    refusing = replace(plan, campaign=plan.campaign.model_copy(update={"mixed_machines": "refuse"}))
    with pytest.raises(InputError, match=r"n1 has name new, not old, instructions AVX512, not AVX2\); set"):
        run(refusing, NEW)
    assert len(state_of(place, plan).manifests) == first + of_old

    outcome, heard = run(plan, NEW)
    assert outcome.results.complete
    (note,) = heard.notes
    assert "makes rows that may differ by rounding (name new, not old" in note
    counted = {kind.get("name"): kind["shards"] for kind in outcome.results.machines}
    assert counted == {None: first, "old": of_old, "new": plan.shard_count - first - of_old}
    assert outcome.results.machines == machines_of(state_of(place, plan).manifests.values())
    tag = run_entry(read_run(place), plan, ended=True).tags[MACHINES]
    assert "old, AVX2: " in tag
    assert "not recorded: " in tag
    assert "3 kinds of machine" in (tmp_path / "report.html").read_text("utf-8")
    assert run(plan, OLD)[0].found
