"""The benchmark for GPUs on a CPU: its parts run there, and rows of one device agree with themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from .conftest import benchmark_of

FILE = Path(__file__).parents[1] / "benchmarks" / "gpu.py"
PARTS = ["machine", "search", "capture", "busy", "agreement", "shared", "targets", "large", "end"]


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    return benchmark_of("gpu")


def test_the_time_of_work_side_by_side_counts_once(gpu: ModuleType) -> None:
    assert gpu.covered(iter([])) == 0
    assert gpu.covered(iter([(5, 6), (0, 2), (1, 3), (1.5, 1.7), (3, 4)])) == 5


def test_parts_of_the_benchmark_on_a_cpu(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "PRESETS", ("paper",))
    made = gpu.Benchmark(gpu.Card("cpu"), gpu.SMALL)
    (timed,) = made.searches()
    assert (timed["rows"], timed["steps"]) == (16, 6)
    assert timed["s"] >= sum(timed["phases_s"].values()) - 0.01
    assert timed["rows_per_s"] == pytest.approx(16 / timed["s"], rel=0.01)
    assert 0 < timed["share_of_peak"] < 1
    (busy,) = made.device_time()
    assert 0 < busy["share"] <= 1
    own = next(made.agreement())
    assert own["precision"] == "float32"
    assert (own["same_formula"], own["tc_apart_k_same_formula_max"]) == (1, 0)
    reached = [line["reached"] for line in made.targets()]
    assert reached[:2] == [None, None]  # they were not measured at these sizes


@pytest.mark.timeout(700)
@pytest.mark.long  # its three workers load the models, one after another on few cores
def test_the_whole_command_on_a_cpu() -> None:
    command = [sys.executable, str(FILE), "--device", "cpu", "--small", "--limit", "600"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert list(dict.fromkeys(line["part"] for line in lines)) == PARTS
    assert all(0 < line["times"] < 3 for line in lines if line["part"] == "shared")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_without_a_device_it_says_how_to_try_it(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(FILE)])
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    assert ended.value.code == 2
    assert "--device cpu --small runs every part on a CPU" in capsys.readouterr().err
