"""The models as the HTTP application asks them: in this process, one computation at a time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:  # a server sets the environment of torch's threads before torch is imported
    from kiago_ray.api import Scores
    from kiago_ray.models import Models

T = TypeVar("T")


class Backend:
    """Models and the one thread that computes with them, because a computation takes all `threads` by itself.

    A server overrides `score` to gather requests, and `wake` to start its workers.
    """

    def __init__(self, models: Models | None = None, threads: int | None = None) -> None:
        self._models, self._one = models, ThreadPoolExecutor(1)
        self.threads = threads or os.cpu_count() or 1

    @property
    def models(self) -> Models:
        """The models that answer now. Raises RuntimeError before they are loaded."""
        if self._models is None:
            raise RuntimeError("the models aren't loaded yet")
        return self._models

    async def in_turn(self, work: Callable[[], T]) -> T:
        """What `work` gives, once the computations before it are done."""
        return await asyncio.get_running_loop().run_in_executor(self._one, work)

    async def score(self, formulas: Sequence[str]) -> tuple[str, Scores]:
        """The models' version, and what they say of each formula."""
        from kiago_ray.api import score

        models = self.models
        return models.version, await self.in_turn(lambda: score(formulas, models, threads=self.threads))

    async def check(self) -> str:
        """The version of models that just made a sensible prediction. Raises RuntimeError."""
        from kiago_ray.service.models import probe

        models = self.models
        await self.in_turn(lambda: probe(models))
        return models.version

    def wake(self) -> None:
        """Tell the workers that there is a search to run; without a server they look by themselves."""
