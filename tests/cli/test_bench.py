"""`kiago bench`: its measurements count what they say they count; with and without the plain implementation, and wrong
input.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kiago_ray.cli import bench
from kiago_ray.cli.bench import Bench, gemm_peak, interleaved, products_needed, whole_search
from kiago_ray.models import Models
from kiago_ray.predictors.base import Predictors
from kiago_ray.predictors.weights import load_predictors
from kiago_ray.search import load_preset

Kiago = Callable[..., Any]
QUICK = ("bench", "--rows", "8", "--rounds", "1", "--candidates", "8", "--steps", "1")


def test_it_compares_with_the_checkouts_plain_implementation(kiago: Kiago) -> None:
    ended = kiago(*QUICK, "--json")
    assert ended.code == 0
    found = json.loads(ended.out)
    assert found["plain"] is True
    assert [(row["most_atoms"], row["stage"]) for row in found["steps"]] == [
        (25, 1),
        (25, 2),
        (199, 1),
        (199, 2),
    ]
    for row in found["steps"]:
        for name in found["precisions"]:
            assert row[f"{name}_times"] == pytest.approx(row["plain_cpu_s"] / row[f"{name}_cpu_s"], rel=0.02)
    for row in found["limit"]:
        assert row["fraction"] == pytest.approx(row["products_per_s"] / row["peak_products_per_s"], abs=1e-3)
        assert 0 < row["fraction"] < 1
    assert found["search"]["rows"] == 8
    assert found["search"]["total_s"] == pytest.approx(sum(found["search"]["seconds"].values()))


def test_without_a_checkout_the_rest_is_measured(kiago: Kiago, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "PLAIN", Path("/nowhere/plain.py"))
    ended = kiago(*QUICK[:-4], "--candidates", "0")
    assert ended.code == 0
    assert "run in a checkout" in " ".join(ended.out.split())
    assert "Share of the machine's limit" in ended.out


def test_what_a_processor_only_emulates_is_left_out(kiago: Kiago, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kiago_ray.cli.bench.multiplies_bfloat16", lambda device: False)
    ended = kiago(*QUICK[:-4], "--candidates", "0", "--json")
    found = json.loads(ended.out)
    assert found["precisions"] == ["float32"]
    assert [row["precision"] for row in found["limit"]] == ["float32"]
    assert "bfloat16_cpu_s" not in found["steps"][0]


def test_a_wrong_file_is_refused(kiago: Kiago, tmp_path: Path) -> None:
    foreign = tmp_path / "other.py"
    foreign.write_text("x = 1\n")
    broken = tmp_path / "broken.py"
    broken.write_text("x = (\n")
    cases = (tmp_path / "missing.py", "FileNotFoundError"), (foreign, "PlainSearch"), (broken, "SyntaxError")
    for path, told in cases:
        ended = kiago(*QUICK, "--plain", path)
        assert ended.code == 2
        assert told in ended.err
        assert ended.err.count("\n") == 1


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
    """ElemNet's are the sizes of its matrices; T_c has fewer than the textbook ResNet-18 (18 million)."""
    elemnet = sum(i * o for i, o in zip((86, *WIDTHS[:-1]), WIDTHS, strict=True))
    assert products_needed(Predictors(predictors.ef, predictors.ef)) == 2 * 2 * elemnet
    for tc in predictors.others.values():
        assert 4e6 < products_needed(Predictors(tc, predictors.ef)) / 2 - elemnet < 6e6


WIDTHS = (1024,) * 4 + (512,) * 3 + (256,) * 3 + (128,) * 3 + (64,) * 2 + (32, 1)


def test_a_peak_is_measured_on_one_thread_and_leaves_the_threads_alone() -> None:
    threads = torch.get_num_threads()
    assert gemm_peak(torch.float32, rounds=1) > 1e8
    assert torch.get_num_threads() == threads


def test_a_timed_step_moves_the_rows(predictors: Predictors) -> None:
    timed = Bench(predictors, 8)
    assert timed.state.x_base.shape == (8, 118)
    for stage in (1, 2):
        advance = timed.step(stage, "float32")
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
