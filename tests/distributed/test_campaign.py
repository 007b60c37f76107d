"""Whole campaigns in this process on real Ray: after every fault the table is the undisturbed run's, row for row."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from kiago_ray.distributed.dispatch import RunRequest, SearchWorker, WorkerSetup
from kiago_ray.distributed.drivers import run_campaign, run_identity
from kiago_ray.predictors.weights import weights_hashes
from kiago_ray.runs.lease import Lease, LeaseError
from kiago_ray.runs.plan import Plan
from kiago_ray.storage.location import Location, StorageError
from kiago_ray.storage.run_directory import RunDirectoryError
from kiago_ray.tracking.target import TrackingTarget

from .conftest import Heard, MakePlan
from .fault_workers import DiesOnceAShard, Poisoned

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture
def request_for(make_setup: Callable[..., WorkerSetup]) -> Callable[..., RunRequest]:
    """What a plan is run with in a folder."""

    def make(plan: Plan, folder: Path, **changes: Any) -> RunRequest:
        setup = make_setup(folder)
        request = RunRequest(
            where=str(folder),
            identity=run_identity(plan, {"weights": dict(setup.weights), "known": None}),
            about={},
            setup=setup,
            storage_patience_s=1.0,
        )
        return replace(request, **changes)

    return make


@pytest.fixture(scope="module")
def undisturbed(cluster: None, make_small_plan: MakePlan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same campaign run by one worker that nothing happened to."""
    plan, folder = make_small_plan(), tmp_path_factory.mktemp("undisturbed") / "c"
    weights = weights_hashes()
    setup = WorkerSetup(str(folder), "cpu", 1, weights, {}, None)
    outcome = run_campaign(
        plan,
        RunRequest(
            str(folder),
            run_identity(plan, {"weights": weights, "known": None}),
            {},
            setup,
            workers=1,
        ),
    )
    assert outcome.results.complete
    return folder


def assert_same(folder: Path, undisturbed: Path) -> None:
    """Every table equals the undisturbed run's: the campaign's, the searches' and the shards', to the bit."""
    for path in sorted(undisturbed.rglob("*.parquet")):
        other = folder / path.relative_to(undisturbed)
        assert pq.read_table(other).equals(pq.read_table(path)), path
        assert other.read_bytes() == path.read_bytes(), path
    assert (folder / "top.csv").read_bytes() == (undisturbed / "top.csv").read_bytes()
    names = {str(path.relative_to(undisturbed)) for path in undisturbed.rglob("*") if path.is_file()}
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == names


@pytest.mark.long
def test_four_workers_make_the_same_table(
    make_small_plan: MakePlan,
    request_for: Callable[..., RunRequest],
    tmp_path: Path,
    heard: Heard,
    undisturbed: Path,
) -> None:
    plan = make_small_plan(resources={"cpus": 0.5})
    request = request_for(plan, tmp_path / "c", workers=4)
    outcome = run_campaign(plan, request, watcher=heard)
    assert outcome.results.complete
    assert len(heard.workers) > 2
    assert_same(tmp_path / "c", undisturbed)


def test_what_a_campaign_leaves(undisturbed: Path, small_plan: Plan) -> None:
    summary = json.loads((undisturbed / "summary.json").read_text())
    assert summary["complete"] is True
    assert (summary["shards_done"], summary["rows"], summary["searches"]) == (6, 40, 2)
    table = pq.read_table(undisturbed / "candidates.parquet")
    assert table["rank"].to_pylist() == list(range(1, len(table) + 1))
    formulas = table["formula"].to_pylist()
    assert len(set(formulas)) == len(formulas) == summary["unique"]
    assert set(table["search"].to_pylist()) == {search.name for search in small_plan.searches}
    page = (undisturbed / "report.html").read_text()
    assert formulas[0] in page.replace("<sub>", "").replace("</sub>", "")
    assert not list(undisturbed.glob(".driver*"))


@pytest.mark.long
def test_a_kill_in_every_shard(
    small_plan: Plan,
    request_for: Callable[..., RunRequest],
    tmp_path: Path,
    heard: Heard,
    undisturbed: Path,
) -> None:
    request = request_for(small_plan, tmp_path / "c", worker_class=DiesOnceAShard)
    outcome = run_campaign(small_plan, request, watcher=heard)
    assert len(heard.lost) == 6
    assert outcome.results.complete
    assert_same(tmp_path / "c", undisturbed)


def test_poison_is_named_and_the_same_call_later_makes_it_whole(
    small_plan: Plan,
    request_for: Callable[..., RunRequest],
    tmp_path: Path,
    heard: Heard,
    undisturbed: Path,
) -> None:
    request = request_for(small_plan, tmp_path / "c", workers=2, worker_class=Poisoned)
    first = run_campaign(small_plan, request)
    assert sorted(first.failures) == ["LaNiAsO-s0/00001", "MgB2-s0/00001"]
    assert not first.results.complete
    assert not first.directory.finished
    summary = json.loads((tmp_path / "c" / "summary.json").read_text())
    assert summary["failures"] == dict(first.failures)
    assert "rows 8 to 15 are poison" in (tmp_path / "c" / "report.html").read_text()
    assert pq.read_table(tmp_path / "c" / "candidates.parquet").num_rows > 0
    second = run_campaign(small_plan, replace(request, worker_class=SearchWorker), watcher=heard)
    assert heard.resumed == 4
    assert sorted(manifest.shard for manifest in heard.done) == sorted(first.failures)
    assert second.results.complete
    assert_same(tmp_path / "c", undisturbed)


def test_a_stopped_campaign_goes_on_where_it_was(
    small_plan: Plan,
    request_for: Callable[..., RunRequest],
    tmp_path: Path,
    undisturbed: Path,
) -> None:
    request = request_for(small_plan, tmp_path / "c", workers=1)
    first, second = Heard(), Heard()
    stopped = run_campaign(small_plan, request, watcher=first, should_stop=lambda: len(first.done) >= 2)
    assert stopped.stopped
    assert not stopped.results.complete
    done = run_campaign(small_plan, request, watcher=second)
    assert second.resumed >= len(first.done)  # a shard may have been written while the campaign was stopping
    assert second.resumed + len(second.done) == 6
    assert done.results.complete
    assert_same(tmp_path / "c", undisturbed)


def test_a_finished_campaign_is_left_as_it_is(
    small_plan: Plan,
    request_for: Callable[..., RunRequest],
    tmp_path: Path,
    heard: Heard,
    undisturbed: Path,
) -> None:
    folder = tmp_path / "c"
    shutil.copytree(undisturbed, folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    outcome = run_campaign(small_plan, request_for(small_plan, folder), watcher=heard)
    assert outcome.results.complete
    assert outcome.found
    assert heard.done == []
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.long
def test_damaged_shards_are_run_again_and_reported(
    small_plan: Plan,
    request_for: Callable[..., RunRequest],
    tmp_path: Path,
    heard: Heard,
    undisturbed: Path,
) -> None:
    folder = tmp_path / "c"
    shutil.copytree(undisturbed, folder)
    shards = folder / "shards"
    (table,) = (each for each in shards.glob("LaNiAsO-s0/00000-*.parquet") if ".steps" not in each.name)
    table.write_bytes(table.read_bytes()[:-200])
    next(shards.glob("MgB2-s0/00002-*.steps.parquet")).unlink()
    (folder / "candidates.parquet").unlink()  # else it would count as finished
    outcome = run_campaign(small_plan, request_for(small_plan, folder), watcher=heard)
    assert list(outcome.damaged) == ["LaNiAsO-s0/00000", "MgB2-s0/00002"]
    assert sorted(manifest.shard for manifest in heard.done) == list(outcome.damaged)
    assert any("was cut off or changed" in text for text in heard.damaged)
    assert json.loads((folder / "summary.json").read_text())["damaged"] == heard.damaged
    assert_same(folder, undisturbed)


def test_another_campaign_is_refused_the_place(
    make_small_plan: MakePlan, request_for: Callable[..., RunRequest], tmp_path: Path, undisturbed: Path
) -> None:
    folder = tmp_path / "c"
    shutil.copytree(undisturbed, folder)
    other = make_small_plan(seeds=[1])
    with pytest.raises(
        RunDirectoryError, match=r"holds another run \(campaign.seeds is \[0\] there, \[1\] here"
    ):
        run_campaign(other, request_for(other, folder))
    assert_same(folder, undisturbed)


def test_a_second_driver_is_refused(
    small_plan: Plan, request_for: Callable[..., RunRequest], tmp_path: Path
) -> None:
    place = Location.of(tmp_path / "c")
    place.make_directory()
    with Lease(place), pytest.raises(LeaseError, match=r"is being run by process \d+ on "):
        run_campaign(small_plan, request_for(small_plan, tmp_path / "c"))
    assert list((tmp_path / "c").iterdir()) == []


@pytest.mark.long
def test_storage_that_workers_write_elsewhere_is_told(
    small_plan: Plan,
    request_for: Callable[..., RunRequest],
    make_setup: Callable[..., WorkerSetup],
    tmp_path: Path,
) -> None:
    request = request_for(small_plan, tmp_path / "c", setup=make_setup(tmp_path / "elsewhere"))
    with pytest.raises(StorageError, match="this process doesn't see it"):
        run_campaign(small_plan, request)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with little room."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", folder], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("a file system can't be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.long
def test_a_full_disk_ends_it_and_room_lets_it_go_on(
    small_plan: Plan,
    request_for: Callable[..., RunRequest],
    small_disk: Path,
    undisturbed: Path,
) -> None:
    folder = small_disk / "c"
    (small_disk / "ballast").write_bytes(bytes(100_000))
    request = request_for(small_plan, folder, workers=1)
    with pytest.raises(StorageError, match="No space left on device"):
        run_campaign(small_plan, request)
    kept = list(folder.rglob("*.json"))
    (small_disk / "ballast").unlink()
    subprocess.run(["mount", "-o", "remount,size=20m", small_disk], check=True)
    outcome = run_campaign(small_plan, request)
    assert outcome.results.complete
    assert all(path.exists() for path in kept)
    assert_same(folder, undisturbed)


@pytest.mark.long
def test_a_tracking_server_that_is_away_costs_nothing_but_the_record(
    small_plan: Plan, request_for: Callable[..., RunRequest], tmp_path: Path, undisturbed: Path
) -> None:
    target = TrackingTarget("http://user:secret@127.0.0.1:9", "small")
    outcome = run_campaign(small_plan, request_for(small_plan, tmp_path / "c", tracking=target))
    assert outcome.results.complete
    assert outcome.tracking is not None
    assert outcome.tracking.pending == ("LaNiAsO-s0", "MgB2-s0")
    assert outcome.tracking.problem
    queued = tmp_path / "c" / "tracking.json"
    assert json.loads(queued.read_text())["pending"] == ["LaNiAsO-s0", "MgB2-s0"]
    assert "secret" not in queued.read_text() + outcome.tracking.problem
    queued.unlink()
    assert_same(tmp_path / "c", undisturbed)


@pytest.mark.parametrize("name", ["candidates.parquet", "summary.json", "searches/MgB2-s0/curves.parquet"])
def test_results_damaged_after_the_end_are_made_again(
    small_plan: Plan,
    request_for: Callable[..., RunRequest],
    tmp_path: Path,
    heard: Heard,
    undisturbed: Path,
    name: str,
) -> None:
    folder = tmp_path / "c"
    shutil.copytree(undisturbed, folder)
    (folder / name).write_bytes((folder / name).read_bytes()[:40])
    if name.startswith("searches"):
        (folder / "candidates.parquet").unlink()  # else it counts as finished, and nobody looks
    outcome = run_campaign(small_plan, request_for(small_plan, folder), watcher=heard)
    assert outcome.results.complete
    assert heard.done == []
    assert_same(folder, undisturbed)


def test_a_record_that_was_not_whole_is_sent_when_the_campaign_is_found_done(
    small_plan: Plan, request_for: Callable[..., RunRequest], tmp_path: Path, undisturbed: Path
) -> None:
    folder = tmp_path / "c"
    shutil.copytree(undisturbed, folder)
    target = TrackingTarget(f"sqlite:///{tmp_path}/mlflow.db", "small")
    first = run_campaign(small_plan, request_for(small_plan, folder, tracking=target))
    assert first.tracking is not None
    assert (first.tracking.recorded, first.tracking.problem) == (2, None)
    second = run_campaign(small_plan, request_for(small_plan, folder, tracking=target))
    assert second.tracking is None  # there was nothing left to send
