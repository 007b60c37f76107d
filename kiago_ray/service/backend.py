"""What the HTTP application needs of whoever holds the models; Ray Serve is one, this process can be another."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from kiago_ray.models import Models
from kiago_ray.scoring import Scores, score
from kiago_ray.search.spec import SearchSpec
from kiago_ray.service.explain import explain
from kiago_ray.service.models import described, probe, without_phases
from kiago_ray.service.problems import ProblemError

BUSY_RETRY_S = 2

T = TypeVar("T")


class BusyError(ProblemError):
    """There are more requests than the models can take now."""

    def __init__(self) -> None:
        super().__init__(429, "the service is busy; come back in a moment", retry_after_s=BUSY_RETRY_S)


class LostError(ProblemError):
    """Whoever was asked has gone, and nobody else answered."""

    def __init__(self) -> None:
        super().__init__(
            503, "the models are starting; come back in a moment", retry_after_s=2 * BUSY_RETRY_S
        )


class Backend(Protocol):
    """Answers of the models. They raise BusyError, LostError, and FormulaError for a formula that can't be read."""

    async def score(self, formulas: Sequence[str]) -> tuple[str, Scores]:
        """The models' version, and what they say of each formula."""
        ...

    async def explain(self, formula: str) -> dict[str, Any]: ...

    async def describe(self) -> dict[str, Any]: ...

    async def check_search(self, spec: SearchSpec) -> None:
        """Raise SpecError for a search that the models can't run."""
        ...

    async def check(self) -> str:
        """The version of models that just made a sensible prediction."""
        ...

    def wake(self) -> None:
        """Tell the workers that there is a search to run."""
        ...


@dataclass
class LocalBackend:
    """Models in this process; searches are left to whoever watches the store."""

    models: Models

    async def score(self, formulas: Sequence[str]) -> tuple[str, Scores]:
        threads = os.cpu_count() or 1
        return self.models.version, await asyncio.to_thread(score, formulas, self.models, threads=threads)

    async def explain(self, formula: str) -> dict[str, Any]:
        return await asyncio.to_thread(explain, formula, self.models)

    async def describe(self) -> dict[str, Any]:
        return described(self.models)

    async def check_search(self, spec: SearchSpec) -> None:
        await asyncio.to_thread(without_phases(self.models).check, spec)

    async def check(self) -> str:
        await asyncio.to_thread(probe, self.models)
        return self.models.version

    def wake(self) -> None:
        return


async def answered(asked: Awaitable[T], timeout_s: float) -> T:
    """What a backend answers in time. Raises ProblemError with 504 where it takes longer."""
    try:
        return await asyncio.wait_for(asked, timeout_s)
    except TimeoutError:
        raise ProblemError(
            504,
            f"no answer within {timeout_s:g} s; send fewer formulas at a time",
            retry_after_s=BUSY_RETRY_S,
        ) from None
