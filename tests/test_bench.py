"""`kiago bench`'s measurements count what they say they count."""

from __future__ import annotations

import pytest
import torch

from kiago_ray.bench import Bench, gemm_peak, interleaved, products_needed, whole_search
from kiago_ray.models import Models
from kiago_ray.predictors.base import Predictors
from kiago_ray.predictors.weights import load_predictors
from kiago_ray.search import load_preset


@pytest.fixture(scope="module")
def predictors() -> Predictors:
    return load_predictors()


def test_arms_take_turns_and_the_first_turn_does_not_count() -> None:
    order: list[str] = []
    seconds = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert order == ["a", "b"] * 4
    assert set(seconds) == {"a", "b"}
    assert all(value >= 0 for value in seconds.values())


def test_the_multiply_adds_are_those_of_the_layers(predictors: Predictors) -> None:
    """ElemNet's are the sizes of its matrices; the T_c network's lie below the textbook ResNet-18's 18 million."""
    elemnet = sum(i * o for i, o in zip((86, *WIDTHS[:-1]), WIDTHS, strict=True))
    assert predictors.ef.needed == elemnet  # type: ignore[attr-defined]
    assert 4e6 < predictors.tc.needed < 6e6  # type: ignore[attr-defined]
    assert products_needed(predictors) == 2 * (elemnet + predictors.tc.needed)  # type: ignore[attr-defined]


WIDTHS = (1024,) * 4 + (512,) * 3 + (256,) * 3 + (128,) * 3 + (64,) * 2 + (32, 1)


def test_a_peak_is_measured_on_one_thread_and_leaves_the_threads_alone() -> None:
    threads = torch.get_num_threads()
    assert gemm_peak(torch.float32, rounds=1) > 1e8
    assert torch.get_num_threads() == threads


def test_a_timed_step_moves_the_rows(predictors: Predictors) -> None:
    bench = Bench.of(predictors, 8)
    assert bench.x_start.shape == (8, 118)
    for stage in (1, 2):
        advance = bench.step(stage, "float32")
        advance()
        advance()


def test_a_whole_search_accounts_for_its_time(predictors: Predictors) -> None:
    spec = load_preset("paper", {"base": "LaNiAsO", "candidates": 16, "steps": [3, 4]})
    whole = whole_search(Models(predictors), spec)
    assert (whole["rows"], whole["steps"]) == (16, (3, 4))
    seconds = whole["seconds"]
    assert list(seconds) == ["start", "stage_1", "stage_2", "projection", "screens", "ranked table"]
    assert all(value > 0 for value in seconds.values())
    after = sum(seconds[name] for name in ("projection", "screens", "ranked table"))
    assert whole["after_share"] == pytest.approx(after / whole["total_s"])
    assert whole["peak_mb"] > 100
