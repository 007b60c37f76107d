"""Requests that come while the models compute share the next pass; each gets its own rows or its own error."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

from kiago_ray.models import Models
from kiago_ray.service.backend import Backend
from kiago_ray.service.settings import ServiceSettings


class Recorded(Backend):
    """A backend whose passes take their time and are kept: how many formulas of each request."""

    def __init__(self, models: Models, most: int) -> None:
        super().__init__(models, batch_formulas=most)
        self.passes: list[list[int]] = []
        self.error: Exception | None = None

    async def _score_batch(self, pieces: list[Sequence[str]]) -> list[tuple[str, Any]]:
        self.passes.append([len(piece) for piece in pieces])
        await asyncio.sleep(0.05)
        if self.error is not None:
            raise self.error
        return [(self.models.version, pa.table({"error": piece})) for piece in pieces]


def test_an_unknown_key_of_serves_user_config_is_named() -> None:
    from kiago_ray.distributed.service import configured_models

    said = "user_config: unknown key 'weigths'; the only one is 'weights'"
    with pytest.raises(ValueError, match=f"^{said}$"):
        configured_models(ServiceSettings(known="landmarks"), {"weigths": None})
    assert configured_models(ServiceSettings(known="landmarks"), {"weights": None}).known


def test_what_waits_goes_together_the_oldest_first(models: Models) -> None:
    backend = Recorded(models, 5)

    async def ask() -> None:
        requests = [["A"], ["B", "B"], ["C", "C"], ["D", "D"], ["E"] * 3]
        found = await asyncio.gather(*(backend.score(each) for each in requests))
        assert [scores["error"].to_pylist() for _, scores in found] == requests
        assert {version for version, _ in found} == {models.version}

    asyncio.run(ask())
    assert backend.passes == [[1, 2, 2], [2, 3]]


def test_a_large_request_lets_small_ones_between(models: Models) -> None:
    backend = Recorded(models, 4)

    async def ask() -> None:
        large = asyncio.create_task(backend.score(["A"] * 10))
        await asyncio.sleep(0.01)
        small = await backend.score(["B"])
        assert small[1]["error"].to_pylist() == ["B"]
        assert not large.done()
        assert (await large)[1]["error"].to_pylist() == ["A"] * 10

    asyncio.run(ask())
    assert sum(map(len, backend.passes)) == 4  # three pieces of the large one, and the small one
    assert backend.passes[-1][-1] == 2  # the large one's last piece came last


def test_an_error_and_a_client_that_gave_up_stop_no_other(models: Models) -> None:
    backend = Recorded(models, 10)

    async def ask() -> None:
        backend.error = ArithmeticError("no luck")
        results = await asyncio.gather(*(backend.score([each]) for each in "AB"), return_exceptions=True)
        assert [str(each) for each in results] == ["no luck", "no luck"]
        backend.error = None
        impatient = asyncio.create_task(backend.score(["C"]))
        await asyncio.sleep(0.01)
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        assert (await backend.score(["D"]))[1]["error"].to_pylist() == ["D"]

    asyncio.run(ask())
