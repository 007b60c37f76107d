"""What `kiago bench` doesn't measure: memory, the way to the plain implementation's objective, cost as work grows.

    python benchmarks/speed.py memory       # most memory of a step, each arm in a process of its own
    python benchmarks/speed.py objective    # CPU seconds to the plain implementation's objective, two base materials
    python benchmarks/speed.py quality      # what float32, mixed and bfloat16 lead to, 20 searches each
    python benchmarks/speed.py check        # 1,000 steps of the plain implementation itself on some rows
    python benchmarks/speed.py growth       # rows, atoms, elements, networks; with --figure FILE.png

`kiago bench` prints the rest: a step's cost against plain.py, the share of the arithmetic limit, a whole search. CPU
seconds of one thread throughout.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

os.environ |= {"OMP_WAIT_POLICY": "passive"}

import numpy as np
import torch
from plain import PlainResNet18, PlainSearch

from kiago_ray.api import judged_rows
from kiago_ray.cli.bench import Bench, interleaved, peak_mb
from kiago_ray.models import Models
from kiago_ray.predictors.base import Inference
from kiago_ray.predictors.weights import load_network, load_predictors
from kiago_ray.screening.candidates import ranked
from kiago_ray.screening.screens import summarise
from kiago_ray.search import load_preset

BASES = ("LaNiAsO", "LaPt2B2C")
ROWS = 512
PRECISIONS = ("float32", "mixed", "bfloat16")
# The paper's objective and start, reached by open's way of stepping.
OURS = {"tc_gradient": "before_relu", "revive": "allowed", "learning_rate_schedule": "cosine"}
LADDER = (5, 10, 15, 20, 30, 40, 60)


def memory() -> None:
    """Most memory of a process while it takes steps, and what it held before them."""
    for rows in (512, 4096):
        plain = (0.0, 0.0)
        for arm in ("plain", *PRECISIONS):
            command = [sys.executable, __file__, "one-step", "--arm", arm, "--rows", str(rows)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            held, peak = json.loads(done.stdout)
            if arm == "plain":
                plain = (peak - held, peak)
            shares = f"1/{plain[0] / (peak - held):.1f} of plain's, with what is held 1/{plain[1] / peak:.1f}"
            print(
                f"{rows:5} rows  {arm:9} {peak - held:5.0f} MB for steps beside {held:4.0f} MB held: {shares}"
            )


def one_step(arm: str, rows: int) -> None:
    """Two steps of each stage; prints the megabytes that the process held before them, and its most (on Linux)."""
    bench = Bench(load_predictors(), rows)
    if arm == "plain":
        search = PlainSearch.reference_form(bench.state.x_base, bench.state.mask)
        stages = [partial(search.step, 1), search.limit_elements, partial(search.step, 2)]
    else:
        stages = [bench.step(stage, arm) for stage in (1, 2)]  # type: ignore[arg-type]
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what loading left behind would hide what steps take
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    held = kilobytes("VmRSS") / 1e3
    for step in stages:
        step()
        step()
    print(json.dumps([held, kilobytes("VmHWM") / 1e3]))


def kilobytes(field: str) -> int:
    """A figure of this process, as Linux has it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


def outcome(
    base: str, overrides: dict[str, Any], rows: int = ROWS, preset: str = "paper"
) -> dict[str, float]:
    """A search: CPU seconds to the judged rows, the mean objective (with β as it starts) at the end of stage 2,
    ΔT_c of the best 30.
    """
    predictors = load_predictors()
    spec = load_preset(preset, {"base": base, "candidates": rows, **overrides})
    began = time.process_time()
    judged = judged_rows(spec, Models(predictors))
    cpu_s = time.process_time() - began
    path = judged.result.trajectory
    objective = (
        -path.tc_k[-1]
        + (spec.alpha * path.ef_ev_per_atom[-1] if spec.alpha else 0.0)
        + spec.beta.start * path.integer_loss[-1]
    )
    summary = summarise(
        ranked(judged.table),
        rows=rows,
        statuses=judged.result.status_counts(),
        required=spec.screens.names,
        base=judged.base,
    )
    best = next(top for top in summary.to_dict()["top"] if top["k"] == 30)
    return {"cpu_s": cpu_s, "objective": float(np.nanmean(objective)), "top30": best["delta_tc_k"]}


def objective() -> None:
    """How soon the plain implementation's final objective is reached, with a top 30 that is no worse."""
    bench = Bench(load_predictors(), ROWS)
    slow = PlainSearch.reference_form(bench.state.x_base, bench.state.mask)
    step_s = interleaved({"": lambda: slow.step(2)}, 5)[""]
    for base in BASES:
        aim = outcome(base, {"precision": "float32"})
        print(
            f"{base}: plain, 1,000 steps of {step_s:.3f} s = {1000 * step_s:.0f} s: {line(aim)}", flush=True
        )
        for precision in ("float32", "bfloat16"):
            for steps in LADDER:
                found = outcome(base, {**OURS, "steps": [steps, steps], "precision": precision})
                times = 1000 * step_s / found["cpu_s"]
                print(
                    f"  {precision}, {steps} + {steps} steps, {found['cpu_s']:.1f} s: {line(found)}, 1/{times:.0f}",
                    flush=True,
                )
                if found["objective"] <= aim["objective"] and found["top30"] >= aim["top30"]:
                    break
        for revive in ("none", "start"):
            found = outcome(base, {**OURS, "revive": revive, "steps": [60, 60]})
            print(
                f"  with revive: {revive}, 60 + 60 steps, {found['cpu_s']:.1f} s: {line(found)}", flush=True
            )


def line(found: dict[str, float]) -> str:
    """Objective and the best 30 in words."""
    return f"objective {found['objective']:.2f} K, ΔT_c of the best 30 {found['top30']:+.1f} K"


def quality(seeds: int = 10, steps: int = 100) -> None:
    """What the steps' precision does to the outcome of `open`: two base materials, the same seeds in each."""
    found: dict[str, list[dict[str, float]]] = {precision: [] for precision in PRECISIONS}
    for base in BASES:
        for seed in range(seeds):
            for precision in PRECISIONS:
                overrides = {"seed": seed, "steps": [steps, steps], "precision": precision}
                found[precision].append(outcome(base, overrides, preset="open"))
    for precision, runs in found.items():
        top30, reached, cpu_s = (
            np.mean([run[key] for run in runs]) for key in ("top30", "objective", "cpu_s")
        )
        print(f"{precision}: ΔT_c of the best 30 {top30:.1f} K, objective {reached:.1f} K, {cpu_s:.1f} s")
        for key in ("top30", "objective"):
            gaps = [run[key] - exact[key] for run, exact in zip(runs, found["float32"], strict=True)]
            error = np.std(gaps, ddof=1) / len(gaps) ** 0.5
            print(f"  {key}: {np.mean(gaps):+.2f} ± {error:.2f} K from float32 over {len(gaps)} pairs")


def check(rows: int = 64, steps: int = 500) -> None:
    """The plain implementation itself, with our weights, from the same starts."""
    for base in BASES:
        bench = Bench(load_predictors(), rows, base=base)
        tc, ef = PlainResNet18.of(load_network("tc")), load_network("ef").requires_grad_(True)  # type: ignore[arg-type]
        search = PlainSearch(tc, ef, bench.state.x_base, bench.state.mask)
        for _ in range(steps):
            search.step(1)
        search.limit_elements()
        for _ in range(steps):
            search.step(2)
        with torch.no_grad():
            plain = float(search.objective(1.0).nanmean())
        ours = outcome(base, {"precision": "float32", "steps": [steps, steps]}, rows)["objective"]
        print(
            f"{base}, {rows} rows, {steps} + {steps} steps: plain {plain:.3f} K, lowered {ours:.3f} K",
            flush=True,
        )


def growth(figure: Path | None) -> None:
    """CPU seconds of a step of stage 2 as one thing grows, and the most memory."""
    predictors = load_predictors()
    curves: dict[str, list[tuple[int, float]]] = {"rows": [], "atoms": [], "elements": [], "networks": []}
    for rows in (512, 2048, 8192, 32_768, 65_536):
        arm = Bench(predictors, rows).step(2, "bfloat16")
        curves["rows"].append((rows, interleaved({"": arm}, 3)[""]))
        print(f"rows {rows:6}: {curves['rows'][-1][1]:.3f} s, at most {peak_mb():.0f} MB", flush=True)
    for atoms in (25, 50, 100, 199):
        arm = Bench(predictors, ROWS, **{"n_unit.max": atoms}).step(2, "bfloat16")
        curves["atoms"].append((atoms, interleaved({"": arm}, 9)[""]))
    for elements in (3, 5, 7, 10):
        arm = Bench(predictors, ROWS, max_elements=elements).step(2, "bfloat16")
        curves["elements"].append((elements, interleaved({"": arm}, 9)[""]))
    x = Bench(predictors, ROWS).state.x_base
    x = x / x.sum(1, keepdim=True)
    for networks in (1, 2, 3, 5):
        each = [copy.deepcopy(predictors.tc) for _ in range(networks)]

        def together(each: list[Any] = each) -> None:
            for network in each:
                assert isinstance(network, Inference)
                network.evaluate(x, gradients=True)

        curves["networks"].append((networks, interleaved({"": together}, 5)[""]))
    for name in ("atoms", "elements", "networks"):
        print(f"{name}: " + ", ".join(f"{size}: {1e3 * seconds:.0f} ms" for size, seconds in curves[name]))
    if figure is not None:
        plot(curves, figure)


def plot(curves: dict[str, list[tuple[int, float]]], figure: Path) -> None:
    """One panel for each thing that grows, with a line that is proportional to it."""
    from matplotlib.figure import Figure

    labels = {
        "rows": "rows",
        "atoms": "atoms a formula, up to",
        "elements": "elements a candidate, up to",
        "networks": "T_c networks (float32)",
    }
    canvas = Figure(figsize=(10, 2.8), layout="constrained")
    for axes, (name, points) in zip(canvas.subplots(1, 4), curves.items(), strict=True):
        sizes, seconds = (np.array(values) for values in zip(*points, strict=True))
        axes.plot(sizes, seconds / seconds[0], "o-", label="measured")
        axes.plot(sizes, sizes / sizes[0], "--", color="grey", label="proportional")
        axes.set(xlabel=labels[name], ylim=(0, None))
        if name == "rows":
            axes.set(xscale="log", yscale="log", ylim=(0.8, None))
    canvas.axes[0].set_ylabel("CPU time, first = 1")
    canvas.axes[0].legend(frameon=False)
    canvas.savefig(figure, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("memory", "objective", "quality", "check", "growth", "one-step"))
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--arm", default="float32", help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, default=64, help="of check")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    match asked.what:
        case "memory":
            memory()
        case "one-step":
            one_step(asked.arm, asked.rows)
        case "objective":
            objective()
        case "quality":
            quality()
        case "check":
            check(asked.rows)
        case "growth":
            growth(asked.figure)


if __name__ == "__main__":
    main()
