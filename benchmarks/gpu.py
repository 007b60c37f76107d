"""What a search does on a GPU, in one command of at most four minutes.

    python benchmarks/gpu.py                        # on a CUDA device: all parts
    python benchmarks/gpu.py --device cpu --small   # that every part runs, on a CPU; its figures mean nothing

Prints a JSON object a line, each as soon as it is known:

    search      seconds and rows/s from specification to ranked table, by phase; the steps' share of the matrix peak
    capture     the same search with a step captured as a CUDA graph and without
    busy        share of a search's time in which the device works, and what the host does longest meanwhile
    agreement   rows on the device against the same rows in float32 on the CPU, one by one
    shared      two workers on one device against one
    targets     whether the aims for a card of an H200's class are reached
    large       `search` with many rows, whose projection and screens are the host's work; last, for it may be cut
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from kiago_ray.api import JudgedRows, judged_rows
from kiago_ray.cli.bench import products_needed
from kiago_ray.models import Models, load_models
from kiago_ray.predictors.base import Predictors, step_precision
from kiago_ray.predictors.weights import load_predictors
from kiago_ray.screening.candidates import ranked
from kiago_ray.search import load_preset
from kiago_ray.storage.run_directory import cpu_name

BASE = "LaFeAsO"
PRESETS = ("paper", "default")
LIMIT_S = 240
AIMS = {("paper", 4096): 3.0, ("default", 4096): 6.0}  # seconds, rows × 1,000 steps
AIM_BUSY = 0.9


@dataclass(frozen=True)
class Work:
    """How much is run: rows, and steps of each stage. timed: the searches that have an aim. part: those for capture,
    device time and sharing. compared: those on the CPU, too. product: rows of the square matrices for the peak.
    """

    timed: tuple[int, int]
    large: tuple[int, int]
    part: tuple[int, int]
    compared: tuple[int, int]
    product: int


WHOLE = Work((4096, 500), (65_536, 100), (4096, 100), (256, 50), 8192)
SMALL = Work((16, 3), (32, 2), (16, 3), (8, 3), 256)


class Card:
    """A device with the models on it."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.models = load_models(device=device)

    @property
    def name(self) -> str:
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else cpu_name()

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def search(self, preset: str, rows: int, steps: int, **changes: Any) -> tuple[JudgedRows, float]:
        """A whole search, and the seconds that it took to its ranked table."""
        return search(self.models, preset, rows, steps, self.wait, **changes)

    def peak(self, size: int) -> float:
        """Multiply-adds a second in a large square product, in the precision of the search's steps."""
        dtype = getattr(torch, step_precision("auto", self.device))
        one, other = torch.randn(2, size, size, device=self.device).to(dtype)
        seconds = []
        for _ in range(10):
            self.wait()
            began = time.perf_counter()
            one @ other
            self.wait()
            seconds.append(time.perf_counter() - began)
        return float(size**3 / np.median(seconds[2:]))


def search(
    models: Models, preset: str, rows: int, steps: int, wait: Any = lambda: None, **changes: Any
) -> tuple[JudgedRows, float]:
    """A search of the preset with these models, and its seconds."""
    spec = load_preset(preset, {"base": BASE, "candidates": rows, "steps": [steps, steps], **changes})
    wait()
    began = time.perf_counter()
    judged = judged_rows(spec, models)
    ranked(judged.table)
    wait()
    return judged, time.perf_counter() - began


class Benchmark:
    """All parts on one card; each gives what is to be printed."""

    def __init__(self, card: Card, work: Work) -> None:
        self.card, self.work = card, work
        self.took: dict[tuple[str, int], float] = {}
        self.busy: dict[str, float] = {}

    @cached_property
    def peak(self) -> float:
        """Of the card, in multiply-adds a second."""
        return self.card.peak(self.work.product)

    @cached_property
    def shipped(self) -> Predictors:
        """The predictors on the CPU, where their products are counted."""
        return load_predictors()

    def searches(self) -> Iterator[dict[str, Any]]:
        """Each preset, after one small search that chooses kernels."""
        for preset in PRESETS:
            self.card.search(preset, min(64, self.work.timed[0]), 3)
            yield self.timed(preset, *self.work.timed)

    def large(self) -> Iterator[dict[str, Any]]:
        """The same with many rows."""
        for preset in PRESETS:
            yield self.timed(preset, *self.work.large)

    def timed(self, preset: str, rows: int, steps: int) -> dict[str, Any]:
        """A search's time, and what its steps reach of the card's peak with T_c's and E_f's products alone."""
        spec = load_preset(preset, {"base": BASE})
        needed = products_needed(self.shipped.following(spec.tc_predictor, spec.ef_predictor))
        judged, took = self.card.search(preset, rows, steps)
        phases = judged.result.seconds
        pace = needed * rows * 2 * steps / (phases["stage_1"] + phases["stage_2"])
        self.took[preset, rows] = took
        return {
            "preset": preset,
            "rows": rows,
            "steps": 2 * steps,
            "s": round(took, 3),
            "rows_per_s": round(rows / took, 1),
            "phases_s": {name: round(value, 3) for name, value in phases.items()},
            "share_of_peak": round(pace / self.peak, 3),
        }

    def capture(self) -> Iterator[dict[str, Any]]:
        """With a captured graph, as searches are where the predictors allow it, and without."""
        for preset in PRESETS:
            _, captured = self.card.search(preset, *self.work.part)
            with patch("kiago_ray.search.run.capturable", lambda *_, **__: False):
                _, launched = self.card.search(preset, *self.work.part)
            yield {"preset": preset, "captured_s": round(captured, 3), "launched_s": round(launched, 3)}

    def device_time(self) -> Iterator[dict[str, Any]]:
        """What a profile shows. On a CPU the operations stand for the device."""
        on_gpu = self.card.device.type == "cuda"
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
        for preset in PRESETS:
            with profile(activities=activities) as seen:
                _, took = self.card.search(preset, *self.work.part)
            kind = "CUDA" if on_gpu else "CPU"
            ranges = [each.time_range for each in seen.events() if each.device_type.name == kind]
            busy_s = covered((each.start, each.end) for each in ranges) / 1e6
            self.busy[preset] = busy_s / took
            longest = sorted(seen.key_averages(), key=lambda each: -each.self_cpu_time_total)[:5]
            host = {each.key: round(each.self_cpu_time_total / 1e6, 4) for each in longest}
            yield {"preset": preset, "s": round(took, 3), "share": round(busy_s / took, 3), "host_s": host}

    def agreement(self) -> Iterator[dict[str, Any]]:
        """The same rows on the device and on the CPU: the steps in float32, which tells of the device, and in the
        device's own precision.
        """
        rows, steps = self.work.compared
        host = load_models()
        for preset in PRESETS:
            ours, _ = search(host, preset, rows, steps, precision="float32")
            for precision in ("float32", "auto"):
                theirs, _ = self.card.search(preset, rows, steps, precision=precision)
                same = (ours.result.amounts == theirs.result.amounts).all(axis=1)
                apart = np.abs(ours.result.tc_k - theirs.result.tc_k)
                apart = apart[np.isfinite(apart)]
                exact = apart[same[np.isfinite(ours.result.tc_k - theirs.result.tc_k)]]
                yield {
                    "preset": preset,
                    "precision": step_precision(precision, self.card.device),
                    "rows": rows,
                    "same_formula": round(float(same.mean()), 3),
                    "tc_apart_k_same_formula_max": round(float(exact.max(initial=0)), 4),
                    "tc_apart_k_all_median": round(float(np.median(apart)), 4) if len(apart) else None,
                    "mean_tc_k": [round(float(np.nanmean(each.result.tc_k)), 2) for each in (ours, theirs)],
                }

    def shared(self) -> Iterator[dict[str, Any]]:
        """One worker, and then two at once, each with as many rows."""
        alone, both = (together(str(self.card.device), self.work.part, count) for count in (1, 2))
        rows = self.work.part[0]
        found = {"alone_rows_per_s": rows / max(alone), "two_rows_per_s": 2 * rows / max(both)}
        gain = found["two_rows_per_s"] / found["alone_rows_per_s"]
        yield {**{name: round(value, 1) for name, value in found.items()}, "times": round(gain, 2)}

    def targets(self) -> Iterator[dict[str, Any]]:
        """What was aimed at, and what came of it; None where it wasn't measured."""
        for (preset, rows), aim in AIMS.items():
            took = self.took.get((preset, rows))
            yield {"aim": f"{preset} {rows} rows in s", "at_most": aim, "reached": took and took <= aim}
        least = min(self.busy.values(), default=None)
        yield {
            "aim": "share of time on the device",
            "at_least": AIM_BUSY,
            "reached": least and least >= AIM_BUSY,
        }


def covered(ranges: Iterator[tuple[float, float]]) -> float:
    """The length of the union of ranges (start, end)."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(ranges):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


@contextmanager
def workers(device: str, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes of `worker`, which end with the block."""
    command = [sys.executable, __file__, "--device", device, "--worker"]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    try:
        yield started
    finally:
        for each in started:
            each.kill()
            each.communicate()


def together(device: str, work: tuple[int, int], count: int) -> list[float]:
    """Seconds of the same search in that many processes that begin at once, once all have loaded their models."""
    with workers(device, count) as started:
        for each in started:
            assert each.stdout is not None
            each.stdout.readline()
        for each in started:
            assert each.stdin is not None
            each.stdin.write(json.dumps(work) + "\n")
            each.stdin.flush()
        return [float(each.stdout.readline()) for each in started if each.stdout is not None]


def worker(device: str) -> None:
    """Load the models, say so, and run the search that is asked for."""
    card = Card(device)
    card.search("default", 64, 3)
    print("ready", flush=True)
    rows, steps = json.loads(sys.stdin.readline())
    print(card.search("default", rows, steps)[1], flush=True)


class TimeIsOver(BaseException):
    """That no part takes for an error of its own."""


def stop(signal_number: int, frame: Any) -> None:
    """For the alarm."""
    raise TimeIsOver


def main() -> int:
    """Run the parts in their order; 1 where the time wasn't enough for all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--small", action="store_true", help="a few rows and steps, to see that all parts run"
    )
    parser.add_argument("--limit", type=int, default=LIMIT_S, help="seconds after which it ends")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if torch.device(given.device).type == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device; --device cpu --small runs every part on a CPU")
    if given.worker:
        worker(given.device)
        return 0
    signal.signal(signal.SIGALRM, stop)
    signal.alarm(given.limit)
    began, part = time.perf_counter(), "models"
    try:
        benchmark = Benchmark(Card(given.device), SMALL if given.small else WHOLE)
        facts = {"device": benchmark.card.name, "torch": torch.__version__, "small": given.small}
        print(
            json.dumps({"part": "machine", **facts, "peak_products_per_s": round(benchmark.peak)}), flush=True
        )
        parts = {
            "search": benchmark.searches,
            "capture": benchmark.capture,
            "busy": benchmark.device_time,
            "agreement": benchmark.agreement,
            "shared": benchmark.shared,
            "targets": benchmark.targets,
            "large": benchmark.large,
        }
        for part, run in parts.items():
            for line in run():
                print(json.dumps({"part": part, **line}), flush=True)
    except TimeIsOver:
        print(json.dumps({"part": "cut", "in": part, "after_s": given.limit}), flush=True)
        return 1
    finally:
        signal.alarm(0)
    print(json.dumps({"part": "end", "s": round(time.perf_counter() - began, 1)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
