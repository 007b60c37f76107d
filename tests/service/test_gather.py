"""Requests that go to the models together: each gets its own part, whatever becomes of the others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

from kiago_ray.scoring import Scores
from kiago_ray.service.backend import BusyError
from kiago_ray.service.gather import AT_ONCE, Gathered


class Models:
    """Say of a formula how long it is; slowly, and note what they were asked."""

    def __init__(self, failing: str | None = None) -> None:
        self.calls: list[list[str]] = []
        self.most_at_once = self._now = 0
        self._failing = failing

    async def score(self, formulas: list[str]) -> tuple[str, Scores]:
        self.calls.append(formulas)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        await asyncio.sleep(0.02)
        self._now -= 1
        if self._failing in formulas:
            raise BusyError
        lengths = pa.table({"tc_k": [float(len(each)) for each in formulas]})
        return "v", Scores(tuple(formulas), lengths, (None,) * len(formulas))


def ask(models: Models, requests: Sequence[list[str]], most: int) -> list[Any]:
    async def all_at_once() -> list[Any]:
        gathered = Gathered(models.score, most)
        return await asyncio.gather(*map(gathered.score, requests), return_exceptions=True)

    return asyncio.run(all_at_once())


def requests_of(count: int) -> list[list[str]]:
    return [["x" * (1 + at % 7)] * (1 + at % 3) for at in range(count)]


def test_each_gets_its_own_and_few_calls_are_made() -> None:
    models, requests = Models(), requests_of(60)
    for given, (version, scores) in zip(requests, ask(models, requests, 1000), strict=True):
        assert version == "v"
        assert list(scores.formulas) == given
        assert scores.table["tc_k"].to_pylist() == [float(len(each)) for each in given]
    assert models.most_at_once == AT_ONCE
    assert len(models.calls) == AT_ONCE + 1  # the first ones alone, all others together


@pytest.mark.parametrize("most", [1, 4, 10])
def test_no_call_has_more_than_it_may(most: int) -> None:
    models, requests = Models(), requests_of(40)
    answers = ask(models, requests, most)
    assert [list(scores.formulas) for _, scores in answers] == requests
    alone = [given for given in requests if len(given) >= most]  # these go as they are
    assert all(len(call) <= most or call in alone for call in models.calls)
    assert sorted(each for call in models.calls for each in call) == sorted(
        each for given in requests for each in given
    )


def test_what_a_call_raises_reaches_those_that_were_in_it_alone() -> None:
    requests = [["a"], ["b"], ["bad"], ["c"], ["d"]]
    answers = ask(Models(failing="bad"), requests, 2)
    told = [isinstance(answer, BusyError) for answer in answers]
    assert told[2]
    assert sum(told) <= 2
    assert [answers[at][1].formulas for at in (0, 1)] == [("a",), ("b",)]


def test_a_client_that_gives_up_takes_no_other_with_it() -> None:
    models = Models()

    async def some_give_up() -> list[Any]:
        gathered = Gathered(models.score, 100)
        asked = [asyncio.wait_for(gathered.score(["x" * at]), 0.03 if at % 2 else 5) for at in range(1, 9)]
        return await asyncio.gather(*asked, return_exceptions=True)

    answers = asyncio.run(some_give_up())
    assert [answers[at][1].table["tc_k"][0].as_py() for at in (1, 3, 5, 7)] == [2, 4, 6, 8]
    assert all(isinstance(answers[at], TimeoutError) for at in (4, 6))
