"""Searches on storage: what a worker makes of them, and what a lost worker leaves."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kiago_ray.api import judged_rows
from kiago_ray.models import Models
from kiago_ray.screening.candidates import ranked
from kiago_ray.screening.known import TriedMaterials
from kiago_ray.search.spec import SearchSpec, load_preset
from kiago_ray.search.stages import Recorder
from kiago_ray.service.jobs import MOST_BEGUN, Job, JobStore, Runner
from kiago_ray.service.searches import candidate_page
from kiago_ray.storage.location import Location, StorageError
from kiago_ray.storage.run_directory import CANDIDATES

from .conftest import run_all

SPEC = load_preset("default", {"base": "LaNiAsO", "candidates": 24, "steps": [4, 4]})


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore.of(str(tmp_path / "data"))


def submitted(store: JobStore, client: str = "me") -> str:
    return store.submit(SPEC, "default", client, 8).request.id


def state(store: JobStore, job_id: str) -> str:
    job = store.get(job_id)
    assert job is not None
    return job.status.state


def shard_files(store: JobStore, job_id: str) -> dict[Path, bytes]:
    folder = Path(store.result(job_id).path) / "shards" / "search"
    return {path: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_job_is_kept_as_it_was_asked_for(store: JobStore) -> None:
    job_id = submitted(store)
    job = JobStore(store.place).get(job_id)  # another process would read no more
    assert job is not None
    assert (SearchSpec.model_validate(job.request.spec), job.request.client, job.status.state) == (
        SPEC,
        "me",
        "queued",
    )
    assert store.waiting() == [job_id]
    assert (store.waiting_of("me"), store.waiting_of("you")) == (1, 0)


@pytest.mark.parametrize(
    "name", ["", "..", "../x", "20260101T000000000000-0123456789abcdef", "a/b", "x" * 500]
)
def test_what_is_no_job_is_none(name: str, store: JobStore) -> None:
    submitted(store)
    assert store.get(name) is None


def test_a_worker_finds_what_a_search_here_finds(store: JobStore, models: Models) -> None:
    job_id = submitted(store)
    assert run_all(Runner(store, models)) == 1
    assert (state(store, job_id), store.waiting()) == ("done", [])
    page = candidate_page(store.result(job_id) / CANDIDATES, 0, 1000, passed_only=False)
    rows = page.candidates
    here = judged_rows(SPEC, models, shard_rows=8)
    expected = ranked(here.table, SPEC.screens).to_pylist()
    assert page.total == len(expected)
    assert [row["formula"] for row in rows] == [row["formula"] for row in expected]
    assert [row["tc_k"] for row in rows] == pytest.approx([row["tc_k"] for row in expected], abs=1e-4)
    job = store.get(job_id)
    assert job is not None
    assert job.status.summary is not None
    assert job.status.summary["rows"] == 24


def test_searches_heed_what_was_tried(store: JobStore, models: Models) -> None:
    tried = TriedMaterials.from_table(pd.DataFrame({"formula": ["LaNiAsO"], "tc_k": [2.4]}))
    spec = load_preset("open", {"base": "LaNiAsO", "candidates": 24, "steps": [4, 4]})
    job_id = store.submit(spec, "open", "me", 8).request.id
    assert run_all(Runner(store, replace(models, tried=tried))) == 1
    rows = candidate_page(store.result(job_id) / CANDIDATES, 0, 1000, passed_only=False).candidates
    assert rows
    assert all(row["tc_given_tried_k"] is not None for row in rows)


def test_the_place_in_the_queue_is_by_time_and_counts_what_waits(store: JobStore) -> None:
    ids = [submitted(store) for _ in range(20)]
    assert store.queue() == dict(zip(ids, range(1, 21), strict=True))
    first = store.get(ids[0])
    assert first is not None
    store.update(first, state="running")
    assert store.queue() == dict(zip(ids[1:], range(1, 20), strict=True))


def test_a_cancelled_search_is_never_begun(store: JobStore, models: Models) -> None:
    job_id = submitted(store)
    store.cancel(job_id)
    run_all(Runner(store, models))
    assert state(store, job_id) == "cancelled"
    assert Path(store.result(job_id).path).exists() is False


def test_a_running_search_is_cancelled(
    store: JobStore, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kiago_ray.service.jobs.TELL_S", 0.0)
    job_id = submitted(store)
    update = JobStore.update

    def tell(self: JobStore, job: Job, **changes: Any) -> Job:
        if "done" in changes:
            self.cancel(job.request.id)  # as a client does, as soon as it sees it run
        return update(self, job, **changes)

    monkeypatch.setattr(JobStore, "update", tell)
    run_all(Runner(store, models))
    assert state(store, job_id) == "cancelled"
    assert store.waiting() == []


def test_cancelling_is_seen_between_two_words_on_the_progress(
    store: JobStore, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, whose progress isn't told of after every step."""

    class Rare(Recorder):
        def __post_init__(self) -> None:
            self.every = 10**6

    monkeypatch.setattr("kiago_ray.search.run.Recorder", Rare)
    test_a_running_search_is_cancelled(store, models, monkeypatch)
    assert not any((store.result(each) / "shards").entries() for each in store.ids())


def test_what_a_lost_worker_did_is_kept(
    store: JobStore, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submitted(store)
    closing = threading.Event()
    update = JobStore.update

    def tell(self: JobStore, job: Job, **changes: Any) -> Job:
        job = update(self, job, **changes)
        if changes.get("done") == 16:  # two of three shards
            closing.set()
        return job

    with monkeypatch.context() as patched:
        patched.setattr("kiago_ray.service.jobs.TELL_S", 1e9)  # told of whole shards alone
        patched.setattr(JobStore, "update", tell)
        assert run_all(Runner(store, models, closing=closing.is_set)) == 0
    assert (state(store, job_id), store.waiting()) == ("running", [job_id])
    kept = shard_files(store, job_id)
    assert len(kept) == 6
    assert run_all(Runner(store, models)) == 1
    assert state(store, job_id) == "done"
    assert kept.items() <= shard_files(store, job_id).items()


def test_a_damaged_shard_is_made_again(store: JobStore, models: Models) -> None:
    job_id = submitted(store)
    run_all(Runner(store, models))
    whole = shard_files(store, job_id)
    folder = store.folder(job_id)
    table = next(path for path in whole if path.match("00001-*[0-9a-f].parquet"))
    for name in ("status.json", f"result/shards/search/{table.name}"):
        (folder / name).delete()
    (store.place / "waiting" / job_id).write_bytes(b"")
    run_all(Runner(store, models))
    assert state(store, job_id) == "done"
    again = shard_files(store, job_id)
    same = [path for path in whole if not path.name.endswith("00001.json")]
    assert [path for path in same if whole[path] != again[path]] == []


def test_a_search_outlives_any_number_of_orderly_stops(
    store: JobStore, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the middle of its first shard again and again, and after each shard."""
    monkeypatch.setattr("kiago_ray.service.jobs.TELL_S", 0.0)
    job_id = submitted(store)
    for _ in range(MOST_BEGUN + 1):
        asked = iter([False, False, False])  # the worker begins, then has to go
        assert run_all(Runner(store, models, closing=lambda asked=asked: next(asked, True))) == 0
        job = store.get(job_id)
        assert job is not None
        assert (job.status.state, job.status.begun) == ("running", 0)
    assert run_all(Runner(store, models)) == 1
    assert state(store, job_id) == "done"


def test_starts_count_only_until_a_shard_is_whole(store: JobStore, models: Models) -> None:
    job_id = submitted(store)
    job = store.get(job_id)
    assert job is not None
    for _ in range(MOST_BEGUN - 1):
        job = store.update(job, begun=job.status.begun + 1)
    run_all(Runner(store, models))
    ended = store.get(job_id)
    assert ended is not None
    assert (ended.status.state, ended.status.begun) == ("done", 0)


def test_shards_of_other_models_are_made_again(
    store: JobStore, models: Models, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = submitted(store)
    done = threading.Event()
    update = JobStore.update

    def tell(self: JobStore, job: Job, **changes: Any) -> Job:
        job = update(self, job, **changes)
        if changes.get("done") == 16:
            done.set()
        return job

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("kiago_ray.service.jobs.TELL_S", 1e9)  # told of whole shards alone
        patched.setattr(JobStore, "update", tell)
        run_all(Runner(store, models, closing=done.is_set))
    before = shard_files(store, job_id)
    assert before
    other = replace(models, cards={**models.cards, "ef": {**models.cards["ef"], "sha256": "0" * 64}})
    assert run_all(Runner(store, other)) == 1
    manifests = [
        json.loads(text) for path, text in shard_files(store, job_id).items() if path.suffix == ".json"
    ]
    assert [each["made"]["models"] for each in manifests] == [other.version] * 3
    assert "search/00000 was made by other models; it is made again" in caplog.messages


def test_a_job_that_cannot_be_read_stops_no_other(store: JobStore, models: Models) -> None:
    damaged, fine = submitted(store), submitted(store)
    (store.folder(damaged) / "job.json").write_bytes(b"{")
    assert run_all(Runner(store, models)) == 1
    assert state(store, fine) == "done"
    with pytest.raises(StorageError, match="no file of this service"):
        store.get(damaged)


def test_the_oldest_that_ended_makes_room(store: JobStore) -> None:
    ids = [submitted(store) for _ in range(3)]
    store.finish(ids[1], "cancelled")
    store.finish(ids[2], "cancelled")
    assert store.remove_ended()
    assert store.ids() == [ids[2], ids[0]]
    assert store.remove_ended()
    assert not store.remove_ended()  # what waits stays
    assert store.ids() == [ids[0]]


def test_a_search_that_kills_its_workers_is_given_up(store: JobStore, models: Models) -> None:
    job_id = submitted(store)
    for _ in range(MOST_BEGUN):
        job = store.get(job_id)
        assert job is not None
        store.update(job, begun=job.status.begun + 1)
    run_all(Runner(store, models))
    job = store.get(job_id)
    assert job is not None
    assert (job.status.state, job.status.begun) == ("failed", MOST_BEGUN)
    assert "lost 3 times" in str(job.status.error)


Fail = Callable[[Callable[[str], bool]], None]


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Fail:
    """`fail(now)`: from here on a file whose path `now` is true of can't be written."""
    monkeypatch.setattr("kiago_ray.service.jobs.TELL_S", 0.0)
    write = Location.write_bytes

    def from_here(now: Callable[[str], bool]) -> None:
        def written(self: Location, content: bytes) -> None:
            if now(self.path):
                raise StorageError(f"can't write {self.text}")
            write(self, content)

        monkeypatch.setattr(Location, "write_bytes", written)

    return from_here


def once(*endings: str) -> Callable[[str], bool]:
    """True of one path with each of these endings, in their order."""
    left = list(endings)
    return lambda path: bool(left) and path.endswith(left[0]) and bool(left.pop(0))


def test_progress_that_cannot_be_told_ends_no_search(store: JobStore, models: Models, fail: Fail) -> None:
    job_id = submitted(store)
    begun = iter([False])
    states = ("status.json", job_id)
    fail(lambda path: path.endswith(states) and next(begun, True) and store.waiting() == [job_id])
    runner = Runner(store, models, patience_s=0)
    assert run_all(runner) == 0  # that it is done can't be told either
    assert (state(store, job_id), len(shard_files(store, job_id))) == ("running", 9)
    fail(lambda path: False)
    assert run_all(runner) == 1
    assert state(store, job_id) == "done"


def test_what_a_search_writes_is_tried_again_and_nothing_is_computed_twice(
    store: JobStore, models: Models, fail: Fail, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = list[range]()

    def judged(*given: Any, rows: range, **options: Any) -> Any:
        computed.append(rows)
        return judged_rows(*given, rows=rows, **options)

    monkeypatch.setattr("kiago_ray.api.judged_rows", judged)
    job_id = submitted(store)
    fail(once("00001.parquet", "00002.json", "candidates.parquet", "status.json"))
    assert run_all(Runner(store, models)) == 1
    assert state(store, job_id) == "done"
    assert computed == [range(8), range(8, 16), range(16, 24)]


def test_a_search_is_left_as_often_as_its_storage_fails(store: JobStore, models: Models, fail: Fail) -> None:
    job_id, other = submitted(store), submitted(store)
    runner = Runner(store, models, patience_s=0)
    fail(lambda path: job_id in path and path.endswith("00001.json"))
    assert run_all(runner) == 1  # the other one, which isn't held up
    for _ in range(MOST_BEGUN):
        assert run_all(runner) == 0
        job = store.get(job_id)
        assert job is not None
        assert (job.status.state, job.status.begun) == ("running", 0)
    assert state(store, other) == "done"
    fail(lambda path: False)
    assert run_all(runner) == 1
    assert state(store, job_id) == "done"


def test_a_worker_that_waits_for_storage_can_be_stopped(store: JobStore, models: Models, fail: Fail) -> None:
    job_id = submitted(store)
    failed = threading.Event()

    def broken(path: str) -> bool:
        if path.endswith("00001.json"):
            failed.set()
        return failed.is_set()

    fail(broken)
    assert run_all(Runner(store, models, closing=failed.is_set)) == 0
    assert state(store, job_id) == "running"


def test_a_search_that_fails_inside_says_so_and_the_next_one_runs(
    store: JobStore, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = submitted(store), submitted(store)
    run = Runner._run

    def failing(self: Runner, job: Job, lease: object) -> object:
        if job.request.id == min(first, second):
            raise RuntimeError("a secret of /the/inside")
        return run(self, job, lease)  # type: ignore[arg-type]

    monkeypatch.setattr(Runner, "_run", failing)
    assert run_all(Runner(store, models)) == 2
    states = {each: store.get(each) for each in (first, second)}
    assert sorted(job.status.state for job in states.values() if job) == ["done", "failed"]
    (failed,) = (job for job in states.values() if job and job.status.state == "failed")
    assert failed.status.error is not None
    assert "secret" not in str(failed.status.error)
