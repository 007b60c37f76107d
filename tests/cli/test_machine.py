"""`kiago bench`: its figures, with and without the plain implementation, and wrong input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kiago_ray.cli import machine

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
    monkeypatch.setattr(machine, "PLAIN", Path("/nowhere/plain.py"))
    ended = kiago(*QUICK[:-4], "--candidates", "0")
    assert ended.code == 0
    assert "run in a checkout" in " ".join(ended.out.split())
    assert "Share of the machine's limit" in ended.out


def test_what_a_processor_only_emulates_is_left_out(kiago: Kiago, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kiago_ray.cli.machine.multiplies_bfloat16", lambda device: False)
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
    cases = (tmp_path / "missing.py", "no Python file"), (foreign, "no PlainSearch"), (broken, "can't be run")
    for path, told in cases:
        ended = kiago(*QUICK, "--plain", path)
        assert ended.code == 2
        assert told in ended.err
        assert ended.err.count("\n") == 1
