"""How many workers the service asks for: Serve starts them by the calls that wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from ray.exceptions import RayActorError

from kiago_ray.distributed.service import MOST_CALLS, Calls


class Workers:
    """Ends a call when told to. out: those that haven't ended."""

    def __init__(self) -> None:
        self.out: list[asyncio.Future[bool]] = []

    async def run_next(self) -> bool:
        mine = asyncio.get_running_loop().create_future()
        self.out.append(mine)
        try:
            return bool(await mine)
        finally:
            self.out.remove(mine)


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def check(of: Callable[[Workers, Calls], Coroutine[Any, Any, None]]) -> None:
    workers = Workers()

    async def run() -> None:
        await of(workers, Calls(workers.run_next))

    asyncio.run(run())


def test_all_that_wait_after_a_restart_are_asked_for_at_once() -> None:
    async def of(workers: Workers, calls: Calls) -> None:
        calls.have(60)
        await turn()
        assert (len(workers.out), len(calls)) == (60, 60)
        calls.have(60)  # the next look at storage
        await turn()
        assert len(workers.out) == 60

    check(of)


@pytest.mark.parametrize("end", [True, False, RayActorError()])
def test_a_call_ends_with_its_search_and_is_made_again_while_one_waits(end: bool | Exception) -> None:
    async def of(workers: Workers, calls: Calls) -> None:
        calls.have(3)
        await turn()
        if isinstance(end, Exception):
            workers.out[0].set_exception(end)
        else:
            workers.out[0].set_result(end)
        await turn()
        assert (len(workers.out), len(calls)) == (2, 2)
        calls.have(2)
        await turn()
        assert len(workers.out) == 2
        calls.have(3)
        await turn()
        assert len(workers.out) == 3

    check(of)


def test_calls_are_bounded() -> None:
    async def of(workers: Workers, calls: Calls) -> None:
        calls.have(10**6)
        await turn()
        assert len(workers.out) == MOST_CALLS

    check(of)
