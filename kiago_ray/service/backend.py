"""What the routes answer from: the models in this process, one computation at a time, and searches on storage."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

import numpy as np
import pyarrow as pa
from fastapi import Depends, Request

from kiago_ray.api import score
from kiago_ray.models import Models, load_models
from kiago_ray.runs.listing import Remembered
from kiago_ray.service.board import Board
from kiago_ray.service.jobs import JobStore
from kiago_ray.service.problems import BUSY_RETRY_S, ProblemError
from kiago_ray.service.settings import ServiceSettings

PROBE = "MgB2"
"""What health checks predict: it superconducts at 39 K."""
HEALTH_S = 1.0

T = TypeVar("T")
Answer = tuple[str, Any]  # the version of the models, and what they say (see api.score)


class Backend:
    """Models, and the one thread that computes with them, because a computation takes all `threads` by itself.

    Requests that wait for it go to the models together, the oldest first, `batch_formulas` at a time, and none waits
    while nothing is computed. (Ray's `serve.batch` waits for a fixed time before each pass, so that a lone client gets
    its answer later. In a simulation of 64 clients it gained 2.1 times over no batches, and this 2.9.)
    observe: hears of each pass, and how many seconds it took. A server overrides `wake` to start its workers.
    """

    def __init__(
        self,
        models: Models | None = None,
        *,
        threads: int | None = None,
        batch_formulas: int = 1024,
        observe: Callable[[Any, float], None] = lambda scores, seconds: None,
    ) -> None:
        self._models, self._one = models, ThreadPoolExecutor(1)
        self.threads = threads or os.cpu_count() or 1
        self._most, self._observe = batch_formulas, observe
        self._waiting: deque[tuple[Sequence[str], asyncio.Future[Answer]]] = deque()
        self._working: asyncio.Task[None] | None = None
        self._checking, self._checked_at, self._sound = asyncio.Lock(), -math.inf, ""

    @property
    def models(self) -> Models:
        """The models that answer now. Raises RuntimeError before they are loaded."""
        if self._models is None:
            raise RuntimeError("the models aren't loaded yet")
        return self._models

    async def in_turn(self, work: Callable[[], T]) -> T:
        """What `work` gives, once the computations before it are done."""
        return await asyncio.get_running_loop().run_in_executor(self._one, work)

    async def score(self, formulas: Sequence[str]) -> Answer:
        """The models' version and what they say of each formula, all of one version. Many formulas go in pieces, so
        that small requests get between.
        """
        starts = range(0, max(len(formulas), 1), self._most)
        pieces = [formulas[at : at + self._most] for at in starts]
        while True:
            found = [await self._answer(piece) for piece in pieces]
            versions = {version for version, _ in found}
            if len(versions) == 1:
                return versions.pop(), pa.concat_tables([scores for _, scores in found])

    async def _answer(self, piece: Sequence[str]) -> Answer:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((piece, answer))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        return await answer

    async def _work(self) -> None:
        """Compute what waits, batch by batch. A batch that fails is the error of all its requests."""
        while self._waiting:
            batch = [self._waiting.popleft()]
            count = len(batch[0][0])
            while self._waiting and (count := count + len(self._waiting[0][0])) <= self._most:
                batch.append(self._waiting.popleft())
            try:
                found: list[Answer | Exception] = [*await self._score_batch([piece for piece, _ in batch])]
            except Exception as error:
                found = [error] * len(batch)
            for (_, answer), each in zip(batch, found, strict=True):
                if answer.done():  # its client has given up
                    continue
                if isinstance(each, Exception):
                    answer.set_exception(each)
                else:
                    answer.set_result(each)

    async def _score_batch(self, pieces: list[Sequence[str]]) -> list[Answer]:
        models, sizes = self.models, list(map(len, pieces))
        formulas = [formula for piece in pieces for formula in piece]
        began = time.perf_counter()
        scores = await self.in_turn(lambda: score(formulas, models, threads=self.threads))
        self._observe(scores, time.perf_counter() - began)
        parts = zip(np.cumsum(sizes).tolist(), sizes, strict=True)
        return [(models.version, scores.slice(end - size, size)) for end, size in parts]

    async def sound_version(self) -> str:
        """The version of models that predicted sensibly within the last second. Raises RuntimeError."""
        async with self._checking:
            if time.monotonic() - self._checked_at > HEALTH_S:
                models = self.models
                scores = await self.in_turn(lambda: score([PROBE], models))
                tc_k = scores["tc_k"][0].as_py()
                if tc_k is None or not 0 < tc_k < 300:
                    raise RuntimeError(f"T_c of {PROBE} is predicted at {tc_k} K; the models are damaged")
                self._sound, self._checked_at = models.version, time.monotonic()
            return self._sound

    def wake(self) -> None:
        """Tell the workers that there is a search to run; without a server they look by themselves."""


@dataclass
class Service:
    """What all routes of an application share. keeping: held while a search is counted and kept. runs: what is known
    of the command line's.
    """

    backend: Backend
    store: JobStore
    settings: ServiceSettings
    keeping: threading.Lock = field(default_factory=threading.Lock)
    runs: Remembered = field(default_factory=dict)
    board: Board = field(init=False)
    _predicting: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.board = Board(self.store)

    def predicting(self, client: str, formulas: int) -> AbstractContextManager[None]:
        """A client's formulas count in the block. Raises ProblemError, 429, beyond what it may have."""
        running = self._predicting[client]
        if running and running + formulas > self.settings.limits.formulas_per_client:
            many = f"{running:,} formulas of yours are being predicted; wait for them"
            raise ProblemError(429, many, retry_after_s=BUSY_RETRY_S)
        return counted(self._predicting, client, formulas)

    async def answered(self, asked: Awaitable[T]) -> T:
        """What is answered in time. Raises ProblemError, 504."""
        try:
            return await asyncio.wait_for(asked, self.settings.limits.predict_timeout_s)
        except TimeoutError:
            late = f"no answer within {self.settings.limits.predict_timeout_s:g} s; send fewer formulas at a time"
            raise ProblemError(504, late, retry_after_s=BUSY_RETRY_S) from None


@contextmanager
def counted(counts: Counter[str], client: str, amount: int = 1) -> Iterator[None]:
    """Count so much more for a client in the block."""
    counts[client] += amount
    try:
        yield
    finally:
        counts -= Counter({client: amount})  # which forgets clients that ask for nothing


async def _service_of(request: Request) -> Any:
    return request.app.state.service


Asked = Annotated[Service, Depends(_service_of)]
"""The parameter by which a route gets what it answers from."""


def service_models(settings: ServiceSettings, weights: str | None = None) -> Models:
    """The shipped models or those of a folder, with the shipped phases and the tables that the settings name. Raises
    WeightsError, DataError, and ValueError without known compositions, which explanations need.
    """
    models = load_models(weights, known=settings.known, tried=settings.tried, device=settings.device)
    if models.known is None:
        raise ValueError("known: the service needs known compositions; name a table, or landmarks")
    return models
