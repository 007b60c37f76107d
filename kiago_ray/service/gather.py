"""Small requests that arrive while others are being predicted go to the models together, as one call."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from kiago_ray.scoring import Scores

Score = Callable[[list[str]], Awaitable[tuple[str, Scores]]]

AT_ONCE = 2  # one is computed while the next is on its way


class Gathered:
    """`score`, called for many requests at a time. A call between processes costs more than the models' part in it.

    most: formulas of one call; a request with as many is a call of its own. No request waits while fewer than AT_ONCE
    calls are under way.
    """

    def __init__(self, score: Score, most: int) -> None:
        self._score, self._most = score, most
        self._waiting: deque[tuple[list[str], asyncio.Future[tuple[str, Scores]]]] = deque()
        self._formulas = 0  # of those that wait
        self._under_way: set[asyncio.Task[None]] = set()

    async def score(self, formulas: Sequence[str]) -> tuple[str, Scores]:
        """What `score` answers for these, or raises."""
        if len(formulas) >= self._most:
            return await self._score(list(formulas))
        answer: asyncio.Future[tuple[str, Scores]] = asyncio.get_running_loop().create_future()
        self._waiting.append((list(formulas), answer))
        self._formulas += len(formulas)
        self._send()
        return await answer

    def _send(self) -> None:
        while self._waiting and (len(self._under_way) < AT_ONCE or self._formulas >= self._most):
            task = asyncio.get_running_loop().create_task(self._call(self._taken()))
            self._under_way.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._send()

    def _taken(self) -> list[tuple[list[str], asyncio.Future[tuple[str, Scores]]]]:
        """The oldest that fit into one call."""
        group: list[tuple[list[str], asyncio.Future[tuple[str, Scores]]]] = []
        count = 0
        while self._waiting and count + len(self._waiting[0][0]) <= self._most:
            group.append(self._waiting.popleft())
            count += len(group[-1][0])
        self._formulas -= count
        return group

    async def _call(self, group: list[tuple[list[str], asyncio.Future[tuple[str, Scores]]]]) -> None:
        try:
            version, scores = await self._score([formula for formulas, _ in group for formula in formulas])
        except Exception as error:
            for _, answer in group:
                if not answer.done():  # its client may have given up
                    answer.set_exception(error)
            return
        start = 0
        for formulas, answer in group:
            end = start + len(formulas)
            if not answer.done():
                answer.set_result((version, scores.part(slice(start, end))))
            start = end
