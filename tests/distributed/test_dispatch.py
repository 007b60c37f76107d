"""Dispatch with real actors: whatever happens to workers, the shards on disk are those of an undisturbed process."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import kiago_ray
from kiago_ray.data import NONE
from kiago_ray.distributed.code import Code
from kiago_ray.distributed.dispatch import Dispatch, RunRequest, WorkerSetup
from kiago_ray.distributed.pace import Pace
from kiago_ray.distributed.pool import Pool
from kiago_ray.errors import InputError
from kiago_ray.models import load_models
from kiago_ray.runs.plan import Plan, Shard
from kiago_ray.runs.shards import Manifest, compute_shard, write_manifest
from kiago_ray.runs.state import state_of
from kiago_ray.storage.location import Location, StorageError
from kiago_ray.storage.machines import machine_here

from .conftest import Heard, MakePlan
from .fault_workers import DiesAlways, DiesAtStart, FreezesOnce, SmallFilesOnce

pytestmark = pytest.mark.usefixtures("cluster")
MakeSetup = Callable[..., WorkerSetup]


@pytest.fixture(scope="module")
def undisturbed(make_small_plan: MakePlan, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Shard → SHA-256 of its table and of its steps, made in this process without Ray."""
    plan, folder = make_small_plan(), Location.of(tmp_path_factory.mktemp("undisturbed"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    models = load_models(known=NONE)
    made = [compute_shard(plan.search(shard.search), shard, folder, models) for shard in plan.shards]
    torch.set_num_threads(threads)
    return hashes(made)


def hashes(manifests: Iterator[Manifest] | list[Manifest]) -> dict[str, str]:
    return {each.shard: f"{each.sha256} {each.steps_sha256}" for each in manifests}


def dispatch(
    plan: Plan,
    setup: WorkerSetup,
    heard: Heard,
    *,
    probe: Callable[[], None] = lambda: None,
    should_stop: Callable[[], bool] = lambda: False,
    machine: dict[str, str] | None = None,
    **request: Any,
) -> Dispatch:
    asked = RunRequest(where=setup.run, identity={}, about={}, setup=setup, **request)
    pool = Pool(asked.worker_class, setup, plan.campaign.resources)

    def keep(shard: Shard, manifest: Manifest) -> Manifest:
        write_manifest(Location.of(setup.run), manifest)
        return manifest

    hooks = (keep, lambda manifest: None, probe, should_stop)
    return Dispatch(plan, asked, heard, *hooks, Pace(plan), pool, machine or {})


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.long  # `test_gpus_are_shared_by_fractions` has up to four
def test_any_number_of_workers_makes_the_same_files(
    small_plan: Plan,
    make_setup: MakeSetup,
    tmp_path: Path,
    heard: Heard,
    undisturbed: dict[str, str],
    workers: int,
) -> None:
    work = dispatch(small_plan, make_setup(tmp_path), heard, workers=workers)
    work.run(small_plan.shards)
    assert len(heard.workers) <= workers
    assert len({info.pid for info in heard.workers}) == len(heard.workers)
    assert all(info.threads == 1 and info.device == "cpu" for info in heard.workers)
    assert work.failures == {}
    assert hashes(heard.done) == undisturbed
    state = state_of(Location.of(tmp_path), small_plan)
    assert hashes(list(state.manifests.values())) == undisturbed
    assert state.left(small_plan) == []


@pytest.mark.long
def test_every_worker_killed_from_outside_once(
    small_plan: Plan, make_setup: MakeSetup, tmp_path: Path, heard: Heard, undisturbed: dict[str, str]
) -> None:
    killed: list[int] = []

    class Killer(Heard):
        """Kills each of the first four workers a moment after it is ready."""

        def worker_started(self, info: Any) -> None:
            super().worker_started(info)
            if len(killed) < 4:
                killed.append(info.pid)
                threading.Timer(0.05 * len(killed), os.kill, (info.pid, signal.SIGKILL)).start()

    killer = Killer()
    work = dispatch(small_plan, make_setup(tmp_path), killer, workers=2, tries=6)
    work.run(small_plan.shards)
    assert len(killed) == 4
    assert len(killer.workers) > 4
    assert hashes(list(state_of(Location.of(tmp_path), small_plan).manifests.values())) == undisturbed


def test_a_worker_killed_before_it_is_ready_is_replaced(
    small_plan: Plan, make_setup: MakeSetup, tmp_path: Path, heard: Heard, undisturbed: dict[str, str]
) -> None:
    work = dispatch(
        small_plan,
        make_setup(tmp_path / "c"),
        heard,
        worker_class=DiesAtStart,
        workers=1,
    )
    work.run(small_plan.shards)
    assert [name for name, _ in heard.lost] == [None, None]
    assert hashes(heard.done) == undisturbed


@pytest.mark.long
def test_a_frozen_worker_is_killed_and_its_shard_runs_elsewhere(
    make_small_plan: MakePlan,
    make_setup: MakeSetup,
    tmp_path: Path,
    heard: Heard,
    undisturbed: dict[str, str],
) -> None:
    plan = make_small_plan(shard_limit_s=20)
    work = dispatch(plan, make_setup(tmp_path / "c"), heard, worker_class=FreezesOnce, workers=1)
    work.run(plan.shards)
    ((shard, cause),) = heard.lost
    assert shard == "LaNiAsO-s0/00000"
    assert "not done in 20 s, its limit" in cause
    assert hashes(heard.done) == undisturbed


@pytest.mark.long
def test_a_shard_that_kills_its_worker_each_time_is_given_up(
    small_plan: Plan, make_setup: MakeSetup, tmp_path: Path, heard: Heard
) -> None:
    work = dispatch(small_plan, make_setup(tmp_path), heard, worker_class=DiesAlways, tries=3)
    work.run(small_plan.shards)
    assert sorted(work.failures) == ["LaNiAsO-s0/00001", "MgB2-s0/00001"]
    assert all("lost its worker 3 times" in cause for cause in work.failures.values())
    assert len(heard.done) == 4


@pytest.mark.long
def test_a_worker_that_cant_write_loses_its_shard_to_another(
    small_plan: Plan, make_setup: MakeSetup, tmp_path: Path, heard: Heard, undisturbed: dict[str, str]
) -> None:
    work = dispatch(
        small_plan,
        make_setup(tmp_path / "c"),
        heard,
        worker_class=SmallFilesOnce,
        workers=1,
    )
    work.run(small_plan.shards)
    (lost,) = heard.lost
    assert lost[0] == "LaNiAsO-s0/00000"
    assert "can't write" in lost[1]
    assert hashes(heard.done) == undisturbed


@pytest.mark.long
def test_storage_that_is_gone_ends_the_campaign(
    small_plan: Plan, make_setup: MakeSetup, tmp_path: Path, heard: Heard
) -> None:
    def probe() -> None:
        raise StorageError("can't write there: no space left")

    work = dispatch(small_plan, make_setup(tmp_path / "c"), heard, worker_class=SmallFilesOnce, probe=probe)
    with pytest.raises(StorageError, match="no space left"):
        work.run(small_plan.shards)


@pytest.mark.long
def test_a_request_to_stop_keeps_what_is_done(
    small_plan: Plan, make_setup: MakeSetup, tmp_path: Path, heard: Heard
) -> None:
    work = dispatch(small_plan, make_setup(tmp_path), heard, should_stop=lambda: len(heard.done) >= 2)
    work.run(small_plan.shards)
    assert 2 <= len(heard.done) < 6
    assert len(state_of(Location.of(tmp_path), small_plan).manifests) >= 2


def test_gpus_are_shared_by_fractions(
    make_small_plan: MakePlan,
    make_setup: MakeSetup,
    tmp_path: Path,
    heard: Heard,
    undisturbed: dict[str, str],
) -> None:
    plan = make_small_plan(resources={"cpus": 0.5, "gpus": 0.5, "device": "cpu"})
    work = dispatch(plan, make_setup(tmp_path), heard, workers=4)
    work.run(plan.shards)
    held = [info.gpus for info in heard.workers]
    assert all(len(ids) == 1 and ids[0] in ("0", "1") for ids in held)
    assert max(held.count(ids) for ids in held) <= 2
    assert hashes(heard.done) == undisturbed


@pytest.fixture
def spot_node(cluster: None) -> Iterator[str]:
    """The id of a second node of the cluster for one worker, with a label; torch takes other instructions there."""
    import ray
    from ray._private.node import Node
    from ray._private.parameter import RayParams

    address = ray.get_runtime_context().gcs_address
    how: dict[str, Any] = {"gcs_address": address, "redis_address": address, "num_cpus": 1, "num_gpus": 0}
    how |= {"object_store_memory": 80 << 20, "include_log_monitor": False, "node_manager_port": 0}
    how |= {"labels": {"market": "spot"}, "env_vars": {"ATEN_CPU_CAPABILITY": "default"}}
    node = Node(RayParams(**how), head=False, shutdown_at_exit=False, spawn_reaper=False)
    yield node.unique_id
    node.kill_all_processes(check_alive=False, allow_graceful=False)


@pytest.mark.long  # it starts four workers; test_decisions.py has what is decided
def test_workers_go_where_labels_say_and_machines_of_another_kind_are_refused(
    spot_node: str, make_small_plan: MakePlan, make_setup: MakeSetup, tmp_path: Path, heard: Heard
) -> None:
    """As labels are matched here, so does Ray; and none is sent again to a node that was refused."""
    selector = {"market": "in(other, spot)", "absent": "!spot"}
    plan = make_small_plan(resources={"label_selector": selector}, bases=["MgB2"], candidates=8)
    dispatch(plan, make_setup(tmp_path / "picked"), heard, workers=1).run(plan.shards)
    (made,) = heard.done
    assert made.made["machine"]["instructions"] == "DEFAULT"

    plan = make_small_plan(mixed_machines="refuse")
    refusing = Heard()
    work = dispatch(plan, make_setup(tmp_path / "refused"), refusing, machine=machine_here("cpu"))
    work.run(plan.shards)
    assert work.failures == {}
    (note,) = refusing.notes
    assert f"is left out (instructions DEFAULT, not {machine_here('cpu')['instructions']})" in note
    assert len(refusing.workers) == 2
    assert {each.made["machine"]["instructions"] for each in refusing.done} == {
        machine_here("cpu")["instructions"]
    }
    assert work.pool.nodes().room == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_a_promised_gpu_that_isnt_there_is_told_not_replaced_by_the_cpu(
    make_small_plan: MakePlan, make_setup: MakeSetup, tmp_path: Path, heard: Heard
) -> None:
    plan = make_small_plan(resources={"gpus": 1})
    work = dispatch(plan, make_setup(tmp_path, device="cuda"), heard)
    with pytest.raises(InputError, match=r"was given GPU [01] but torch sees no CUDA device"):
        work.run(plan.shards)
    assert heard.done == []


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ({"cpus": 64}, "64 CPU, 0 GPU"),
        ({"gpus": 4}, "1 CPU, 4 GPU"),
        ({"memory_gb": 9000}, "1 CPU, 0 GPU, 9000 GB of memory"),
    ],
)
def test_a_worker_that_no_node_can_hold_is_refused_at_once(
    make_small_plan: MakePlan,
    make_setup: MakeSetup,
    tmp_path: Path,
    heard: Heard,
    resources: dict[str, float],
    said: str,
) -> None:
    plan = make_small_plan(resources=resources)
    with pytest.raises(InputError, match=f"no node of the cluster can ever hold a worker \\({said}"):
        dispatch(plan, make_setup(tmp_path), heard).run(plan.shards)
    assert not heard.done


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"code": Code("00", "/elsewhere/kiago_ray/__init__.py")},
            f"it imported {kiago_ray.__file__}, the driver /elsewhere/kiago_ray/__init__.py; install the same",
        ),
        pytest.param(
            {"weights": {"tc": "00", "ef": "00"}}, "other weights than the driver", marks=pytest.mark.long
        ),
    ],
)
def test_a_worker_of_another_install_is_refused(
    small_plan: Plan, make_setup: MakeSetup, tmp_path: Path, heard: Heard, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        dispatch(small_plan, make_setup(tmp_path, **changes), heard).run(small_plan.shards)
