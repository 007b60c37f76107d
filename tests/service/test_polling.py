"""What looking at searches costs on object storage: requests, counted where S3 answers them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from types import SimpleNamespace

import pytest

from kiago_ray.distributed.scaling import STREAMS, without_streams
from kiago_ray.search.spec import load_preset
from kiago_ray.service import board
from kiago_ray.service.board import Board, Seen
from kiago_ray.service.jobs import JobStore

from ..storage.conftest import Bucket, bucket, s3_process, s3_server  # noqa: F401  # fixtures

SPEC = load_preset("default", {"base": "LaNiAsO", "candidates": 24, "steps": [4, 4]})


@pytest.fixture
def stores(bucket: Bucket) -> tuple[JobStore, JobStore]:  # noqa: F811
    """A worker's store with 20 searches, of which one runs, and a replica's that has seen none of them."""
    worker, replica = (JobStore.of(f"s3://{bucket.name}/data") for _ in range(2))
    jobs = [worker.submit(SPEC, "default", "me", 8) for _ in range(20)]
    worker.update(jobs[0], state="running", started_at="2026-11-29T00:00:00Z")
    return worker, replica


def test_a_look_costs_a_few_requests_however_many_wait(
    stores: tuple[JobStore, JobStore],
    bucket: Bucket,  # noqa: F811
) -> None:
    _, replica = stores
    requests = bucket.server.requests
    first, *_, last = replica.waiting()
    for look, most in (
        (replica.counts, 1),
        (replica.queue, 1),
        (lambda: replica.get(first), 5),  # what was asked for, once
        (lambda: replica.get(first), 3),
        (lambda: replica.waiting_of("me"), 1 + 2 * 19),
        (lambda: replica.waiting_of("me"), 1),
        (lambda: replica.get(last), 3),
    ):
        requests.clear()
        look()
        assert len(requests) <= most
    assert replica.counts() == {"running": 1, "queued": 19}


def test_hundreds_of_streams_are_one_look_a_second(
    stores: tuple[JobStore, JobStore],
    bucket: Bucket,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """200 streams of one running search and of 19 that wait; then the running one moves, and ends."""
    monkeypatch.setattr(board, "POLL_S", 0.0)
    worker, replica = stores
    ids = replica.waiting()
    shared, requests, costs = Board(replica), bucket.server.requests, []

    async def look(streams: list[AsyncGenerator[Seen | None, None]]) -> list[Seen | None]:
        requests.clear()
        seen = await asyncio.gather(*(anext(stream) for stream in streams))
        costs.append(len(requests))
        return seen

    async def run() -> None:
        streams = [shared.watch(ids[at % 20]) for at in range(200)]
        first = await look(streams)
        assert [each[0].request.id for each in first if each] == [ids[at % 20] for at in range(200)]
        assert [each[1] for each in first[:20] if each] == [None, *range(1, 20)]
        assert shared.streams == 200
        (running,) = (job for job in worker.readable(ids[:1]))
        await look(streams)
        worker.update(running, done=1234)
        seen = await look(streams)
        while seen[0] is not None and seen[0][0].status.done != 1234:
            seen = await look(streams)
        worker.finish(ids[0], "done")
        while seen[0] is not None and not seen[0][0].ended:
            seen = await look(streams)
        assert seen[180] == seen[0]
        for stream in streams:
            await stream.aclose()
        assert shared.streams == 0

    asyncio.run(run())
    assert costs[0] <= 120  # once: what each of 20 is, and how it stands
    assert max(costs[1:]) <= 12  # looks may overlap with the next: one listing each, and what moved


def test_streams_are_no_load() -> None:
    """Serve counts them as requests."""
    metrics = {STREAMS: {"a": 100.0, "b": 90.0}}
    config = SimpleNamespace(get_target_ongoing_requests=lambda: 32.0)
    for requests, replicas in ((200.0, 10 / 32), (190.0, 0.0), (180.0, 0.0), (254.0, 2.0)):
        context = SimpleNamespace(aggregated_metrics=metrics, total_num_requests=requests, config=config)
        assert without_streams(context) == (replicas, {})
